use proptest::prelude::*;

use super::*;

mod plain;

const LIMITS: HeadLimits = HeadLimits { target: 8192, header: 32768, fields: 100 };

fn framing(head: &str) -> Result<Framing, Failure> {
    assert_eq!(end(head.as_bytes(), 0), Some(head.len()), "{head:?} is one head");
    check(head.as_bytes(), LIMITS).map(|head| head.framing)
}

fn upgrade(head: &str) -> Upgrade {
    check(head.as_bytes(), LIMITS).unwrap().upgrade
}

/// B10: a CONNECT names a host and a port and has no content; whether it is allowed is not decided here.
#[test]
fn a_connect_is_let_through_only_in_authority_form() {
    for target in ["a:443", "a.example:1", "127.0.0.1:65535", "[::1]:443"] {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(framing(&head), Ok(Framing::none()), "{target}");
        assert_eq!(upgrade(&head), Upgrade::Asked, "{target}");
    }
    for target in [
        "a",
        "a:",
        ":443",
        "a:0",
        "a:65536",
        "a:+1",
        "a:443/",
        "a:443?x",
        "http://a:443",
        "u@a:443",
        "u:p@a:443",
        "::1:443",
        "[::1]",
        "[::1]443",
        "/",
        "*",
        "a:443#x",
        "a,b:443",
        "a!b:443",
    ] {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(framing(&head), Err(Failure::BadRequest), "{target}");
    }
    for field in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
        let head = format!("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        assert_eq!(framing(&head), Err(Failure::BadRequest), "{field}");
    }
}

/// B42, B43: what asks for another protocol, and what only looks like it.
#[test]
fn an_upgrade_counts_only_where_it_can_be_granted() {
    let head = |line: &str, fields: &str| format!("{line}\r\nHost: a\r\n{fields}\r\n");
    for fields in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "UPGRADE: h2c, websocket\r\nConnection: keep-alive\r\nConnection: x, upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: a/1\r\nContent-Length: 0\r\n",
    ] {
        assert_eq!(upgrade(&head("GET / HTTP/1.1", fields)), Upgrade::Asked, "{fields}");
        assert_eq!(upgrade(&head("GET / HTTP/1.0", fields)), Upgrade::Void, "{fields}");
    }
    for fields in [
        "Upgrade: websocket\r\n",
        "Connection: keep-alive\r\nUpgrade: websocket\r\n",
        "Connection: upgrades\r\nUpgrade: websocket\r\n",
        "Connection: upgrade, http2-settings\r\nUpgrade: H2C\r\n",
        "Connection: upgrade\r\nUpgrade: ,\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(upgrade(&head("POST / HTTP/1.1", fields)), Upgrade::Void, "{fields}");
    }
    assert_eq!(upgrade(&head("GET / HTTP/1.1", "Connection: upgrade\r\n")), Upgrade::None);
}

#[test]
fn void_upgrade_fields_are_cut_out_of_the_head_alone() {
    let whole = "\r\nPOST / HTTP/1.1\r\nupgrade: a\r\nHost: a\r\nUPGRADE:b\r\nUpgrader: c\r\nUpgrade: d\r\n\r\n\
                 Upgrade: body\r\n";
    let mut bytes = whole.as_bytes().to_vec();
    let left = remove_upgrade(&mut bytes);
    bytes.truncate(left);
    let expected = "\r\nPOST / HTTP/1.1\r\nHost: a\r\nUpgrader: c\r\n\r\nUpgrade: body\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn plain_heads_pass_and_tell_their_framing() {
    assert_eq!(framing("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::none()));
    assert_eq!(framing("GET /a?b=%20{x}|^ HTTP/1.1\r\nHost: a:80\r\n\r\n"), Ok(Framing::none()));
    assert_eq!(framing("POST / HTTP/1.1\r\nHost:a\r\nContent-Length: 3 \r\n\r\n"), Ok(Framing::length(3)));
    assert_eq!(framing("POST / HTTP/1.1\r\nhost:a\r\ntransfer-encoding: Chunked\r\n\r\n"), Ok(Framing::chunked()));
    assert_eq!(framing("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::none()));
    assert_eq!(framing("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::none()));
    assert_eq!(framing("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::none()));
    assert_eq!(framing("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::none()));
}

/// B6, B7, B11, B12, B13, B16, B18, B19, B20: ambiguous or malformed heads are refused.
#[test]
fn rfc_9112_ambiguous_or_malformed_heads_are_refused() {
    for (head, failure) in [
        ("GET / HTTP/1.1\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\nHost: a\n\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x07\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", Failure::BadRequest),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("GET /\r\n\r\n", Failure::BadRequest),
        ("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Failure::UnsupportedVersion),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("Post / HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\n", Failure::BadRequest),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
        ("GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
        ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
        ("GET http://a!b/ HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Failure::UnknownTransferCoding),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Failure::UnknownTransferCoding),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip,br ,Chunked\r\n\r\n", Failure::UnknownTransferCoding),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, xchunked\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip;q=1, chunked\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip,\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", Failure::BadRequest),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Failure::BadRequest,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", Failure::BadRequest),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Failure::BadRequest),
    ] {
        assert_eq!(framing(head), Err(failure), "{head:?}");
    }
}

/// B5: lengths are bounded before a head is complete.
#[test]
fn lengths_are_bounded_before_a_head_is_complete() {
    assert_eq!(check_length(&[b'a'; 9000], LIMITS), Err(Failure::TargetTooLong));
    let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
    head.resize(head.len() + 33_000, b'a');
    assert_eq!(check_length(&head, LIMITS), Err(Failure::HeaderTooLarge));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(100));
    assert_eq!(framing(&many), Err(Failure::TooManyFields));
}

proptest! {
    /// B38: an accepted target survives `http::Uri` byte for byte.
    #[test]
    fn an_accepted_target_survives_http_uri_byte_for_byte(target in "/[!-~]{0,40}") {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        if check(head.as_bytes(), LIMITS).is_ok() {
            let uri = http::Uri::try_from(target.as_str()).unwrap();
            prop_assert_eq!(uri.path_and_query().unwrap().as_str(), target);
        }
    }

    #[test]
    fn no_bytes_make_the_check_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut head = bytes;
        head.extend_from_slice(b"\r\n\r\n");
        if let Some(end) = end(&head, 0) {
            let _ = check(head.get(..end).unwrap(), LIMITS);
        }
    }

    #[test]
    fn the_end_is_found_wherever_the_search_was_interrupted(cut in 0_usize..40) {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nrest";
        prop_assert!(end(head.get(..cut.min(33)).unwrap(), 0).is_none() || cut >= 33);
        prop_assert_eq!(end(head, cut.min(33)), Some(33));
    }
}
