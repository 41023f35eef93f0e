use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::super::State;
use super::Watched;
use crate::metrics::Floods;
use crate::server::Limits;
use crate::server::opening::PREFACE;

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn watched() -> (DuplexStream, Watched<DuplexStream>, Arc<State>) {
    let (caller, io) = tokio::io::duplex(256 * 1024);
    let state = Arc::new(State::default());
    let watched = Watched::new(io, Arc::clone(&state), Limits::default(), Floods::default());
    (caller, watched, state)
}

/// Reads to the end; how long that took.
async fn ended(mut watched: Watched<DuplexStream>) -> (Duration, std::io::Result<usize>) {
    let began = Instant::now();
    let ended = watched.read_to_end(&mut Vec::new()).await;
    (began.elapsed(), ended)
}

#[tokio::test(start_paused = true)]
async fn each_wait_has_its_own_deadline() {
    let limits = Limits::default();
    let headers = b"\0\0\x01\x01\x01\0\0\0\x01\x82";
    let data = b"\0\0\x05\0\0\0\0\0\x01he";
    for (what, bytes, limit) in [
        ("the first SETTINGS", PREFACE.to_vec(), limits.header_timeout),
        ("a header block", [PREFACE, SETTINGS, headers].concat(), limits.header_timeout),
        ("the rest of a frame", [PREFACE, SETTINGS, &PING[..12]].concat(), limits.header_timeout),
        ("the rest of DATA", [PREFACE, SETTINGS, data].concat(), limits.body_timeout),
    ] {
        let (mut caller, watched, _state) = watched();
        caller.write_all(&bytes).await.unwrap();
        let (took, ended) = ended(watched).await;
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::TimedOut, "{what}");
        assert!(took >= limit && took < limit + Duration::from_millis(10), "{what}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drip_does_not_move_the_deadline_of_a_frame() {
    let (mut caller, watched, _state) = watched();
    caller.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let drip = async {
        for byte in PING {
            if caller.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        (took, ended) = ended(watched) => {
            assert!(ended.is_err() && took < Duration::from_secs(14), "{took:?}");
        }
        () = drip => {}
    }
}

#[tokio::test(start_paused = true)]
async fn pings_do_not_keep_an_idle_connection() {
    let (mut caller, watched, state) = watched();
    caller.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let pings = async {
        loop {
            caller.write_all(PING).await.unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    };
    let began = Instant::now();
    tokio::select! {
        () = state.idle.notified() => {}
        () = pings => {}
        _ = ended(watched) => {}
    }
    assert_eq!(began.elapsed().as_secs(), Limits::default().idle_timeout.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_served_is_not_idle() {
    let (mut caller, watched, state) = watched();
    caller.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    state.serving.store(1, Ordering::Relaxed);
    tokio::select! {
        () = state.idle.notified() => panic!("told to go"),
        _ = ended(watched) => panic!("ended"),
        () = tokio::time::sleep(Duration::from_secs(3600)) => {}
    }
}

/// B56: GOAWAY with ENHANCE_YOUR_CALM between two frames, and the end soon after.
#[tokio::test(start_paused = true)]
async fn a_flood_is_told_and_ended() {
    let (mut caller, watched, _state) = watched();
    let flood = [PREFACE, SETTINGS, &PING.repeat(200)].concat();
    caller.write_all(&flood).await.unwrap();
    let (took, ended) = ended(watched).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let mut told = Vec::new();
    caller.read_to_end(&mut told).await.unwrap();
    assert_eq!(told, b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_reads_nothing_is_given_up() {
    let (_caller, mut watched, _state) = watched();
    let began = Instant::now();
    let error = watched.write_all(&vec![0; 1024 * 1024]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(began.elapsed().as_secs(), Limits::default().body_timeout.as_secs());
}

#[tokio::test]
async fn a_burst_leaves_others_their_turn() {
    let (mut caller, mut watched, _state) = watched();
    // DATA that carries something is not bounded in number. All of it is there at once: nothing else could wait.
    let data = [&[0, 0, 64, 0, 0, 0, 0, 0, 1][..], &[7; 64]].concat();
    let sent = [PREFACE, SETTINGS, &data.repeat(2500)].concat();
    caller.write_all(&sent).await.unwrap();
    let mut turns = 0;
    let reading = async {
        let mut all = vec![0; sent.len()];
        for piece in all.chunks_mut(8 * 1024) {
            watched.read_exact(piece).await.unwrap();
        }
        assert!(all == sent);
    };
    let others = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = reading => {}
        () = others => {}
    }
    assert!(turns >= 1, "read to the end without a pause");
}
