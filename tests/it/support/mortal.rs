//! An upstream that dies on command, after exactly so many bytes of a request or of its answer, and keeps account of
//! what it was asked to do.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::recorder::message;

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// In order: nothing more is sent, what still comes is read.
    Close,
    /// At once, as the kernel does it for a process that died.
    Reset,
}

/// When a connection ends.
#[derive(Clone, Debug)]
pub(crate) enum Death {
    /// After so many bytes of the request were read.
    Reading(usize, End),
    /// After the whole request was read and these bytes were sent.
    Answering(Vec<u8>, End),
}

/// Whether a connection serves another request after one that was answered as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Connections {
    Kept,
    UsedOnce,
}

/// What it was asked to do.
#[derive(Clone, Default, Debug)]
pub(crate) struct Account {
    /// Requests of which anything came.
    pub(crate) begun: usize,
    /// Deaths on a connection that had served a request before.
    pub(crate) reused: usize,
    /// How often each request came to its last byte, by its `X-Number`.
    pub(crate) applied: HashMap<String, usize>,
    /// Length of the last request that was answered as it should be.
    pub(crate) length: usize,
}

#[derive(Default)]
struct State {
    deaths: Vec<Death>,
    account: Account,
}

/// A running one; ends when dropped.
pub(crate) struct Mortal {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Mortal {
    /// Listens on a free port. A good answer's body is the request's `X-Number`.
    pub(crate) async fn start(connections: Connections) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let accepting = tokio::spawn(accept(listener, connections, Arc::clone(&state)));
        Self { address, state, accepting }
    }

    /// Lets the next requests end so, one each.
    pub(crate) fn doom(&self, deaths: Vec<Death>) {
        self.state.lock().unwrap().deaths = deaths;
    }

    /// What it was asked to do so far.
    pub(crate) fn account(&self) -> Account {
        self.state.lock().unwrap().account.clone()
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, connections: Connections, state: Arc<Mutex<State>>) {
    let mut serving = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        serving.spawn(serve(stream, connections, Arc::clone(&state)));
    }
}

async fn serve(mut stream: TcpStream, connections: Connections, state: Arc<Mutex<State>>) {
    let mut served = 0;
    while stream.peek(&mut [0]).await.is_ok_and(|peeked| peeked > 0) {
        let death = {
            let mut state = state.lock().unwrap();
            state.account.begun += 1;
            let death = if state.deaths.is_empty() { None } else { Some(state.deaths.remove(0)) };
            state.account.reused += usize::from(death.is_some() && served > 0);
            death
        };
        let mut read = Vec::new();
        let (sent, end) = match death {
            Some(Death::Reading(bytes, end)) => {
                read = vec![0; bytes];
                let whole = stream.read_exact(&mut read).await.is_ok();
                assert!(whole, "a request has no more than {bytes} bytes");
                (Vec::new(), end)
            }
            Some(Death::Answering(bytes, end)) => {
                read_message(&mut stream, &mut read).await;
                (bytes, end)
            }
            None => {
                let Some(number) = read_message(&mut stream, &mut read).await else { return };
                note(&state, &read);
                state.lock().unwrap().account.length = read.len();
                let close = if connections == Connections::Kept { "" } else { "Connection: close\r\n" };
                let answer = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n{number}", number.len());
                if stream.write_all(answer.as_bytes()).await.is_err() || connections == Connections::UsedOnce {
                    return;
                }
                served += 1;
                continue;
            }
        };
        let _: std::io::Result<()> = stream.write_all(&sent).await;
        if end == End::Reset {
            SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        } else {
            let _: std::io::Result<()> = stream.shutdown().await;
            let _: std::io::Result<usize> = stream.read_to_end(&mut read).await;
        }
        note(&state, &read);
        return;
    }
}

/// Reads to the end of a request; its `X-Number`.
async fn read_message(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    while message(read).is_none() {
        if stream.read_buf(read).await.is_ok_and(|bytes| bytes == 0) {
            return None;
        }
    }
    number(read)
}

/// A request that came to its last byte was carried out.
fn note(state: &Mutex<State>, read: &[u8]) {
    if message(read).is_some() {
        let number = number(read).unwrap();
        *state.lock().unwrap().account.applied.entry(number).or_default() += 1;
    }
}

fn number(read: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(read);
    super::http::fields(&text, "x-number").first().map(|&number| number.to_owned())
}
