//! URLs of upstreams and token endpoints.

use std::net::IpAddr;

use http::Uri;
use http::uri::Authority;

use crate::connect;

/// An absolute `http` or `https` URL without user part and fragment.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    /// Whether the scheme is `https`.
    pub(crate) is_https: bool,
    /// Host and, when it is not the scheme's default, port.
    pub(crate) authority: Authority,
    /// The path, `/` when there is none.
    pub(crate) path: String,
    /// What comes after `?`.
    pub(crate) query: Option<String>,
}

/// What is wrong with a URL, and what to do.
pub(crate) type Wrong = (&'static str, &'static str);

impl Url {
    /// Reads an absolute URL.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        const HELP: &str = "write it like \"https://api.example.com/v1\"";
        if !text.bytes().all(|byte| byte.is_ascii_graphic())
            || text.contains(['\\', '"', '<', '>', '`', '{', '}', '|', '^'])
        {
            return Err(("this is not a URL: it holds characters that must be percent-encoded", HELP));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(("this is not an absolute URL", HELP));
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(("a URL here begins with `https://` or `http://`", HELP));
        }
        if rest.contains('#') {
            return Err(("a URL here has no fragment", "leave out `#` and what comes after it"));
        }
        let uri: Uri = format!("{scheme}://{rest}").parse().map_err(|_| ("this is not a URL", HELP))?;
        let Some(authority) = uri.authority() else { return Err(("this URL has no host", HELP)) };
        if authority.as_str().contains('@') {
            let help = "leave it out; credentials belong in an external credential";
            return Err(("a URL here has no user name and password", help));
        }
        let default_port = if scheme == "https" { 443 } else { 80 };
        let authority =
            without_default_port(authority, default_port).ok_or(("the port of this URL is not valid", HELP))?;
        Ok(Self {
            is_https: scheme == "https",
            authority,
            path: uri.path().to_owned(),
            query: uri.query().map(ToOwned::to_owned),
        })
    }

    /// Whether the host is this machine: `localhost` or a loopback address.
    pub(crate) fn is_loopback(&self) -> bool {
        connect::is_loopback(self.authority.host())
    }

    /// The host, where it is an address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.authority.host().trim_matches(['[', ']']).parse().ok()
    }

    /// The whole URL as the `http` crate's type.
    pub(crate) fn to_uri(&self) -> Option<Uri> {
        let scheme = if self.is_https { "https" } else { "http" };
        let query = self.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
        format!("{scheme}://{}{}{query}", self.authority, self.path).parse().ok()
    }
}

fn without_default_port(authority: &Authority, default: u16) -> Option<Authority> {
    let text = authority.as_str();
    let host = authority.host();
    if host.is_empty() || host == "[]" {
        return None;
    }
    match text.strip_prefix(host)? {
        "" => Some(authority.clone()),
        _ => match authority.port_u16()? {
            0 => None,
            port if port == default => host.parse().ok(),
            _ => Some(authority.clone()),
        },
    }
}

/// What is wrong with a path that requests are matched with or sent to, if anything.
pub(crate) fn path_fault(path: &str) -> Option<Wrong> {
    const HELP: &str = "write a plain path like \"/orders\"";
    if path.starts_with("//") {
        return Some(("a path does not begin with two slashes", HELP));
    }
    if !is_well_encoded(path) {
        return Some(("this path holds characters that must be percent-encoded", HELP));
    }
    if path.split('/').any(is_dot_segment) {
        return Some(("a path here has no dot segments", "write out the path that is meant"));
    }
    None
}

/// Whether a text is made of `pchar` and `/` only (RFC 3986 3.3).
fn is_well_encoded(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte),
        };
        if !good {
            return false;
        }
    }
    true
}

fn is_dot_segment(segment: &str) -> bool {
    let segment = segment.split(';').next().unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
    segment == "." || segment == ".."
}

#[cfg(test)]
mod tests {
    use super::{Url, path_fault};

    #[test]
    fn a_url_is_taken_apart_and_loses_its_default_port() {
        for (text, is_https, authority, path, query) in [
            ("https://api.example.com/v1", true, "api.example.com", "/v1", None),
            ("HTTPS://api.example.com:443", true, "api.example.com", "/", None),
            ("http://127.0.0.1:80/a?b=c", false, "127.0.0.1", "/a", Some("b=c")),
            ("http://[::1]:8080/", false, "[::1]:8080", "/", None),
            ("https://h:80", true, "h:80", "/", None),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.is_https, is_https, "{text}");
            assert_eq!(url.authority.as_str(), authority);
            assert_eq!(url.path, path);
            assert_eq!(url.query.as_deref(), query);
            assert!(url.to_uri().is_some());
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for text in [
            "",
            "api.example.com",
            "/v1",
            "ftp://h",
            "https://",
            "https:///v1",
            "https://a b",
            "https://h#f",
            "https://u:p@h",
            "https://h:",
            "https://h:0",
            "https://h:99999",
            "https://h/ä",
            "https://h\\x",
            "https://[::1",
            "https://h/{x}",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_localhost_or_a_loopback_literal() {
        for (text, expected) in [
            ("http://localhost:1", true),
            ("http://LOCALHOST", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:1", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("http://api", false),
        ] {
            assert_eq!(Url::parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }

    #[test]
    fn a_path_with_dot_segments_or_raw_bytes_is_refused() {
        for good in ["/", "/orders", "/a%20b/c", "/a;b=c", "/a//b", "/.well-known", "/..."] {
            assert_eq!(path_fault(good), None, "{good}");
        }
        for bad in ["//", "//a", "/..", "/a/./b", "/%2E%2e/a", "/..;x/a", "/a b", "/a%2", "/a%zz", "/a?b", "/ä"] {
            assert!(path_fault(bad).is_some(), "{bad}");
        }
    }
}
