//! Which client sent a form: RFC 6749 2.3.1, in either form, never in both.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Client;
use crate::demo::form;

/// Why a request has no client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// `invalid_client`: unknown, wrong secret, or no authentication.
    InvalidClient,
    /// `invalid_request`: more than one mechanism, or two ids that differ.
    InvalidRequest,
}

/// The client that sent these fields and this form.
pub(super) fn client<'a>(
    clients: &'a [Client],
    headers: &HeaderMap,
    form: &[(String, String)],
) -> Result<&'a Client, Refused> {
    let parameter = |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let (body_id, body_secret) = (parameter("client_id"), parameter("client_secret"));
    if headers.get_all(AUTHORIZATION).iter().count() > 1 {
        return Err(Refused::InvalidRequest);
    }
    let (id, secret) = match headers.get(AUTHORIZATION) {
        Some(_) if body_secret.is_some() => return Err(Refused::InvalidRequest),
        Some(value) => {
            let (id, secret) = basic(value.as_bytes()).ok_or(Refused::InvalidClient)?;
            if body_id.is_some_and(|other| other != id) {
                return Err(Refused::InvalidRequest);
            }
            (id, secret)
        }
        None => (body_id.unwrap_or_default().to_owned(), body_secret.ok_or(Refused::InvalidClient)?.to_owned()),
    };
    let client = clients.iter().find(|client| client.id == id).ok_or(Refused::InvalidClient)?;
    verify_slices_are_equal(client.secret.expose().as_bytes(), secret.as_bytes())
        .map_err(|_| Refused::InvalidClient)?;
    Ok(client)
}

/// Id and secret of `Basic` credentials, each form-encoded before it was joined: a secret may hold a colon.
fn basic(value: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let joined = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = joined.split_once(':')?;
    Some((form::decode(id)?, form::decode(secret)?))
}
