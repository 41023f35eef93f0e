//! Many callers that have nothing to do: `hold PORT COUNT h1|h2 [CA_FILE]` opens COUNT connections, sends one request
//! over each, reads its answer, says `held` and keeps all of them open until its standard input ends.
//!
//! With a CA file it speaks TLS. hyper keeps the connections, so that what the other side asks of a live HTTP/2 peer is
//! answered. `benches/compare/run.py` runs it.

use std::any::Any;
use std::error::Error;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// So many connections are opened at a time: few, so that a proxy needs few to its upstream.
const AT_A_TIME: usize = 16;

type Failed = Box<dyn Error + Send + Sync>;

/// What keeps a connection open: its sender, of whichever version.
type Held = Box<dyn Any + Send>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, count, version, authority) = match arguments.as_slice() {
        [port, count, version] => (port, count, version, None),
        [port, count, version, authority] => (port, count, version, Some(authority)),
        _ => {
            eprintln!("hold: expected PORT COUNT h1|h2 [CA_FILE]; benches/compare/run.py runs it");
            return ExitCode::FAILURE;
        }
    };
    match run(port, count, version, authority.map(String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hold: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(port: &str, count: &str, version: &str, authority: Option<&str>) -> Result<(), Failed> {
    let caller = Arc::new(Caller {
        port: port.parse()?,
        speaks_http2: version == "h2",
        tls: authority.map(|file| connector(file, version == "h2")).transpose()?,
    });
    let count: usize = count.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let openers: Vec<_> =
            (0..AT_A_TIME).map(|number| tokio::spawn(Arc::clone(&caller).open((count + number) / AT_A_TIME))).collect();
        let mut held = Vec::new();
        for opener in openers {
            held.append(&mut opener.await??);
        }
        println!("held");
        // The runtime goes on meanwhile: a peer may ask whether we are there.
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        drop(held);
        Ok(())
    })
}

fn connector(authority: &str, speaks_http2: bool) -> Result<TlsConnector, Failed> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![if speaks_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// How connections are opened.
struct Caller {
    port: u16,
    speaks_http2: bool,
    tls: Option<TlsConnector>,
}

impl Caller {
    /// Opens so many connections one after the other.
    async fn open(self: Arc<Self>, count: usize) -> Result<Vec<Held>, Failed> {
        let mut held = Vec::new();
        for _ in 0..count {
            let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            socket.set_nodelay(true)?;
            held.push(match &self.tls {
                None => self.ask(socket).await?,
                Some(tls) => self.ask(tls.connect(ServerName::try_from("localhost")?, socket).await?).await?,
            });
        }
        Ok(held)
    }

    /// One request over a new connection.
    async fn ask<S>(&self, stream: S) -> Result<Held, Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = Request::get(if self.speaks_http2 { "http://localhost/orders/42" } else { "/orders/42" });
        if self.speaks_http2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            finish(sender.send_request(request.body(Empty::<Bytes>::new())?).await?).await?;
            Ok(Box::new(sender))
        } else {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let request = request.header(http::header::HOST, "localhost").body(Empty::<Bytes>::new())?;
            finish(sender.send_request(request).await?).await?;
            Ok(Box::new(sender))
        }
    }
}

/// Reads an answer to its end.
async fn finish(answer: Response<Incoming>) -> Result<(), Failed> {
    let status = answer.status();
    answer.into_body().collect().await?;
    if status == StatusCode::OK { Ok(()) } else { Err(format!("not every request succeeded: {status}").into()) }
}
