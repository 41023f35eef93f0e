//! Tables and properties of the target rules.

use proptest::prelude::*;

use super::Allowance::{Pass, Refuse};
use super::UnsafeTarget::{
    self, Backslash, ControlByte, DotSegment, DoubleSlash, EncodedSlash, Fragment, LeadingDoubleSlash, MalformedEscape,
    NotAbsolute, Overlong, Semicolon, Unrepresentable,
};
use super::{PathRules, decode, outgoing};

/// The judgement of a named credential with these rules.
fn judge(path: &str, rules: PathRules) -> Result<(), UnsafeTarget> {
    rules.judge(path, super::inspect(path)?)
}

/// The judgement of a named credential that says nothing about its paths.
fn inspect(path: &str) -> Result<(), UnsafeTarget> {
    judge(path, PathRules::default())
}

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

/// C26: a path that could mean something else to a server is refused.
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
                "/%2e%2e%2f",
                "/a%2f..%2fb",
                "/a/..%2f",
                "/..%252f",
                "/%2f..;x%2fb",
            ],
        ),
        (EncodedSlash, &["/a%2fb", "/a%2Fb", "/a%252fb", "/a%25%32%46b", "/%2525252fb"]),
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
    /// C26: no accepted path turns harmful at any level of decoding.
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

const ALL: PathRules = PathRules { encoded_slash: Pass, semicolon: Pass, double_slash: Pass };
const NONE: PathRules = PathRules { encoded_slash: Refuse, semicolon: Refuse, double_slash: Refuse };

#[test]
fn encoded_slashes_pass_where_the_named_credential_says_so() {
    for path in [
        "/projects/group%2Fproject",
        "/projects/group%2fproject/merge_requests",
        "/projects/a%2Fb%2Fc",
        "/a%252Fb",
        "/a%2F%2Fb",
        "/a%2F",
        "/a%2F.b",
        "/a%2F...",
        "/a%2Fb..%2Fc",
    ] {
        assert_eq!(judge(path, ALL), Ok(()), "{path}");
        assert_eq!(judge(path, PathRules::default()), Err(EncodedSlash), "{path}");
    }
}

/// C26: what a named credential may let through never lets a dot segment through, in whatever clothes.
#[test]
fn no_rule_lets_a_dot_segment_a_backslash_or_a_control_byte_through() {
    for (why, paths) in [
        (
            DotSegment,
            &[
                "/a%2F..%2Fb",
                "/%2e%2e%2f",
                "/%2F..%2F",
                "/a%2f%2e%2e/b",
                "/..%2f",
                "/a/..%2Fb",
                "/a%2F../b",
                "/a%2F.",
                "/.%2Fa",
                "/a%252F..%252Fb",
                "/a%252F%252e%252e",
                "/a%2F..;x",
                "/a%2F..%3bx%2Fb",
                "/..;a%2Fb",
                "/a%2f%252e%252e%252f",
                "/a//..",
                "/..//",
            ][..],
        ),
        (Backslash, &["/a%2F..%5Cb", "/a\\b", "/a%5cb", "/a%255cb"][..]),
        (ControlByte, &["/a%2F%00", "/a%2500", "/a%0a"][..]),
        (Overlong, &["/a%2F%c0%ae%c0%ae%2F", "/%c0%af", "/%e0%80%af"][..]),
    ] {
        for path in paths {
            assert_eq!(judge(path, ALL), Err(why), "{path}");
        }
    }
}

#[test]
fn semicolons_and_double_slashes_are_refused_where_the_named_credential_says_so() {
    for (path, expected) in [
        ("/Products(1)/Name", Ok(())),
        ("/Products(1);v=2", Err(Semicolon)),
        ("/a%3bb", Err(Semicolon)),
        ("/a%253Bb", Err(Semicolon)),
        ("/bucket//key", Err(DoubleSlash)),
        ("//", Err(DoubleSlash)),
        ("/a/", Ok(())),
    ] {
        assert_eq!(judge(path, NONE), expected, "{path}");
        assert_eq!(judge(path, PathRules::default()), Ok(()), "{path}");
    }
    let rules = PathRules { encoded_slash: Pass, ..NONE };
    assert_eq!(judge("/a/%2Fb", rules), Err(DoubleSlash));
    assert_eq!(judge("/a%2F%2Fb", rules), Err(DoubleSlash));
    assert_eq!(judge("/a%2Fb", rules), Ok(()));
}

#[test]
fn no_outgoing_target_reads_as_an_authority_after_decoding() {
    for rest in ["/%2Fevil.example", "/%2f%2fevil", "/%252Fevil"] {
        assert_eq!(judge(rest, ALL), Ok(()), "{rest}");
        assert_eq!(outgoing("", rest, 0, None), Err(LeadingDoubleSlash), "{rest}");
        assert!(outgoing("/v1", rest, 0, None).is_ok(), "{rest}");
    }
    assert!(outgoing("", "/%41/x", 0, None).is_ok());
}

/// How a server may read what it has decoded: with parameters or without, with empty segments or without. The
/// segments that are left when dot segments have been resolved (RFC 3986 5.2.4).
fn read(level: &[u8], without_parameters: bool, without_empty: bool) -> Vec<Vec<u8>> {
    let mut resolved: Vec<Vec<u8>> = Vec::new();
    for segment in level.split(|byte| matches!(byte, b'/' | b'\\')).skip(1) {
        let plain = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        let segment = if without_parameters { plain } else { segment };
        match segment {
            b"." => {}
            b".." => drop(resolved.pop()),
            b"" if without_empty => {}
            _ => resolved.push(segment.to_vec()),
        }
    }
    resolved
}

proptest! {
    /// C26: whatever a named credential lets through, at no level of decoding and by no reading does the path leave
    /// the prefix that it was matched with.
    #[test]
    fn no_accepted_path_leaves_its_prefix_however_it_is_read(
        rest in "(%2[fF]|%252[fF]|%2[eE]|%252e|%3[bB]|%253b|%5c|%25|[./;ae2\\\\%]|\\.\\.){0,20}",
    ) {
        let path = format!("/p/q/{rest}");
        if judge(&path, ALL).is_ok() {
            let mut level = path.as_bytes().to_vec();
            loop {
                for reading in 0..4 {
                    let segments = read(&level, reading & 1 == 1, reading & 2 == 2);
                    prop_assert!(segments.starts_with(&[b"p".to_vec(), b"q".to_vec()]), "{} {:?}", path, segments);
                }
                let next = decode_once(&level);
                if next == level {
                    break;
                }
                level = next;
            }
        }
    }

    #[test]
    fn stricter_rules_let_through_no_more(path in "/(%2f|%2e|%3b|[.;/a25]){0,16}") {
        if judge(&path, NONE).is_ok() {
            prop_assert_eq!(judge(&path, ALL), Ok(()));
            prop_assert_eq!(inspect(&path), Ok(()));
        }
    }
}
