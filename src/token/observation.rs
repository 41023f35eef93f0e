//! What was seen of a mint, for the commands that explain one: every request and answer, secrets and tokens masked.

mod mask;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use parking_lot::Mutex;

use self::mask::{Body, Mask};
use super::dpop::Dpop;
use super::failure::{MintError, told};
use super::minted::Minted;
use super::settings::RequestSettings;
use crate::fetch::FetchError;
use crate::secret::Secret;

/// Longest text of a body that is kept. More is of no use to somebody who reads it.
const LONGEST: usize = 4 * 1024;

/// A mint as it went.
#[derive(Debug)]
pub struct Observed {
    /// Every exchange with the token endpoint, in order.
    pub sightings: Vec<Sighting>,
    /// What came of it.
    pub outcome: Result<Minted, MintError>,
    /// The key that the token is bound to, where it is bound to one (RFC 9449).
    pub dpop: Option<Arc<Dpop>>,
}

/// One request, and what came back.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What was sent.
    pub sent: Sent,
    /// What came back, or the causes of there being nothing, outermost first.
    pub received: Result<Received, String>,
}

/// A request, masked.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its method.
    pub method: String,
    /// Its URL, query values that are secret masked.
    pub url: String,
    /// Its fields in order, secret values masked.
    pub headers: Vec<(String, String)>,
    /// Its body, secret values masked, assertions decoded; the parameters of a form a line each.
    pub body: String,
}

/// An answer, masked.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its status code.
    pub status: u16,
    /// Its fields in order.
    pub headers: Vec<(String, String)>,
    /// The beginning of its body, tokens and all that repeats a secret masked.
    pub body: String,
}

/// Collects the sightings of one mint. Nothing is kept that was not masked first.
pub(super) struct Recorder {
    /// JSON pointer to the token in an answer.
    token: String,
    /// The query of the configured URL: it is no secret, or it would not be there.
    query: String,
    sightings: Mutex<Vec<Sighting>>,
}

impl Recorder {
    pub(super) fn new(settings: Option<&RequestSettings>) -> Self {
        let url = settings.and_then(|settings| settings.endpoint.url.as_ref());
        Self {
            token: settings.map(|settings| settings.response.token.clone()).unwrap_or_default(),
            query: url.and_then(http::Uri::query).unwrap_or_default().to_owned(),
            sightings: Mutex::default(),
        }
    }

    /// Keeps one exchange. `secrets`: what must not be seen, in every form.
    pub(super) fn note(
        &self,
        sent: &Request<Bytes>,
        received: &Result<Response<Bytes>, FetchError>,
        secrets: &[Secret],
    ) {
        let mask = Mask::new(secrets);
        let sighting = Sighting {
            sent: self.sent(sent, &mask),
            received: received.as_ref().map(|answer| self.received(answer, &mask)).map_err(|error| told(error)),
        };
        self.sightings.lock().push(sighting);
    }

    pub(super) fn sightings(self) -> Vec<Sighting> {
        self.sightings.into_inner()
    }

    fn sent(&self, request: &Request<Bytes>, mask: &Mask) -> Sent {
        Sent {
            method: request.method().to_string(),
            url: mask.url(request.uri(), &self.query),
            headers: fields(request.headers(), |name, value| mask.sent_field(name, value)),
            body: bounded(mask.sent_body(Body::of(request.headers(), request.body()))),
        }
    }

    fn received(&self, answer: &Response<Bytes>, mask: &Mask) -> Received {
        let (body, mask) = mask.received_body(answer.headers(), answer.body(), &self.token);
        Received {
            status: answer.status().as_u16(),
            headers: fields(answer.headers(), |name, value| mask.received_field(name, value)),
            body: bounded(body),
        }
    }
}

fn fields(headers: &HeaderMap, shown: impl Fn(&str, &str) -> String) -> Vec<(String, String)> {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), shown(name.as_str(), &String::from_utf8_lossy(value.as_bytes())))
    };
    headers.iter().map(field).collect()
}

/// The beginning of a text that is masked already: a secret that was cut in two would not be found.
fn bounded(mut text: String) -> String {
    if text.len() > LONGEST {
        let cut = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(cut);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
