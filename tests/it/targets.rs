//! Where a request may lead: the target as it came on the wire, and never outside the prefix of its named credential.

use crate::support::http::request;
use crate::support::recorder::Reply;
use crate::support::scripted::answer;
use crate::support::stage::{Stage, named};

/// B38, C26: path and query are not changed but by the route's own rule.
#[tokio::test]
async fn path_and_query_arrive_byte_for_byte() {
    let stage = Stage::start(&named("orders", "/v1", "")).await;
    for (target, expected) in [
        ("/orders", "/v1"),
        ("/orders/", "/v1/"),
        ("/orders?x", "/v1?x"),
        ("/orders?", "/v1?"),
        ("/orders/?", "/v1/?"),
        ("/orders/42?x=1", "/v1/42?x=1"),
        ("/orders/a%20b%41%c3%A9", "/v1/a%20b%41%c3%A9"),
        ("/orders/100%25/%2B+", "/v1/100%25/%2B+"),
        ("/orders/'(x)',$y=@:!*+~&-_.", "/v1/'(x)',$y=@:!*+~&-_."),
        ("/orders/a;v=1;w/b;", "/v1/a;v=1;w/b;"),
        ("/orders//a///b//", "/v1//a///b//"),
        ("/orders/.../..a/b..", "/v1/.../..a/b.."),
        ("/orders/a:b@c", "/v1/a:b@c"),
        ("/orders/%e4%F6", "/v1/%e4%F6"),
        ("/orders?a=b?c=/../d&&%zz&%2e%2e%2f+", "/v1?a=b?c=/../d&&%zz&%2e%2e%2f+"),
        ("/orders?url=http://x/../y", "/v1?url=http://x/../y"),
        ("/orders?{a:[1]}|^`", "/v1?{a:[1]}|^`"),
    ] {
        let (_, seen) = stage.pass(request("GET", target, &[], b"")).await;
        assert_eq!(seen.target(), expected, "{target}");
    }
    let longest = format!("/orders/{}", "a".repeat(8000));
    let (_, seen) = stage.pass(request("GET", &longest, &[], b"")).await;
    assert_eq!(seen.target(), longest.replace("/orders", "/v1"));
}

/// C26: however often a server behind us decodes (RFC 3986 6.2.2.3), the credential stays within its prefix.
#[tokio::test]
async fn no_target_leaves_the_prefix() {
    let stage = Stage::start(&named("orders", "/v1", "")).await;
    for rest in [
        "..",
        "../",
        "../x",
        ".",
        "./x",
        "a/../../x",
        "a/..",
        "..;",
        "..;/x",
        "..;a=b/x",
        ".;/x",
        "%2e%2e",
        "%2e%2e/x",
        "%2E%2E/x",
        ".%2e/x",
        "%2e./x",
        "%2e",
        "..%2fx",
        "..%2Fx",
        "%2e%2e%2fx",
        "a%2fb",
        "%2f%2fx",
        "..%5cx",
        "..\\x",
        "a%5Cb",
        "a\\b",
        "%252e%252e/x",
        "%252e%252e%252fx",
        "a%252fb",
        "%25252e%25252e/x",
        "%2525252f",
        "..%3bx",
        "%2e%2e%3b/x",
        "..%253b/x",
        "%c0%ae%c0%ae/x",
        "%c0%af",
        "%e0%80%ae",
        "%e0%80%af",
        "%f0%80%80%af",
        "%c1%9c",
        "%25c0%25ae",
        "%u002e%u002e/x",
        "%",
        "%2",
        "%zz",
        "%%32%65",
        "%00",
        "x%00",
        "a%0d%0aX:1",
        "a%0a",
        "%7f",
        "%2500",
    ] {
        let target = format!("/orders/{rest}");
        stage.exchange(request("GET", &target, &[], b"")).await.assert_problem(400, &target);
    }
    // Before the prefix, too: what a server would normalise into a match is none.
    for target in ["/x/../orders/y", "/./orders/y", "/%2e/orders", "//../orders", "/orders%2fx", "/%2forders"] {
        stage.exchange(request("GET", target, &[], b"")).await.assert_problem(400, target);
    }
    // Case and escapes count: these are other paths.
    for target in ["/Orders/x", "/%6frders/x", "/ordersx", "/orders;x/y", "/", "//orders/x"] {
        stage.exchange(request("GET", target, &[], b"")).await.assert_problem(404, target);
    }
    stage.assert_untouched();
}

/// C26: a target that begins with two slashes reads as an authority.
#[tokio::test]
async fn no_outgoing_target_begins_with_two_slashes() {
    let stage = Stage::orders().await;
    for target in ["/orders//evil.example/x", "/orders//", "/orders///"] {
        stage.exchange(request("GET", target, &[], b"")).await.assert_problem(400, target);
    }
    stage.assert_untouched();
    let (_, seen) = stage.pass(request("GET", "/orders/a//b;c", &[], b"")).await;
    assert_eq!(seen.target(), "/a//b;c");
}

/// B9, B10, B36, C32: never forwarded, not even where no method is excluded.
#[tokio::test]
async fn trace_connect_and_an_asterisk_are_answered_here() {
    let stage = Stage::start(&named("orders", "", "match = { path = \"/\" }")).await;
    let answer = stage.exchange("TRACE /x HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 5\r\n\r\n").await;
    answer.assert_problem(405, "TRACE");
    assert!(answer.field("allow").is_some_and(|allow| !allow.contains("TRACE")), "{}", answer.head);

    for (target, status) in [("localhost:80", 405), ("127.0.0.1:1", 405), ("/x", 400), ("localhost", 400)] {
        let mut caller = stage.caller().await;
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: localhost\r\n\r\nGET /x HTTP/1.1\r\n");
        caller.exchange(request.as_bytes()).await.unwrap().assert_problem(status, target);
        assert!(caller.is_closed().await, "what follows CONNECT is not HTTP");
    }

    let answer = stage.exchange("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    for method in ["GET", "POST", "DELETE"] {
        let asterisk = format!("{method} * HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stage.exchange(&asterisk).await.assert_problem(400, &asterisk);
    }
    stage.assert_untouched();
    let (_, seen) = stage.pass("OPTIONS /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(seen.line(), "OPTIONS /x HTTP/1.1");
}

/// B8: accepted, and its authority counts, not the Host field's.
#[tokio::test]
async fn an_absolute_target_is_taken_when_its_authority_is_ours() {
    let stage = Stage::start(&named("orders", "/v1", "host_header = \"caller\"")).await;
    let absolute = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let upstream = stage.upstream.address.to_string();
    for (target, host) in [
        ("http://evil.example/orders/x", "localhost"),
        ("http://evil.example:8080/orders/x", "localhost"),
        ("http://10.0.0.1/orders/x", "localhost"),
        ("https://localhost/orders/x", "localhost"),
    ] {
        stage.exchange(absolute(target, host)).await.assert_problem(421, target);
    }
    for (target, host) in [
        ("http://user:pass@localhost/orders/x", "localhost"),
        ("ftp://localhost/orders/x", "localhost"),
        ("http:///orders/x", "localhost"),
        ("http://localhost/orders/../x", "localhost"),
        ("http://localhost/orders/x#y", "localhost"),
    ] {
        stage.exchange(absolute(target, host)).await.assert_problem(400, target);
    }
    stage.exchange(absolute(&format!("http://{upstream}/v1/x"), "localhost")).await.assert_problem(404, "the upstream");
    stage.assert_untouched();

    let (_, seen) = stage.pass(absolute("http://LOCALHOST:81/orders/x?y", "other.example")).await;
    assert_eq!((seen.target(), seen.fields("host")), ("/v1/x?y", vec!["LOCALHOST:81"]));
}

/// C24, C27: only listener, host and path decide.
#[tokio::test]
async fn no_field_reroutes_a_request() {
    let config =
        named("orders", "/v1", "") + &named("admin", "/admin", "match = { path = \"/\", host = \"admin.internal\" }");
    let stage = Stage::start(&config).await;
    let fields = [
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-Forwarded-Host", "admin.internal"),
        ("X-Forwarded-Prefix", "/admin"),
        ("X-Forwarded-Uri", "/admin"),
        ("Forwarded", "host=admin.internal"),
        ("X-Host", "admin.internal"),
        ("X-HTTP-Method-Override", "TRACE"),
    ];
    let (_, seen) = stage.pass(request("GET", "/orders/x?host=admin.internal", &fields, b"")).await;
    assert_eq!(seen.line(), "GET /v1/x?host=admin.internal HTTP/1.1");
}

/// C26: what an API needs passes byte for byte, and what could leave the prefix does not pass with it.
#[tokio::test]
async fn a_named_credential_lets_through_what_its_api_needs() {
    let gitlab = named("gitlab", "/api/v4", "path = { encoded_slash = \"pass\" }");
    let odata = named("odata", "/odata", "path = { double_slash = \"refuse\" }");
    let s3 = named("s3", "", "path = { semicolon = \"refuse\" }");
    let strict = named("strict", "/v1", "path = { semicolon = \"refuse\", double_slash = \"refuse\" }");
    let stage = Stage::start(&(gitlab + &odata + &s3 + &strict)).await;
    for (target, expected) in [
        ("/gitlab/projects/group%2Fproject", "/api/v4/projects/group%2Fproject"),
        (
            "/gitlab/projects/a%2fb%2Fc/repository/files/src%2Fmain.rs?ref=x%2F..%2Fy",
            "/api/v4/projects/a%2fb%2Fc/repository/files/src%2Fmain.rs?ref=x%2F..%2Fy",
        ),
        ("/gitlab/x%2F.gitignore", "/api/v4/x%2F.gitignore"),
        ("/gitlab/x%252Fy", "/api/v4/x%252Fy"),
        ("/odata/Products(1);v=2/Name", "/odata/Products(1);v=2/Name"),
        ("/s3/bucket//key//", "/bucket//key//"),
        ("/strict/a/b", "/v1/a/b"),
    ] {
        let (_, seen) = stage.pass(request("GET", target, &[], b"")).await;
        assert_eq!(seen.target(), expected, "{target}");
    }
    let (tokens, requests) = (stage.issuer.token_requests(), stage.upstream.requests().len());
    for target in [
        "/gitlab/..%2Fx",
        "/gitlab/%2e%2e%2fx",
        "/gitlab/a%2F..%2Fb",
        "/gitlab/a%2F..",
        "/gitlab/%2F..%2F..%2Fx",
        "/gitlab/a%2F%2e%2e/b",
        "/gitlab/a%252F..%252Fb",
        "/gitlab/a%2F%252e%252e%2Fb",
        "/gitlab/a%2F..;x%2Fb",
        "/gitlab/a%2F..%3bx/b",
        "/gitlab/a%2F.%2Fb",
        "/gitlab/a%5C..%5Cb",
        "/gitlab/a%2F..\\b",
        "/gitlab/a%2F%00",
        "/gitlab/%c0%af..%c0%af",
        "/gitlab%2F..%2Fstrict/x",
        "/odata/a%2Fb",
        "/odata//a",
        "/s3/a;b",
        "/s3//a",
        "/s3/%2Fa",
        "/strict/a;b",
        "/strict/a%3bb",
        "/strict/a//b",
        "/strict/a%2F/b",
    ] {
        stage.exchange(request("GET", target, &[], b"")).await.assert_problem(400, target);
    }
    assert_eq!((stage.issuer.token_requests(), stage.upstream.requests().len()), (tokens, requests));
}

/// C24: a redirect is the caller's to follow: it is passed on as it is, and nothing is asked for where it leads.
#[tokio::test]
async fn redirects_are_passed_on_and_not_followed() {
    let stage = Stage::start(&named("orders", "/v1", "")).await;
    for (status, location) in [
        (301, "https://evil.example/v1"),
        (302, "//evil.example"),
        (303, "/admin"),
        (307, "http://127.0.0.1:1/"),
        (308, "../x"),
    ] {
        stage.upstream.next(Reply::new(answer(status, &[("location", location)], b"gone")));
        let before = stage.upstream.requests().len();
        let answer = stage.exchange(request("POST", "/orders/x", &[], b"body")).await;
        assert_eq!((answer.status, answer.field("location"), &*answer.body), (status, Some(location), &b"gone"[..]));
        assert_eq!(stage.upstream.requests().len(), before + 1);
    }
}
