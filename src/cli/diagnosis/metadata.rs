//! Why an issuer's metadata cannot be had or used, RFC 8414 3 and OpenID Connect Discovery 4.

use super::{Diagnosis, Finding};
use crate::token::{MintError, RequestSettings, Settings};

/// Why the token endpoint could not be discovered, although the issuer's host answers.
#[must_use]
pub fn metadata(settings: &Settings, request: &RequestSettings, error: &MintError) -> Diagnosis {
    let issuer = request.endpoint.issuer.as_deref().unwrap_or_default();
    let table = format!("[external_credentials.{}]", settings.name);
    let cause = error.cause();
    let found = if cause.contains("name another issuer") || cause.contains("name no issuer") {
        Finding {
            meaning: "The metadata are those of another issuer, so they are not used: the identifier has to be the \
                      same to the letter, scheme, path and trailing slash included."
                .to_owned(),
            change: format!("Write issuer in {table} exactly as the metadata have it."),
        }
    } else if cause.contains("status 404") || cause.contains("not JSON") || cause.contains("status 4") {
        Finding {
            meaning: "This host answers, and there are no metadata below this issuer: tenant, realm or authorization \
                      server may be missing from it, or the provider publishes none."
                .to_owned(),
            change: format!(
                "Correct issuer in {table}; or write token_endpoint = \"…\" there, and nothing has to be discovered."
            ),
        }
    } else {
        Finding {
            meaning: "Without the issuer's metadata the token endpoint is not known.".to_owned(),
            change: format!("Correct issuer in {table}, or write token_endpoint = \"…\" beside it."),
        }
    };
    let base = issuer.trim_end_matches('/');
    Diagnosis {
        sent: format!("Sent: GET for the metadata of {base} (RFC 8414, and its /.well-known/openid-configuration)."),
        received: format!("Received: {error}."),
        meaning: found.meaning,
        change: found.change,
    }
}
