//! The body of `/metrics`: written on a blocking thread, in pieces that wait for the scraper to read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::body::{AnswerBody, BodyError};
use crate::metrics::Metrics;

/// A piece is handed on when it is longer than this.
const PIECE: usize = 16 * 1024;
/// Pieces on their way.
const AHEAD: usize = 2;
/// A scraper that takes no piece for this long gets no more.
const PATIENCE: Duration = Duration::from_secs(10);
/// Scrapes at a time. Each keeps a thread of those on which files are read and keys sign.
const SCRAPES: usize = 8;

/// Places for those who read metrics; further ones wait.
#[derive(Clone, Debug)]
pub struct Scrapes(pub(super) Arc<Semaphore>);

impl Default for Scrapes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SCRAPES)))
    }
}

/// The text of `metrics`, made as it is read; `scrape` is given back at its end. Needs a runtime.
pub(super) fn body(metrics: Metrics, scrape: OwnedSemaphorePermit) -> AnswerBody {
    let (pieces, read) = mpsc::channel(AHEAD);
    let mut writer = Writer { piece: String::with_capacity(PIECE + 1024), pieces, runtime: Handle::current() };
    tokio::task::spawn_blocking(move || {
        if metrics.write(&mut writer).is_ok() && writer.hand_on(Piece::Text).is_ok() {
            let _ = writer.hand_on(Piece::End);
        }
        drop(scrape);
    });
    let frames = stream::unfold(Some(read), |read| async {
        let mut read = read?;
        match read.recv().await {
            Some(Some(piece)) => Some((Ok(Frame::data(piece)), Some(read))),
            Some(None) => None,
            // The writer gave up: what was sent must not look like all there is.
            None => Some((Err(BodyError::TotalTimeout), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

enum Piece {
    Text,
    End,
}

struct Writer {
    piece: String,
    /// None is the end.
    pieces: mpsc::Sender<Option<Bytes>>,
    runtime: Handle,
}

impl Writer {
    fn hand_on(&mut self, piece: Piece) -> fmt::Result {
        let piece = match piece {
            Piece::Text => Some(Bytes::from(std::mem::replace(&mut self.piece, String::with_capacity(PIECE + 1024)))),
            Piece::End => None,
        };
        let sending = async { tokio::time::timeout(PATIENCE, self.pieces.send(piece)).await };
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.piece.push_str(text);
        if self.piece.len() < PIECE { Ok(()) } else { self.hand_on(Piece::Text) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::{PATIENCE, Scrapes, body};
    use crate::metrics::{Metrics, UpstreamMetrics};

    /// Metrics of more than a few pieces, and what keeps them there.
    fn many() -> (Metrics, Vec<UpstreamMetrics>) {
        let metrics = Metrics::new();
        let handles = (0..500).map(|number| metrics.upstream(&format!("host{number}.example"))).collect();
        (metrics, handles)
    }

    #[tokio::test]
    async fn metrics_come_in_pieces_that_are_the_whole_text_and_give_their_place_back() {
        let ((metrics, _handles), scrapes) = (many(), Scrapes::default());
        let places = scrapes.0.available_permits();
        let scrape = Arc::clone(&scrapes.0).acquire_owned().await.unwrap();
        let mut body = body(metrics.clone(), scrape);
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.push(frame.unwrap().into_data().unwrap());
        }
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() < 17 * 1024), "{}", pieces.len());
        assert_eq!(String::from_utf8(pieces.concat()).unwrap(), metrics.encode());
        drop(scrapes.0.acquire_many(u32::try_from(places).unwrap()).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_scraper_that_stops_reading_gives_its_place_back_and_sees_that_something_is_missing() {
        let ((metrics, _handles), scrapes) = (many(), Scrapes::default());
        let all = scrapes.0.available_permits();
        let mut body = body(metrics, Arc::clone(&scrapes.0).acquire_owned().await.unwrap());
        // The writer is on a thread of its own, for which the clock does not move by itself.
        while scrapes.0.available_permits() < all {
            tokio::time::advance(PATIENCE).await;
            tokio::task::yield_now().await;
        }
        let last = loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                last => break last,
            }
        };
        assert!(last.unwrap().is_err());
    }
}
