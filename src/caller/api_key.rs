//! API keys, known by their SHA-256 alone and compared in constant time.
//!
//! In `Authorization` a key comes as a bearer token (RFC 6750 2.1), as the password of Basic (RFC 7617), as its user name
//! where the password is empty, or as it is; in any other field as it is.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderName;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::after_scheme;
use crate::name::Name;

/// Some callers leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys that one field may carry.
#[derive(Clone, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    sha256: [u8; 32],
    caller: Name,
}

impl Keys {
    pub(super) fn add(&mut self, sha256: [u8; 32], caller: Name) {
        self.0.push(Key { sha256, caller });
    }

    /// Adds every caller whose key stands in `value`, the only value of `header`.
    pub(super) fn prove(&self, header: &HeaderName, value: &[u8], names: &mut Vec<Name>) {
        let basic = if *header == AUTHORIZATION { after_scheme(value, "basic") } else { None };
        if let Some(encoded) = basic {
            let Ok(login) = BASE64.decode(encoded).map(Zeroizing::new) else {
                tracing::debug!("the Basic credentials of the request are not base64");
                return;
            };
            if let Some(key) = key_of(&login) {
                self.prove_key(key, names);
            }
            return;
        }
        let bearer = if *header == AUTHORIZATION { after_scheme(value, "bearer") } else { None };
        self.prove_key(bearer.unwrap_or(value), names);
    }

    fn prove_key(&self, key: &[u8], names: &mut Vec<Name>) {
        if key.is_empty() {
            return;
        }
        let presented = digest(&SHA256, key);
        // Every key is compared, and each in constant time: how long it takes tells nothing about any of them.
        for key in &self.0 {
            if bool::from(key.sha256.as_slice().ct_eq(presented.as_ref())) {
                names.push(key.caller.clone());
            }
        }
    }
}

/// The password of `user:password`, or the user name where the password is empty or missing, as many APIs have it.
fn key_of(login: &[u8]) -> Option<&[u8]> {
    let Some(colon) = login.iter().position(|byte| *byte == b':') else { return Some(login) };
    let (user, password) = (login.get(..colon)?, login.get(colon + 1..)?);
    Some(if password.is_empty() { user } else { password })
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|key| &key.caller)).finish()
    }
}
