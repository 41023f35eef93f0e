//! DPoP (RFC 9449): a key of ours, proofs of possession, and the nonces that servers ask for, kept per origin.
//!
//! Which requests carry a proof, and which answers mean that a request is sent again with a nonce, is decided
//! elsewhere.

mod nonces;

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value};

use self::nonces::Nonces;
use super::assertion::unix_time;
use crate::sign::{HashAlgorithm, SignError, Signer, digest, random_id};

/// The key that the tokens of one cell are bound to.
#[derive(Debug)]
pub struct Dpop {
    signer: Signer,
    /// `jwk`, the same in every proof.
    public: Value,
    nonces: Nonces,
}

impl Dpop {
    /// A fresh key pair (ES256).
    ///
    /// # Errors
    /// [`SignError`] when the random source fails.
    pub fn generate() -> Result<Self, SignError> {
        let signer = Signer::generate_es256()?;
        Ok(Self { public: signer.public_jwk(), signer, nonces: Nonces::default() })
    }

    /// A fresh proof for one request (4.2); `origin` is scheme and authority as in `https://api.example.com`, `path`
    /// the path without query; `token` is there for a protected resource (`ath`). Carries the newest nonce of `origin`.
    ///
    /// # Errors
    /// [`SignError`]
    pub fn proof(
        &self,
        method: &Method,
        origin: &str,
        path: &str,
        token: Option<&str>,
    ) -> Result<HeaderValue, SignError> {
        let origin = normalized(origin);
        let mut claims = Map::new();
        claims.insert("jti".to_owned(), random_id()?.into());
        claims.insert("htm".to_owned(), method.as_str().into());
        claims.insert("htu".to_owned(), target(&origin, path).into());
        // Not set back as in an assertion: a server takes proofs of the last seconds only (11.1), from `iat` on.
        claims.insert("iat".to_owned(), unix_time().into());
        if let Some(token) = token {
            let hash = digest(HashAlgorithm::Sha256, token.as_bytes());
            claims.insert("ath".to_owned(), URL_SAFE_NO_PAD.encode(hash).into());
        }
        if let Some(nonce) = self.nonces.newest(&origin) {
            claims.insert("nonce".to_owned(), (*nonce).into());
        }
        let mut header = Map::new();
        header.insert("typ".to_owned(), "dpop+jwt".into());
        header.insert("jwk".to_owned(), self.public.clone());
        let proof = self.signer.sign(header, &claims)?;
        let mut value = HeaderValue::from_str(proof.expose()).map_err(|_| SignError::Refused)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Keeps the `DPoP-Nonce` of an answer from `origin` (8.2), whatever its status. Whether it differs from the one
    /// kept before.
    pub fn note(&self, origin: &str, headers: &HeaderMap) -> bool {
        nonces::offered(headers).is_some_and(|nonce| self.nonces.keep(&normalized(origin), nonce))
    }

    /// The JWK thumbprint of the key (6.1): `jkt` of the tokens that are bound to it.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.signer.thumbprint()
    }
}

/// Scheme and host in lower case, the default port left out (RFC 3986 6.2.2.1 and 6.2.3, to which 4.3 refers).
fn normalized(origin: &str) -> String {
    let mut origin = origin.to_ascii_lowercase();
    let default_port = if origin.starts_with("https:") { ":443" } else { ":80" };
    let kept = origin.strip_suffix(default_port).or(origin.strip_suffix(':')).unwrap_or(&origin).len();
    origin.truncate(kept);
    origin
}

/// `htu`: the target without query and fragment.
fn target(origin: &str, path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    // An empty path is sent as `/` (RFC 9112 3.2.1).
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{origin}{slash}{path}")
}
