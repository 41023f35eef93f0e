//! The host part of a `Host` field or an authority (RFC 9110 7.2, RFC 3986 3.2.2), and the bytes of tokens.

/// The host without port, brackets and one trailing dot; letters keep their case.
///
/// What is no `host [":" digits]` comes back whole, so that it equals no host anyone named: `a:b`, `user@a`, `[::1`.
#[must_use]
pub fn host_without_port(authority: &str) -> &str {
    if let Some(literal) = authority.strip_prefix('[') {
        return match literal.split_once(']') {
            Some((address, after)) if after.strip_prefix(':').map_or(after.is_empty(), is_port) => address,
            Some(_) | None => authority,
        };
    }
    let host = match authority.split_once(':') {
        Some((host, port)) if is_port(port) => host,
        Some(_) | None => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Digits, or nothing: `host:` is a valid authority.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A byte of a token (RFC 9110 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::host_without_port;

    /// C27: port, brackets and trailing dot are taken off.
    #[test]
    fn port_brackets_and_trailing_dot_are_taken_off() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("a.example.:80", "a.example"),
            ("A.example:", "A.example"),
            ("127.0.0.1:8080", "127.0.0.1"),
            ("[::1]", "::1"),
            ("[::1]:8080", "::1"),
            ("::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(host_without_port(authority), host, "{authority}");
        }
    }

    #[test]
    fn what_is_no_authority_equals_no_host() {
        for odd in ["localhost:x", "localhost:80:80", "localhost@evil", "[::1", "[::1]x", "[::1]:x", "[localhost]x"] {
            assert_eq!(host_without_port(odd), odd);
        }
    }
}
