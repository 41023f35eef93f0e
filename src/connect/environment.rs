//! The proxy that the environment names: `https_proxy`, `HTTPS_PROXY`, `http_proxy`, `no_proxy`, `NO_PROXY`. Read only
//! where the configuration says so.
//!
//! `HTTP_PROXY` in capitals is not read: under CGI a request's `Proxy` field becomes that variable (httpoxy).

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Authority;
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::HttpProxy;
use crate::secret::Secret;

/// The proxies on the way out, by what goes through them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpProxies {
    /// For `http://`.
    pub http: Option<Arc<HttpProxy>>,
    /// For `https://`.
    pub https: Option<Arc<HttpProxy>>,
}

/// A variable holds no URL of a proxy. Says which one and nothing of what it holds, which may be a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the environment variable {variable} {problem}")]
pub struct EnvironmentError {
    /// Its name.
    pub variable: &'static str,
    problem: &'static str,
}

impl HttpProxies {
    /// What the variables that `read` gives say. The name in small letters wins; an empty one says that there is none.
    ///
    /// # Errors
    /// When a variable holds something else than the URL of a proxy.
    pub fn from_environment(read: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let no_proxy = ["no_proxy", "NO_PROXY"].iter().find_map(|name| read(name)).unwrap_or_default();
        // Whoever sets these variables for all programs does not mean a program's own neighbours.
        let no_proxy: Vec<_> =
            patterns(&no_proxy).into_iter().chain(["localhost", "127.0.0.0/8", "::1"].map(str::to_owned)).collect();
        let proxy = |names: &[&'static str]| {
            let found = names.iter().find_map(|name| Some((*name, Zeroizing::new(read(name)?))));
            match found {
                Some((variable, text)) if !text.trim().is_empty() => parse(text.trim(), no_proxy.clone())
                    .map(|proxy| Some(Arc::new(proxy)))
                    .map_err(|problem| EnvironmentError { variable, problem }),
                Some(_) | None => Ok(None),
            }
        };
        Ok(Self { http: proxy(&["http_proxy"])?, https: proxy(&["https_proxy", "HTTPS_PROXY"])? })
    }

    /// One proxy for everything.
    #[must_use]
    pub fn both(proxy: HttpProxy) -> Self {
        let proxy = Some(Arc::new(proxy));
        Self { http: proxy.clone(), https: proxy }
    }

    /// The one for a URL.
    #[must_use]
    pub fn of(&self, is_https: bool) -> Option<Arc<HttpProxy>> {
        if is_https { self.https.clone() } else { self.http.clone() }
    }
}

/// In this variable a name covers what ends in it too, with a dot before it or without, as everywhere else.
fn patterns(list: &str) -> Vec<String> {
    let entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    entries
        .flat_map(|entry| {
            let bare = entry.trim_start_matches('*').trim_start_matches('.');
            match bare {
                "" => vec![entry.to_owned()],
                _ if is_address(bare) => vec![entry.to_owned()],
                name => vec![name.to_owned(), format!(".{name}")],
            }
        })
        .collect()
}

/// An address or a network, with a port or without.
fn is_address(text: &str) -> bool {
    let literal = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    literal(text) || literal(host) || text.parse::<IpNet>().is_ok()
}

fn parse(text: &str, no_proxy: Vec<String>) -> Result<HttpProxy, &'static str> {
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err("names a proxy that is not spoken to over plain HTTP"),
        None => text,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let place: Authority = place.parse().map_err(|_| "does not hold the URL of a proxy")?;
    if place.host().is_empty() || (place.port().is_some() && place.port_u16().is_none()) {
        return Err("does not hold the URL of a proxy");
    }
    let login = match login {
        Some(login) => {
            let (username, password) = login.split_once(':').unwrap_or((login, ""));
            let undecodable = "holds a user name or password that is not percent-encoded well";
            Some((decoded(username).ok_or(undecodable)?, decoded(password).ok_or(undecodable)?))
        }
        None => None,
    };
    let username = login.as_ref().map(|(username, _)| username.expose());
    let password = login.as_ref().map(|(_, password)| password);
    Ok(HttpProxy::new(place.host(), place.port_u16().unwrap_or(80), username, password, no_proxy))
}

/// RFC 3986 2.1.
fn decoded(text: &str) -> Option<Secret> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::HttpProxies;
    use crate::secret::Secret;

    fn read(variables: &[(&str, &str)]) -> Result<HttpProxies, String> {
        let of = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        HttpProxies::from_environment(of).map_err(|error| error.to_string())
    }

    fn place(proxies: &HttpProxies, is_https: bool) -> Option<String> {
        proxies.of(is_https).map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn small_letters_win_and_http_proxy_in_capitals_is_not_read() {
        for (variables, http, https) in [
            (&[][..], None, None),
            (&[("http_proxy", "http://a:1")], Some("a:1"), None),
            (&[("HTTP_PROXY", "http://a:1")], None, None),
            (&[("HTTPS_PROXY", "http://a:1/")], None, Some("a:1")),
            (&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "b")], None, Some("b:80")),
            (&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "")], None, None),
            (&[("ALL_PROXY", "http://a:1"), ("all_proxy", "http://a:1")], None, None),
            (&[("https_proxy", "HTTP://[::1]:3128")], None, Some("[::1]:3128")),
        ] {
            let found = read(variables).unwrap();
            assert_eq!(
                (place(&found, false).as_deref(), place(&found, true).as_deref()),
                (http, https),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn a_login_is_decoded_and_never_shown() {
        let found = read(&[("https_proxy", "http://us%65r:c%40n%3Aary@p:1")]).unwrap();
        let authorization = found.https.as_ref().unwrap().authorization.as_ref().map(Secret::expose);
        assert_eq!(authorization, Some("Basic dXNlcjpjQG46YXJ5"));
        assert!(!format!("{found:?}").contains("dXNlcj"));
        for wrong in ["socks5://canary:canary@p", "https://canary@p", "http://canary:%zz@p", "http://canary@", "a b"] {
            let error = read(&[("HTTPS_PROXY", wrong)]).unwrap_err();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn names_in_no_proxy_cover_what_ends_in_them() {
        let list = "example.com,.internal, *.corp 10.0.0.0/8,192.168.1.1,[::1]:80,host:8080,cafe,a1.de";
        let found = read(&[("https_proxy", "p"), ("NO_PROXY", list)]).unwrap();
        let proxy = found.https.unwrap();
        for (host, port, direct) in [
            ("example.com", 443, true),
            ("a.example.com", 443, true),
            ("xexample.com", 443, false),
            ("internal", 443, true),
            ("a.internal", 443, true),
            ("a.corp", 443, true),
            ("10.1.2.3", 443, true),
            ("192.168.1.1", 443, true),
            ("192.168.1.2", 443, false),
            ("::1", 80, true),
            ("a.host", 8080, true),
            ("a.host", 443, false),
            ("a.cafe", 443, true),
            ("b.a1.de", 443, true),
            ("localhost", 443, true),
            ("127.0.0.2", 443, true),
            ("::1", 443, true),
        ] {
            assert_eq!(!proxy.serves(host, port), direct, "{host}:{port}");
        }
        let all = read(&[("https_proxy", "p"), ("NO_PROXY", "*"), ("no_proxy", "*")]).unwrap();
        assert!(!all.https.unwrap().serves("any.test", 1));
    }
}
