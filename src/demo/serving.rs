//! HTTP/1.1 on a loopback port for the demo's servers: accept, serve, end when dropped.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::body::AnswerBody;

/// The connection is closed instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed instead of an answer")]
pub(super) struct Disconnect;

/// What a server of the demo does with a request. Cloned for each one.
pub(super) trait Service: Clone + Send + 'static {
    /// Answers one request.
    fn answer(
        self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Disconnect>> + Send;
}

/// A running server; ends, with its connections, when dropped.
#[derive(Debug)]
pub(super) struct Serving {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Serving {
    /// Listens on `address`, which must be a loopback address, and serves on the current runtime.
    pub(super) async fn start(address: SocketAddr, service: impl Service) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the demo listens on loopback addresses only"));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, accepting: tokio::spawn(accept(listener, service)) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, service: impl Service) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, service.clone()))),
                // Being out of descriptors passes; asking again at once would only keep a core busy.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, service: impl Service) {
    // Without it small answers wait for acknowledgements; an unset option only costs time.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| service.clone().answer(request));
    // A connection that breaks is the other side's affair: keybearer, under test, says what it saw.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}
