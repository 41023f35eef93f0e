//! A tunnel that a caller asked for (`CONNECT`, RFC 9110 9.3.6): bytes both ways, unread, until one side has nothing
//! more to say and the other has said the rest. No credential is ever in one.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::carry::{Carriage, Until};
use super::record::OpenRecord;
use super::settings::Timeouts;
use super::stop::{self, Stop};
use crate::answer::{Failure, REQUEST_ID};
use crate::body::{self, AnswerBody};
use crate::connect::Stream;
use crate::server::Connection;
use crate::upstream::{CheckoutError, Endpoint};

/// Longest pause of a tunnel of which one side has said that it will say no more: what is left is an answer that is on
/// its way, and nobody thinks longer about one than an upstream may (`timeouts.first_byte`). Many programs close a
/// half and forget the other.
const HALF_CLOSED: Duration = Duration::from_secs(60);

/// Open at its far end, waiting for the caller to be told.
pub(super) struct Tunnel {
    far: Stream,
    /// What the far end said before the caller could hear it.
    early: Bytes,
    near: OnUpgrade,
}

impl Tunnel {
    /// Opens the far end. `near` becomes the caller's connection once it was answered.
    pub(super) async fn open(endpoint: &Endpoint, near: Option<OnUpgrade>) -> Result<Self, Stop> {
        let near = near.ok_or_else(|| Stop::new(Failure::Internal))?;
        let far = endpoint.tunnel(Timeouts::default().connect).await;
        let (far, early) = far.map_err(|error| stop::checkout(&CheckoutError::from(error)))?;
        Ok(Self { far, early, near })
    }

    /// The answer after which the caller's connection is the tunnel, for as long as no pause in it is longer than
    /// `idle`. Its record closes with it.
    pub(super) fn answer(self, mut open: OpenRecord, idle: Duration, connection: &Connection) -> Response<AnswerBody> {
        let mut answer = Response::new(body::empty());
        open.record.status = answer.status().as_u16();
        answer.headers_mut().insert(REQUEST_ID, open.record.id.field());
        let until = Until {
            idle: Some(idle),
            half_closed: Some(idle.min(HALF_CLOSED)),
            end: None,
            distrust: connection.distrust.clone(),
        };
        // It ends with its sockets, of which the worker waits for the caller's.
        tokio::spawn(self.carry(Carriage::new(open), until));
        answer
    }

    async fn carry(self, mut carriage: Carriage, until: Until) {
        match self.near.await {
            Ok(near) => carriage.carry(TokioIo::new(near), (self.far, self.early), until).await,
            Err(_) => carriage.ended(Some("caller_gone")),
        }
    }
}
