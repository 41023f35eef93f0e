//! An upstream that does byte for byte what a test says, connection by connection: answers early, late, broken or not
//! at all, and closes when it is least convenient.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{PATIENCE, within};

/// A listener whose connections the test takes one by one.
pub(crate) struct Scripted {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// One connection of the proxy.
pub(crate) struct Peer {
    stream: BufReader<TcpStream>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Its head, request line first.
    pub(crate) head: String,
    /// Its body, transfer coding removed.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The value of a field, when there is exactly one.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "more than one {name} in:\n{}", self.head);
        value
    }

    /// The method.
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    /// What was attached.
    pub(crate) fn authorization(&self) -> &str {
        self.field("authorization").expect("no request goes out without a token")
    }
}

impl Scripted {
    /// Listens on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Peer {
        within("the proxy connects", PATIENCE, self.connection()).await
    }

    /// Answers every request of every connection as `answer` says, from now on.
    pub(crate) fn serve(self, answer: impl FnMut(&Received) -> Vec<u8> + Send + 'static) -> Serving {
        let address = self.address;
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let answer = Arc::new(Mutex::new(answer));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let peer = self.connection().await;
                connections.spawn(peer.serve(Arc::clone(&kept), Arc::clone(&answer)));
            }
        });
        Serving { address, received, _accepting: accepting }
    }

    /// Answers `refusal` to the first token it sees, and to every other 200 with the request's body.
    pub(crate) fn refusing_the_first_token(self, refusal: Vec<u8>) -> Serving {
        let mut first = None;
        self.serve(move |request| {
            let token = request.authorization().to_owned();
            let first = first.get_or_insert_with(|| token.clone());
            if *first == token { refusal.clone() } else { answer(200, &[], &request.body) }
        })
    }

    async fn connection(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream: BufReader::new(stream) }
    }
}

/// A scripted upstream at work; ends when dropped.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _accepting: JoinSet<()>,
}

impl Serving {
    /// Every request so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Peer {
    /// Reads the next request whole.
    pub(crate) async fn request(&mut self) -> Received {
        within("the proxy sends a request", PATIENCE, self.try_request()).await.unwrap()
    }

    /// Reads the head of the next request and so many bytes of what follows it on the wire; the rest stays there.
    pub(crate) async fn part(&mut self, bytes: usize) -> Received {
        let part = async {
            let mut request = self.try_head().await?;
            request.body = vec![0; bytes];
            self.stream.read_exact(&mut request.body).await?;
            Ok::<_, Error>(request)
        };
        within("the proxy sends part of a request", PATIENCE, part).await.unwrap()
    }

    /// The next request; none when the proxy closes instead.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        self.try_request().await.ok()
    }

    /// The head of the next request, its body left on the wire; none when the proxy closes instead.
    pub(crate) async fn next_head(&mut self) -> Option<Received> {
        self.try_head().await.ok()
    }

    /// Reads the body that a head announces, transfer coding removed; none when the proxy closes before its end.
    pub(crate) async fn body(&mut self, head: Received) -> Option<Received> {
        self.try_body(head).await.ok()
    }

    /// Sends these bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Whether the proxy closes the connection without sending anything more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = within("the proxy closes", PATIENCE, self.stream.read(&mut byte)).await;
        matches!(read, Ok(0) | Err(_))
    }

    /// Reads so many further bytes of what is on the wire.
    pub(crate) async fn more(&mut self, bytes: usize) {
        let mut part = vec![0; bytes];
        within("the proxy sends on", PATIENCE, self.stream.read_exact(&mut part)).await.unwrap();
    }

    /// Reads so many bytes of what is on the wire.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within("the proxy sends on", PATIENCE, self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Says that nothing more will be sent; what the proxy sends can still be read.
    pub(crate) async fn finish_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads on until the proxy closes the connection.
    pub(crate) async fn drained(&mut self) {
        let mut part = vec![0; 64 * 1024];
        let draining = async { while self.stream.read(&mut part).await.is_ok_and(|read| read > 0) {} };
        within("the proxy closes", PATIENCE, draining).await;
    }

    /// Answers request after request.
    async fn serve(
        mut self,
        received: Arc<Mutex<Vec<Received>>>,
        answer: Arc<Mutex<impl FnMut(&Received) -> Vec<u8>>>,
    ) {
        while let Some(request) = self.next().await {
            let bytes = answer.lock().unwrap()(&request);
            received.lock().unwrap().push(request);
            if self.stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }

    async fn try_head(&mut self) -> Result<Received> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, format!("in a request's head: {head:?}")));
            }
        }
        Ok(Received { head, body: Vec::new() })
    }

    async fn try_request(&mut self) -> Result<Received> {
        let head = self.try_head().await?;
        self.try_body(head).await
    }

    async fn try_body(&mut self, mut request: Received) -> Result<Received> {
        if request.field("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line).await?;
                let size = usize::from_str_radix(line.trim_end(), 16)
                    .map_err(|_| Error::new(ErrorKind::InvalidData, format!("chunk size {line:?}")))?;
                let start = request.body.len();
                request.body.resize(start + size, 0);
                self.stream.read_exact(&mut request.body[start..]).await?;
                self.stream.read_line(&mut String::new()).await?;
                if size == 0 {
                    return Ok(request);
                }
            }
        }
        let length = request.field("content-length").map_or(0, |length| length.parse().unwrap());
        request.body = vec![0; length];
        self.stream.read_exact(&mut request.body).await?;
        Ok(request)
    }
}

/// An answer with its length.
pub(crate) fn answer(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Said So\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}
