//! `application/x-www-form-urlencoded`, as RFC 6749 appendix B uses it.

/// The pairs of a form body or query in order; none when a name or value is not UTF-8 once decoded.
pub(super) fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Some((decode(name)?, decode(value)?)))
        .collect()
}

/// One name or value; a `%` that begins no escape stands for itself.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(digit(*high) * 16 + digit(*low));
                rest = after;
            }
            (other, _) => decoded.push(*other),
        }
    }
    String::from_utf8(decoded).ok()
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, parse};

    #[test]
    fn plus_is_a_space_and_escapes_are_bytes() {
        for (text, expected) in
            [("a+b", "a b"), ("a%20b%2B", "a b+"), ("%C3%A4", "ä"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("", "")]
        {
            assert_eq!(decode(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn pairs_keep_their_order_and_repeats() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            parse("b=1&a=x%3Dy&&b=2&c"),
            Some(vec![pair("b", "1"), pair("a", "x=y"), pair("b", "2"), pair("c", "")])
        );
    }
}
