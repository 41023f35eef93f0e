//! What a worker holds: the immutable plan of who may call what, swapped whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};

use super::destination::Led;
use super::expect::Expectations;
use super::forward::Forward;
use super::limits::Usage;
use super::refusal::Refusal;
use super::settings::{HeaderValueSource, HostHeader, NamedCredential as Settings};
use crate::caller::Callers;
use crate::limit::{Bucket, Rate};
use crate::metrics::NamedCredentialMetrics;
use crate::name::Name;
use crate::route::{Conflict, Match, Router};
use crate::token::{ExternalCredential, Principal};
use crate::upstream::{Endpoint, Key};

/// Everything that decides about a request.
#[derive(Debug)]
pub struct Plan {
    /// Which named credential.
    pub routes: Router<Arc<NamedCredential>>,
    /// Which named credential, for callers that use us as their proxy; none: no listener takes any.
    pub(super) forward: Option<Forward>,
    /// Who is calling.
    pub callers: Callers,
    /// What is left of the rates of those callers that have one.
    pub(super) caller_rates: HashMap<Name, Allotment>,
}

/// The rate of a caller, and what is left of it.
#[derive(Clone, Debug)]
pub(super) struct Allotment {
    rate: Rate,
    pub(super) bucket: Arc<Bucket>,
}

/// What is set on every request, never empty.
#[derive(Debug)]
struct Fields {
    /// The fields of both credentials.
    all: Vec<(HeaderName, HeaderValueSource)>,
    /// Their names.
    names: Vec<HeaderName>,
    /// The names of those that come from the external credential's configuration.
    attached: Vec<HeaderName>,
}

impl Fields {
    fn of(settings: &Settings, external: Option<&ExternalCredential>) -> Option<Box<Self>> {
        let all = fields(settings, external);
        let names = all.iter().map(|(name, _)| name.clone()).collect();
        let attached = external.iter().flat_map(|external| external.headers()).map(|(name, _)| name.clone()).collect();
        (!all.is_empty()).then(|| Box::new(Self { all, names, attached }))
    }
}

/// A named credential, ready to serve.
#[derive(Debug)]
pub struct NamedCredential {
    /// As configured.
    pub settings: Arc<Settings>,
    /// How to authenticate; none forwards without a credential.
    pub external: Option<Arc<ExternalCredential>>,
    /// Boxed, and none where no field is set: there may be very many named credentials.
    fields: Option<Box<Fields>>,
    /// Whether anything has to be evaluated for an exchange.
    has_formulas: bool,
    /// Which pool.
    pub key: Key,
    /// Its upstream's scheme and authority, as in `https://api.example.com`.
    pub origin: String,
    /// The `Host` to send, where it is not the caller's.
    pub host: HeaderValue,
    /// The upstream that the token endpoint's answer led to last, where that decides.
    pub(super) led: ArcSwapOption<Led>,
    /// Whether it is none of the configuration: it stands for a host that a caller named, and what the caller sends
    /// to prove itself there is its own.
    pub(super) passes_through: bool,
    /// Whether its upstream refuses fresh tokens.
    pub refusal: Refusal,
    /// Whether its upstream heeds `Expect`.
    pub expectations: Expectations,
    /// The id of the token that its upstream accepted last; ids begin at 1.
    accepted: AtomicU64,
    /// What is left of its limits; none where it has none.
    pub(super) usage: Option<Arc<Usage>>,
    /// Its metrics, resolved.
    pub metrics: NamedCredentialMetrics,
}

impl Plan {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When two named credentials match the same requests.
    pub fn new(
        named: impl IntoIterator<Item = impl Into<Arc<NamedCredential>>>,
        callers: Callers,
    ) -> Result<Self, Conflict> {
        let named = named.into_iter().map(Into::into);
        let entries: Vec<(Match, Arc<NamedCredential>)> =
            named.map(|named| (named.settings.matching.clone(), named)).collect();
        Ok(Self { routes: Router::build(entries)?, forward: None, callers, caller_rates: HashMap::new() })
    }

    /// The same, with these rates of callers. Of one that was the same in `before` as much is left as there.
    #[must_use]
    pub fn with_caller_rates(mut self, rates: &[(Name, Rate)], before: Option<&Self>) -> Self {
        let kept = |caller, rate| {
            let known = before?.caller_rates.get(caller)?;
            (known.rate == rate).then(|| known.clone())
        };
        let fresh = |rate| Allotment { rate, bucket: Arc::new(Bucket::new(rate)) };
        let allotments =
            rates.iter().map(|(caller, rate)| (caller.clone(), kept(caller, *rate).unwrap_or_else(|| fresh(*rate))));
        self.caller_rates = allotments.collect();
        self
    }

    /// For listeners whose callers may use us as their proxy, too. `unmatched` counts what no named credential covers.
    ///
    /// # Errors
    /// When two named credentials match the same requests of such callers.
    pub fn with_forward_proxy(self, unmatched: NamedCredentialMetrics) -> Result<Self, Conflict> {
        let forward = Forward::new(self.routes.values(), unmatched)?;
        Ok(Self { forward: Some(forward), ..self })
    }
}

impl NamedCredential {
    /// Readies `settings`.
    #[must_use]
    pub fn new(
        settings: impl Into<Arc<Settings>>,
        external: Option<Arc<ExternalCredential>>,
        metrics: NamedCredentialMetrics,
    ) -> Self {
        let settings = settings.into();
        let host = match &settings.host_header {
            HostHeader::Text(text) => text.clone(),
            // Every authority is a field value. A caller's own may be missing (RFC 9112 3.2: HTTP/1.0).
            HostHeader::Upstream | HostHeader::Caller => HeaderValue::from_str(settings.endpoint.authority.as_str())
                .unwrap_or_else(|_| HeaderValue::from_static("")),
        };
        let fields = Fields::of(&settings, external.as_deref());
        let principals = external.iter().flat_map(|external| external.principals());
        let has_formulas = principals.into_iter().any(Principal::varies)
            || fields
                .iter()
                .flat_map(|fields| &fields.all)
                .any(|(_, source)| matches!(source, HeaderValueSource::Formula(_)));
        Self {
            key: settings.endpoint.key(),
            origin: origin(&settings.endpoint),
            host,
            led: ArcSwapOption::empty(),
            passes_through: false,
            external,
            fields,
            has_formulas,
            refusal: Refusal::default(),
            expectations: Expectations::default(),
            accepted: AtomicU64::new(0),
            usage: Usage::new(&settings.limits),
            metrics,
            settings,
        }
    }

    /// What takes the place of this one with other settings, or another external credential. What was learnt of the
    /// upstream holds on while the upstream is the same, what is left of its limits while these are.
    #[must_use]
    pub fn succeeded_by(&self, settings: Arc<Settings>, external: Option<Arc<ExternalCredential>>) -> Self {
        let after = Self::new(settings, external, self.metrics.clone());
        let usage = if after.settings.limits == self.settings.limits { self.usage.clone() } else { after.usage };
        if after.key != self.key {
            return Self { usage, ..after };
        }
        Self {
            usage,
            refusal: self.refusal.copy(),
            expectations: self.expectations.copy(),
            accepted: AtomicU64::new(self.accepted.load(Ordering::Relaxed)),
            ..after
        }
    }

    /// What stands in the place of one for an exchange with `endpoint`, which a caller of `listener` named: it adds
    /// nothing, and of the caller's fields nothing is taken that was meant for the host.
    #[must_use]
    pub(super) fn passing_through(listener: &Name, endpoint: Endpoint, metrics: NamedCredentialMetrics) -> Self {
        let settings = Settings::passing_through(listener.clone(), endpoint);
        Self { passes_through: true, ..Self::new(settings, None, metrics) }
    }

    /// Notes that the upstream accepted a token. Written only on a change: workers share the line it stands in.
    pub fn note_accepted(&self, token: u64) {
        if self.accepted.load(Ordering::Relaxed) != token {
            self.accepted.store(token, Ordering::Relaxed);
        }
    }

    /// Whether this token is the one that the upstream accepted last.
    #[must_use]
    pub fn has_accepted(&self, token: u64) -> bool {
        self.accepted.load(Ordering::Relaxed) == token
    }

    /// The field that carries the credential.
    #[must_use]
    pub fn injected(&self) -> &HeaderName {
        let external = self.external.as_ref().filter(|_| self.attaches_token());
        external.map_or(&http::header::AUTHORIZATION, |external| external.inject_header())
    }

    /// Whether the token is attached. The fields that are configured beside it are sent all the same.
    #[must_use]
    pub fn attaches_token(&self) -> bool {
        self.settings.generate_authorization_header
    }

    /// The fields that are set on every request: the external credential's, then its own; each name once.
    #[must_use]
    pub fn fields(&self) -> &[(HeaderName, HeaderValueSource)] {
        self.fields.as_ref().map_or(&[], |fields| &fields.all)
    }

    /// The names of the fields that are set on every request.
    #[must_use]
    pub fn set(&self) -> &[HeaderName] {
        self.fields.as_ref().map_or(&[], |fields| &fields.names)
    }

    /// The names of the fields that are part of the credential. What a caller sends under them ends here.
    #[must_use]
    pub fn attached(&self) -> &[HeaderName] {
        self.fields.as_ref().map_or(&[], |fields| &fields.attached)
    }

    /// Whether anything has to be evaluated for an exchange.
    #[must_use]
    pub fn has_formulas(&self) -> bool {
        self.has_formulas
    }
}

/// The external credential's fields without those that the named credential sets itself, then the latter's; of one
/// list the last of a name counts.
fn fields(settings: &Settings, external: Option<&ExternalCredential>) -> Vec<(HeaderName, HeaderValueSource)> {
    let mut fields: Vec<(HeaderName, HeaderValueSource)> = Vec::new();
    let external = external.map(ExternalCredential::headers).unwrap_or_default();
    for (name, source) in external.iter().chain(&settings.headers) {
        fields.retain(|(known, _)| known != name);
        fields.push((name.clone(), source.clone()));
    }
    fields
}

fn origin(endpoint: &Endpoint) -> String {
    let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", endpoint.authority)
}
