//! What begins where an answer agreed to another protocol: the sockets of both sides, freed of HTTP.

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::super::carry::{Carriage, Until};
use super::super::record::OpenRecord;
use super::super::replay::AttemptBody;
use crate::upstream::Lease;

/// Opens a tunnel as soon as both sides have switched, in a task of its own: it begins where the exchange's answer ends.
pub(super) fn open(
    (caller, upstream): (OnUpgrade, OnUpgrade),
    lease: Lease<AttemptBody>,
    mut open: OpenRecord,
    until: Until,
) {
    open.body = None;
    let mut carriage = Carriage::new(open);
    tokio::spawn(async move {
        let (caller, upstream) = tokio::join!(caller, upstream);
        // Switched, the connection belongs to the tunnel, and the lease to nobody.
        drop(lease);
        match (caller, upstream) {
            (Ok(caller), Ok(upstream)) => {
                let far = (TokioIo::new(upstream), Bytes::new());
                carriage.carry(TokioIo::new(caller), far, until).await;
            }
            (Err(_), _) => carriage.ended(Some("caller_gone")),
            (Ok(_), Err(_)) => carriage.ended(Some("connection_terminated")),
        }
    });
}
