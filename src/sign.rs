//! Signatures: keys from PEM or JWK, JSON Web Signatures in compact form (RFC 7515, RFC 7518, RFC 8037), and the bare
//! digests, HMACs and signatures that formulas use. The cryptographic library's types stay in this room. What is signed
//! is the caller's concern, and so is checking what others signed.

mod algorithm;
mod compact;
mod hash;
mod jwk;
mod key;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use self::tests::samples::{ED25519_JWK, P256_JWK, RSA_JWK};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::memmem;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value};

pub use self::algorithm::{Algorithm, HmacAlgorithm};
pub use self::compact::sign_with_secret;
pub use self::hash::{HashAlgorithm, digest, hmac};
use self::key::Key;
use crate::secret::Secret;

/// Why something cannot be signed. Names what is wrong, never what is in a key.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key is not what it should be; one clause.
    #[error("the signing key {0}")]
    Key(&'static str),
    /// The certificate is not what it should be; one clause.
    #[error("the certificate {0}")]
    Certificate(&'static str),
    /// A formula of a claim cannot be evaluated.
    #[error("a claim cannot be evaluated: {0}")]
    Claim(String),
    /// The library refused, or the random source failed.
    #[error("signing failed")]
    Refused,
}

/// A private key that signs with one algorithm.
pub struct Signer {
    key: Key,
    algorithm: Algorithm,
    key_id: Option<String>,
    /// `x5t#S256`
    certificate: Option<String>,
    fingerprint: [u8; 32],
}

/// Two are equal when they sign alike.
impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Signer {
    /// Reads a private key, PEM (PKCS #8, PKCS #1, SEC 1) or JWK. `algorithm`: none: the JWK's own, otherwise what fits
    /// the key (RS256, ES256, ES384, ES512, EdDSA). `key_id`: none: the JWK's own. `certificate`: PEM; the first one in
    /// it gives `x5t#S256`. Checking an RSA key takes milliseconds.
    ///
    /// # Errors
    /// [`SignError`] when key or certificate cannot be read, or when key, algorithm and certificate do not fit
    /// together.
    pub fn load(
        key: &Secret,
        algorithm: Option<Algorithm>,
        key_id: Option<String>,
        certificate: Option<&[u8]>,
    ) -> Result<Self, SignError> {
        let found = key::read(key.expose())?;
        let algorithm = algorithm.or(found.algorithm).unwrap_or_else(|| found.key.kind().usual_algorithm());
        if found.key.kind() != algorithm.key_kind() {
            return Err(SignError::Key(algorithm.key_kind().demand()));
        }
        let certificate = certificate.map(|pem| certificate_thumbprint(pem, &found.key)).transpose()?;
        Ok(Self::new(found.key, algorithm, key_id.or(found.key_id), certificate))
    }

    /// A fresh key for ES256.
    ///
    /// # Errors
    /// [`SignError::Refused`]
    pub fn generate_es256() -> Result<Self, SignError> {
        Ok(Self::new(Key::generate_p256()?, Algorithm::Es256, None, None))
    }

    fn new(key: Key, algorithm: Algorithm, key_id: Option<String>, certificate: Option<String>) -> Self {
        let mut fingerprint = Context::new(&SHA256);
        // The public key stands for the private one, so that no digest of a secret is kept. Lengths go first, so that
        // no two different sequences run together to the same bytes.
        let absent_or = |text: &Option<String>| text.as_ref().map_or_else(String::new, |text| format!("={text}"));
        for bytes in [
            key.public_bytes(),
            algorithm.name().as_bytes(),
            absent_or(&key_id).as_bytes(),
            absent_or(&certificate).as_bytes(),
        ] {
            fingerprint.update(&bytes.len().to_be_bytes());
            fingerprint.update(bytes);
        }
        let fingerprint = sized(fingerprint.finish().as_ref());
        Self { key, algorithm, key_id, certificate, fingerprint }
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `kid`
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The public key as JWK: the members of RFC 7638 3.2 and no others.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        jwk::public(&self.key)
    }

    /// The JWK thumbprint of the public key (RFC 7638): SHA-256, base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        jwk::thumbprint(&self.public_jwk())
    }

    /// SHA-256 over public key, algorithm, key id and certificate: tells a rotated key from the old one.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// A JWS in compact form. `header` gets `alg`, and `kid` and `x5t#S256` where they are known, unless it has them; a
    /// member that is null is left out. Its own `alg` is ignored: a signature that names another algorithm is useless.
    ///
    /// # Errors
    /// [`SignError::Refused`]
    pub fn sign(&self, header: Map<String, Value>, claims: &Map<String, Value>) -> Result<Secret, SignError> {
        let header = compact::Header {
            algorithm: self.algorithm.name(),
            usual: [("kid", self.key_id.as_deref()), ("x5t#S256", self.certificate.as_deref())],
            members: header,
        };
        compact::sign(&header, claims, |input| self.signature(input))
    }

    /// The bare signature over `message`, for formulas. An ECDSA signature is the two numbers side by side (RFC 7518
    /// 3.4), not DER.
    ///
    /// # Errors
    /// [`SignError::Refused`]
    pub fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key.sign(self.algorithm, message)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A fresh identifier that nobody guesses, such as `jti`: 128 random bits in base64url.
///
/// # Errors
/// [`SignError::Refused`] when the random source fails.
pub fn random_id() -> Result<String, SignError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SignError::Refused)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A SHA-256 as an array.
fn sized(digest: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    bytes
}

/// `x5t#S256` (RFC 7515 4.1.8) of the first certificate.
fn certificate_thumbprint(pem: &[u8], key: &Key) -> Result<String, SignError> {
    // The parser's errors quote the line they stumbled over, so they end here.
    let certificate =
        CertificateDer::from_pem_slice(pem).map_err(|_| SignError::Certificate("file holds no certificate in PEM"))?;
    // A certificate holds the numbers of its public key as they are. Looking for them is no proof of anything, but
    // finds the usual mistake, the certificate of yesterday's key, before a server answers with a bare invalid_client.
    if memmem::find(&certificate, key.certified_bytes()).is_none() {
        return Err(SignError::Certificate("is not that of the signing key"));
    }
    Ok(URL_SAFE_NO_PAD.encode(digest(HashAlgorithm::Sha256, &certificate)))
}
