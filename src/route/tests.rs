//! Tables and properties of routing.

use http::Method;
use proptest::prelude::*;

use super::{Conflict, HostPattern, Match, Route, Router};

/// `host path [METHOD…]`, with `-` for no host and `*.` for a wildcard.
fn rule(text: &str) -> Match {
    let mut words = text.split(' ');
    let host = match words.next().unwrap() {
        "-" => None,
        host => Some(match host.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
            None => HostPattern::Exact(host.to_owned()),
        }),
    };
    let path = words.next().unwrap().to_owned();
    let methods: Vec<Method> = words.map(|method| method.parse().unwrap()).collect();
    Match { host, path, methods: (!methods.is_empty()).then_some(methods) }
}

fn router(rules: &[&str]) -> Router<String> {
    Router::build(rules.iter().map(|text| (rule(text), (*text).to_owned())).collect()).unwrap()
}

/// The rule found and what is left of the path.
fn found<'a>(router: &'a Router<String>, host: &str, path: &str) -> Option<(&'a str, usize)> {
    match router.route((host != "-").then_some(host), path, &Method::GET) {
        Route::Found { value, prefix } => Some((value, prefix)),
        Route::MethodNotAllowed { .. } | Route::NotFound => None,
    }
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let router = router(&["- /orders", "- /orders/eu/archive", "- /o", "- /Orders2"]);
    for (path, expected) in [
        ("/orders", Some(("- /orders", 7))),
        ("/orders/", Some(("- /orders", 7))),
        ("/orders/42", Some(("- /orders", 7))),
        ("/orders//42", Some(("- /orders", 7))),
        ("/orders/eu", Some(("- /orders", 7))),
        ("/orders/eu/archive", Some(("- /orders/eu/archive", 18))),
        ("/orders/eu/archive/1", Some(("- /orders/eu/archive", 18))),
        ("/orders/eu/archives", Some(("- /orders", 7))),
        ("/o/x", Some(("- /o", 2))),
        ("/orders;v=1/x", None),
        ("/ordersx", None),
        ("/ORDERS", None),
        ("/orders2", None),
        ("/Orders2", Some(("- /Orders2", 8))),
        ("/%6frders", None),
        ("//orders", None),
        ("/", None),
        ("*", None),
        ("", None),
    ] {
        assert_eq!(found(&router, "-", path), expected, "{path}");
    }
}

#[test]
fn a_slash_takes_all_that_is_left_and_cuts_nothing() {
    let router = router(&["- /", "- /orders"]);
    for path in ["/", "/x/y", "/ordersx", "//", "//orders"] {
        assert_eq!(found(&router, "-", path), Some(("- /", 0)), "{path}");
    }
    assert_eq!(found(&router, "-", "/orders/1"), Some(("- /orders", 7)));
    assert_eq!(found(&router, "-", "*"), None);
}

#[test]
fn an_exact_host_goes_before_the_longest_wildcard_and_that_before_none() {
    let router = router(&[
        "api.example.com /",
        "*.example.com /",
        "*.com /",
        "- /orders/very/long",
        "::1 /v6",
        "*.eu.example.com /only",
    ]);
    for (host, path, expected) in [
        ("api.example.com", "/orders/very/long", Some("api.example.com /")),
        ("API.Example.COM.:8080", "/", Some("api.example.com /")),
        ("b.example.com", "/", Some("*.example.com /")),
        ("a.b.example.com:1", "/", Some("*.example.com /")),
        ("example.com", "/", Some("*.com /")),
        ("example.org", "/", None),
        (".example.com", "/", Some("*.com /")),
        (".com", "/", None),
        ("com", "/", None),
        ("-", "/orders/very/long/x", Some("- /orders/very/long")),
        ("example.org", "/orders/very/long/x", Some("- /orders/very/long")),
        ("[::1]:8080", "/v6", Some("::1 /v6")),
        ("[::1]", "/v6/x", Some("::1 /v6")),
        ("x.eu.example.com", "/only", Some("*.eu.example.com /only")),
        ("evilapi.example.com.evil.org", "/", None),
        ("", "/", None),
    ] {
        assert_eq!(found(&router, host, path).map(|(rule, _)| rule), expected, "{host} {path}");
    }
}

#[test]
fn a_host_without_a_fitting_path_goes_on_to_less_specific_hosts() {
    let router = router(&["api.example.com /a", "*.example.com /b", "- /c"]);
    for (path, expected) in
        [("/a", Some("api.example.com /a")), ("/b", Some("*.example.com /b")), ("/c", Some("- /c")), ("/d", None)]
    {
        assert_eq!(found(&router, "api.example.com", path).map(|(rule, _)| rule), expected, "{path}");
    }
}

#[test]
fn methods_are_looked_at_last_and_never_fall_through() {
    let router = router(&["- /orders GET POST", "- /", "a.example /orders PUT"]);
    let Route::MethodNotAllowed { value, allow } = router.route(None, "/orders/1", &Method::HEAD) else {
        panic!("HEAD is not implied by GET");
    };
    assert_eq!((value.as_str(), allow.to_str().unwrap()), ("- /orders GET POST", "GET, POST"));
    assert!(matches!(router.route(None, "/orders/1", &Method::POST), Route::Found { prefix: 7, .. }));
    assert!(matches!(router.route(None, "/x", &Method::DELETE), Route::Found { prefix: 0, .. }));
    assert!(matches!(router.route(Some("a.example"), "/orders", &Method::GET), Route::MethodNotAllowed { .. }));
}

#[test]
fn two_equal_matches_are_a_conflict_whatever_their_methods() {
    for (rules, expected) in [
        (["- /a", "- /b", "- /a"], Some((0, 2))),
        (["- /a GET", "- /b", "- /a POST"], Some((0, 2))),
        (["h /a", "H. /a", "- /a"], Some((0, 1))),
        (["*.h /a", "*.H /a", "- /a"], Some((0, 1))),
        (["- /", "- /a", "- /"], Some((0, 2))),
        (["*.h /a", "h /a", "- /a"], None),
    ] {
        let built = Router::build(rules.iter().map(|text| (rule(text), ())).collect());
        assert_eq!(built.err(), expected.map(|(first, second)| Conflict { first, second }), "{rules:?}");
    }
}

#[test]
fn a_host_is_named_when_a_match_names_it() {
    let router = router(&["orders.internal /", "*.example.com /x", "- /y"]);
    for host in ["orders.internal", "ORDERS.internal.:81", "a.example.com", "a.b.example.com:443"] {
        assert!(router.names_host(host), "{host}");
    }
    for host in ["", "example.com", "internal", "orders.internal.evil.example", "evil.example", "orders.internal:x"] {
        assert!(!router.names_host(host), "{host}");
    }
}

#[test]
fn neither_a_path_of_slashes_nor_a_host_of_dots_is_walked_to_its_end() {
    let router = router(&["- /a", "*.example.com /"]);
    assert_eq!(found(&router, "-", &"/".repeat(100_000)), None);
    assert_eq!(found(&router, &"a.".repeat(100_000), "/a/x"), Some(("- /a", 2)));
}

/// The rule in its plainest form: try every match, keep the best.
fn best<'a>(rules: &'a [Match], host: &str, path: &str) -> Option<&'a Match> {
    let host_rank = |rule: &Match| match &rule.host {
        None => Some(0),
        Some(HostPattern::Suffix(suffix)) => {
            (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len())
        }
        Some(HostPattern::Exact(name)) => (host == name).then_some(usize::MAX),
    };
    let path_rank = |rule: &Match| match rule.path.as_str() {
        "/" => Some(0),
        prefix => {
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
        }
    };
    let ranked = rules.iter().filter_map(|rule| Some(((host_rank(rule)?, path_rank(rule)?), rule)));
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, rule)| rule)
}

proptest! {
    #[test]
    fn the_router_finds_what_trying_every_match_finds(
        rules in proptest::collection::btree_set(("(-|a|b|a\\.b|\\*\\.b|\\*\\.a\\.b)", "(/|(/[ab]){1,3})"), 0..12),
        host in "[ab](\\.[ab]){0,2}",
        path in "/[ab]?(/[ab]{0,2}){0,4}",
    ) {
        let rules: Vec<Match> = rules.iter().map(|(host, path)| rule(&format!("{host} {path}"))).collect();
        let router = Router::build(rules.iter().cloned().enumerate().map(|(at, rule)| (rule, at)).collect()).unwrap();
        let found = match router.route(Some(&host), &path, &Method::GET) {
            Route::Found { value, prefix } => {
                let cut = rules[*value].path.trim_end_matches('/');
                prop_assert_eq!(path.get(..prefix), Some(cut));
                Some(&rules[*value])
            }
            Route::MethodNotAllowed { .. } | Route::NotFound => None,
        };
        prop_assert_eq!(found, best(&rules, &host, &path));
    }

    #[test]
    fn no_host_and_no_path_make_the_router_panic(host in "\\PC{0,32}", path in "\\PC{0,32}") {
        let router = router(&["- /a", "*.b /", "a.b /c"]);
        let _ = router.route(Some(&host), &path, &Method::GET);
        let _ = router.route(Some(&host), &format!("/a/{path}"), &Method::GET);
    }
}
