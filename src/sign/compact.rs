//! The compact form of a JWS (RFC 7515 7.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{HmacAlgorithm, SignError, hmac};
use crate::secret::Secret;

/// A JOSE header. `alg` comes first, where people look for it.
pub(super) struct Header<'a> {
    pub(super) algorithm: &'a str,
    /// There unless `members` has one of the same name.
    pub(super) usual: [(&'a str, Option<&'a str>); 2],
    /// Those that are null are left out.
    pub(super) members: Map<String, Value>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("alg", self.algorithm)?;
        for (name, value) in self.usual {
            if let Some(value) = value.filter(|_| !self.members.contains_key(name)) {
                object.serialize_entry(name, value)?;
            }
        }
        for (name, value) in self.members.iter().filter(|(name, value)| *name != "alg" && !value.is_null()) {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

/// A JWS whose signature over its first two parts `signature` gives.
pub(super) fn sign(
    header: &Header<'_>,
    claims: &Map<String, Value>,
    signature: impl FnOnce(&[u8]) -> Result<Vec<u8>, SignError>,
) -> Result<Secret, SignError> {
    // Members and claims can hold secrets.
    let header = Zeroizing::new(serde_json::to_vec(header).map_err(|_| SignError::Refused)?);
    let claims = Zeroizing::new(serde_json::to_vec(claims).map_err(|_| SignError::Refused)?);
    let mut text = URL_SAFE_NO_PAD.encode(&*header);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(&*claims, &mut text);
    let signature = signature(text.as_bytes())?;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Ok(Secret::new(text))
}

/// A JWS in compact form with an HMAC. `header` as for [`super::Signer::sign`], without `kid`.
///
/// RFC 7518 3.2 wants a secret at least as long as the hash. The secret is the server's choice, though, and servers
/// that issue shorter ones accept them, so refusing would help nobody.
///
/// # Errors
/// [`SignError::Refused`]
pub fn sign_with_secret(
    algorithm: HmacAlgorithm,
    secret: &Secret,
    header: Map<String, Value>,
    claims: &Map<String, Value>,
) -> Result<Secret, SignError> {
    let header = Header { algorithm: algorithm.name(), usual: [("kid", None), ("x5t#S256", None)], members: header };
    sign(&header, claims, |input| Ok(hmac(algorithm.hash(), secret.expose().as_bytes(), input)))
}
