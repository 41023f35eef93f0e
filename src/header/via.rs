//! `Via` (RFC 9110 7.6.3): who passed the message on, under a pseudonym; finding our own there is a loop.

use http::header::VIA;
use http::{HeaderMap, HeaderValue, Version};

/// The name under which we stand in `Via`, with the field's values ready made.
#[derive(Clone, Debug)]
pub struct Pseudonym {
    name: String,
    http_10: HeaderValue,
    http_11: HeaderValue,
    http_2: HeaderValue,
}

/// Why a text is no pseudonym: it is no token (RFC 9110 5.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pseudonym is one or more letters, digits and marks, without spaces, commas, slashes or colons")]
pub struct InvalidPseudonym;

impl Pseudonym {
    /// Checks the text and prepares the values.
    ///
    /// # Errors
    /// [`InvalidPseudonym`] when the text is no token.
    pub fn parse(name: &str) -> Result<Self, InvalidPseudonym> {
        if name.is_empty() || !name.bytes().all(super::host::is_token_byte) {
            return Err(InvalidPseudonym);
        }
        let value = |version: &str| HeaderValue::try_from(format!("{version} {name}")).map_err(|_| InvalidPseudonym);
        Ok(Self { name: name.to_owned(), http_10: value("1.0")?, http_11: value("1.1")?, http_2: value("2")? })
    }

    /// The name alone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl Default for Pseudonym {
    /// `keybearer`
    fn default() -> Self {
        Self {
            name: "keybearer".to_owned(),
            http_10: HeaderValue::from_static("1.0 keybearer"),
            http_11: HeaderValue::from_static("1.1 keybearer"),
            http_2: HeaderValue::from_static("2 keybearer"),
        }
    }
}

/// Adds our line behind all others; `version` is the one in which the message was received.
pub fn append_via(headers: &mut HeaderMap, version: Version, pseudonym: &Pseudonym) {
    let value = match version {
        Version::HTTP_09 | Version::HTTP_10 => &pseudonym.http_10,
        Version::HTTP_2 => &pseudonym.http_2,
        _ => &pseudonym.http_11,
    };
    headers.append(VIA, value.clone());
}

/// Whether the pseudonym stands in any member of any `Via` line, without regard to case, port and comments.
#[must_use]
pub fn via_names(headers: &HeaderMap, pseudonym: &Pseudonym) -> bool {
    let name = pseudonym.name.as_bytes();
    let is_ours = |received_by: &[u8]| {
        let host = received_by.split(|byte| *byte == b':').next().unwrap_or_default();
        host.eq_ignore_ascii_case(name)
    };
    headers.get_all(VIA).iter().any(|line| Members(line.as_bytes()).any(is_ours))
}

/// The `received-by` of each member: `[protocol "/"] version RWS received-by [RWS comment]`.
struct Members<'a>(&'a [u8]);

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (member, rest) = self.0.split_at(end_of_member(self.0));
        self.0 = rest.get(1..).unwrap_or_default();
        let mut words = member.split(|byte| matches!(byte, b' ' | b'\t' | b'(')).filter(|word| !word.is_empty());
        words.next();
        Some(words.next().unwrap_or_default())
    }
}

/// Where the first comma outside of comments stands. Comments nest and hold quoted pairs (RFC 9110 5.6.5).
fn end_of_member(line: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut quoted = false;
    for (at, byte) in line.iter().enumerate() {
        match byte {
            _ if quoted => quoted = false,
            b'\\' if depth > 0 => quoted = true,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use http::Version;
    use proptest::prelude::*;

    use super::super::tests::{lines, map};
    use super::{Pseudonym, append_via, via_names};

    #[test]
    fn our_line_goes_behind_the_others() {
        let mut headers = map(&["via: 1.0 fred"]);
        append_via(&mut headers, Version::HTTP_11, &Pseudonym::default());
        append_via(&mut headers, Version::HTTP_10, &Pseudonym::parse("two").unwrap());
        append_via(&mut headers, Version::HTTP_2, &Pseudonym::parse("three").unwrap());
        let values: Vec<&str> = headers.get_all("via").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["1.0 fred", "1.1 keybearer", "1.0 two", "2 three"]);
        assert_eq!(lines(&headers).len(), 4);
    }

    /// B35: our pseudonym is found in any member of any line.
    #[test]
    fn our_pseudonym_is_found_in_any_member_of_any_line() {
        for (given, found) in [
            (vec![], false),
            (vec!["via: 1.1 keybearer"], true),
            (vec!["via: HTTP/1.1 KeyBearer:8080"], true),
            (vec!["via: 1.0 fred, 1.1 keybearer (a, comment)"], true),
            (vec!["via: 1.0 fred,1.1\tkeybearer,2 x"], true),
            (vec!["via: 1.0 fred", "via: 1.1 bob", "via: 2 keybearer"], true),
            (vec!["via: 1.0 fred (a (nested, 1.1 keybearer) \\), 1.1 keybearer), 1.1 bob"], false),
            (vec!["via: 1.0 fred (x), 1.1 keybearer(y)"], true),
            (vec!["via: 1.0 fred (keybearer)"], false),
            (vec!["via: 1.1 keybearer-2"], false),
            (vec!["via: keybearer"], false),
            (vec!["via: keybearer 1.1"], false),
            (vec!["via: , ,, 1.1  keybearer"], true),
            (vec!["via: )), 1.1 keybearer"], true),
            (vec!["via: \u{e9} \u{e9}, 1.1 keybearer"], true),
        ] {
            assert_eq!(via_names(&map(&given), &Pseudonym::default()), found, "{given:?}");
        }
    }

    #[test]
    fn a_pseudonym_is_a_token() {
        for bad in ["", "a b", "a,b", "a/b", "a:b", "(a)", "ä", "a\n"] {
            assert!(Pseudonym::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_appended_is_found_behind_whatever_stood_there(line in "[ -~]{0,40}", name in "[a-z0-9.-]{1,12}") {
            let pseudonym = Pseudonym::parse(&name).unwrap();
            let mut headers = map(&[&format!("via: {line}")]);
            append_via(&mut headers, Version::HTTP_11, &pseudonym);
            prop_assert!(via_names(&headers, &pseudonym));
        }
    }
}
