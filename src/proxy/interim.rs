//! Interim answers (RFC 9110 15.2) of the attempt at hand: `100 Continue` is for us, the others are for the caller.

use std::task::Waker;

use http::{Request, StatusCode, Version};

use super::attempt::Attempts;
use super::sent::Sent;
use crate::header;
use crate::server::{Connection, Protocol};
use crate::upstream::Interims;

/// Whether a caller that speaks so can be sent interim answers: HTTP/1.0 knows none (RFC 9110 15.2), and over HTTP/2
/// hyper sends none.
pub(super) fn are_for(connection: &Connection, version: Version) -> bool {
    connection.protocol == Protocol::Http1 && version == Version::HTTP_11
}

/// Where those of one request come in. Those of an earlier one have nobody left who reads them.
pub(super) struct Following<'a> {
    interims: Option<Interims>,
    attempts: &'a Attempts<'a>,
    sent: &'a Sent<'a>,
}

impl<'a> Following<'a> {
    /// Follows `request`'s, where someone is interested in them; none repeats what was `sent`.
    pub(super) fn new<B>(request: &mut Request<B>, attempts: &'a Attempts<'a>, sent: &'a Sent<'a>) -> Self {
        let is_for_us = attempts.prepared.expects && attempts.body.is_held_back();
        let interims = (is_for_us || attempts.prepared.passes_interims).then(Interims::new);
        if let Some(interims) = &interims {
            interims.follow(request);
        }
        Self { interims, attempts, sent }
    }

    /// Deals with all that have come; `waker` is told when there are more.
    pub(super) fn pass_on(&self, waker: Option<&Waker>) {
        let Some(interims) = &self.interims else { return };
        while let Some((status, mut headers)) = interims.next(waker) {
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
}
