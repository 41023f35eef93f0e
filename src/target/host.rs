//! Hosts that a caller or a token endpoint names, and the patterns that say which of them are meant (RFC 9110 7.2,
//! RFC 3986 3.2.2). Compared without case and trailing dot.

use std::net::IpAddr;

use http::uri::Authority;

/// A host to match: exact (`orders.internal`) or wildcard (`*.example.com`, one or more labels), lower case, no port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host only.
    Exact(String),
    /// Any host below this suffix; the text keeps its leading dot (`.example.com`).
    Suffix(String),
}

/// A host and a port to match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostRule {
    /// The host.
    pub host: HostPattern,
    /// The port; none: the one that is usual for what is asked.
    pub port: Option<u16>,
}

/// A host and a port that somebody named: a name without its trailing dot, or an IP address, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Reads an authority. None for what no host is called: an empty name, bytes that are no letters, digits, `-`, `_`
    /// and `.`, a port that is none. What is odd to one reader may be another host to the next.
    #[must_use]
    pub fn parse(authority: &Authority) -> Option<Self> {
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host)? {
            "" | ":" => None,
            _ => Some(authority.port_u16().filter(|port| *port != 0)?),
        };
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_host = is_name(&name) || is_ipv6(&name);
        is_host.then_some(Self { name, port })
    }

    /// The name; an IPv6 address is in brackets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port that was named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// With `port` where none was named.
    #[must_use]
    pub fn or_port(self, port: u16) -> Self {
        Self { port: self.port.or(Some(port)), ..self }
    }

    /// The authority, with the port unless it is `default`.
    #[must_use]
    pub fn authority(&self, default: u16) -> Option<Authority> {
        match self.port.filter(|port| *port != default) {
            Some(port) => format!("{}:{port}", self.name).parse().ok(),
            None => self.name.parse().ok(),
        }
    }
}

impl HostRule {
    /// Whether `host` is meant, where `usual` is the port without a number.
    #[must_use]
    pub fn admits(&self, host: &Host, usual: u16) -> bool {
        host.port.unwrap_or(usual) == self.port.unwrap_or(usual) && self.host.admits(&host.name)
    }
}

impl HostPattern {
    /// Reads `api.example.com`, `*.example.com`, an IPv4 address or an IPv6 address in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix('*') {
            Some(suffix) => {
                suffix.strip_prefix('.').filter(|rest| is_name(rest)).map(|_| Self::Suffix(suffix.to_owned()))
            }
            None => (is_name(&lower) || is_ipv6(&lower)).then_some(Self::Exact(lower)),
        }
    }

    /// Whether `name` is meant; it is in lower case. A wildcard never means an address, whose last numbers are no
    /// domain that anybody owns.
    fn admits(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Suffix(suffix) => {
                name.len() > suffix.len() && name.ends_with(suffix.as_str()) && name.parse::<IpAddr>().is_err()
            }
        }
    }
}

/// Labels of letters, digits, `-` and `_`; an IPv4 address is made of the same.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_ipv6(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::{Host, HostPattern, HostRule};

    fn host(text: &str) -> Option<Host> {
        Host::parse(&text.parse().ok()?)
    }

    #[test]
    fn a_host_is_read_without_case_and_trailing_dot() {
        for (text, name, port) in [
            ("API.Example.com", "api.example.com", None),
            ("api.example.com.", "api.example.com", None),
            ("api.example.com.:8443", "api.example.com", Some(8443)),
            ("api.example.com:", "api.example.com", None),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]:80", "[::1]", Some(80)),
            ("[2001:DB8::1]", "[2001:db8::1]", None),
        ] {
            let host = host(text).unwrap();
            assert_eq!((host.name(), host.port()), (name, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_none() {
        for text in [
            ".",
            "a..b",
            ".a",
            "a..",
            "a:0",
            "a:99999",
            "a:1:2",
            "user@a",
            "user:pass@a:1",
            "[::1",
            "[a]",
            "[::1%25eth0]",
            "a%2eb",
            "a,b",
            "a=b",
            "a!b",
        ] {
            assert_eq!(host(text), None, "{text}");
        }
    }

    #[test]
    fn a_rule_admits_whole_labels_and_one_port() {
        for (pattern, port, asked, admitted) in [
            ("api.example.com", None, "API.example.com.:443", true),
            ("api.example.com", None, "api.example.com:80", false),
            ("api.example.com", Some(8443), "api.example.com:8443", true),
            ("api.example.com", Some(8443), "api.example.com", false),
            ("api.example.com", Some(443), "api.example.com", true),
            ("*.example.com", None, "a.b.example.com", true),
            ("*.example.com", None, "example.com", false),
            ("*.example.com", None, ".example.com", false),
            ("*.example.com", None, "aexample.com", false),
            ("*.example.com", None, "a.example.com.evil", false),
            ("*.0.0.1", None, "127.0.0.1", false),
            ("127.0.0.1", None, "127.0.0.1", true),
            ("[::1]", None, "[::1]", true),
        ] {
            let rule = HostRule { host: HostPattern::parse(pattern).unwrap(), port };
            assert_eq!(host(asked).is_some_and(|host| rule.admits(&host, 443)), admitted, "{pattern} {asked}");
        }
        for text in ["", "*", "*.", "a.*.b", "*a.b", "a:80", "::1", "a b"] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
