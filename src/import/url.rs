//! URLs of upstreams and token endpoints, as strictly as both Salesforce and the configuration take them. What is wrong
//! is said without the URL where that may hold a password.

use http::Uri;

use super::header::is_credential;
use super::metadata::Located;
use super::note::{Notes, shown};

/// What a URL leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An API: no query.
    Upstream,
    /// A token endpoint: its query is kept.
    TokenEndpoint,
}

/// The URL, or an error in the notes.
pub(super) fn read(url: &Located<'_>, element: &str, purpose: Purpose, notes: &mut Notes) -> Option<String> {
    let Some(fault) = fault(&url.text, purpose) else { return Some(url.text.clone()) };
    let what = match url.text.split_once(['?', '#']) {
        _ if url.text.contains('@') => String::new(),
        Some((before, _)) => format!(" is {}:", shown(&format!("{before}?…"))),
        None => format!(" is {}:", shown(&url.text)),
    };
    notes.error(url.at, format!("{}{what} {fault}", shown(element)));
    None
}

fn fault(text: &str, purpose: Purpose) -> Option<&'static str> {
    let is_sound = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>`{}|^".contains(&byte);
    let Some((scheme, rest)) = text.split_once("://") else { return Some("this is not an absolute URL") };
    if scheme.eq_ignore_ascii_case("http") {
        return Some("Salesforce demands https, and so does a token on its way to another machine");
    }
    if !scheme.eq_ignore_ascii_case("https") {
        return Some("a URL here begins with `https://`");
    }
    if !text.bytes().all(is_sound) {
        return Some("it holds characters that must be percent-encoded");
    }
    if rest.contains('#') {
        return Some("a URL here has no fragment");
    }
    let Ok(uri) = format!("https://{rest}").parse::<Uri>() else { return Some("this is not a URL") };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Some("it holds a user name or password, which belong to a principal");
    }
    if !is_authority(authority, uri.host().unwrap_or_default()) {
        return Some("this URL has no host, or its port is not valid");
    }
    match (purpose, uri.query()) {
        (Purpose::Upstream, Some(_)) => return Some("the URL of a named credential holds no query"),
        (Purpose::TokenEndpoint, Some(query)) if holds_credential(query) => {
            return Some("its query holds what looks like a secret in clear text");
        }
        (Purpose::Upstream | Purpose::TokenEndpoint, _) => {}
    }
    let path = uri.path();
    let has_dots = path.split('/').any(|segment| matches!(decoded_dots(segment).as_str(), "." | ".."));
    (has_dots || path.starts_with("//")).then_some("its path begins with two slashes or holds dot segments")
}

/// A host, and a port that exists where there is one.
fn is_authority(authority: &str, host: &str) -> bool {
    let port = authority.strip_prefix(host).unwrap_or_default();
    let is_port = port.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok_and(|port| port > 0));
    !host.is_empty() && host != "[]" && (port.is_empty() || is_port)
}

fn holds_credential(query: &str) -> bool {
    query.split('&').any(|pair| is_credential(pair.split('=').next().unwrap_or_default()))
}

fn decoded_dots(segment: &str) -> String {
    segment.replace("%2e", ".").replace("%2E", ".")
}

#[cfg(test)]
mod tests {
    use super::{Purpose, fault};

    #[test]
    fn urls_are_https_without_what_salesforce_forbids() {
        for good in
            ["https://api.example.com", "https://api.example.com:8443/v1/", "HTTPS://[::1]/a.b", "https://[::1]:8443"]
        {
            assert_eq!(fault(good, Purpose::Upstream), None, "{good}");
        }
        assert_eq!(fault("https://a.example/t?grant_type=x", Purpose::TokenEndpoint), None);
        assert!(fault("https://a.example/t?client_secret=x", Purpose::TokenEndpoint).is_some());
        for bad in [
            "",
            "api.example.com",
            "http://api.example.com",
            "ftp://a",
            "https://",
            "https:///v1",
            "https://a/b?c",
            "https://user:pass@a/",
            "https://a/b#c",
            "https://a/{!x}",
            "https://a b/",
            "https://a/../b",
            "https://a/%2e%2E",
            "https://a//b/../c",
            "https://a:/x",
            "https://a:99999/",
            "callout:X",
        ] {
            assert!(fault(bad, Purpose::Upstream).is_some(), "{bad}");
        }
    }
}
