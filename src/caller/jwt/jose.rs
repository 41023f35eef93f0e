//! Reading and verifying JWTs and key sets (RFC 7515, 7517, 7518, 7519, 8725). The library's types stay in this file.
//!
//! A token says which key and algorithm it was made with; which count is decided elsewhere. What else its header may
//! hold (`jwk`, `jku`, `x5c`) is not looked at.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::sign::Algorithm;

/// The algorithms that callers' tokens may be signed with: asymmetric ones only, or whoever knows the public key could
/// sign with it.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

/// How far the issuer's clock may be from ours, in seconds.
const LEEWAY: u64 = 30;

/// Keys of one issuer that are kept. A token without `kid` is tried with all of them, so there must not be many.
const MOST_KEYS: usize = 32;

/// A token that is well-formed, and whose signature nobody has looked at yet.
pub(super) struct Unverified<'t> {
    text: &'t [u8],
    algorithm: Algorithm,
    key_id: Option<String>,
    issuer: String,
    claims: Value,
}

/// Why a token's signature proves nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    /// No key of the set is the token's; another set may have it.
    UnknownKey,
    /// It is not good, and no other set will make it so.
    Refused(&'static str),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'t> Unverified<'t> {
    /// Takes a JWS in compact form apart.
    ///
    /// # Errors
    /// A clause about the token.
    pub(super) fn read(text: &'t [u8]) -> Result<Self, &'static str> {
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("it is not a JWT");
        };
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| "it is not a JWT")?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| "its header is not that of a JWT")?;
        if header.crit.is_some() {
            // RFC 7515 4.1.11: we understand none of the extensions that may be listed here.
            return Err("its header has critical extensions");
        }
        if header.typ.as_deref().is_some_and(|typ| !is_usual(typ)) {
            return Err("its `typ` is that of another kind of token");
        }
        let algorithm = Algorithm::parse(&header.alg).filter(|algorithm| ALGORITHMS.contains(algorithm));
        let algorithm = algorithm.ok_or("its algorithm is not allowed")?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| "its claims are not base64url")?;
        let claims: Value = serde_json::from_slice(&claims).map_err(|_| "its claims are not JSON")?;
        let issuer = claims.get("iss").and_then(Value::as_str).ok_or("it names no issuer")?.to_owned();
        Ok(Self { text, algorithm, key_id: header.kid, issuer, claims })
    }

    /// How long until it expires; zero within the leeway. The time since 1970 has to be right for that.
    ///
    /// # Errors
    /// A clause about the token, when it has expired or is not yet good.
    pub(super) fn time_left(&self, now: SystemTime) -> Result<Duration, &'static str> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let leeway = Duration::from_secs(LEEWAY);
        let time = |claim: &str| self.claims.get(claim).map(|time| time.as_f64().unwrap_or(f64::NAN));
        let expires = time("exp").ok_or("it has no `exp`")?;
        // Not a number and negative ones included.
        let expires =
            Duration::try_from_secs_f64(expires.clamp(f64::MIN, 1e15)).map_err(|_| "its `exp` is not a time")?;
        if expires + leeway <= now {
            return Err("it has expired");
        }
        if let Some(begins) = time("nbf") {
            let begins = Duration::try_from_secs_f64(begins).map_err(|_| "its `nbf` is not a time")?;
            if begins > now + leeway {
                return Err("it is not good yet");
            }
        }
        Ok(expires.saturating_sub(now))
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn claims(&self) -> &Value {
        &self.claims
    }

    /// Whether `aud`, one text or a list, holds one of these.
    pub(super) fn is_for(&self, audience: &[String]) -> bool {
        let is_ours = |value: &Value| value.as_str().is_some_and(|text| audience.iter().any(|ours| ours == text));
        match self.claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        }
    }
}

/// RFC 8725 3.11: a logout token or a proof is signed by the same issuers, and is no proof of who calls. `JWT` and
/// `JOSE` are those of SPIFFE, `at+jwt` that of RFC 9068.
fn is_usual(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt" | "jose")
}

/// Public keys of one issuer.
#[derive(Default)]
pub(super) struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// How many keys of a key set could verify a token.
///
/// # Errors
/// As for a key set that is fetched.
pub fn count_keys(document: &[u8]) -> Result<usize, &'static str> {
    KeySet::parse(document).map(|keys| keys.len())
}

impl KeySet {
    /// Reads a JWK set. Keys of other kinds and uses are left out (RFC 7517 5).
    ///
    /// # Errors
    /// A clause about the document.
    pub(super) fn parse(document: &[u8]) -> Result<Self, &'static str> {
        // The parser's errors quote values, so they end here.
        let mut document: Value = serde_json::from_slice(document).map_err(|_| "is not JSON")?;
        let Some(Value::Array(keys)) = document.get_mut("keys").map(Value::take) else {
            return Err("is not a JWK set");
        };
        let keys: Vec<Key> = keys.into_iter().filter_map(Key::read).take(MOST_KEYS).collect();
        if keys.is_empty() { Err("holds no key that can verify a token") } else { Ok(Self(keys)) }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Verifies the signature with every key that fits, and the registered claims.
    pub(super) fn verify(&self, token: &Unverified<'_>, issuer: &str, audience: &[&String]) -> Result<(), Unproven> {
        let algorithm = library(token.algorithm).ok_or(Unproven::Refused("its algorithm is not allowed"))?;
        // The library wants all algorithms of one validation to be of the key's family.
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(audience);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let mut named = false;
        for key in self.0.iter().filter(|key| key.fits(token)) {
            named |= key.id.is_some() && key.id == token.key_id;
            match jsonwebtoken::decode::<IgnoredAny>(token.text, &key.key, &validation) {
                Ok(_) => return Ok(()),
                Err(error) => {
                    if let Some(reason) = claim_fault(error.kind()) {
                        return Err(Unproven::Refused(reason));
                    }
                }
            }
        }
        Err(if named { Unproven::Refused("its signature is not good") } else { Unproven::UnknownKey })
    }
}

/// What is wrong with the claims of a token whose signature is good.
fn claim_fault(kind: &ErrorKind) -> Option<&'static str> {
    let is_claim = matches!(
        kind,
        ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_)
            | ErrorKind::ExpiredSignature
            | ErrorKind::ImmatureSignature
            | ErrorKind::InvalidIssuer
            | ErrorKind::InvalidAudience
            | ErrorKind::Json(_)
    );
    is_claim.then_some("a registered claim is missing or wrong")
}

impl Key {
    fn read(jwk: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let common = &jwk.common;
        let is_for_signatures = match &common.public_key_use {
            None | Some(PublicKeyUse::Signature) => true,
            // Keys of a SPIFFE bundle say which kind of document they sign.
            Some(PublicKeyUse::Other(other)) => other == "jwt-svid",
            Some(PublicKeyUse::Encryption) => false,
        };
        let may_verify =
            common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !is_for_signatures || !may_verify {
            return None;
        }
        let mut algorithms = algorithms(&jwk.algorithm).to_vec();
        if let Some(only) = &common.key_algorithm {
            let only = only.to_string();
            algorithms.retain(|algorithm| algorithm.name() == only);
        }
        if algorithms.is_empty() {
            return None;
        }
        Some(Self { id: common.key_id.clone(), algorithms, key: DecodingKey::from_jwk(&jwk).ok()? })
    }

    /// A key of another id is another key; one without an id may be any.
    fn fits(&self, token: &Unverified<'_>) -> bool {
        let same_id = match (&self.id, &token.key_id) {
            (Some(id), Some(wanted)) => id == wanted,
            (None, _) | (_, None) => true,
        };
        same_id && self.algorithms.contains(&token.algorithm)
    }
}

/// What a key may be used with, by its kind. Symmetric keys: nothing.
fn algorithms(parameters: &AlgorithmParameters) -> &'static [Algorithm] {
    if let AlgorithmParameters::RSA(_) = parameters {
        return &[
            Algorithm::Rs256,
            Algorithm::Rs384,
            Algorithm::Rs512,
            Algorithm::Ps256,
            Algorithm::Ps384,
            Algorithm::Ps512,
        ];
    }
    if let AlgorithmParameters::EllipticCurve(parameters) = parameters {
        if parameters.curve == EllipticCurve::P256 {
            return &[Algorithm::Es256];
        }
        if parameters.curve == EllipticCurve::P384 {
            return &[Algorithm::Es384];
        }
    }
    if let AlgorithmParameters::OctetKeyPair(parameters) = parameters
        && parameters.curve == EllipticCurve::Ed25519
    {
        return &[Algorithm::EdDsa];
    }
    &[]
}

fn library(algorithm: Algorithm) -> Option<jsonwebtoken::Algorithm> {
    Some(match algorithm {
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::Es512 => return None,
    })
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}
