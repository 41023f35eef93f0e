//! Interim answers (RFC 9110 15.2) of the attempt at hand: `100 Continue` is for us, the others are for the caller.

use http::{HeaderMap, StatusCode, Version};

use super::attempt::Attempts;
use super::sent::Sent;
use crate::header;
use crate::server::{Connection, Protocol};

/// Whether a caller that speaks so can be sent interim answers: HTTP/1.0 knows none (RFC 9110 15.2), and over HTTP/2
/// hyper sends none.
pub(super) fn are_for(connection: &Connection, version: Version) -> bool {
    connection.protocol == Protocol::Http1 && version == Version::HTTP_11
}

/// What becomes of those of one request.
pub(super) struct Following<'a> {
    attempts: &'a Attempts<'a>,
    sent: &'a Sent<'a>,
}

impl<'a> Following<'a> {
    /// None of those that are passed on repeats what was `sent`.
    pub(super) fn new(attempts: &'a Attempts<'a>, sent: &'a Sent<'a>) -> Self {
        Self { attempts, sent }
    }

    /// Deals with one.
    pub(super) fn pass_on(&self, status: StatusCode, mut headers: HeaderMap) {
        if status == StatusCode::CONTINUE {
            self.attempts.body.release();
        } else if self.attempts.prepared.passes_interims {
            header::strip_response_hop_by_hop(&mut headers);
            self.sent.scrub(&mut headers);
            header::append_via(&mut headers, Version::HTTP_11, self.attempts.pseudonym);
            self.attempts.connection.interim(status, &headers);
        }
    }
}
