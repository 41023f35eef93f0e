//! JWTs that we sign ourselves: assertions for a grant or for client authentication (RFC 7521, RFC 7523, RFC 10070),
//! and the tokens of the flow `signed_jwt`.
//!
//! `source` gets an assertion without keeping the control runtime waiting. Where it goes in a token request is decided
//! elsewhere.

mod source;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::formula::{Activation, Formula};
use crate::secret::Secret;
use crate::sign::{HmacAlgorithm, SignError, Signer, random_id, sign_with_secret};

/// How far `iat` goes back, so that a server whose clock is behind does not see a JWT from the future.
const CLOCK_SKEW: Duration = Duration::from_secs(10);

/// Where an assertion comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum AssertionSource {
    /// We sign it.
    Signed(Box<Assertion>),
    /// Somebody writes it to this file, which is read anew for every mint (workload identity).
    File(PathBuf),
}

/// What we sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// With what.
    pub key: AssertionKey,
    /// `iss`; none: the client id.
    pub issuer: Option<String>,
    /// `sub`; none: the client id.
    pub subject: Option<String>,
    /// `aud`; none: the issuer identifier of the server where it is known (RFC 10070), otherwise the token endpoint.
    pub audience: Vec<String>,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
    /// Further claims; they replace those above.
    pub claims: Vec<(String, Claim)>,
    /// Further members of the JOSE header; they replace the usual ones.
    pub header: Vec<(String, Claim)>,
}

/// With what an assertion is signed.
#[derive(Clone, Debug, PartialEq)]
pub enum AssertionKey {
    /// A private key.
    Signer(Arc<Signer>),
    /// The principal's client secret.
    ClientSecret(HmacAlgorithm),
}

/// The value of a claim. One that is null leaves the claim out.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// As written.
    Json(Value),
    /// `{ env = "…" }` and the like.
    Secret(Secret),
    /// `{ formula = "…" }` over principal and named secrets, evaluated for every mint.
    Formula(Arc<Formula>),
}

/// What an assertion is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Client authentication: `typ` is `client-authentication+jwt` (RFC 10070).
    ClientAuthentication,
    /// A grant (RFC 7523 2.1).
    Grant,
    /// A bearer token.
    Bearer,
}

/// Who and what an assertion is about.
pub(super) struct About<'a> {
    pub(super) client_id: &'a str,
    pub(super) client_secret: Option<&'a Secret>,
    /// The audience where none is configured.
    pub(super) audience: &'a str,
    /// For the formulas.
    pub(super) activation: Activation<'a>,
}

/// An assertion that lacks only its signature. It owns what it needs, so that another thread can sign it.
struct Unsigned {
    key: Key,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

enum Key {
    Signer(Arc<Signer>),
    ClientSecret(HmacAlgorithm, Secret),
}

impl Assertion {
    /// A fresh JWT in compact form, with a `jti` of its own. An RSA signature takes about a millisecond: on a runtime
    /// [`Assertion::obtain`] is the way.
    ///
    /// # Errors
    /// [`SignError`]
    pub(super) fn sign(&self, purpose: Purpose, about: &About<'_>) -> Result<Secret, SignError> {
        self.unsigned(purpose, about)?.sign()
    }

    /// Servers bound the time from `iat` to `exp`, so what `iat` goes back is part of the lifetime: never more than a
    /// quarter, so that a short one is still good when it arrives. A token that is used for all its life begins now.
    fn set_back(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::ClientAuthentication | Purpose::Grant => CLOCK_SKEW.min(self.lifetime / 4),
            Purpose::Bearer => Duration::ZERO,
        }
    }

    fn unsigned(&self, purpose: Purpose, about: &About<'_>) -> Result<Unsigned, SignError> {
        let key = match &self.key {
            AssertionKey::Signer(signer) => Key::Signer(Arc::clone(signer)),
            AssertionKey::ClientSecret(algorithm) => {
                let secret = about.client_secret.ok_or(SignError::Key("is the client secret, and there is none"))?;
                Key::ClientSecret(*algorithm, secret.clone())
            }
        };
        Ok(Unsigned { key, header: self.header(purpose, about)?, claims: self.claims(purpose, about)? })
    }

    fn header(&self, purpose: Purpose, about: &About<'_>) -> Result<Map<String, Value>, SignError> {
        let typ = match purpose {
            Purpose::ClientAuthentication => "client-authentication+jwt",
            Purpose::Grant | Purpose::Bearer => "JWT",
        };
        let mut header = Map::new();
        header.insert("typ".to_owned(), typ.into());
        for (name, member) in &self.header {
            // A null stays: it also keeps the signer from adding its own `kid`.
            header.insert(name.clone(), member.value(name, about)?);
        }
        Ok(header)
    }

    fn claims(&self, purpose: Purpose, about: &About<'_>) -> Result<Map<String, Value>, SignError> {
        let issued_at = unix_time().saturating_sub(self.set_back(purpose).as_secs());
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), self.issuer.as_deref().unwrap_or(about.client_id).into());
        claims.insert("sub".to_owned(), self.subject.as_deref().unwrap_or(about.client_id).into());
        claims.insert("aud".to_owned(), self.audience(about));
        // Without a client id or an endpoint there is nothing to say here.
        claims.retain(|_, value| value.as_str() != Some(""));
        claims.insert("iat".to_owned(), issued_at.into());
        claims.insert("exp".to_owned(), issued_at.saturating_add(self.lifetime.as_secs()).into());
        claims.insert("jti".to_owned(), random_id()?.into());
        for (name, claim) in &self.claims {
            claims.insert(name.clone(), claim.value(name, about)?);
        }
        claims.retain(|_, value| !value.is_null());
        Ok(claims)
    }

    /// One audience is a string: RFC 10070 and FAPI refuse an array.
    fn audience(&self, about: &About<'_>) -> Value {
        match self.audience.as_slice() {
            [] => about.audience.into(),
            [one] => one.as_str().into(),
            several => several.into(),
        }
    }
}

impl Unsigned {
    fn sign(self) -> Result<Secret, SignError> {
        match self.key {
            Key::Signer(signer) => signer.sign(self.header, &self.claims),
            Key::ClientSecret(algorithm, secret) => sign_with_secret(algorithm, &secret, self.header, &self.claims),
        }
    }
}

impl Claim {
    fn value(&self, name: &str, about: &About<'_>) -> Result<Value, SignError> {
        match self {
            Self::Json(value) => Ok(value.clone()),
            Self::Secret(secret) => Ok(secret.expose().into()),
            Self::Formula(formula) => {
                formula.json(&about.activation).map_err(|error| SignError::Claim(format!("`{name}`: {error}")))
            }
        }
    }
}

/// NumericDate (RFC 7519 2).
pub(super) fn unix_time() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}
