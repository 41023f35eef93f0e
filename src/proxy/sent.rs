//! What a request carried of ours that its answer must not tell the caller: an upstream may repeat it in the fields of
//! an answer, of an interim answer, or in trailers.
//!
//! Mostly that is the token alone, and then nothing here allocates. Not here: how a value is masked (`header::scrub`).

use http::{HeaderMap, HeaderValue};

use crate::header;

/// What one request carried.
pub(super) struct Sent<'a> {
    /// The value with the token; none where none was attached.
    pub(super) token: Option<&'a HeaderValue>,
    /// The values of configured fields that are secrets, or made from some.
    pub(super) secrets: &'a [HeaderValue],
    /// The proof that the token is ours (RFC 9449).
    pub(super) proof: Option<HeaderValue>,
}

/// The same, kept for trailers.
pub(super) struct Kept {
    token: Option<HeaderValue>,
    others: Vec<HeaderValue>,
}

impl Sent<'_> {
    /// Masks what `headers` repeat of it.
    pub(super) fn scrub(&self, headers: &mut HeaderMap) {
        if let Some(token) = self.token {
            header::scrub(headers, token);
        }
        if !self.secrets.is_empty() || self.proof.is_some() {
            self.secrets.iter().chain(&self.proof).for_each(|secret| header::scrub_words(headers, secret));
        }
    }

    /// For what comes later; none where nothing was carried.
    pub(super) fn keep(self) -> Option<Box<Kept>> {
        if self.token.is_none() && self.secrets.is_empty() && self.proof.is_none() {
            return None;
        }
        let others = self.secrets.iter().cloned().chain(self.proof).collect();
        Some(Box::new(Kept { token: self.token.cloned(), others }))
    }
}

impl Kept {
    /// Masks what `trailers` repeat of it.
    pub(super) fn scrub(&self, trailers: &mut HeaderMap) {
        if let Some(token) = &self.token {
            header::scrub(trailers, token);
        }
        self.others.iter().for_each(|secret| header::scrub_words(trailers, secret));
    }
}
