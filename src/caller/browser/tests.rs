//! Tables of the browser rule.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{BrowserRules, Hosts, Verdict, judge, refers_from_elsewhere};
use crate::header::Presence;

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    }
    headers
}

/// A verdict, which is the same whether the names were looked at before or not.
fn judged(method: &Method, authority: Option<&str>, headers: &HeaderMap, rules: BrowserRules<'_>) -> Verdict {
    let verdict = judge(method, authority, (headers, Presence::ANY), rules);
    assert_eq!(judge(method, authority, (headers, Presence::of(headers)), rules), verdict);
    verdict
}

/// A verdict on a loopback listener whose matches name `orders.internal`.
fn on_loopback(method: &Method, authority: Option<&str>, lines: &[&str], allowed: &[&str]) -> Verdict {
    let names_host = |authority: &str| crate::header::host_without_port(authority) == "orders.internal";
    let allowed_origins: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    let rules = BrowserRules { scheme: "http", hosts: Hosts::Loopback(&names_host), allowed_origins: &allowed_origins };
    judged(method, authority, &headers(lines), rules)
}

#[test]
fn a_loopback_listener_takes_loopback_literals_localhost_and_the_hosts_of_matches() {
    for authority in [
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.9.9.9:1",
        "[::1]:8080",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LocalHost:3000",
        "localhost.",
        "orders.internal:8080",
    ] {
        assert_eq!(on_loopback(&Method::GET, Some(authority), &[], &[]), Verdict::Pass, "{authority}");
    }
    for authority in [
        "rebound.evil.example",
        "rebound.evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "0x7f.0.0.1",
        "0.0.0.0:8080",
        "192.168.0.1",
        "[fe80::1]",
        "user@localhost",
        "localhost:80:80",
        "",
    ] {
        assert_eq!(on_loopback(&Method::GET, Some(authority), &[], &[]), Verdict::Misdirected, "{authority}");
    }
    assert_eq!(on_loopback(&Method::GET, None, &[], &[]), Verdict::Pass);
}

#[test]
fn any_other_listener_takes_any_host() {
    let rules = BrowserRules { scheme: "http", hosts: Hosts::Any, allowed_origins: &[] };
    let verdict = |lines: &[&str]| judged(&Method::GET, Some("proxy.corp.example"), &headers(lines), rules);
    assert_eq!(verdict(&[]), Verdict::Pass);
    assert_eq!(verdict(&["origin: http://proxy.corp.example"]), Verdict::Pass);
    assert_eq!(verdict(&["origin: http://corp.example"]), Verdict::CrossSite);
    assert_eq!(verdict(&["sec-fetch-site: cross-site"]), Verdict::CrossSite);
}

#[test]
fn only_the_listeners_own_pages_and_a_persons_own_doing_pass() {
    for lines in [
        &["accept: a"][..],
        &["sec-fetch-site: none"],
        &["sec-fetch-site: same-origin"],
        &["sec-fetch-site: same-origin", "origin: http://localhost:8080"],
        &["origin: http://LOCALHOST:8080"],
    ] {
        assert_eq!(on_loopback(&Method::POST, Some("localhost:8080"), lines, &[]), Verdict::Pass, "{lines:?}");
    }
    for lines in [
        &["sec-fetch-site: cross-site"][..],
        &["sec-fetch-site: same-site"],
        &["sec-fetch-site: Same-Origin"],
        &["sec-fetch-site: "],
        &["sec-fetch-site: none", "sec-fetch-site: cross-site"],
        &["sec-fetch-site: same-site", "origin: http://localhost:8080"],
        &["origin: http://localhost:3000"],
        &["origin: http://localhost"],
        &["origin: https://localhost:8080"],
        &["origin: http://127.0.0.1:8080"],
        &["origin: http://localhost:8080.evil.example"],
        &["origin: http://evil.example", "sec-fetch-site: same-origin"],
        &["origin: http://localhost:8080", "origin: http://localhost:8080"],
        &["origin: null"],
        &["origin: http://"],
        &["origin: "],
        &["origin: \u{ff}"],
    ] {
        assert_eq!(on_loopback(&Method::POST, Some("localhost:8080"), lines, &[]), Verdict::CrossSite, "{lines:?}");
    }
}

#[test]
fn port_80_is_the_same_origin_written_or_not() {
    for (authority, origin) in [
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("[::1]", "http://[::1]:80"),
    ] {
        let line = format!("origin: {origin}");
        assert_eq!(on_loopback(&Method::GET, Some(authority), &[&line], &[]), Verdict::Pass, "{authority} {origin}");
    }
}

#[test]
fn a_request_without_authority_has_no_own_origin() {
    assert_eq!(on_loopback(&Method::GET, None, &["origin: http://localhost"], &[]), Verdict::CrossSite);
}

#[test]
fn a_page_of_an_allowed_origin_may_read_the_answer() {
    let lines = ["origin: https://App.example", "sec-fetch-site: cross-site"];
    let allowed = ["https://app.example", "null"];
    let Verdict::CrossOrigin(origin) = on_loopback(&Method::POST, Some("localhost"), &lines, &allowed) else {
        panic!("the origin is allowed");
    };
    let mut answer = headers(&[
        "access-control-allow-origin: *",
        "access-control-allow-credentials: true",
        "vary: accept",
        "content-type: text/plain",
    ]);
    origin.apply(&mut answer);
    assert_eq!(
        answer,
        headers(&[
            "access-control-allow-origin: https://App.example",
            "access-control-expose-headers: *",
            "vary: accept",
            "vary: origin",
            "content-type: text/plain",
        ])
    );
}

#[test]
fn being_allowed_opens_no_other_door() {
    let allowed = ["https://app.example", "null"];
    for lines in [
        &["origin: null"][..],
        &["sec-fetch-site: cross-site"],
        &["origin: https://app.example.evil.example"],
        &["origin: https://app.example:8443"],
        &["origin: http://app.example"],
    ] {
        assert_eq!(on_loopback(&Method::GET, Some("localhost"), lines, &allowed), Verdict::CrossSite, "{lines:?}");
    }
    let rebound = on_loopback(&Method::GET, Some("rebound.example"), &["origin: https://app.example"], &allowed);
    assert_eq!(rebound, Verdict::Misdirected);
}

#[test]
fn a_preflight_of_an_allowed_origin_is_granted_what_it_asks_for() {
    let lines = [
        "origin: https://app.example",
        "access-control-request-method: PATCH",
        "access-control-request-headers: x-api-key,content-type",
        "access-control-request-private-network: true",
    ];
    let verdict = on_loopback(&Method::OPTIONS, Some("localhost"), &lines, &["https://app.example"]);
    let expected = headers(&[
        "access-control-allow-origin: https://app.example",
        "access-control-allow-methods: PATCH",
        "access-control-allow-headers: x-api-key,content-type",
        "access-control-allow-private-network: true",
        "access-control-max-age: 600",
        "vary: origin, access-control-request-method, access-control-request-headers",
    ]);
    assert_eq!(verdict, Verdict::Preflight(expected));
    assert_eq!(on_loopback(&Method::OPTIONS, Some("localhost"), &lines, &[]), Verdict::CrossSite);
    let ordinary = on_loopback(&Method::OPTIONS, Some("localhost"), &lines[..1], &["https://app.example"]);
    assert!(matches!(ordinary, Verdict::CrossOrigin(_)), "OPTIONS alone is no preflight");
}

#[test]
fn a_proxy_can_tell_the_page_that_a_referer_names() {
    let allowed_origins = ["https://app.example".to_owned()];
    let rules = BrowserRules { scheme: "http", hosts: Hosts::Any, allowed_origins: &allowed_origins };
    let refers = |lines: &[&str]| refers_from_elsewhere(Some("api.example"), &headers(lines), rules);
    for own in [
        "http://api.example/",
        "http://api.example",
        "http://api.example:80/a/page?x=http://evil.example",
        "HTTP://API.example/",
        "https://app.example/a/page",
        "/relative",
        "about:blank",
    ] {
        assert!(!refers(&[&format!("referer: {own}")]), "{own}");
    }
    for other in [
        "http://evil.example/",
        "http://evil.example",
        "http://api.example.evil.example/",
        "http://api.example@evil.example/",
        "http://evil.example/http://api.example/",
        "http://evil.example?http://api.example/",
        "http://api.example:81/",
        "https://api.example/",
        "https://app.example.evil.example/",
        "http://",
        "://api.example/",
    ] {
        assert!(refers(&[&format!("referer: {other}")]), "{other}");
    }
    assert!(refers(&["referer: http://api.example/", "referer: http://evil.example/"]));
    assert!(!refers(&["accept: */*"]), "what is no browser sends none");
    assert!(!refers(&["origin: http://api.example", "referer: http://evil.example/"]), "an origin is the better word");
}
