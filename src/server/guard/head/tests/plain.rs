//! The check once more in the plainest way, to compare with: the end of a head is searched, its lines are split, then each
//! is split into its parts and those are judged. What the fields decide is not judged a second time.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::*;
use crate::header;

/// Limits that short heads reach.
const TIGHT: HeadLimits = HeadLimits { target: 20, header: 150, fields: 4 };

fn plain_judge(bytes: &[u8], limits: HeadLimits) -> Result<Option<Head>, Failure> {
    let end = (0..bytes.len()).find_map(|at| match &bytes[at..] {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    });
    let head = &bytes[..end.unwrap_or(bytes.len())];
    let line = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
    if line > limits.target + METHOD_LIMIT + 16 {
        return Err(Failure::TargetTooLong);
    }
    if head.len() - line > limits.header {
        return Err(Failure::HeaderTooLarge);
    }
    if end.is_none() {
        return Ok(None);
    }
    let text = head.strip_prefix(b"\r\n").unwrap_or(head);
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").ok_or(Failure::BadRequest));
    let line = plain_request_line(lines.next().unwrap()?, limits.target)?;
    let mut fields = Fields::default();
    for (count, field) in lines.enumerate() {
        match field? {
            b"" => return fields.head(line, head.len()).map(Some),
            field => {
                let colon = field.iter().position(|byte| *byte == b':').ok_or(Failure::BadRequest)?;
                let (name, value) = (&field[..colon], &field[colon + 1..]);
                let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
                let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
                if name.is_empty() || !name.iter().all(is_token) || value.iter().any(is_control) {
                    return Err(Failure::BadRequest);
                }
                if count == limits.fields {
                    return Err(Failure::TooManyFields);
                }
                if header::is_ambiguous_name(std::str::from_utf8(name).unwrap()) {
                    return Err(Failure::BadRequest);
                }
                fields.note(name, value)?;
            }
        }
    }
    panic!("a head ends with an empty line: {}", head.escape_ascii());
}

fn plain_request_line(line: &[u8], target_limit: usize) -> Result<RequestLine, Failure> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Err(Failure::BadRequest) };
    if !check_method(method) {
        return Err(Failure::BadRequest);
    }
    if target.len() > target_limit {
        return Err(Failure::TargetTooLong);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Failure::UnsupportedVersion),
        _ => return Err(Failure::BadRequest),
    };
    let is_connect = method == b"CONNECT";
    if is_connect {
        check_authority(target)?
    } else {
        check_target(method, target)?
    }
    Ok(RequestLine { version, is_connect })
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![30 => Just("\r\n"), 1 => select(&["\n", "\r", "\r\r\n", "", "\r\n "][..])]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method =
        prop_oneof![4 => select(&["GET", "OPTIONS", "CONNECT", ""][..]).prop_map(str::to_owned), 1 => "[A-Zg_(]{1,36}"];
    let target = prop_oneof![
        select(&["/", "/a?b=c", "*", "http://a/b", "a:443", "/{}", "/a#b", ""][..]).prop_map(str::to_owned),
        "/[!-~ ]{0,24}",
    ];
    let version =
        select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 ", "http/1.1", ""][..]);
    let space = || prop_oneof![20 => Just(" "), 1 => select(&["", "  ", "\t"][..])];
    let name =
        select(&["Host", "Content-Length", "Transfer-Encoding", "Transfer_Encoding", "Connection", "X.y", "x", ""][..]);
    let colon = prop_oneof![20 => Just(":"), 1 => select(&["", " :"][..])];
    let value = select(
        &[" a", "a ", " 3", " chunked", " close, upgrade", "", "\t\u{e4}\u{fc} of more than eight bytes", " a:b"][..],
    );
    let field =
        (name, colon, value, line_end()).prop_map(|(name, colon, value, end)| [name, colon, value, end].concat());
    let line = (method, space(), target, space(), version).prop_map(|(a, b, c, d, e)| [&a, b, &c, d, e].concat());
    let whole = (select(&["", "", "", "\r\n", "\n"][..]), line, line_end(), vec(field, 0..5), line_end());
    let host = prop_oneof![3 => Just("Host: a\r\n"), 1 => Just("")];
    (whole, host, select(&["", "", "GET /", "\r\n\r\n"][..])).prop_map(
        |((before, line, end, fields, last), host, behind)| {
            [before, &line, end, host, &fields.concat(), last, behind].concat().into_bytes()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// A head is judged alike in one pass and in many, whole or not, wherever its search was interrupted.
    #[test]
    fn a_head_is_judged_as_in_the_plainest_way(
        mut bytes in request(),
        changed in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), select(&b"\r\n\t\0\x7f: "[..])])),
        cut in prop_oneof![Just(usize::MAX), 0..200_usize],
        scanned in 0..200_usize,
    ) {
        if let Some((at, byte)) = changed {
            *at.get_mut(&mut bytes) = byte;
        }
        let bytes = &bytes[..cut.min(bytes.len())];
        let expected = plain_judge(bytes, TIGHT);
        prop_assert_eq!(judge(bytes, 0, TIGHT), expected.clone(), "{}", bytes.escape_ascii());
        let scanned = scanned.min(bytes.len());
        if end(&bytes[..scanned], 0).is_none() {
            prop_assert_eq!(judge(bytes, scanned, TIGHT), expected, "{}", bytes.escape_ascii());
        }
    }
}
