use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use std::io;
use std::time::Duration;

use super::reading::{HARMLESS, READ_AHEAD};
use super::*;
use crate::answer::Failure;
use crate::name::Name;
use crate::peer::Peer;
use crate::server::connection::Switch;
use crate::server::{Address, ListenerSettings};

mod property;

const GOOD: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

fn guarded() -> (DuplexStream, Guard<DuplexStream>, Arc<Connection>) {
    let listener = ListenerSettings::new(Name::parse("test").unwrap(), Address::Tcp(([127, 0, 0, 1], 0).into()));
    let peer = Peer::Tcp(([127, 0, 0, 1], 1).into());
    let connection = Arc::new(Connection::new(peer, Arc::new(listener)));
    let (caller, socket) = tokio::io::duplex(1 << 20);
    (caller, Guard::new(socket, Arc::clone(&connection), Limits::default()), connection)
}

async fn read(guard: &mut Guard<DuplexStream>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 8192];
    let length = guard.read(&mut buffer).await?;
    buffer.truncate(length);
    Ok(buffer)
}

#[tokio::test(start_paused = true)]
async fn pipelined_messages_are_released_one_at_a_time_and_unchanged() {
    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(&[POST, GOOD, GOOD].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), POST);
    assert_eq!(connection.called(), None);
    assert_eq!(read(&mut guard).await.unwrap(), GOOD);
    assert_eq!(read(&mut guard).await.unwrap(), GOOD);
    assert_eq!(connection.called(), None);
    assert_eq!(connection.called(), None);
}

#[tokio::test(start_paused = true)]
async fn a_head_in_many_pieces_is_held_until_it_is_whole() {
    let (mut caller, mut guard, _) = guarded();
    for byte in GOOD {
        caller.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&mut guard).await.unwrap(), GOOD);
}

/// B3: a bad head is replaced and its place in line is kept.
#[tokio::test(start_paused = true)]
async fn a_bad_head_is_replaced_and_its_place_in_line_is_kept() {
    let (mut caller, mut guard, connection) = guarded();
    let smuggled = b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    caller.write_all(&[GOOD, &smuggled[..], GOOD].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), GOOD);
    assert_eq!(read(&mut guard).await.unwrap(), HARMLESS);
    assert_eq!(connection.called(), None, "the good request before it is answered first");
    assert_eq!(connection.called(), Some(Failure::BadRequest));
    let more = tokio::time::timeout(Duration::from_secs(3600), read(&mut guard)).await;
    assert!(more.is_err(), "nothing behind a bad head is ever read");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_sends_the_harmless_head_itself_is_not_taken_for_a_refusal() {
    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(HARMLESS).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), HARMLESS);
    assert_eq!(connection.called(), None);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_long_is_refused_before_its_end() {
    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").await.unwrap();
    caller.write_all(&vec![b'a'; 40_000]).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), HARMLESS);
    assert_eq!(connection.called(), Some(Failure::HeaderTooLarge));
}

#[tokio::test(start_paused = true)]
async fn broken_chunks_end_the_body_with_an_error() {
    let (mut caller, mut guard, connection) = guarded();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    caller.write_all(head).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), head);
    caller.write_all(b"5\r\nhelloXX").await.unwrap();
    assert!(read(&mut guard).await.is_err());
    assert_eq!(connection.body_failure(), Some(Failure::BadRequest));
}

#[tokio::test(start_paused = true)]
async fn chunks_that_come_broken_with_their_head_are_refused_with_it() {
    let (mut caller, mut guard, connection) = guarded();
    let broken = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX";
    caller.write_all(&[GOOD, &broken[..]].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), GOOD);
    assert_eq!(connection.called(), None);
    assert_eq!(read(&mut guard).await.unwrap(), HARMLESS);
    assert_eq!(connection.called(), Some(Failure::BadRequest));
    assert_eq!(connection.body_failure(), None);
}

#[tokio::test(start_paused = true)]
async fn each_wait_has_its_own_deadline() {
    let limits = Limits::default();

    let (_silent, mut guard, _) = guarded();
    let start = Instant::now();
    assert_eq!(read(&mut guard).await.unwrap(), b"", "a silent caller: the stream ends");
    assert_eq!(start.elapsed().as_secs(), limits.header_timeout.as_secs());

    let (mut slow, mut guard, connection) = guarded();
    let start = Instant::now();
    slow.write_all(b"GET / HT").await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), HARMLESS);
    assert_eq!(connection.called(), Some(Failure::RequestTimeout));
    assert_eq!(start.elapsed().as_secs(), limits.header_timeout.as_secs());

    let (mut idle, mut guard, connection) = guarded();
    idle.write_all(GOOD).await.unwrap();
    read(&mut guard).await.unwrap();
    connection.called();
    let waited = tokio::time::timeout(Duration::from_secs(3600), read(&mut guard)).await;
    assert!(waited.is_err(), "while an exchange is served, a silent caller is what one expects");
    connection.answered();
    let start = Instant::now();
    assert_eq!(read(&mut guard).await.unwrap(), b"");
    assert_eq!(start.elapsed().as_secs(), limits.idle_timeout.as_secs());

    let (mut stuck, mut guard, connection) = guarded();
    stuck.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await.unwrap();
    read(&mut guard).await.unwrap();
    let start = Instant::now();
    assert!(read(&mut guard).await.is_err());
    assert_eq!(start.elapsed().as_secs(), limits.body_timeout.as_secs());
    assert_eq!(connection.body_failure(), Some(Failure::RequestTimeout));
}

/// B25: after a refusal what still comes is read and dropped for a while.
#[tokio::test(start_paused = true)]
async fn after_a_refusal_what_still_comes_is_read_and_dropped_for_a_while() {
    let (mut caller, mut guard, _) = guarded();
    caller.write_all(b"BAD\r\n\r\n").await.unwrap();
    read(&mut guard).await.unwrap();
    caller.write_all(&[b'x'; 10_000]).await.unwrap();
    let start = Instant::now();
    guard.shutdown().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), linger::TIME.as_secs());
    assert!(caller.write_all(b"x").await.is_ok(), "no reset came back");
}

/// B57: after an answer the connection lingers, because the next request may be on its way; an idle one does not.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_closes_at_once_and_one_that_was_just_answered_lingers() {
    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(GOOD).await.unwrap();
    read(&mut guard).await.unwrap();
    connection.called();
    guard.write_all(b"answer").await.unwrap();
    guard.flush().await.unwrap();
    connection.answered();
    let start = Instant::now();
    guard.shutdown().await.unwrap();
    assert_eq!(start.elapsed(), linger::TIME);

    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(GOOD).await.unwrap();
    read(&mut guard).await.unwrap();
    connection.called();
    guard.write_all(b"answer").await.unwrap();
    guard.flush().await.unwrap();
    connection.answered();
    assert!(tokio::time::timeout(Duration::from_secs(1), read(&mut guard)).await.is_err());
    let start = Instant::now();
    guard.shutdown().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// RFC 9112 9.6: behind a request with `Connection: close` nothing comes, once all of it is there.
#[tokio::test(start_paused = true)]
async fn a_connection_whose_caller_said_the_last_word_closes_at_once() {
    let last = "POST / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\nContent-Length: 2\r\n\r\nhi";
    for (missing, lingers) in [(0, false), (1, true)] {
        let (mut caller, mut guard, connection) = guarded();
        caller.write_all(&last.as_bytes()[..last.len() - missing]).await.unwrap();
        read(&mut guard).await.unwrap();
        connection.called();
        guard.write_all(b"answer").await.unwrap();
        guard.flush().await.unwrap();
        let start = Instant::now();
        guard.shutdown().await.unwrap();
        assert_eq!(start.elapsed() == linger::TIME, lingers, "{missing} bytes of the body are missing");
    }
}

/// B2: one empty line before a request line is ignored, and is no request that has begun.
#[tokio::test(start_paused = true)]
async fn an_empty_line_behind_a_body_leaves_the_connection_idle() {
    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(&[POST, b"\r\n"].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), POST);
    connection.called();
    connection.answered();
    let start = Instant::now();
    assert_eq!(read(&mut guard).await.unwrap(), b"");
    assert_eq!(start.elapsed(), Limits::default().idle_timeout);
    assert_eq!(connection.called(), None);
}

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const CONNECT: &[u8] = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";

/// B42: bytes behind a request for another protocol reach nobody before the answer agrees, and everybody's bytes pass
/// unjudged from then on.
#[tokio::test(start_paused = true)]
async fn nothing_behind_an_upgrade_is_released_before_the_answer_agrees() {
    for head in [UPGRADE, CONNECT] {
        let (mut caller, mut guard, connection) = guarded();
        caller.write_all(&[head, b"early", GOOD].concat()).await.unwrap();
        assert_eq!(read(&mut guard).await.unwrap(), head);
        assert!(!connection.may_switch(), "it was not called");
        connection.called();
        assert!(connection.may_switch());
        caller.write_all(b"more").await.unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(86_400), read(&mut guard)).await;
        assert!(waited.is_err(), "no deadline of ours runs");
        connection.settle(true);
        assert_eq!(read(&mut guard).await.unwrap(), [b"early", GOOD, b"more"].concat());
        caller.write_all(b"BAD\n\n\0").await.unwrap();
        assert_eq!(read(&mut guard).await.unwrap(), b"BAD\n\n\0");
        let start = Instant::now();
        guard.shutdown().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO, "half closed: the rest is for the other protocol");
        caller.write_all(b"late").await.unwrap();
        assert_eq!(read(&mut guard).await.unwrap(), b"late");
        drop(caller);
        assert_eq!(read(&mut guard).await.unwrap(), b"");
    }
}

/// B42: after an answer that does not agree nothing is released either, and the connection ends.
#[tokio::test(start_paused = true)]
async fn nothing_behind_a_declined_upgrade_is_released() {
    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(&[UPGRADE, GOOD].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), UPGRADE);
    connection.settle(false);
    assert!(tokio::time::timeout(Duration::from_secs(60), read(&mut guard)).await.is_err());
    let start = Instant::now();
    guard.shutdown().await.unwrap();
    assert_eq!(start.elapsed(), linger::TIME);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_while_it_waits_for_another_protocol_is_noticed() {
    let (mut caller, mut guard, _) = guarded();
    caller.write_all(UPGRADE).await.unwrap();
    read(&mut guard).await.unwrap();
    caller.write_all(b"early").await.unwrap();
    drop(caller);
    assert_eq!(read(&mut guard).await.unwrap(), b"");

    let (mut caller, mut guard, _) = guarded();
    caller.write_all(&[UPGRADE, &vec![b'x'; 100_000]].concat()).await.unwrap();
    read(&mut guard).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(60), read(&mut guard)).await.is_err());
    assert!(guard.held.len() < READ_AHEAD + 8192, "what is read ahead is bounded");
}

/// B43: an `Upgrade` that means nothing is kept from hyper, which would believe it.
#[tokio::test(start_paused = true)]
async fn a_void_upgrade_field_is_removed_and_the_connection_goes_on() {
    let void =
        b"POST /a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 9\r\n\r\nUpgrade:x";
    let seen = b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nContent-Length: 9\r\n\r\nUpgrade:x";
    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(&[void, GOOD, void, GOOD].concat()).await.unwrap();
    for expected in [&seen[..], GOOD, seen, GOOD] {
        assert_eq!(read(&mut guard).await.unwrap(), expected);
        assert_eq!(connection.switch(), Switch::None);
    }
    for byte in &void[..] {
        caller.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&mut guard).await.unwrap(), seen);
}

/// B25: whether hyper has read the body of the request at hand to its end.
#[tokio::test(start_paused = true)]
async fn the_guard_knows_how_much_of_a_body_was_read() {
    let (mut caller, mut guard, connection) = guarded();
    caller.write_all(GOOD).await.unwrap();
    read(&mut guard).await.unwrap();
    connection.called();
    assert!(!connection.leaves_body());
    caller.write_all(&POST[..POST.len() - 1]).await.unwrap();
    read(&mut guard).await.unwrap();
    assert!(!connection.leaves_body(), "it was not called");
    connection.called();
    assert!(connection.leaves_body(), "the last byte is missing");
    caller.write_all(b"o").await.unwrap();
    read(&mut guard).await.unwrap();
    assert!(!connection.leaves_body(), "it is in hyper's buffer");
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    caller.write_all(chunked).await.unwrap();
    assert_eq!(read(&mut guard).await.unwrap(), chunked);
    connection.called();
    assert!(connection.leaves_body(), "hyper does not step over chunks");
    assert!(tokio::time::timeout(Duration::from_secs(1), read(&mut guard)).await.is_err());
    assert!(!connection.leaves_body(), "it has asked for more");
}
