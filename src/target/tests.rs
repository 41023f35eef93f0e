//! Tables and properties of the target rules.

use proptest::prelude::*;

use super::UnsafeTarget::{
    self, Backslash, ControlByte, DotSegment, EncodedSlash, Fragment, LeadingDoubleSlash, MalformedEscape, NotAbsolute,
    Overlong, Unrepresentable,
};
use super::{decode, inspect, outgoing};

#[test]
fn ordinary_paths_pass_as_they_are() {
    for path in [
        "/",
        "/orders/42",
        "/v1.0/orders.json",
        "/a//b",
        "/a;v=1/b",
        "/a;x=../b",
        "/a;..",
        "/...",
        "/.well-known/x",
        "/..hidden",
        "/a..b/c.",
        "/%20/%3F/%23/%3b/%41",
        "/100%25",
        "/100%2525",
        "/100%25zz",
        "/a%2eb",
        "/%2e%2e%2e",
        "/caf%C3%A9/%E2%82%AC/%F0%9F%98%80",
        "/%E0%A4%A0",
        "/latin-1/%c0/%e0x/%f0",
        "/grün/€",
        "/compare/a...b",
        "/'(x)',$y=@:!*+~",
    ] {
        assert_eq!(inspect(path), Ok(()), "{path}");
    }
}

#[test]
fn a_path_that_could_mean_something_else_to_a_server_is_refused() {
    let cases: &[(UnsafeTarget, &[&str])] = &[
        (NotAbsolute, &["", "*", "orders", "http://h/p", "%2forders"]),
        (
            DotSegment,
            &[
                "/.",
                "/..",
                "/a/../b",
                "/a/./b",
                "/a/..",
                "/..;",
                "/a/..;x=1/b",
                "/a/.;/b",
                "/%2e",
                "/%2E%2e/b",
                "/.%2e/b",
                "/%2e./b",
                "/a/..%3b/b",
                "/a/%2e%2e%3Bx/b",
                "/%252e%252e/b",
                "/%25252e./b",
                "/..%25%33%62x",
                "/%25%32%65",
                "//..//",
            ],
        ),
        (EncodedSlash, &["/a%2fb", "/a%2Fb", "/a%252fb", "/%2e%2e%2f", "/a%25%32%46b", "/%2525252fb"]),
        (Backslash, &["/a\\b", "/..\\b", "/a%5cb", "/a%5Cb", "/a%255cb"]),
        (
            ControlByte,
            &["/a b", "/a\tb", "/a\0", "/a\x7f", "/%00", "/a%0d%0ab", "/a%1f", "/a%7F", "/a%2500", "/a%c1%1c"],
        ),
        (
            Overlong,
            &[
                "/%c0%af",
                "/%C0%AE%c0%ae/",
                "/%c1%9c",
                "/%c0%80",
                "/%c0%a52e",
                "/%e0%80%ae",
                "/%e0%80%af",
                "/%e0%81%9c",
                "/%f0%80%80%af",
                "/%f8%80%80%80%af",
                "/%fc%80%80%80%80%af",
                "/%25c0%25af",
                "/%c0%25af",
            ],
        ),
        (Fragment, &["/a#b", "/#"]),
        (Unrepresentable, &["/a?b"]),
        (MalformedEscape, &["/%", "/%2", "/a%zz", "/%%32%65", "/%2%2565%2e", "/%u002e", "/%2 e", "/a%+f", "/%-1"]),
    ];
    for (why, paths) in cases {
        for path in *paths {
            assert_eq!(inspect(path), Err(*why), "{path:?}");
        }
    }
}

#[test]
fn the_reason_names_what_is_wrong_in_a_lower_case_clause() {
    assert_eq!(inspect("/%2e%2e/b").unwrap_err().to_string(), "the path holds a dot segment");
}

#[test]
fn the_outgoing_target_is_the_base_path_and_what_follows_the_prefix() {
    for (base, path, prefix, query, expected) in [
        ("/v1", "/orders", 7, None, "/v1"),
        ("/v1", "/orders/", 7, None, "/v1/"),
        ("/v1", "/orders", 7, Some("x"), "/v1?x"),
        ("/v1", "/orders/42", 7, Some("x=1"), "/v1/42?x=1"),
        ("/v1", "/orders", 7, Some(""), "/v1?"),
        ("/v1", "/orders/42", 0, None, "/v1/orders/42"),
        ("", "/orders", 7, None, "/"),
        ("", "/orders", 7, Some("x?y=/../%2f%zz"), "/?x?y=/../%2f%zz"),
        ("", "/orders/", 7, None, "/"),
        ("", "/", 0, None, "/"),
        ("", "/a//b;c", 0, None, "/a//b;c"),
        ("/v1", "/orders//x", 7, None, "/v1//x"),
        ("", "/orders/%41%2B%c3%a9", 7, None, "/%41%2B%c3%a9"),
    ] {
        assert_eq!(outgoing(base, path, prefix, query).unwrap().as_str(), expected, "{base} {path} {query:?}");
    }
}

#[test]
fn an_outgoing_target_that_would_change_its_meaning_is_refused() {
    for (base, path, prefix, query, why) in [
        ("", "/orders//evil.example/x", 7, None, LeadingDoubleSlash),
        ("", "//evil.example", 0, None, LeadingDoubleSlash),
        ("/v1", "/ordersx", 7, None, NotAbsolute),
        ("/v1", "/o", 7, None, NotAbsolute),
        ("/v1", "/é", 2, None, NotAbsolute),
        ("/v1", "/a#b", 0, None, Fragment),
        ("/v1", "/a", 0, Some("x#y"), Fragment),
        ("/v1", "/a?b", 0, Some("x"), Unrepresentable),
        ("/v1", "/a", 0, Some("x y"), Unrepresentable),
        ("/v1", "/a", 0, Some("x\r\ny"), Unrepresentable),
        ("/v1", "/a", 0, Some(&"x".repeat(70_000)), Unrepresentable),
    ] {
        assert_eq!(outgoing(base, path, prefix, query), Err(why), "{base} {path}");
    }
}

/// One level of decoding, lenient as servers are: what is no escape stays.
fn decode_once(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1).zip(bytes.get(at + 2)).and_then(|(high, low)| decode(*high, *low));
        match escape {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// The rule in its plainest form: look at every level of decoding.
fn is_harmful_at_some_level(path: &str) -> bool {
    let slashes = path.matches('/').count();
    let mut level = path.as_bytes().to_vec();
    loop {
        let forbidden = level.iter().any(|byte| matches!(byte, 0..=0x1f | 0x7f | b'\\'));
        let more_slashes = level.iter().filter(|byte| **byte == b'/').count() != slashes;
        let dot_segment = level
            .split(|byte| *byte == b'/')
            .any(|segment| matches!(segment.split(|byte| *byte == b';').next(), Some(b"." | b"..")));
        if forbidden || more_slashes || dot_segment {
            return true;
        }
        let next = decode_once(&level);
        if next == level {
            return false;
        }
        level = next;
    }
}

proptest! {
    #[test]
    fn no_accepted_path_turns_harmful_at_any_level_of_decoding(path in "/([%25eE.;/a\\\\fF3bcC0]|%25|%2e|%2f|\\.\\.){0,24}") {
        if inspect(&path).is_ok() {
            prop_assert!(!is_harmful_at_some_level(&path), "{path}");
        }
    }

    #[test]
    fn a_well_formed_path_is_refused_only_for_a_reason(path in "/(%25|%2e|%2E|%2f|%3b|%41|[.;/a25eEfF]){0,24}") {
        prop_assert_eq!(inspect(&path).is_err(), is_harmful_at_some_level(&path), "{}", path);
    }

    #[test]
    fn no_text_makes_the_inspection_panic(path in "\\PC{0,64}", more in "[/%\\x00-\\x7f]{0,64}") {
        let _ = inspect(&path);
        let _ = inspect(&format!("/{path}{more}"));
        let _ = outgoing(&path, &more, 1, Some(&path));
    }

    #[test]
    fn the_outgoing_bytes_are_the_incoming_bytes(
        base in "(/[a-z0-9.]{1,8}){0,3}",
        prefix in "(/[a-z]{1,8}){0,2}",
        rest in "(/[a-zA-Z0-9%:@!$&'()*+,;=~_.é-]{0,8}){0,6}",
        query in proptest::option::of("[a-zA-Z0-9%:@!$&'()*+,;=~_./?é\\[\\]|{}\"^-]{0,24}"),
    ) {
        let path = format!("{prefix}{rest}");
        let mut expected = format!("{base}{rest}");
        let double = expected.starts_with("//");
        if expected.is_empty() {
            expected.push('/');
        }
        if let Some(query) = &query {
            expected = format!("{expected}?{query}");
        }
        match outgoing(&base, &path, prefix.len(), query.as_deref()) {
            Ok(target) => {
                prop_assert_eq!(target.as_str(), expected.as_str());
                prop_assert_eq!(target.query(), query.as_deref());
            }
            Err(why) => prop_assert!(double || why == Unrepresentable, "{}: {:?}", expected, why),
        }
    }
}

#[test]
fn a_deeply_nested_escape_costs_no_more_than_its_length() {
    let nested = format!("/%{}41", "25".repeat(500_000));
    assert_eq!(inspect(&nested), Ok(()));
    assert_eq!(inspect(&format!("/%{}2f", "25".repeat(500_000))), Err(EncodedSlash));
}
