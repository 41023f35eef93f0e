//! What a worker holds: the immutable plan of who may call what, swapped whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};

use super::refusal::Refusal;
use super::settings::{HostHeader, NamedCredential as Settings};
use crate::caller::Callers;
use crate::metrics::NamedCredentialMetrics;
use crate::route::{Conflict, Match, Router};
use crate::token::ExternalCredential;
use crate::upstream::Key;

/// Everything that decides about a request.
#[derive(Debug)]
pub struct Plan {
    /// Which named credential.
    pub routes: Router<Arc<NamedCredential>>,
    /// Who is calling.
    pub callers: Callers,
}

/// A named credential, ready to serve.
#[derive(Debug)]
pub struct NamedCredential {
    /// As configured.
    pub settings: Settings,
    /// How to authenticate; none forwards without a credential.
    pub external: Option<Arc<ExternalCredential>>,
    /// Which pool.
    pub key: Key,
    /// The `Host` to send, where it is not the caller's.
    pub host: HeaderValue,
    /// Whether its upstream refuses fresh tokens.
    pub refusal: Refusal,
    /// The id of the token that its upstream accepted last; ids begin at 1.
    accepted: AtomicU64,
    /// Its metrics, resolved.
    pub metrics: NamedCredentialMetrics,
}

impl Plan {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When two named credentials match the same requests.
    pub fn new(named: impl IntoIterator<Item = NamedCredential>, callers: Callers) -> Result<Self, Conflict> {
        let entries: Vec<(Match, Arc<NamedCredential>)> =
            named.into_iter().map(|named| (named.settings.matching.clone(), Arc::new(named))).collect();
        Ok(Self { routes: Router::build(entries)?, callers })
    }
}

impl NamedCredential {
    /// Readies `settings`.
    #[must_use]
    pub fn new(settings: Settings, external: Option<Arc<ExternalCredential>>, metrics: NamedCredentialMetrics) -> Self {
        let host = match &settings.host_header {
            HostHeader::Text(text) => text.clone(),
            // Every authority is a field value. A caller's own may be missing (RFC 9112 3.2: HTTP/1.0).
            HostHeader::Upstream | HostHeader::Caller => HeaderValue::from_str(settings.endpoint.authority.as_str())
                .unwrap_or_else(|_| HeaderValue::from_static("")),
        };
        let external = external.filter(|_| settings.generate_authorization_header);
        Self {
            key: settings.endpoint.key(),
            host,
            external,
            refusal: Refusal::default(),
            accepted: AtomicU64::new(0),
            metrics,
            settings,
        }
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
        self.external.as_ref().map_or(&http::header::AUTHORIZATION, |external| external.inject_header())
    }
}
