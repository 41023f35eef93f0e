//! A private key of any kind, read from PEM (PKCS #8, PKCS #1, SEC 1), and its signatures. JWKs are read by `jwk`.

use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::algorithm::{Algorithm, Curve, KeyKind};
use super::{SignError, jwk};

/// A private key. The library wipes its memory when it is dropped.
pub(super) enum Key {
    Rsa(rsa::KeyPair),
    Ec(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A key, and what is said of it where it was found.
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) key_id: Option<String>,
    pub(super) algorithm: Option<Algorithm>,
}

/// Reads PEM or a JWK, with white space around it.
pub(super) fn read(text: &str) -> Result<Found, SignError> {
    let text = text.trim();
    if text.starts_with('{') {
        return jwk::read(text);
    }
    Ok(Found { key: Key::from_pem(text)?, key_id: None, algorithm: None })
}

impl Key {
    pub(super) fn generate_p256() -> Result<Self, SignError> {
        let pair = EcdsaKeyPair::generate(Curve::P256.signing()).map_err(|_| SignError::Refused)?;
        Ok(Self::Ec(Curve::P256, pair))
    }

    fn from_pem(text: &str) -> Result<Self, SignError> {
        if text.contains("ENCRYPTED") {
            return Err(SignError::Key("is protected by a passphrase; store it without one"));
        }
        let unfolded = unfold(text);
        let text = unfolded.as_ref().map_or(text, |text| text.as_str());
        // The parser's errors quote the line they stumbled over, so they end here.
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| SignError::Key(no_pem_key(text)))?;
        let der = Zeroizing::new(der);
        match &*der {
            PrivateKeyDer::Pkcs1(der) => Self::from_pkcs1(der.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(der) => Self::from_sec1(der.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(der) => Self::from_pkcs8(der.secret_pkcs8_der()),
            _ => Err(SignError::Key(UNKNOWN)),
        }
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, SignError> {
        rsa::KeyPair::from_der(der).map(Self::Rsa).map_err(|error| SignError::Key(rsa_clause(error)))
    }

    fn from_sec1(der: &[u8]) -> Result<Self, SignError> {
        let on = |curve: Curve| Some(Self::Ec(curve, EcdsaKeyPair::from_private_key_der(curve.signing(), der).ok()?));
        Curve::ALL.into_iter().find_map(on).ok_or(SignError::Key("is damaged, or on none of P-256, P-384 and P-521"))
    }

    /// PKCS #8 says inside what it holds; the library reads it only when told what to expect.
    fn from_pkcs8(der: &[u8]) -> Result<Self, SignError> {
        match rsa::KeyPair::from_pkcs8(der) {
            Ok(pair) => return Ok(Self::Rsa(pair)),
            Err(error) if is_too_small(error) => return Err(SignError::Key(TOO_SMALL)),
            Err(_) => {}
        }
        let on = |curve: Curve| Some(Self::Ec(curve, EcdsaKeyPair::from_pkcs8(curve.signing(), der).ok()?));
        if let Some(key) = Curve::ALL.into_iter().find_map(on) {
            return Ok(key);
        }
        Ed25519KeyPair::from_pkcs8(der).map(Self::Ed25519).map_err(|_| SignError::Key(UNKNOWN))
    }

    pub(super) fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa(_) => KeyKind::Rsa,
            Self::Ec(curve, _) => KeyKind::Ec(*curve),
            Self::Ed25519(_) => KeyKind::Ed25519,
        }
    }

    /// The public key in the library's own form: `RSAPublicKey` (RFC 8017 A.1.1), the uncompressed point, or the bytes
    /// of RFC 8032.
    pub(super) fn public_bytes(&self) -> &[u8] {
        match self {
            Self::Rsa(pair) => pair.public_key().as_ref(),
            Self::Ec(_, pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// What a certificate of this key contains byte for byte. Of a point that is x only, because y may be compressed.
    pub(super) fn certified_bytes(&self) -> &[u8] {
        match self {
            Self::Rsa(_) | Self::Ed25519(_) => self.public_bytes(),
            Self::Ec(curve, pair) => coordinates(*curve, pair).0,
        }
    }

    /// The signature in the form of RFC 7518 3 and RFC 8037 3.1.
    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let encoding = rsa_encoding(algorithm).ok_or(SignError::Refused)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).map(|()| signature)
            }
            Self::Ec(_, pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Self::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
        };
        signature.map_err(|_| SignError::Refused)
    }
}

impl Curve {
    /// The curve with the hash that RFC 7518 3.4 ties to it.
    pub(super) fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }
}

/// x and y, each as long as the field (RFC 7518 6.2.1.2).
pub(super) fn coordinates(curve: Curve, pair: &EcdsaKeyPair) -> (&[u8], &[u8]) {
    // SEC 1 2.3.3: the byte 4, then x, then y.
    let point = pair.public_key().as_ref();
    point.get(1..).and_then(|point| point.split_at_checked(curve.size())).unwrap_or_default()
}

fn rsa_encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_SHA512),
        Algorithm::Ps256 => Some(&RSA_PSS_SHA256),
        Algorithm::Ps384 => Some(&RSA_PSS_SHA384),
        Algorithm::Ps512 => Some(&RSA_PSS_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => None,
    }
}

const UNKNOWN: &str = "is damaged, or none of RSA, EC on P-256, P-384 or P-521, and Ed25519";
const TOO_SMALL: &str = "is an RSA key of less than 2048 bits, which RFC 7518 forbids";

/// What to say of an RSA key that the library rejects.
pub(super) fn rsa_clause(error: KeyRejected) -> &'static str {
    if is_too_small(error) { TOO_SMALL } else { "is a damaged RSA key, or one of more than 8192 bits" }
}

/// The library's error tells its reason by its text alone.
fn is_too_small(error: KeyRejected) -> bool {
    error.to_string() == "TooSmall"
}

/// Line ends written as `\n`: what becomes of PEM that was copied out of JSON into an environment variable. PEM has no
/// backslashes of its own.
fn unfold(text: &str) -> Option<Zeroizing<String>> {
    if !text.contains("\\n") {
        return None;
    }
    // Room for all, because a text that grows leaves copies behind.
    let mut unfolded = Zeroizing::new(String::with_capacity(text.len()));
    for line in text.split("\\n") {
        unfolded.push_str(line);
        unfolded.push('\n');
    }
    Some(unfolded)
}

/// What to say of a text in which there is no private key.
fn no_pem_key(text: &str) -> &'static str {
    if !text.contains("-----BEGIN ") {
        "is neither PEM nor a JWK"
    } else if text.contains("PRIVATE KEY-----") {
        if text.contains(" OPENSSH PRIVATE KEY-----") {
            "is in the format of OpenSSH; convert it to PKCS #8"
        } else {
            "is damaged PEM"
        }
    } else if text.contains("PUBLIC KEY-----") {
        "is a public key; the private one is needed"
    } else {
        "is PEM without a private key"
    }
}
