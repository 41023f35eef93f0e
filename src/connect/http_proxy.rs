//! A proxy on the way out, as configured: where it is, how we log in to it, and what is reached without it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A proxy on the way out (`http_proxy`): `CONNECT` for TLS, absolute-form for plain HTTP (RFC 9110 9.3.6, RFC 9112 3.2.2).
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProxy {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `Basic` credentials for it, as a field value.
    pub authorization: Option<Secret>,
    /// Hosts that are reached without it: names, `.suffixes`, addresses and networks; `*` is all.
    pub no_proxy: Vec<String>,
}

impl HttpProxy {
    /// A proxy at `host` and `port`. With a user name, `Basic` credentials are sent to it (RFC 7617); a password
    /// without one is of no use.
    #[must_use]
    pub fn new(
        host: &str,
        port: u16,
        username: Option<&str>,
        password: Option<&Secret>,
        no_proxy: Vec<String>,
    ) -> Self {
        let authorization = username.map(|username| {
            let credentials = Zeroizing::new(format!("{username}:{}", password.map_or("", Secret::expose)));
            let encoded = Zeroizing::new(STANDARD.encode(credentials.as_bytes()));
            Secret::new(format!("Basic {}", encoded.as_str()))
        });
        Self { host: host.to_owned(), port, authorization, no_proxy }
    }

    /// Whether the way to `host` and `port` leads through this proxy.
    ///
    /// `no_proxy` is compared with the host as written and without case. A name covers itself alone; `.example.com` and
    /// `*.example.com` cover what ends so; an address or a network covers addresses, for no name is resolved here; each
    /// may name a port. Loopback is not special here, but in [`Route`](super::Route).
    #[must_use]
    pub fn serves(&self, host: &str, port: u16) -> bool {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        !self.no_proxy.iter().any(|pattern| covers(pattern.trim(), &host, port))
    }

    /// `Proxy-Authorization`, marked sensitive.
    pub(crate) fn credentials(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(self.authorization.as_ref()?.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn covers(pattern: &str, host: &str, port: u16) -> bool {
    if pattern == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if let Ok(network) = pattern.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    let (pattern, covers_port) = without_port(pattern, port);
    if let Ok(alone) = pattern.parse::<IpAddr>() {
        return covers_port && address == Some(alone.to_canonical());
    }
    let pattern = pattern.to_ascii_lowercase();
    let suffix = pattern.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(&pattern);
    let covers_host = if suffix.starts_with('.') {
        host.len() > suffix.len() && host.ends_with(suffix)
    } else {
        host == suffix.strip_suffix('.').unwrap_or(suffix)
    };
    covers_port && covers_host && !pattern.is_empty()
}

/// A pattern less its port and brackets, and whether the port, if there is one, is `port`.
fn without_port(pattern: &str, port: u16) -> (&str, bool) {
    if pattern.parse::<IpAddr>().is_ok() {
        return (pattern, true);
    }
    let (host, named) = match pattern.rsplit_once(':') {
        Some((host, digits)) => match digits.parse::<u16>() {
            Ok(number) => (host, Some(number)),
            Err(_) => (pattern, None),
        },
        None => (pattern, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, named.is_none_or(|named| named == port))
}

#[cfg(test)]
mod tests {
    use super::HttpProxy;
    use crate::secret::Secret;

    fn proxy(no_proxy: &[&str]) -> HttpProxy {
        HttpProxy::new("proxy.test", 3128, None, None, no_proxy.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn no_proxy_names_hosts_suffixes_addresses_networks_and_ports() {
        for (pattern, host, port, direct) in [
            ("*", "a.test", 443, true),
            ("a.test", "A.Test", 443, true),
            ("a.test", "a.test.", 443, true),
            ("a.test.", "a.test", 443, true),
            ("a.test", "b.a.test", 443, false),
            ("a.test", "xa.test", 443, false),
            (".a.test", "b.a.test", 443, true),
            (".a.test", "a.test", 443, false),
            (".a.test", ".a.test", 443, false),
            ("*.A.test", "c.b.a.test", 443, true),
            ("*.a.test", "xa.test", 443, false),
            ("*a.test", "xa.test", 443, false),
            ("a.test:8443", "a.test", 8443, true),
            ("a.test:8443", "a.test", 443, false),
            (".a.test:443", "b.a.test", 443, true),
            ("127.0.0.1", "127.0.0.1", 80, true),
            ("127.0.0.1:81", "127.0.0.1", 80, false),
            ("127.0.0.1:80", "127.0.0.1", 80, true),
            ("127.0.0.0/8", "127.1.2.3", 80, true),
            ("127.0.0.0/8", "128.0.0.1", 80, false),
            ("127.0.0.0/8", "localhost", 80, false),
            ("127.0.0.0/8", "[::ffff:127.0.0.1]", 80, true),
            ("::1", "[::1]", 80, true),
            ("::1", "[0:0:0:0:0:0:0:1]", 80, true),
            ("[::1]", "[::1]", 80, true),
            ("[::1]:80", "::1", 80, true),
            ("[::1]:81", "::1", 80, false),
            ("fd00::/8", "[fd12::1]", 80, true),
            (" a.test ", "a.test", 80, true),
            ("", "a.test", 80, false),
            (".", "a.test", 80, false),
            ("localhost", "localhost", 80, true),
        ] {
            assert_eq!(!proxy(&[pattern]).serves(host, port), direct, "{pattern} {host}:{port}");
        }
        assert!(proxy(&[]).serves("localhost", 80) && proxy(&[]).serves("127.0.0.1", 80));
        assert!(!proxy(&["b.test", "a.test"]).serves("a.test", 80));
    }

    #[test]
    fn credentials_are_basic_and_never_shown() {
        let password = Secret::new("pass:word-canary".to_owned());
        let proxy = HttpProxy::new("proxy.test", 3128, Some("user"), Some(&password), Vec::new());
        let value = proxy.credentials().unwrap();
        assert_eq!(value, "Basic dXNlcjpwYXNzOndvcmQtY2FuYXJ5");
        let text = format!("{proxy:?} {value:?}");
        assert!(!text.contains("canary") && !text.contains("dXNlcjp"), "{text}");
        assert!(HttpProxy::new("proxy.test", 3128, None, Some(&password), Vec::new()).credentials().is_none());
    }
}
