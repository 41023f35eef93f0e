use std::time::Duration;

use bytes::Bytes;
use hyper::rt::Executor as _;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::{PIECE, Reading, Streams};
use crate::server::LeastPace;

const LEAST: LeastPace = LeastPace { over: Duration::from_secs(60), rate: 64 };
const HOUR: Duration = Duration::from_secs(3600);

/// How long hyper's task for a stream goes on.
async fn lasts(stream: impl Future<Output = ()> + Send + 'static) -> Duration {
    let streams = Streams { tasks: TaskTracker::new(), least: LEAST };
    let began = Instant::now();
    streams.execute(stream);
    streams.tasks.close();
    streams.tasks.wait().await;
    began.elapsed()
}

/// What hyper does with a body of such pieces, each of which waits for the caller so long.
async fn sends(bytes: usize, pause: Duration) {
    let reading = Reading::current();
    let end = Instant::now() + HOUR;
    while Instant::now() < end {
        reading.ask();
        let mut data = Bytes::from(vec![0; bytes]);
        reading.hand(&mut data);
        sleep(pause).await;
    }
}

/// B56: what waits for the caller may not crawl, however well it uses its time between pauses.
#[tokio::test(start_paused = true)]
async fn pieces_that_are_read_too_slowly_end_their_stream() {
    // Ten bytes are taken at the end of each pause: judged when these come to a minute.
    assert_eq!(lasts(sends(10, Duration::from_secs(20))).await, Duration::from_secs(60));
    assert_eq!(lasts(sends(100, Duration::from_secs(1))).await, HOUR, "a hundred bytes a second are enough");
    assert_eq!(lasts(sends(640, Duration::from_secs(10))).await, HOUR, "and so are 64");
    assert_eq!(lasts(sends(639, Duration::from_secs(10))).await, Duration::from_secs(60));
    assert!(lasts(sends(PIECE, Duration::from_secs(59))).await >= HOUR);
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_is_not_read_ends_its_stream() {
    assert_eq!(lasts(sends(1 << 20, HOUR)).await, LEAST.over);
}

/// A caller on an event stream, where there is nothing to read, is not judged.
#[tokio::test(start_paused = true)]
async fn time_in_which_there_is_nothing_to_read_does_not_count() {
    let quiet = async {
        let reading = Reading::current();
        for _ in 0..100 {
            reading.ask();
            sleep(HOUR).await;
            reading.hand(&mut Bytes::from_static(b"data: 1\n\n"));
        }
    };
    assert_eq!(lasts(quiet).await, 100 * HOUR);
}

/// Within a piece it cannot be told how far the caller has read, so none is long.
#[test]
fn long_pieces_are_cut() {
    let (reading, whole) = (Reading::default(), Bytes::from(vec![7; 3 * PIECE + 5]));
    let (mut data, mut handed) = (whole.clone(), Vec::new());
    while !data.is_empty() {
        let piece = reading.hand(&mut data);
        assert!(piece.len() <= PIECE);
        handed.extend_from_slice(&piece);
    }
    assert!(handed == whole && reading.is_waiting());
    reading.ask();
    assert!(!reading.is_waiting());
}
