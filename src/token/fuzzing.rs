//! What must hold for any answer of a token endpoint, for the fuzz target of that name.
#![allow(clippy::panic, reason = "a property that does not hold stops here, and says where")]

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::{ResponseRules, answer};
use crate::secret::Secret;

/// An answer is a usable token, or an error that repeats no secret. The first byte chooses status and content type.
pub fn token_answer(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let mut response = Response::new(Bytes::copy_from_slice(body));
    *response.status_mut() = match choice % 6 {
        0 => http::StatusCode::OK,
        1 => http::StatusCode::BAD_REQUEST,
        2 => http::StatusCode::UNAUTHORIZED,
        3 => http::StatusCode::TOO_MANY_REQUESTS,
        4 => http::StatusCode::FOUND,
        _ => http::StatusCode::INTERNAL_SERVER_ERROR,
    };
    let types = ["application/json", "application/x-www-form-urlencoded", "text/html", "application/jwt"];
    if let Some(kind) = types.get(usize::from(choice / 6) % 5) {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    let secret = "canary-5ecret";
    match answer::judge(&response, &ResponseRules::default(), &[Secret::new(secret.to_owned())]) {
        Ok(answer) => {
            let token = answer.access_token.expose();
            assert!(!token.is_empty() && HeaderValue::from_str(token).is_ok(), "a token that cannot be sent");
        }
        Err(error) => assert!(!error.to_string().contains(secret), "an error repeats a secret"),
    }
}
