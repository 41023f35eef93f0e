//! What an intermediary owes to the fields it passes on, seen from both ends of the wire.

use crate::support::http::request;
use crate::support::recorder::Reply;
use crate::support::stage::{Stage, named};

/// The SHA-256 of `the-key-of-billing`.
const BILLING: &str = "cb8d0c9d652a2fa79c1d32dc0eebbe4ceb98fc487bf3c600c00d93671e0c9822";

/// A GET of `/orders/x` with these lines.
fn get(lines: &str) -> String {
    format!("GET /orders/x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// B23, B30, B32, B33, B43: every field that any Connection line names, in any case, and the known ones, are for one
/// hop.
#[tokio::test]
async fn a_requests_fields_for_one_hop_end_here() {
    let stage = Stage::orders().await;
    let lines = "Connection: X-Hop , keep-alive\r\nX-Hop: 1\r\nx-hop: 2\r\nX-Kept: 3\r\nCONNECTION: x-LATER,,te\r\n\
                 X-Later: 4\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
                 Upgrade: websocket\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let (_, seen) = stage.pass(get(lines)).await;
    assert_eq!(seen.fields("x-kept"), ["3"]);
    // RFC 9110 10.1.4: what stands there is our own, because we read trailers for a caller that does.
    assert_eq!((seen.fields("te"), seen.fields("connection")), (vec!["trailers"], vec!["te"]));
    for gone in ["x-hop", "x-later", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(seen.fields(gone).is_empty(), "{gone} travelled:\n{}", seen.head);
    }

    // The caller's framing is not copied but made anew.
    let chunked = "POST /orders/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: ChunKed\r\n\r\n\
                   3;ext=1\r\nabc\r\n0\r\n\r\n";
    let (_, seen) = stage.pass(chunked).await;
    assert_eq!(
        (seen.fields("transfer-encoding"), seen.body.as_slice()),
        (vec!["chunked"], &b"3\r\nabc\r\n0\r\n\r\n"[..])
    );
}

/// B31: a sender must not list end-to-end fields; proxies that obeyed lost their own (CVE-2024-45410).
#[tokio::test]
async fn a_request_whose_connection_names_an_end_to_end_field_is_refused() {
    let stage = Stage::orders().await;
    for named in [
        "authorization",
        "close, HOST",
        "Content-Length",
        "cookie",
        "DPoP",
        "Via",
        "Forwarded",
        "X-Forwarded-For",
        "x-forwarded-anything",
        "X-Real-IP",
        "X-Request-Id",
        "Origin",
        "Sec-Fetch-Site",
        "Expect",
        "x-api-key",
        "traceparent",
        "Content-Type",
    ] {
        for lines in [format!("Connection: {named}\r\n"), format!("Connection: close\r\nconnection: x-a,\t{named}\r\n")]
        {
            stage.exchange(get(&lines)).await.assert_problem(400, &lines);
        }
    }
    stage.assert_untouched();
}

/// B30, B31, B32: on the way back too; an upstream that names an end-to-end field is not obeyed in that.
#[tokio::test]
async fn an_answers_fields_for_one_hop_end_here() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::new(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, content-TYPE\r\nX-Hop: 1\r\nconnection: x-LATER\r\nX-Later: 2\r\n\
         X-Kept: 3\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTE: x\r\n\
         Proxy-Authenticate: Basic\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n\
         2;ext=1\r\nok\r\n0\r\n\r\n",
    ));
    let (answer, _) = stage.pass(get("")).await;
    assert_eq!((answer.field("x-kept"), answer.field("content-type")), (Some("3"), Some("text/plain")));
    assert_eq!((answer.body.as_slice(), answer.field("transfer-encoding")), (&b"ok"[..], Some("chunked")));
    for gone in
        ["x-hop", "x-later", "connection", "keep-alive", "proxy-connection", "upgrade", "te", "proxy-authenticate"]
    {
        assert!(answer.fields(gone).is_empty(), "{gone} travelled:\n{}", answer.head);
    }
}

/// C15, C28: what the caller proves itself with is for us alone.
#[tokio::test]
async fn no_credential_of_the_caller_travels() {
    let callers = format!(
        "[callers.billing]\napi_key_sha256 = \"{BILLING}\"\n\
         [callers.other]\napi_key_sha256 = \"{}\"\nheader = \"x-other\"\n",
        BILLING.replace('a', "b")
    );
    let cookies = named("cookies", "", "keep_cookies = true");
    let stage = Stage::start(&(named("orders", "", "") + &cookies + &callers)).await;
    let lines = "Authorization: Bearer callers\r\nauthorization: Basic Y2FsbGVyOnM=\r\nProxy-Authorization: Basic eDp5\r\n\
                 DPoP: proof\r\nCookie: a=1\r\nCOOKIE: b=2\r\nX-Api-Key: callers\r\nX-Other: callers\r\nX-Kept: 1\r\n";
    let (_, seen) = stage.pass(get(lines)).await;
    assert!(stage.issuer.tokens().active(seen.bearer()).is_some(), "the token is the issuer's");
    assert_eq!(seen.fields("x-kept"), ["1"]);
    for gone in ["proxy-authorization", "dpop", "cookie", "x-api-key", "x-other"] {
        assert!(seen.fields(gone).is_empty(), "{gone} travelled:\n{}", seen.head);
    }
    assert!(!seen.head.contains("callers"), "{}", seen.head);

    let (_, seen) = stage.pass(get(lines).replace("/orders", "/cookies")).await;
    assert_eq!(seen.fields("cookie"), ["a=1", "b=2"], "where the route keeps them");
    seen.bearer();
}

/// C7, C28: a credential in another field replaces the callers.
#[tokio::test]
async fn a_credential_in_another_field_replaces_the_callers() {
    let stage = Stage::start(
        "[named_credentials.orders]\nurl = \"http://{upstream}\"\nexternal_credential = \"keyed\"\n\
         [external_credentials.keyed]\ntoken_endpoint = \"{token_endpoint}\"\nclient_id = \"orders\"\n\
         client_secret = { env = \"ORDERS_SECRET\" }\ninject = { header = \"x-auth-token\" }\n",
    )
    .await;
    let (_, seen) = stage.pass(get("X-Auth-Token: a\r\nx-auth-token: b\r\nAuthorization: Bearer c\r\n")).await;
    let values = seen.fields("x-auth-token");
    assert!(values.len() == 1 && stage.issuer.tokens().active(values[0]).is_some(), "{}", seen.head);
    assert!(seen.fields("authorization").is_empty(), "{}", seen.head);
    stage.exchange(get("X_Auth_Token: a\r\n")).await.assert_problem(400, "an alias of the injected field");
    assert_eq!(stage.upstream.requests().len(), 1);
}

/// B14, C28: CGI and its heirs fold `_` and `.` into `-` (CVE-2025-64484): such a name would arrive as what we removed.
#[tokio::test]
async fn a_name_that_folds_onto_a_field_of_weight_is_refused() {
    let callers = format!("[callers.billing]\napi_key_sha256 = \"{BILLING}\"\nheader = \"x-billing-key\"\n");
    let stage = Stage::start(&(named("orders", "", "") + &callers)).await;
    for name in [
        "X_Api_Key",
        "x.api.key",
        "X-Api_Key",
        "X_Billing_Key",
        "x-billing.key",
        "Content_Length",
        "Transfer.Encoding",
        "Proxy_Authorization",
        "Proxy_Connection",
        "Keep_Alive",
        "X_Forwarded_For",
        "X-Forwarded.Proto",
        "X_Real_IP",
        "X_Request_Id",
    ] {
        stage.exchange(get(&format!("{name}: 1\r\n"))).await.assert_problem(400, name);
    }
    stage.assert_untouched();
    let (_, seen) = stage.pass(get("x_custom_name: 1\r\napi.version: 2\r\n")).await;
    assert_eq!((seen.fields("x_custom_name"), seen.fields("api.version")), (vec!["1"], vec!["2"]), "others are passed");
}

/// B4, B35: a pseudonym behind what stands there, both ways; our own name in it is a loop.
#[tokio::test]
async fn via_tells_of_us_and_finds_loops() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::new("HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nContent-Length: 2\r\n\r\nok"));
    let (answer, seen) = stage.pass(get("Via: 1.0 fred\r\nVia: 1.1 bob (a, comment)\r\n")).await;
    let via = seen.fields("via");
    assert_eq!(via[..2], ["1.0 fred", "1.1 bob (a, comment)"]);
    let pseudonym = via[2].strip_prefix("1.1 ").expect("the version it came in");
    assert!(pseudonym.starts_with("keybearer") && via.len() == 3, "{via:?}");
    assert_eq!(answer.fields("via"), ["1.1 inner", via[2]]);
    assert!(!seen.head.contains(&stage.proxy.address.to_string()), "a pseudonym, not an address:\n{}", seen.head);

    let (_, seen) = stage.pass("GET /orders/x HTTP/1.0\r\n\r\n").await;
    assert_eq!((seen.fields("via"), seen.line()), (vec![&*format!("1.0 {pseudonym}")], "GET /x HTTP/1.1"));

    for line in [format!("1.1 {pseudonym}"), format!("1.0 fred, HTTP/1.1 {}:80 (x)", pseudonym.to_uppercase())] {
        let answer = stage.exchange(get(&format!("Via: {line}\r\n"))).await;
        answer.assert_problem(508, &line);
    }
    stage.pass(get("Via: 1.1 keybearer, 1.1 keybearer-other\r\n")).await;
    assert_eq!(stage.upstream.requests().len(), 3, "a chain of keybearers is no loop");
}

// RFC 9110 7.2
#[tokio::test]
async fn the_host_is_the_upstreams_the_callers_or_a_text() {
    let config = named("orders", "", "")
        + &named("caller", "", "host_header = \"caller\"")
        + &named("text", "", "host_header = \"api.internal:8443\"");
    let stage = Stage::start(&config).await;
    let upstream = stage.upstream.address.to_string();
    for (name, host) in [("orders", upstream.as_str()), ("caller", "localhost:1234"), ("text", "api.internal:8443")] {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: localhost:1234\r\n\r\n");
        let (_, seen) = stage.pass(request).await;
        assert_eq!(seen.fields("host"), [host], "{name}");
    }
    // RFC 9112 3.2: HTTP/1.0 callers need not send one, and what we send is HTTP/1.1.
    let (_, seen) = stage.pass("GET /caller HTTP/1.0\r\n\r\n").await;
    assert_eq!(seen.fields("host"), [upstream.as_str()]);
}

/// C15: fields that tell whom we ask for are never the caller's own.
#[tokio::test]
async fn whom_we_ask_for_is_told_only_where_the_route_says_so() {
    let config = named("orders", "", "")
        + &named("habit", "", "forwarded = \"x-forwarded\"")
        + &named("rfc", "", "forwarded = \"rfc7239\"");
    let stage = Stage::start(&config).await;
    let lines = "Forwarded: for=6.6.6.6\r\nForwarded: for=7.7.7.7\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\n\
                 X-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Real-IP: 6.6.6.6\r\n";
    let forwarding = |names: Vec<String>| -> Vec<String> {
        let mut names: Vec<_> =
            names.into_iter().filter(|name| name.contains("forwarded") || name == "x-real-ip").collect();
        names.sort();
        names
    };
    let (_, seen) = stage.pass(get(lines)).await;
    assert_eq!(forwarding(seen.names()), Vec::<String>::new());

    let (_, seen) = stage.pass(get(lines).replace("/orders", "/habit")).await;
    assert_eq!(forwarding(seen.names()), ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
    let values = ["for", "host", "proto"].map(|name| seen.fields(&format!("x-forwarded-{name}"))[0]);
    assert_eq!(values, ["127.0.0.1", "localhost", "http"]);

    let (_, seen) = stage.pass(get(lines).replace("/orders", "/rfc")).await;
    assert_eq!(forwarding(seen.names()), ["forwarded"]);
    assert_eq!(seen.fields("forwarded"), ["for=127.0.0.1;host=localhost;proto=http"]);
}

#[tokio::test]
async fn a_request_id_is_kept_when_it_is_well_formed_and_made_otherwise() {
    let stage = Stage::orders().await;
    let longest = "a".repeat(128);
    for id in ["7", "0191-a_B.c", &longest] {
        let (answer, seen) = stage.pass(get(&format!("X-Request-Id: {id}\r\n"))).await;
        assert_eq!((seen.fields("x-request-id"), answer.field("x-request-id")), (vec![id], Some(id)));
    }
    let too_long = "a".repeat(129);
    let mut made = Vec::new();
    for id in ["", "a b", "a\"b", "a/b", "\u{e9}", "{\"x\":1}", &too_long] {
        let (answer, seen) = stage.pass(get(&format!("X-Request-Id: {id}\r\n"))).await;
        let sent = seen.fields("x-request-id");
        assert!(sent.len() == 1 && sent[0] != id && !sent[0].is_empty(), "{id:?} became {sent:?}");
        assert_eq!(answer.field("x-request-id"), Some(sent[0]));
        made.push(sent[0].to_owned());
    }
    let log = stage.proxy.exchanges(10).await;
    assert_eq!(log[9]["id"], made[6]);
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 7, "each is its own");
}

/// B31: a route sets and removes fields.
#[tokio::test]
async fn a_route_sets_and_removes_fields() {
    let keys = "headers = [{ name = \"x-version\", value = \"2\" }, { name = \"accept\", value = \"text/plain\" }]\n\
                remove_headers = [\"user-agent\", \"x-debug\"]";
    let stage = Stage::start(&named("orders", "", keys)).await;
    let lines = "Accept: */*\r\nAccept: a/b\r\nX-VERSION: 1\r\nUser-Agent: curl\r\nX-Debug: 1\r\nX-Kept: 1\r\n\
                 Connection: x-version\r\n";
    let (_, seen) = stage.pass(get(lines)).await;
    assert_eq!((seen.fields("x-version"), seen.fields("accept")), (vec!["2"], vec!["text/plain"]));
    assert!(seen.fields("user-agent").is_empty() && seen.fields("x-debug").is_empty(), "{}", seen.head);
    assert_eq!(seen.fields("x-kept"), ["1"]);
}

/// B15, B37: the order of lines of one name is kept, and what is unknown is passed on with its bytes (5.5).
#[tokio::test]
async fn other_fields_pass_as_they_are() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::new(
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: x\r\nContent-Length: 0\r\n\r\n",
    ));
    let (answer, seen) = stage.pass(get("X-A: 1\r\nX-B: q=\"a, b\";c\r\nX-A:\t 2,  3 \r\nX-A: \r\n")).await;
    assert_eq!((seen.fields("x-a"), seen.fields("x-b")), (vec!["1", "2,  3", ""], vec!["q=\"a, b\";c"]));
    assert_eq!(answer.fields("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.field("server"), Some("x"));
    assert!(answer.field("date").is_some(), "RFC 9110 6.6.1: an answer without a date gets one");
}

/// B38: challenges and allowed methods are the upstream's own.
#[tokio::test]
async fn www_authenticate_and_allow_pass_unchanged() {
    let stage = Stage::orders().await;
    let refused = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"a, b\",  error=\"invalid_token\"\r\n\
                   WWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno";
    stage.upstream.next(Reply::new(refused));
    stage.upstream.next(Reply::new(refused));
    let answer = stage.exchange(get("")).await;
    assert_eq!((answer.status, answer.body.as_slice()), (401, &b"no"[..]));
    let challenges = answer.fields("www-authenticate");
    assert_eq!(challenges, ["Bearer realm=\"a, b\",  error=\"invalid_token\"", "Basic"]);
    assert_eq!(stage.upstream.requests().len(), 2, "one replay");

    stage.upstream.next(Reply::new("HTTP/1.1 405 Not\r\nAllow: GET,PUT ,, x-odd\r\nContent-Length: 0\r\n\r\n"));
    let answer = stage.exchange(request("POST", "/orders/x", &[], b"a")).await;
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET,PUT ,, x-odd")));
}
