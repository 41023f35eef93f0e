//! An upstream that keeps every byte it is sent, and answers with exactly the bytes it is told to.
//!
//! It checks no token and knows no more of HTTP than where a request ends.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{PATIENCE, within};

/// What it says when it was told nothing else.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A complete request, byte for byte.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Request line and fields, with the empty line.
    pub(crate) head: String,
    /// The body with its transfer coding.
    pub(crate) body: Vec<u8>,
}

/// What to answer a request with.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Keep,
    Close,
}

/// A running recorder; ends when dropped.
pub(crate) struct Recorder {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    replies: Mutex<VecDeque<Reply>>,
    seen: watch::Sender<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Received>,
    /// All bytes of each connection, and whether it has ended.
    connections: Vec<(Vec<u8>, bool)>,
}

impl Received {
    /// Method, target and version.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The target as it came.
    pub(crate) fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    /// The values of a field, in order.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        super::http::fields(&self.head, name)
    }

    /// Every field name, in lower case.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.to_ascii_lowercase()).collect()
    }

    /// The bearer token; there is exactly one `Authorization` line.
    pub(crate) fn bearer(&self) -> &str {
        let values = self.fields("authorization");
        assert_eq!(values.len(), 1, "exactly one Authorization in:\n{}", self.head);
        values[0].strip_prefix("Bearer ").unwrap_or_else(|| panic!("no bearer token: {}", values[0]))
    }
}

impl Reply {
    /// These bytes; the connection goes on.
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), then: Then::Keep }
    }

    /// These bytes, then the end of the connection.
    pub(crate) fn last(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), then: Then::Close }
    }
}

impl Recorder {
    /// Listens on a free port of loopback.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { replies: Mutex::default(), seen: watch::Sender::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// Answers the next request for which nothing is planned yet with `reply`.
    pub(crate) fn next(&self, reply: Reply) {
        self.shared.replies.lock().unwrap().push_back(reply);
    }

    /// Every complete request so far.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.seen.borrow().requests.clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests[0].clone()
    }

    /// The last request so far.
    pub(crate) fn last(&self) -> Received {
        self.requests().pop().expect("a request came")
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.borrow().connections.len()
    }

    /// Waits until bytes of a request have come over each of `count` connections.
    pub(crate) async fn connected(&self, count: usize) {
        let mut seen = self.shared.seen.subscribe();
        let begun = |seen: &Seen| seen.connections.iter().filter(|(bytes, _)| !bytes.is_empty()).count() >= count;
        within("upstream connections are opened", PATIENCE, seen.wait_for(begun)).await.unwrap();
    }

    /// Waits until `count` requests have come.
    pub(crate) async fn received(&self, count: usize) {
        let mut seen = self.shared.seen.subscribe();
        within("requests come", PATIENCE, seen.wait_for(|seen| seen.requests.len() >= count)).await.unwrap();
    }

    /// Waits until `count` connections have ended; the bytes of all.
    pub(crate) async fn ended(&self, count: usize) -> Vec<Vec<u8>> {
        let mut seen = self.shared.seen.subscribe();
        let over = |seen: &Seen| seen.connections.iter().filter(|(_, ended)| *ended).count() >= count;
        let seen = within("upstream connections end", PATIENCE, seen.wait_for(over)).await.unwrap();
        seen.connections.iter().map(|(bytes, _)| bytes.clone()).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut number = 0;
        shared.seen.send_modify(|seen| {
            number = seen.connections.len();
            seen.connections.push((Vec::new(), false));
        });
        connections.spawn(serve(stream, number, Arc::clone(&shared)));
    }
}

/// Records one connection to its end.
async fn serve(mut stream: TcpStream, number: usize, shared: Arc<Shared>) {
    let mut pending = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    'connection: while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        pending.extend_from_slice(&buffer[..read]);
        shared.seen.send_modify(|seen| seen.connections[number].0.extend_from_slice(&buffer[..read]));
        while let Some((head, end)) = message(&pending) {
            let body = pending[head..end].to_vec();
            let head = String::from_utf8_lossy(&pending[..head]).into_owned();
            pending.drain(..end);
            shared.seen.send_modify(|seen| seen.requests.push(Received { head, body }));
            let reply = shared.replies.lock().unwrap().pop_front().unwrap_or_else(|| Reply::new(OK));
            if stream.write_all(&reply.bytes).await.is_err() || reply.then == Then::Close {
                break 'connection;
            }
        }
    }
    drop(stream);
    shared.seen.send_modify(|seen| seen.connections[number].1 = true);
}

/// Where the head and the whole of the first message end; none while it is not complete.
pub(crate) fn message(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]);
    let rest = &bytes[head..];
    let length = if super::http::fields(&text, "transfer-encoding").is_empty() {
        let length = super::http::fields(&text, "content-length").first().map_or(0, |length| length.parse().unwrap());
        (rest.len() >= length).then_some(length)?
    } else {
        chunked(rest)?
    };
    Some((head, head + length))
}

/// The length of a chunked body with its trailers.
fn chunked(bytes: &[u8]) -> Option<usize> {
    let line = |at: usize| Some(at + find(bytes.get(at..)?, b"\r\n")?);
    let mut at = 0;
    loop {
        let end = line(at)?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..end]).unwrap(), 16).expect("a chunk size");
        at = end + 2;
        if size == 0 {
            break;
        }
        at += size + 2;
    }
    loop {
        let end = line(at)?;
        let empty = end == at;
        at = end + 2;
        if empty {
            return Some(at);
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
