//! JSON Web Keys (RFC 7517, RFC 7518 6, RFC 8037 2): private ones read, public ones written, and their thumbprints
//! (RFC 7638).

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::algorithm::{Algorithm, Curve};
use super::key::{Found, Key, coordinates, rsa_clause};
use super::{HashAlgorithm, SignError, digest};

/// A JWK as written. The numbers are borrowed: no copy of a private one is made before it is decoded. Base64url needs
/// no escapes, so one with escapes is refused.
#[derive(Deserialize)]
struct Jwk<'a> {
    kty: Option<String>,
    crv: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    #[serde(borrow)]
    d: Option<&'a str>,
    #[serde(borrow)]
    n: Option<&'a str>,
    #[serde(borrow)]
    e: Option<&'a str>,
    #[serde(borrow)]
    p: Option<&'a str>,
    #[serde(borrow)]
    q: Option<&'a str>,
    #[serde(borrow)]
    dp: Option<&'a str>,
    #[serde(borrow)]
    dq: Option<&'a str>,
    #[serde(borrow)]
    qi: Option<&'a str>,
    #[serde(borrow)]
    x: Option<&'a str>,
    #[serde(borrow)]
    y: Option<&'a str>,
    /// Of an RSA key with more than two prime factors.
    oth: Option<IgnoredAny>,
    /// Of a set of JWKs.
    keys: Option<IgnoredAny>,
}

/// Reads a private key.
pub(super) fn read(text: &str) -> Result<Found, SignError> {
    // The parser's errors quote values, so they end here.
    let jwk: Jwk<'_> = serde_json::from_str(text).map_err(|_| SignError::Key("is not a well-formed JWK"))?;
    if jwk.kty.is_none() && jwk.keys.is_some() {
        return Err(SignError::Key("is a set of JWKs; take one key out of it"));
    }
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return Err(SignError::Key("is a JWK whose `use` is not signing"));
    }
    let key = match jwk.kty.as_deref() {
        Some("RSA") => jwk.rsa()?,
        Some("EC") => jwk.ec()?,
        Some("OKP") => jwk.ed25519()?,
        Some("oct") => return Err(SignError::Key("is a symmetric JWK; a private key is needed")),
        Some(_) => return Err(SignError::Key("is a JWK whose `kty` is none of RSA, EC and OKP")),
        None => return Err(SignError::Key("is JSON without `kty`, so no JWK")),
    };
    let algorithm = match &jwk.alg {
        None => None,
        Some(name) => Some(Algorithm::parse(name).ok_or(SignError::Key("is a JWK for an algorithm not known here"))?),
    };
    Ok(Found { key, key_id: jwk.kid, algorithm })
}

impl Jwk<'_> {
    fn private(&self) -> Result<Zeroizing<Vec<u8>>, SignError> {
        number(self.d, "is a public JWK, without `d`; the private one is needed")
    }

    fn rsa(&self) -> Result<Key, SignError> {
        const INCOMPLETE: &str = "is an RSA JWK that lacks one of n, e, p, q, dp, dq and qi";
        if self.oth.is_some() {
            return Err(SignError::Key("is an RSA key with more than two prime factors"));
        }
        let components = rsa::KeyPairComponents {
            d: self.private()?,
            public_key: rsa::PublicKeyComponents {
                n: without_leading_zeros(number(self.n, INCOMPLETE)?),
                e: without_leading_zeros(number(self.e, INCOMPLETE)?),
            },
            p: number(self.p, INCOMPLETE)?,
            q: number(self.q, INCOMPLETE)?,
            dP: number(self.dp, INCOMPLETE)?,
            dQ: number(self.dq, INCOMPLETE)?,
            qInv: number(self.qi, INCOMPLETE)?,
        };
        let pair = rsa::KeyPair::from_components(&components);
        pair.map(Key::Rsa).map_err(|error| SignError::Key(rsa_clause(error)))
    }

    fn ec(&self) -> Result<Key, SignError> {
        const INCOMPLETE: &str = "is an EC JWK without `x` or `y`";
        let curve = Curve::ALL.into_iter().find(|curve| Some(curve.name()) == self.crv.as_deref());
        let curve = curve.ok_or(SignError::Key("is an EC JWK whose `crv` is none of P-256, P-384 and P-521"))?;
        let private = padded(&self.private()?, curve)?;
        let (x, y) = (padded(&number(self.x, INCOMPLETE)?, curve)?, padded(&number(self.y, INCOMPLETE)?, curve)?);
        let point = [&[4], x.as_slice(), &y].concat();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &private, &point);
        pair.map(|pair| Key::Ec(curve, pair)).map_err(|_| SignError::Key("is an EC JWK whose numbers do not agree"))
    }

    fn ed25519(&self) -> Result<Key, SignError> {
        if self.crv.as_deref() != Some("Ed25519") {
            return Err(SignError::Key("is an OKP JWK whose `crv` is not Ed25519"));
        }
        let (seed, public) = (self.private()?, number(self.x, "is an Ed25519 JWK without `x`")?);
        if seed.len() != 32 {
            return Err(SignError::Key("is an Ed25519 JWK whose `d` is not 32 bytes long"));
        }
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public);
        pair.map(Key::Ed25519).map_err(|_| SignError::Key("is an Ed25519 JWK whose `x` does not belong to its `d`"))
    }
}

/// Decodes base64url, which some write with padding.
fn number(text: Option<&str>, missing: &'static str) -> Result<Zeroizing<Vec<u8>>, SignError> {
    let text = text.ok_or(SignError::Key(missing))?.trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SignError::Key("is a JWK with a number not in base64url"))?;
    Ok(Zeroizing::new(bytes))
}

/// RFC 7518 6.3.1.1 allows none, but warns of writers that put one in front; the library refuses them.
fn without_leading_zeros(bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Zeroizing::new(bytes.get(zeros..).unwrap_or_default().to_vec())
}

/// RFC 7518 6.2.1.2 and 6.2.2.1 want full length; some writers drop leading zeros, which is one key in 256.
fn padded(bytes: &[u8], curve: Curve) -> Result<Zeroizing<Vec<u8>>, SignError> {
    let zeros = curve.size().checked_sub(bytes.len());
    let zeros = zeros.ok_or(SignError::Key("is an EC JWK with a number too long for its curve"))?;
    let mut full = Zeroizing::new(vec![0; curve.size()]);
    full.iter_mut().skip(zeros).zip(bytes).for_each(|(to, from)| *to = *from);
    Ok(full)
}

/// The members that RFC 7638 3.2 and RFC 8037 2 demand, in lexicographic order.
pub(super) fn public(key: &Key) -> Value {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match key {
        Key::Rsa(pair) => {
            let public = pair.public_key();
            let (n, e) = (public.modulus(), public.exponent());
            json!({
                "e": text(e.big_endian_without_leading_zero()),
                "kty": "RSA",
                "n": text(n.big_endian_without_leading_zero()),
            })
        }
        Key::Ec(curve, pair) => {
            let (x, y) = coordinates(*curve, pair);
            json!({ "crv": curve.name(), "kty": "EC", "x": text(x), "y": text(y) })
        }
        Key::Ed25519(pair) => json!({ "crv": "Ed25519", "kty": "OKP", "x": text(pair.public_key().as_ref()) }),
    }
}

/// The thumbprint (RFC 7638 3) of what [`public`] gives: its members are the required ones, in their order.
pub(super) fn thumbprint(public: &Value) -> String {
    URL_SAFE_NO_PAD.encode(digest(HashAlgorithm::Sha256, public.to_string().as_bytes()))
}
