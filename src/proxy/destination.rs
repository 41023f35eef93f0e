//! Which upstream an attempt goes to, where the configuration alone does not say: the token endpoint named it beside
//! the token (`url = { from_token = … }`), or the caller did (forward-proxy mode, `forward`).
//!
//! A URL of a token endpoint is taken for what it is, somebody else's word: only scheme, host and port of it count, and
//! only where the configuration lists them. What it says is never repeated to the caller.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::Authority;

use super::plan::NamedCredential;
use super::replay::AttemptBody;
use super::settings::{FromToken, HostHeader};
use super::stop::Stop;
use crate::answer::Failure;
use crate::connect::{self, NamedBy};
use crate::target::Host;
use crate::token::Token;
use crate::upstream::{Endpoint, Key, Pool, Pools, Protocol};

/// Where the attempts of one exchange go.
pub(super) enum Destination<'a> {
    /// Always to the same upstream.
    Fixed(Arc<Pool<AttemptBody>>),
    /// Where the token of the attempt says.
    FromToken(&'a FromToken, &'a Pools<AttemptBody>, Protocol),
}

/// Where one attempt goes.
pub(super) enum Way<'a> {
    /// To the named credential's own upstream.
    Own(&'a Arc<Pool<AttemptBody>>, &'a NamedCredential),
    /// To the upstream that belongs to its token.
    Led(Arc<Pool<AttemptBody>>, Arc<Led>),
}

/// The upstream that a text of a token endpoint's answer leads to, kept for the next exchange.
pub(super) struct Led {
    base: String,
    to: Result<Upstream, NotAllowed>,
}

/// An upstream, with all that is made of it once.
pub(super) struct Upstream {
    endpoint: Endpoint,
    key: Key,
    origin: String,
    host: HeaderValue,
}

/// Why no request is sent where a token endpoint's answer leads. The texts are for the operator's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The answer held no text there, or one that is too long.
    #[error("the token endpoint's answer holds no such text")]
    Missing,
    /// It cannot be read without doubt.
    #[error("it is not an absolute URL")]
    NotAUrl,
    /// It is plain HTTP, and not to this machine.
    #[error("it is not https")]
    NotHttps,
    /// It holds more than scheme, host and port.
    #[error("it holds a path, a query or a user name")]
    MoreThanAnOrigin,
    /// `allow` does not list its host and port.
    #[error("`url.allow` does not list its host and port")]
    NotListed,
}

impl<'a> Destination<'a> {
    /// What `named` says.
    pub(super) fn of(named: &'a NamedCredential, pools: &'a Pools<AttemptBody>, protocol: Protocol) -> Self {
        let endpoint = &named.settings.endpoint;
        match &named.settings.from_token {
            Some(from) => Self::FromToken(from, pools, protocol),
            None if named.passes_through => Self::Fixed(pools.foreign((&named.key, endpoint), protocol, "passthrough")),
            None => Self::Fixed(pools.pool(&named.key, endpoint, protocol)),
        }
    }

    /// The way of an attempt with `token`.
    pub(super) fn way<'w>(&'w self, named: &'w NamedCredential, token: Option<&Token>) -> Result<Way<'w>, Stop> {
        match self {
            Self::Fixed(pool) => Ok(Way::Own(pool, named)),
            Self::FromToken(from, pools, protocol) => led(named, from, (pools, *protocol), token),
        }
    }
}

impl Way<'_> {
    pub(super) fn pool(&self) -> &Arc<Pool<AttemptBody>> {
        match self {
            Self::Own(pool, _) => pool,
            Self::Led(pool, _) => pool,
        }
    }

    /// Scheme and authority, as in `https://api.example.com`.
    pub(super) fn origin(&self) -> &str {
        match self {
            Self::Own(_, named) => &named.origin,
            Self::Led(_, led) => led.to.as_ref().map_or("", |upstream| &upstream.origin),
        }
    }

    /// The `Host` to send instead of the prepared one.
    pub(super) fn host(&self, named: &NamedCredential) -> Option<&HeaderValue> {
        match self {
            Self::Led(_, led) if named.settings.host_header == HostHeader::Upstream => {
                led.to.as_ref().ok().map(|upstream| &upstream.host)
            }
            Self::Own(..) | Self::Led(..) => None,
        }
    }
}

/// The way to where the answer says that brought `token`. What was worked out for the same text before is used again.
fn led<'w>(
    named: &NamedCredential,
    from: &FromToken,
    (pools, protocol): (&Pools<AttemptBody>, Protocol),
    token: Option<&Token>,
) -> Result<Way<'w>, Stop> {
    let base = token.and_then(|token| token.members().get(&from.pointer)).unwrap_or_default();
    let known = named.led.load_full().filter(|led| led.base == base);
    let led = known.unwrap_or_else(|| {
        let led = Arc::new(Led { base: base.to_owned(), to: from.upstream(base, &named.settings.endpoint) });
        if let Err(reason) = &led.to {
            let host = host(base).unwrap_or_else(|| "none that can be read".to_owned());
            tracing::error!(
                named_credential = %named.settings.name, key = "url.from_token", pointer = from.pointer, host, %reason,
                "the token endpoint names an upstream that is not used"
            );
        }
        named.led.store(Some(Arc::clone(&led)));
        led
    });
    let pool = match &led.to {
        Ok(upstream) => pools.foreign((&upstream.key, &upstream.endpoint), protocol, "from_token"),
        Err(_) => return Err(Stop::new(Failure::DestinationNotAllowed)),
    };
    Ok(Way::Led(pool, led))
}

impl FromToken {
    /// The upstream that `base` names, reached as `template` says.
    fn upstream(&self, base: &str, template: &Endpoint) -> Result<Upstream, NotAllowed> {
        let endpoint = self.endpoint(base, template)?;
        let host = HeaderValue::from_str(endpoint.authority.as_str()).map_err(|_| NotAllowed::NotAUrl)?;
        let origin = format!("{}://{}", endpoint.scheme(), endpoint.authority);
        Ok(Upstream { key: endpoint.key(), origin, host, endpoint })
    }

    /// As `template`, but with the scheme, host and port of `base`.
    ///
    /// # Errors
    /// [`NotAllowed`]
    pub fn endpoint(&self, base: &str, template: &Endpoint) -> Result<Endpoint, NotAllowed> {
        let (is_https, authority) = origin(base)?;
        let named = Host::parse(&authority).ok_or(NotAllowed::NotAUrl)?;
        let (host, default) = if is_https { (named, 443) } else { (named.or_port(80), 80) };
        let stays = self.dangerous_plain_http && connect::is_loopback(host.name());
        if !is_https && !stays {
            return Err(NotAllowed::NotHttps);
        }
        if !self.allow.iter().any(|rule| rule.admits(&host, 443)) {
            return Err(NotAllowed::NotListed);
        }
        let authority = host.authority(default).ok_or(NotAllowed::NotAUrl)?;
        let tls = template.tls.clone().filter(|_| is_https);
        Ok(Endpoint { tls, authority, named_by: NamedBy::Others, ..template.clone() })
    }
}

/// Whether it is `https`, and the authority. Strict: what one reader takes for a path, another takes for a host.
fn origin(base: &str) -> Result<(bool, Authority), NotAllowed> {
    if base.is_empty() {
        return Err(NotAllowed::Missing);
    }
    let (scheme, rest) = base.split_once("://").ok_or(NotAllowed::NotAUrl)?;
    let is_https = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(NotAllowed::NotHttps),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '\\', '?', '#', '@']) {
        return Err(NotAllowed::MoreThanAnOrigin);
    }
    let authority = rest.parse().map_err(|_| NotAllowed::NotAUrl)?;
    Ok((is_https, authority))
}

/// The host in `base`, if it is one: nothing else of a foreign text belongs into a log.
fn host(base: &str) -> Option<String> {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    let authority = rest.split(['/', '\\', '?', '#']).next()?.rsplit('@').next()?;
    Some(Host::parse(&authority.parse().ok()?)?.name().to_owned())
}

impl fmt::Debug for Led {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Led").field("allowed", &self.to.is_ok()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{FromToken, NotAllowed, host};
    use crate::target::{HostPattern, HostRule};
    use crate::upstream::Endpoint;

    fn from_token(allow: &[(&str, Option<u16>)]) -> FromToken {
        let rule = |&(host, port): &(&str, _)| HostRule { host: HostPattern::parse(host).unwrap(), port };
        FromToken {
            pointer: "/instance_url".to_owned(),
            allow: allow.iter().map(rule).collect(),
            dangerous_plain_http: true,
        }
    }

    fn reached(from: &FromToken, base: &str) -> Result<String, NotAllowed> {
        let tls = std::sync::Arc::new(crate::tls::Profile::trusting_nobody().unwrap());
        let template = Endpoint::new(Some(tls), "from-token.invalid".parse().unwrap());
        from.endpoint(base, &template).map(|endpoint| format!("{}://{}", endpoint.scheme(), endpoint.authority))
    }

    /// C25: only a listed host is reached, on a listed port, over TLS, and by no other spelling.
    #[test]
    fn only_what_is_listed_is_reached() {
        let from =
            from_token(&[("*.my.salesforce.com", None), ("api.example.com", Some(8443)), ("127.0.0.1", Some(81))]);
        for (base, reached_at) in [
            ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com"),
            ("https://acme.my.salesforce.com/", "https://acme.my.salesforce.com"),
            ("HTTPS://Acme--uat.Sandbox.My.Salesforce.com.:443", "https://acme--uat.sandbox.my.salesforce.com"),
            ("https://api.example.com:8443", "https://api.example.com:8443"),
            ("http://127.0.0.1:81", "http://127.0.0.1:81"),
        ] {
            assert_eq!(reached(&from, base), Ok(reached_at.to_owned()), "{base}");
        }
        for (why, bases) in [
            (NotAllowed::Missing, &[""][..]),
            (
                NotAllowed::NotListed,
                &[
                    "https://my.salesforce.com",
                    "https://evilmy.salesforce.com",
                    "https://acme.my.salesforce.com.evil.example",
                    "https://acme.my.salesforce.com:8443",
                    "https://api.example.com",
                    "https://127.0.0.1",
                    "https://[::1]",
                    "http://127.0.0.1",
                    "http://127.0.0.1:82",
                    "https://169.254.169.254",
                ],
            ),
            (
                NotAllowed::NotHttps,
                &[
                    "http://acme.my.salesforce.com",
                    "ftp://acme.my.salesforce.com",
                    "file:///etc/passwd",
                    "javascript://x",
                ],
            ),
            (
                NotAllowed::MoreThanAnOrigin,
                &[
                    "https://acme.my.salesforce.com/x",
                    "https://evil.example/.my.salesforce.com",
                    "https:///x",
                    "https://evil.example?.my.salesforce.com",
                    "https://evil.example#.my.salesforce.com",
                    "https://evil.example\\.my.salesforce.com",
                    "https://acme.my.salesforce.com@evil.example",
                    "https://u:p@acme.my.salesforce.com",
                    "https://acme.my.salesforce.com//",
                ],
            ),
            (
                NotAllowed::NotAUrl,
                &[
                    "acme.my.salesforce.com",
                    "//acme.my.salesforce.com",
                    "https:acme.my.salesforce.com",
                    "https://",
                    "https:// acme.my.salesforce.com",
                    "https://acme.my.salesforce.com\r\nX: y",
                    "https://%61cme.my.salesforce.com",
                    "https://acme.my.salesforce.com:0",
                    "https://a:b:c",
                    "https://evil.example%2f.my.salesforce.com",
                    "https://\u{430}cme.my.salesforce.com",
                    "https://acme.my.salesforce.com:99999",
                    "https://acme..my.salesforce.com",
                ],
            ),
        ] {
            for base in bases {
                assert_eq!(reached(&from, base), Err(why), "{base}");
            }
        }
    }

    #[test]
    fn plain_http_needs_to_be_accepted_and_to_stay_on_this_machine() {
        let from = from_token(&[("127.0.0.1", Some(81)), ("api.example.com", Some(81))]);
        assert!(reached(&from, "http://127.0.0.1:81").is_ok());
        assert_eq!(reached(&from, "http://api.example.com:81"), Err(NotAllowed::NotHttps));
        let from = FromToken { dangerous_plain_http: false, ..from };
        assert_eq!(reached(&from, "http://127.0.0.1:81"), Err(NotAllowed::NotHttps));
    }

    #[test]
    fn the_log_names_a_host_and_nothing_else() {
        for (base, expected) in [
            ("https://evil.example:8443/x?token=canary", Some("evil.example")),
            ("https://canary@evil.example", Some("evil.example")),
            ("evil.example", Some("evil.example")),
            ("https://evil.example\r\nx", None),
            ("", None),
        ] {
            assert_eq!(host(base).as_deref(), expected, "{base}");
        }
    }
}
