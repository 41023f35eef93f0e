//! Asking once for an issuer's keys: a JWK set at a URL, in a file, or where the issuer's OpenID Connect metadata say
//! (OpenID Connect Discovery 4).

use std::borrow::Cow;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderValue, Request, StatusCode, Uri};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::connect::{self, Addresses, HttpProxies, is_loopback};
use crate::fetch::{FetchError, Limits, Way, fetch};
use crate::tls::Profile;

/// Bounds of one question.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(5), body: LONGEST };

/// The longest document that is read, in bytes.
const LONGEST: usize = 256 * 1024;

/// Where an issuer's keys are, and the way there.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySource {
    /// Where they are.
    pub origin: KeyOrigin,
    /// Trust roots and client certificate.
    pub tls: Arc<Profile>,
    /// A file with a bearer token for the servers that want to know who asks; read every time.
    pub bearer_token_file: Option<PathBuf>,
    /// Whether keys may come over plain HTTP from another machine.
    pub dangerous_plain_http: bool,
    /// To which addresses what the issuer's metadata name may lead; what the configuration names may also be in a
    /// private network.
    pub addresses: Addresses,
    /// The proxies on the way out.
    pub http_proxies: HttpProxies,
}

/// Where a JWK set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Where the issuer's metadata say.
    Discovery,
    /// At this URL.
    Url(Uri),
    /// In this file.
    File(PathBuf),
}

/// One clause about what went wrong; holds nothing that a server said.
pub(super) type Problem = Cow<'static, str>;

impl KeySource {
    /// The document that holds the keys.
    pub(super) async fn fetch(&self, issuer: &str) -> Result<Bytes, Problem> {
        match &self.origin {
            KeyOrigin::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path));
                read.await.unwrap_or_else(|_| Err("the file was not read".into())).map(Bytes::from)
            }
            KeyOrigin::Url(url) => self.get(url, self.bearer().await?, self.written()).await,
            KeyOrigin::Discovery => {
                let metadata = self.safe_url(&place(issuer))?;
                let bearer = self.bearer().await?;
                let document = self.get(&metadata, bearer.clone(), self.written()).await?;
                let keys = self.safe_url(&jwks_uri(&document, issuer)?)?;
                if same_origin(&metadata, &keys) {
                    return self.get(&keys, bearer, self.written()).await;
                }
                // The token is meant for the issuer, not for whoever its metadata name.
                self.get(&keys, None, self.named_by(&metadata).await).await
            }
        }
    }

    async fn get(&self, url: &Uri, bearer: Option<HeaderValue>, addresses: Addresses) -> Result<Bytes, Problem> {
        let request = Request::get(url)
            .header(ACCEPT, "application/json, application/jwk-set+json")
            .header(USER_AGENT, concat!("keybearer/", env!("CARGO_PKG_VERSION")));
        let request = bearer.into_iter().fold(request, |request, bearer| request.header(AUTHORIZATION, bearer));
        let request = request.body(Bytes::new()).map_err(|_| "the URL cannot be asked")?;
        let http_proxy = self.http_proxies.of(url.scheme() == Some(&Scheme::HTTPS));
        let way = Way { tls: &self.tls, http_proxy: http_proxy.as_deref(), addresses };
        let answer = fetch(request, way, LIMITS).await.map_err(clause)?;
        let status = answer.status();
        if status != StatusCode::OK {
            let redirect = if status.is_redirection() { ", and a redirect is not followed" } else { "" };
            return Err(format!("status {} from {}{redirect}", status.as_u16(), authority(url)).into());
        }
        Ok(answer.into_body())
    }

    /// To which addresses what is written in the configuration may lead.
    fn written(&self) -> Addresses {
        Addresses { private: true, ..self.addresses }
    }

    /// To which addresses what a server's metadata name may lead. One within our network may name another one there, as
    /// Kubernetes' API server does; one on the Internet must not send us into our network. Where only a proxy can resolve
    /// the server's name, nobody here knows which it is.
    async fn named_by(&self, server: &Uri) -> Addresses {
        let found = connect::resolve(server.host().unwrap_or_default(), LIMITS.timeout).await;
        let is_within = |found: Vec<_>| found.into_iter().all(|address| !Addresses::FOREIGN.admits(address));
        if found.is_ok_and(is_within) { self.written() } else { self.addresses }
    }

    /// The value of `Authorization` from the file, which is renewed by whoever wrote it.
    async fn bearer(&self) -> Result<Option<HeaderValue>, Problem> {
        let Some(path) = self.bearer_token_file.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || read_file(&path).map(Zeroizing::new));
        let token = read.await.unwrap_or_else(|_| Err("the file was not read".into()))?;
        let value = Zeroizing::new([b"Bearer ".as_slice(), token.trim_ascii()].concat());
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| "the bearer token's file holds no token")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// A URL whose answer nobody on the way can have changed.
    fn safe_url(&self, text: &str) -> Result<Uri, Problem> {
        let url: Uri = text.parse().map_err(|_| "the issuer, or what its metadata name, is not a URL")?;
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err("the issuer, or what its metadata name, is not an absolute URL".into());
        };
        let may_be_plain = self.dangerous_plain_http || is_loopback(authority.host());
        if *scheme == Scheme::HTTPS || (*scheme == Scheme::HTTP && may_be_plain) {
            Ok(url)
        } else {
            Err("the issuer, or what its metadata name, is not https".into())
        }
    }
}

/// Reads a file that is not too long.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Problem> {
    let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|error| Problem::from(format!("cannot read {}: {}", path.display(), error.kind())))?;
    if bytes.len() > LONGEST { Err(format!("{} is too long", path.display()).into()) } else { Ok(bytes) }
}

fn place(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

/// `jwks_uri`, of metadata that are the issuer's own.
fn jwks_uri(document: &[u8], issuer: &str) -> Result<String, Problem> {
    let document: Value = serde_json::from_slice(document).map_err(|_| "the issuer's metadata are not JSON")?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("the issuer's metadata name another issuer".into());
    }
    let keys = document.get("jwks_uri").and_then(Value::as_str);
    keys.map(str::to_owned).ok_or_else(|| "the issuer's metadata name no `jwks_uri`".into())
}

fn same_origin(one: &Uri, other: &Uri) -> bool {
    let origin = |url: &Uri| {
        let default = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let host = url.host().map(str::to_ascii_lowercase);
        (url.scheme().cloned(), host, url.port_u16().unwrap_or(default))
    };
    origin(one) == origin(other)
}

fn authority(url: &Uri) -> &str {
    url.authority().map_or("", |authority| authority.as_str())
}

/// Our own words for what went wrong on the way, causes included: they come from the system or the TLS library.
fn clause(error: FetchError) -> Problem {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::{jwks_uri, place, same_origin};

    #[test]
    fn the_metadata_stand_behind_the_issuers_path() {
        for (issuer, expected) in [
            ("https://i.example", "https://i.example/.well-known/openid-configuration"),
            ("https://i.example/", "https://i.example/.well-known/openid-configuration"),
            ("https://i.example/realms/a", "https://i.example/realms/a/.well-known/openid-configuration"),
        ] {
            assert_eq!(place(issuer), expected);
        }
    }

    #[test]
    fn metadata_of_another_issuer_name_no_keys() {
        let metadata = |issuer: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://i.example/keys"}}"#);
        let found = |document: String| jwks_uri(document.as_bytes(), "https://i.example").ok();
        assert_eq!(found(metadata("https://i.example")).as_deref(), Some("https://i.example/keys"));
        for issuer in ["https://i.example/", "https://I.example", "https://other.example", ""] {
            assert_eq!(found(metadata(issuer)), None, "{issuer}");
        }
        for document in ["", "[]", "{}", r#"{"issuer":"https://i.example"}"#] {
            assert_eq!(found(document.to_owned()), None, "{document}");
        }
    }

    #[test]
    fn a_bearer_token_stays_with_the_origin_of_the_issuer() {
        let is_same =
            |one: &'static str, other: &'static str| same_origin(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(is_same("https://a.example/x", "https://A.example:443/y"));
        assert!(!is_same("https://a.example", "http://a.example"));
        assert!(!is_same("https://a.example", "https://a.example:8443"));
        assert!(!is_same("https://a.example", "https://b.example"));
    }
}
