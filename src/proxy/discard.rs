//! A rejected answer that nobody will see: its connection is worth more than its body.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame};
use tokio::time::Instant;

use super::attempt::Answered;
use super::replay::Progress;

/// How much of a rejected answer is read so that its connection can be used again, and for how long.
const DISCARD_BYTES: u64 = 16 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(250);

/// Reads a rejected answer to its end, within bounds, so that its connection can serve the replay; otherwise closes it.
pub(super) async fn discard(rejected: Answered) {
    let Answered { answer, body, .. } = rejected;
    let Some(mut lease) = answer.into_body().into_rest() else { return };
    if lease.size_hint().lower() > DISCARD_BYTES || !matches!(body.progress(), Progress::Ended(_)) {
        return;
    }
    let drained = async {
        let mut read = 0;
        while let Some(frame) = lease.frame().await {
            read += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
            if frame.is_err() || read > DISCARD_BYTES {
                return false;
            }
        }
        true
    };
    if tokio::time::timeout(DISCARD_TIME, drained).await == Ok(true) {
        lease.give_back(Instant::now());
    }
}
