//! The way to the upstream, and a trial request there: made as `run` would make it, by GET or HEAD and never otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};

use super::obtain::Obtained;
use super::reach::{Leg, Steps};
use super::report::Report;
use super::subject::Subject;
use super::veil::{HIDDEN, veiled};
use crate::app;
use crate::cli::diagnosis::{self, Diagnosis, Probed, Skew};
use crate::config::Config;
use crate::fetch::{FetchError, Limits, Way, fetch};
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::proxy::probe::{Probe, probe as prepare};
use crate::proxy::settings::{FromToken, NamedCredential};
use crate::secret::Secret;
use crate::server::Connection;
use crate::tls::{Alpn, Profile};
use crate::token::{Minters, Received, Seen, Settings, Verdict};
use crate::upstream::{Endpoint, Http};

const STEPS: Steps = Steps { dns: "upstream: DNS", connection: "upstream: connection", tls: "upstream: TLS" };

/// The longest wait for the answer, whatever `timeouts.first_byte` says.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Longest answer that is read.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// Goes to the upstream and asks for something there.
///
/// # Errors
/// The diagnosis of the first step that failed.
pub(super) async fn probe(
    subject: &Subject<'_>,
    named: &NamedCredential,
    obtained: Option<&Obtained>,
    report: &mut Report,
) -> Result<(), Diagnosis> {
    let Ok(nobody) = Profile::trusting_nobody() else { return Ok(()) };
    let reached = reached(named, obtained, report)?;
    let named = &reached;
    let tls = named.endpoint.tls.as_deref().unwrap_or(&nobody);
    let place = (format!("[named_credentials.{}]", named.name), "url");
    let within = named.timeouts.connect;
    let Endpoint { http_proxy, addresses, .. } = &named.endpoint;
    let way = Way { tls, http_proxy: http_proxy.as_deref(), addresses: *addresses };
    let leg = named.url().parse::<Uri>().ok().and_then(|url| Leg::new(&url, way, within, place, STEPS));
    let Some(leg) = leg else { return Ok(()) };
    if named.endpoint.http == Http::Http2 {
        leg.offering(Alpn::Http2).walk(report).await?;
        report.skipped("probe", "the upstream is spoken to in HTTP/2, and this probe speaks HTTP/1.1 only");
        return Ok(());
    }
    leg.walk(report).await?;
    let head = match head(subject, named) {
        Ok(head) => at(head, named),
        Err(reason) => {
            report.skipped("probe", reason);
            return Ok(());
        }
    };
    let trial = Trial { named, head, obtained, external: subject.external.map(|(settings, _)| settings) };
    let timeout = named.timeouts.connect + named.timeouts.first_byte.min(LONGEST_WAIT);
    match trial.send(way, Limits { timeout, body: LONGEST_ANSWER }).await {
        Ok(answer) => trial.judge(&answer, report),
        Err(FetchError::TooLarge { .. }) => {
            report.warning("probe", "the answer is longer than is read here; try another --path");
            Ok(())
        }
        Err(error) => {
            let causes = crate::cli::with_causes(&error);
            report.failed("probe", &causes);
            Err(leg.silent(&causes).await)
        }
    }
}

/// The named credential with the upstream that the token came with, where that decides.
fn reached(
    named: &NamedCredential,
    obtained: Option<&Obtained>,
    report: &mut Report,
) -> Result<NamedCredential, Diagnosis> {
    let Some(from) = &named.from_token else { return Ok(named.clone()) };
    let minted = obtained.and_then(|obtained| obtained.minted.as_ref());
    let base = minted.and_then(|minted| minted.members().get(&from.pointer)).unwrap_or_default();
    match from.endpoint(base, &named.endpoint) {
        Ok(endpoint) => Ok(NamedCredential { endpoint, from_token: None, ..named.clone() }),
        Err(reason) => {
            report.failed("upstream: DNS", format!("the token came without an upstream that may be called: {reason}"));
            let table = format!("[named_credentials.{}]", named.name);
            Err(Diagnosis {
                sent: "Sent: a token request that was answered with a token.".to_owned(),
                received: format!("Received: at {} of the answer, what is not used: {reason}.", from.pointer),
                meaning: "The token endpoint's answer says where the API is, and what it says is held against a list, \
                          so that nobody can have the token sent elsewhere."
                    .to_owned(),
                change: format!(
                    "Correct url.from_token in {table}, or add the host to url.allow there; or write the URL itself."
                ),
            })
        }
    }
}

/// `head` for the upstream of `named`, where the head was made before that was known.
fn at(mut head: Probe, named: &NamedCredential) -> Probe {
    let authority = named.endpoint.authority.as_str();
    head.origin = format!("{}://{authority}", named.endpoint.scheme());
    if head.headers.get(HOST).is_some_and(|host| host == FromToken::AUTHORITY)
        && let Ok(host) = HeaderValue::from_str(authority)
    {
        head.headers.insert(HOST, host);
    }
    head
}

/// The head of the request as the data plane would make it.
fn head(subject: &Subject<'_>, named: &NamedCredential) -> Result<Probe, String> {
    // The token cells need a runtime to belong to; it is never driven, so nothing is minted.
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|_| "the operating system refused a runtime")?;
    let probe = head_on(subject.config, subject, named, &runtime);
    // A runtime must not wait for anything inside another.
    runtime.shutdown_background();
    probe
}

fn head_on(
    config: &Config,
    subject: &Subject<'_>,
    named: &NamedCredential,
    runtime: &tokio::runtime::Runtime,
) -> Result<Probe, String> {
    let metrics = Metrics::new();
    let mut minters = Minters::new(runtime.handle().clone(), metrics.clone());
    let externals: Vec<_> =
        config.external_credentials.iter().map(|settings| minters.external_credential(settings)).collect();
    let plan = app::plan(config, &externals, &metrics).map_err(|error| error.to_string())?;
    let listener = config.listeners.first().cloned().ok_or("there is no listener")?;
    let peer = Peer::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let connection = Connection::new(peer, Arc::new(listener));
    let principal = subject.external.map(|(_, principal)| &principal.name);
    prepare(&plan, &connection, &named.name, &subject.callers, (principal, &subject.path))
}

struct Trial<'a> {
    named: &'a NamedCredential,
    head: Probe,
    obtained: Option<&'a Obtained>,
    external: Option<&'a Settings>,
}

impl Trial<'_> {
    /// Sends it; once more where the API asks for a nonce (RFC 9449 9).
    async fn send(&self, way: Way<'_>, limits: Limits) -> Result<Response<Bytes>, FetchError> {
        let answer = fetch(self.request()?, way, limits).await?;
        let key = self.obtained.and_then(|obtained| obtained.dpop.as_ref());
        let new_nonce = key.is_some_and(|key| key.note(&self.head.origin, answer.headers()));
        if new_nonce && answer.status() == StatusCode::UNAUTHORIZED {
            return fetch(self.request()?, way, limits).await;
        }
        Ok(answer)
    }

    fn request(&self) -> Result<Request<Bytes>, FetchError> {
        let Probe { method, origin, target, headers, .. } = &self.head;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = format!("{origin}{target}").parse().map_err(|_| FetchError::Url("it is none"))?;
        *request.headers_mut() = headers.clone();
        if let Some((name, value)) = self.credential() {
            request.headers_mut().insert(name, value);
        }
        let key = self.obtained.and_then(|obtained| Some((obtained.dpop.as_ref()?, obtained.minted.as_ref()?)));
        if let Some((key, minted)) = key {
            let path = target.split('?').next().unwrap_or_default();
            let proof = key.proof(method, origin, path, Some(minted.value().expose()));
            let proof = proof.map_err(|_| FetchError::Url("the DPoP proof cannot be made"))?;
            request.headers_mut().insert(HeaderName::from_static("dpop"), proof);
        }
        Ok(request)
    }

    /// The field that carries the token.
    fn credential(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, scheme) = self.head.credential.as_ref()?;
        let token = self.obtained?.minted.as_ref()?.value().expose();
        let text = scheme.as_ref().map_or_else(|| token.to_owned(), |scheme| format!("{scheme} {token}"));
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some((name.clone(), value))
    }

    fn judge(&self, answer: &Response<Bytes>, report: &mut Report) -> Result<(), Diagnosis> {
        let secrets = self.secrets();
        let shown = received(answer, &secrets);
        let rejection = self.external.map(|settings| &settings.rejection);
        let verdict = rejection.map(|rules| rules.body(answer.status(), answer.headers(), Seen::Whole(answer.body())));
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let attached = self.external.filter(|_| self.head.credential.is_some());
        let asked = format!("{}{}", self.head.origin, self.head.target);
        let probed = Probed {
            name: self.named.name.as_str(),
            url: &asked,
            host: self.named.endpoint.host(),
            sent: &self.sent(),
            answer: &shown,
            external: attached,
            claims: self.obtained.and_then(|obtained| obtained.claims.as_ref()),
            skew: date.and_then(|date| Skew::of(date, SystemTime::now())),
            is_rejection: attached.is_some() && matches!(verdict, Some(Verdict::Rejected(_))),
        };
        if let Some(diagnosis) = diagnosis::refused(&probed) {
            report.failed("probe", format!("{} {asked}: {}", self.head.method, shown.status));
            return Err(diagnosis);
        }
        self.accepted(answer, &asked, report);
        Ok(())
    }

    /// The token was not refused; what else there is to say.
    fn accepted(&self, answer: &Response<Bytes>, asked: &str, report: &mut Report) {
        let media = answer.headers().get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
        let page = media.contains("html");
        let told = format!("{} {asked}: {}", self.head.method, answer.status().as_u16());
        match answer.status().as_u16() {
            200..=299 if page => report.warning("probe", format!("{told} with a web page; is this the API?")),
            200..=299 => report.ok("probe", told),
            404 | 410 => report.ok("probe", format!("{told}; not the token's fault, --path asks for another path")),
            429 => report.warning("probe", format!("{told}: the API limits how often it may be asked")),
            500.. => report.warning("probe", format!("{told}: the API itself fails, the token was not refused")),
            _ => report.ok("probe", format!("{told}; the token was not refused")),
        }
    }

    /// What was sent, masked.
    fn sent(&self) -> String {
        let mut parts = Vec::new();
        if let Some((name, scheme)) = &self.head.credential {
            let name = if name == AUTHORIZATION { "Authorization" } else { name.as_str() };
            let scheme = scheme.as_ref().map(|scheme| format!("{scheme} ")).unwrap_or_default();
            parts.push(format!("{name}: {scheme}{HIDDEN}"));
        }
        if self.obtained.is_some_and(|obtained| obtained.dpop.is_some()) {
            parts.push("a DPoP proof".to_owned());
        }
        parts.extend(self.configured().map(|name| format!("{name}: {HIDDEN}")));
        let with =
            if parts.is_empty() { " without a credential".to_owned() } else { format!(" with {}", parts.join(", ")) };
        format!("{} {}{}{with}", self.head.method, self.head.origin, self.head.target)
    }

    /// The names of fields that come from the configuration and are sent; their values may be keys.
    fn configured(&self) -> impl Iterator<Item = &HeaderName> {
        let external = self.external.map(|settings| settings.headers.as_slice()).unwrap_or_default();
        let all = external.iter().chain(&self.named.headers).map(|(name, _)| name);
        all.filter(|name| self.head.headers.contains_key(*name))
    }

    /// What must not be repeated.
    fn secrets(&self) -> Vec<Secret> {
        let mut secrets = Vec::new();
        let mut add = |text: &str| secrets.push(Secret::new(text.to_owned()));
        if let Some(minted) = self.obtained.and_then(|obtained| obtained.minted.as_ref()) {
            add(minted.value().expose());
        }
        for name in self.configured() {
            for value in self.head.headers.get_all(name) {
                add(&String::from_utf8_lossy(value.as_bytes()));
            }
        }
        let principals = self.external.map(|settings| settings.principals.as_slice()).unwrap_or_default();
        let principals = principals.iter().flat_map(|principal| {
            [&principal.client_secret, &principal.password, &principal.refresh_token, &principal.token]
        });
        secrets.extend(principals.flatten().cloned());
        secrets
    }
}

/// The answer, masked and bounded.
fn received(answer: &Response<Bytes>, secrets: &[Secret]) -> Received {
    let text = |bytes: &[u8]| veiled(&String::from_utf8_lossy(bytes), secrets);
    let shown = |headers: &HeaderMap| {
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect()
    };
    let body = answer.body().get(..16 * 1024).unwrap_or(answer.body());
    Received { status: answer.status().as_u16(), headers: shown(answer.headers()), body: text(body) }
}
