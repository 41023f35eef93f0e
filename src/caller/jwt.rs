//! Callers known by a JWT (RFC 7519): a Kubernetes service account, a SPIFFE JWT-SVID, a token of any issuer with
//! published keys. Audience and algorithms come from the configuration alone (RFC 8725 3.1, 3.9).
//!
//! What is cheap is judged first, the signature last; a token that was good is known by its SHA-256 for a while. Reading
//! and verifying is `jose`'s, having the keys is `keys`'s. Nothing of a token, and no claim's value, is logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::Instant;

use self::cache::Cache;
pub use self::jose::{ALGORITHMS, count_keys};
use self::jose::{Unproven, Unverified};
pub use self::keys::{KeyOrigin, KeySource};
use self::keys::{Renewal, Supply};
use super::certificate::UriPattern;
use super::{after_scheme, only_value, sha256};
use crate::name::Name;
use crate::sign::Algorithm;

mod cache;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod jose;
mod keys;

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// How long a request waits for keys, at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// `jwt` of a caller as resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `iss`, compared byte for byte.
    pub issuer: String,
    /// Where the issuer's keys are.
    pub keys: KeySource,
    /// `aud` must hold one of these.
    pub audience: Vec<String>,
    /// What else must hold; all of it.
    pub claims: Vec<ClaimRule>,
    /// The field that carries the token; removed before the request goes on.
    pub header: HeaderName,
    /// The only signature algorithms that count; of [`ALGORITHMS`].
    pub algorithms: Vec<Algorithm>,
}

/// What one claim must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// Where it is: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// One of these; of a claim that is a list, one element must be one of these.
    pub any_of: Vec<ClaimValue>,
}

/// A value that a claim may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// This text; a number or a truth value by its JSON text.
    Text(String),
    /// A SPIFFE id below this one.
    SpiffeBelow(UriPattern),
}

/// Every way to be known by a JWT.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    carriers: Vec<Carrier>,
    /// Keys that are at hand, for whoever needs them.
    known: Vec<Arc<Supply>>,
    /// Counts the changes of all key sets; what was verified before one is verified again after it.
    revision: Arc<AtomicU64>,
}

/// One field that may carry tokens.
#[derive(Debug)]
struct Carrier {
    header: HeaderName,
    authorities: Vec<Authority>,
    verified: Cache,
}

/// One issuer, and whom its tokens prove.
#[derive(Debug)]
struct Authority {
    issuer: String,
    supply: Arc<Supply>,
    algorithms: Vec<Algorithm>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    caller: Name,
    audience: Vec<String>,
    claims: Vec<ClaimRule>,
}

/// What a token came to.
#[derive(Default)]
struct Judgement {
    proven: Vec<Name>,
    /// The callers that it would prove, were its signature good.
    candidates: Vec<Name>,
    renewals: Vec<Renewal>,
    /// Why it proves nobody.
    reason: &'static str,
}

/// Keys that are being fetched, or have to be, before something can be said about a token.
#[derive(Debug)]
pub struct Pending {
    renewals: Vec<Renewal>,
    candidates: Vec<Name>,
}

impl Pending {
    /// The callers that the token would prove, were its signature good.
    #[must_use]
    pub fn candidates(&self) -> &[Name] {
        &self.candidates
    }

    /// Waits until the keys were fetched or could not be had; two seconds at most.
    pub async fn settled(self) {
        let all = join_all(self.renewals.into_iter().map(Renewal::ended));
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }
}

impl Tokens {
    /// None yet, with the keys of these at hand. Those of files are read anew.
    pub(super) fn successor(&self) -> Self {
        let supplies = self.carriers.iter().flat_map(|carrier| &carrier.authorities).map(|authority| &authority.supply);
        let known = supplies.filter(|supply| !supply.is_of_file()).map(Arc::clone).collect();
        Self { carriers: Vec::new(), known, revision: Arc::clone(&self.revision) }
    }

    pub(super) fn add(&mut self, settings: Settings, caller: Name) {
        let supply = self.supply(&settings);
        let at = self.carriers.iter().position(|carrier| carrier.header == settings.header).unwrap_or_else(|| {
            let carrier =
                Carrier { header: settings.header.clone(), authorities: Vec::new(), verified: Cache::default() };
            self.carriers.push(carrier);
            self.carriers.len() - 1
        });
        let Some(carrier) = self.carriers.get_mut(at) else { return };
        let Settings { issuer, audience, claims, algorithms, .. } = settings;
        let rule = Rule { caller, audience, claims };
        let known = carrier.authorities.iter_mut().find(|known| {
            known.issuer == issuer && known.algorithms == algorithms && Arc::ptr_eq(&known.supply, &supply)
        });
        match known {
            Some(known) => known.rules.push(rule),
            None => carrier.authorities.push(Authority { issuer, supply, algorithms, rules: vec![rule] }),
        }
    }

    /// Lets the keys go that nobody needed.
    pub(super) fn complete(&mut self) {
        self.known = Vec::new();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.carriers.is_empty()
    }

    pub(super) fn watch(&self, control: &Handle) {
        for authority in self.carriers.iter().flat_map(|carrier| &carrier.authorities) {
            authority.supply.watch(control);
        }
    }

    /// Adds every caller that the tokens in `headers` prove; the result is what cannot be said yet.
    pub(super) fn prove(&self, headers: &HeaderMap, names: &mut Vec<Name>) -> Option<Box<Pending>> {
        let mut pending: Option<Box<Pending>> = None;
        for carrier in &self.carriers {
            let Some(text) = only_value(headers, &carrier.header).and_then(|value| carrier.token(value)) else {
                continue;
            };
            let revision = self.revision.load(Ordering::Acquire);
            let Judgement { candidates, renewals, .. } = carrier.judged(text, revision, names);
            if !renewals.is_empty() {
                let pending =
                    pending.get_or_insert_with(|| Box::new(Pending { renewals: Vec::new(), candidates: Vec::new() }));
                pending.renewals.extend(renewals);
                pending.candidates.extend(candidates);
            }
        }
        pending
    }

    /// The keys of these settings, shared by all who take them from the same place.
    fn supply(&self, settings: &Settings) -> Arc<Supply> {
        let all = self.carriers.iter().flat_map(|carrier| &carrier.authorities);
        let known = all
            .map(|authority| &authority.supply)
            .chain(&self.known)
            .find(|supply| supply.is_of(&settings.issuer, &settings.keys));
        match known {
            Some(known) => Arc::clone(known),
            None => {
                let revision = Arc::clone(&self.revision);
                Arc::new(Supply::new(settings.issuer.clone(), settings.keys.clone(), revision))
            }
        }
    }
}

impl Carrier {
    /// The token in a value of the field: after `Bearer` in `Authorization` (RFC 6750 2.1), elsewhere the word may be
    /// missing.
    fn token<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        match after_scheme(value, "bearer") {
            None if self.header == AUTHORIZATION => None,
            None => Some(value),
            Some(token) => Some(token),
        }
    }

    fn judged(&self, text: &[u8], revision: u64, names: &mut Vec<Name>) -> Judgement {
        if text.len() > LONGEST {
            tracing::debug!(field = %self.header, "a token is longer than 8 KiB and proves nobody");
            return Judgement::default();
        }
        let (key, now) = (sha256(&[text]), Instant::now());
        if let Some(known) = self.verified.get(&key, revision, now) {
            names.extend(known.iter().cloned());
            return Judgement::default();
        }
        let (token, left) = match Unverified::read(text).and_then(|token| {
            let left = token.time_left(SystemTime::now())?;
            Ok((token, left))
        }) {
            Ok(read) => read,
            Err(reason) => {
                tracing::debug!(field = %self.header, reason, "a token proves nobody");
                return Judgement::default();
            }
        };
        let judgement = self.judge(&token);
        if judgement.proven.is_empty() {
            tracing::debug!(field = %self.header, reason = judgement.reason, "a token proves nobody");
        } else if judgement.renewals.is_empty() {
            self.verified.insert(key, &judgement.proven, revision, (now, left));
        }
        names.extend(judgement.proven.iter().cloned());
        judgement
    }

    fn judge(&self, token: &Unverified<'_>) -> Judgement {
        let mut judgement = Judgement { reason: "it is of another issuer", ..Judgement::default() };
        for authority in self.authorities.iter().filter(|authority| authority.issuer == token.issuer()) {
            authority.judge(token, &mut judgement);
        }
        judgement
    }
}

impl Authority {
    fn judge(&self, token: &Unverified<'_>, judgement: &mut Judgement) {
        if !self.algorithms.contains(&token.algorithm()) {
            judgement.reason = "its algorithm is not allowed";
            return;
        }
        let for_us = |rule: &&Rule| token.is_for(&rule.audience);
        if !self.rules.iter().any(|rule| for_us(&rule)) {
            judgement.reason = "it is for another audience";
            return;
        }
        let holds = |rule: &&Rule| rule.claims.iter().all(|claim| claim.holds(token.claims()));
        let fitting: Vec<&Rule> = self.rules.iter().filter(|rule| for_us(rule) && holds(rule)).collect();
        if fitting.is_empty() {
            judgement.reason = "its claims are those of no caller";
            return;
        }
        let audience: Vec<&String> = fitting.iter().flat_map(|rule| &rule.audience).collect();
        // Before the keys are looked at: what arrives in between is then worth another look.
        let seen = self.supply.fetches();
        let callers = fitting.iter().map(|rule| rule.caller.clone());
        match self.supply.keys().verify(token, &self.issuer, &audience) {
            Ok(()) => judgement.proven.extend(callers),
            Err(Unproven::Refused(reason)) => judgement.reason = reason,
            Err(Unproven::UnknownKey) => {
                judgement.reason = "its key is not among the issuer's";
                if let Some(renewal) = self.supply.renewal(seen) {
                    judgement.candidates.extend(callers);
                    judgement.renewals.push(renewal);
                }
            }
        }
    }
}

impl ClaimRule {
    /// Whether the claim is what it must be.
    #[must_use]
    pub fn holds(&self, claims: &Value) -> bool {
        match claims.pointer(&self.pointer) {
            None => false,
            Some(Value::Array(elements)) => elements.iter().any(|element| self.is_one(element)),
            Some(claim) => self.is_one(claim),
        }
    }

    fn is_one(&self, claim: &Value) -> bool {
        self.any_of.iter().any(|wanted| match (wanted, claim) {
            (ClaimValue::Text(text), Value::String(claim)) => text == claim,
            (ClaimValue::Text(text), Value::Bool(claim)) => text == if *claim { "true" } else { "false" },
            (ClaimValue::Text(text), Value::Number(claim)) => *text == claim.to_string(),
            (ClaimValue::SpiffeBelow(pattern), Value::String(claim)) => pattern.fits(claim),
            (ClaimValue::Text(_) | ClaimValue::SpiffeBelow(_), _) => false,
        })
    }
}

impl ClaimValue {
    /// Reads a value; a SPIFFE id that ends in `/*` stands for all below it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match UriPattern::parse(text) {
            Ok(pattern @ UriPattern::SpiffeBelow(_)) => Self::SpiffeBelow(pattern),
            Ok(UriPattern::Exact(_)) | Err(_) => Self::Text(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
