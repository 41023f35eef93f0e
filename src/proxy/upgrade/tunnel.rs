//! What begins where an answer agreed to another protocol: the sockets of both sides, freed of HTTP.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::super::carry::{Carriage, Until};
use super::super::record::OpenRecord;
use super::super::replay::AttemptBody;
use crate::upstream::Lease;

/// Opens a tunnel between the caller's side and the upstream's as soon as the caller has switched too, in a task of its
/// own: it begins where the exchange's answer ends.
pub(super) fn open(caller: OnUpgrade, upstream: Option<Lease<AttemptBody>>, mut open: OpenRecord, until: Until) {
    open.body = None;
    let mut carriage = Carriage::new(open);
    tokio::spawn(async move {
        match (caller.await, upstream.and_then(Lease::into_switched)) {
            (Ok(caller), Some(upstream)) => carriage.carry(TokioIo::new(caller), upstream, until).await,
            (Err(_), _) => carriage.ended(Some("caller_gone")),
            (Ok(_), None) => carriage.ended(Some("connection_terminated")),
        }
    });
}
