//! Reads a JWT without verifying it: for people who look at a token that is meant for others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Header and claims of a token that is a JWT in compact form (RFC 7519 3.1), as they are written.
pub(in crate::cli) struct Jwt {
    pub(in crate::cli) header: Value,
    pub(in crate::cli) claims: Value,
}

impl Jwt {
    /// `None` for whatever is not three base64url parts of which the first two are JSON objects.
    pub(in crate::cli) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let object = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice(&bytes).ok().filter(Value::is_object)
        };
        Some(Self { header: object(header)?, claims: object(claims)? })
    }
}
