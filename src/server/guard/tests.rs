use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::*;
use crate::name::Name;
use crate::peer::Peer;
use crate::server::{Address, ListenerSettings};

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

#[tokio::test(start_paused = true)]
async fn after_a_refusal_what_still_comes_is_read_and_dropped_for_a_while() {
    let (mut caller, mut guard, _) = guarded();
    caller.write_all(b"BAD\r\n\r\n").await.unwrap();
    read(&mut guard).await.unwrap();
    caller.write_all(&[b'x'; 10_000]).await.unwrap();
    let start = Instant::now();
    guard.shutdown().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), LINGER_TIME.as_secs());
    assert!(caller.write_all(b"x").await.is_ok(), "no reset came back");
}
