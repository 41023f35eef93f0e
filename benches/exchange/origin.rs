//! The other end of a measured exchange: an API that always gives the same answer, and its token endpoint, on threads
//! of this process. Both are as plain as can be, because what they cost is not measured.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long an access token of the token endpoint is: that of a usual JWT.
const TOKEN_LENGTH: usize = 800;

/// What the API answers, whatever was asked.
const ANSWER: &str = "HTTP/1.1 200 OK\r\n\
    Date: Mon, 06 Jul 2026 08:49:37 GMT\r\n\
    Content-Type: application/json\r\n\
    Cache-Control: private, no-cache\r\n\
    ETag: \"5f1b-61a\"\r\n\
    Server: origin\r\n\
    Content-Length: 58\r\n\
    \r\n\
    {\"id\":42,\"name\":\"Ada Lovelace\",\"email\":\"ada@example.com\"}\n";

/// What it answers to a request that does not carry the token.
const REFUSAL: &str =
    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\nContent-Length: 0\r\n\r\n";

/// An API with its token endpoint at `/token`. It lives as long as the process.
pub(crate) struct Origin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The certificate to trust, as PEM, when it speaks TLS.
    pub(crate) certificate: Option<String>,
}

impl Origin {
    /// Over plain TCP.
    pub(crate) fn plain() -> io::Result<Self> {
        let address = listen(serve)?;
        Ok(Self { address, certificate: None })
    }

    /// Over TLS 1.3, for the name `localhost`.
    pub(crate) fn tls() -> Result<Self, Box<dyn std::error::Error>> {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der())?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)?;
        let config = Arc::new(config);
        let address = listen(move |socket| {
            let session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            serve(StreamOwned::new(session, socket))
        })?;
        Ok(Self { address, certificate: Some(issued.cert.pem()) })
    }
}

/// Accepts on a free port of loopback; each connection gets a thread.
fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let serve = serve.clone();
            // A connection that ends, ends; whether every request was answered is for the caller to judge.
            std::thread::spawn(move || socket.set_nodelay(true).and_then(|()| serve(socket)));
        }
    });
    Ok(address)
}

/// Answers requests on one connection until it ends.
fn serve(stream: impl Read + Write) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let token = format!("tok-{}", "x".repeat(TOKEN_LENGTH - 4));
    let attached = format!("bearer {token}");
    let body = format!("{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}");
    let minted = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    while let Some(request) = Asked::read(&mut stream, &attached)? {
        let answer = match request {
            Asked::Token => &minted,
            Asked::Resource { authorized: true } => ANSWER,
            Asked::Resource { authorized: false } => REFUSAL,
        };
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

/// What a request asks for.
enum Asked {
    Token,
    Resource { authorized: bool },
}

impl Asked {
    /// Reads one request to its last byte; nothing when the connection ends instead.
    fn read(stream: &mut impl BufRead, attached: &str) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let minting = line.starts_with("POST /token");
        let (mut authorized, mut length) = (false, 0);
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorized = value.trim().eq_ignore_ascii_case(attached),
                "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
                "transfer-encoding" => return Err(io::Error::other("this origin reads bodies by length only")),
                _ => {}
            }
        }
        io::copy(&mut stream.take(length), &mut io::sink())?;
        Ok(Some(if minting { Self::Token } else { Self::Resource { authorized } }))
    }
}
