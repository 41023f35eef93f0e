//! Tunnels through a real proxy on loopback, and through broken ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::connect::{Addresses, ConnectError, Destination, HttpProxy, NamedBy, dial_through};
use crate::secret::Secret;
use crate::tls::{Alpn, Profile, Settings};

const LONG: Duration = Duration::from_secs(20);

/// A server for `localhost` that says hello over TLS; its port, and a profile that trusts it.
async fn target() -> (u16, Profile) {
    let made = rcgen::generate_simple_self_signed(["target.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let profile = Profile::load(&Settings { ca: Some(ca), identity: None }).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let _ = stream.write_all(b"hello").await;
            let _ = stream.shutdown().await;
        }
    });
    (port, profile)
}

/// A proxy that tunnels everything to `port` of loopback; its own port, and the heads it reads.
async fn proxy(port: u16) -> (u16, mpsc::UnboundedReceiver<String>) {
    let (heads, seen) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(tunnelled(socket, port, heads.clone()));
        }
    });
    (own, seen)
}

async fn tunnelled(mut socket: TcpStream, port: u16, heads: mpsc::UnboundedSender<String>) {
    heads.send(head(&mut socket).await).unwrap();
    let mut there = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n").await.unwrap();
    let _ = copy_bidirectional(&mut socket, &mut there).await;
}

/// A proxy that answers everything with `answer` and then waits for the end; its port.
async fn answering(answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        head(&mut socket).await;
        let _ = socket.write_all(&answer).await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    port
}

async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn to<'a>(host: &'a str, port: u16, profile: &'a Profile) -> Destination<'a> {
    let tls = Some((profile, Alpn::Http1));
    Destination {
        host,
        port,
        tls,
        addresses: Addresses::CONFIGURED,
        named_by: NamedBy::Configuration,
        dead_after: None,
        held_at_most: None,
    }
}

fn at(port: u16) -> HttpProxy {
    let password = Secret::new("password-canary".to_owned());
    HttpProxy::new("127.0.0.1", port, Some("user"), Some(&password), Vec::new())
}

#[tokio::test]
async fn tls_goes_through_the_tunnel_to_a_name_that_only_the_proxy_resolves() {
    let (port, profile) = target().await;
    let (proxy_port, mut heads) = proxy(port).await;
    let mut stream = dial_through(&at(proxy_port), &to("target.test", 443, &profile), LONG).await.unwrap();
    let mut read = String::new();
    stream.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "hello");
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("connect target.test:443 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: target.test:443\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: basic dxnlcjpwyxnzd29yzc1jyw5hcnk=\r\n"), "{head}");
    // The certificate is the target's and is held against the target's name.
    let other = dial_through(&at(proxy_port), &to("other.test", 443, &profile), LONG).await;
    assert!(matches!(other, Err(ConnectError::Tls(_))));
}

#[tokio::test]
async fn an_ipv6_target_is_named_in_brackets() {
    let (port, profile) = target().await;
    let (proxy_port, mut heads) = proxy(port).await;
    let plain = HttpProxy::new("127.0.0.1", proxy_port, None, None, Vec::new());
    for host in ["::1", "[::1]"] {
        assert!(dial_through(&plain, &to(host, 8443, &profile), LONG).await.is_err());
        let head = heads.recv().await.unwrap().to_ascii_lowercase();
        assert!(head.starts_with("connect [::1]:8443 http/1.1\r\n"), "{head}");
        assert!(!head.contains("proxy-authorization"), "{head}");
    }
}

#[tokio::test]
async fn a_refusing_proxy_is_named_with_its_status_and_without_its_password() {
    let profile = Profile::trusting_nobody().unwrap();
    for status in [407, 403, 502, 301] {
        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 15\r\n\r\npassword-canary");
        let port = answering(answer.into_bytes()).await;
        let error = dial_through(&at(port), &to("target.test", 443, &profile), LONG).await.unwrap_err();
        assert!(matches!(error, ConnectError::Proxy { status: told } if told == status), "{error:?}");
        assert_eq!(error.to_string(), format!("the proxy refused the connection with status {status}"));
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_proxy_that_answers_nonsense_or_too_much_is_refused() {
    let profile = Profile::trusting_nobody().unwrap();
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    for answer in ["SSH-2.0-canary\r\n\r\n", &long] {
        let port = answering(answer.as_bytes().to_vec()).await;
        let error = dial_through(&at(port), &to("target.test", 443, &profile), LONG).await.unwrap_err();
        assert!(matches!(error, ConnectError::ProxyAnswer(_)), "{error:?}");
    }
}

#[tokio::test]
async fn bytes_that_come_before_tls_are_not_taken_for_the_targets() {
    let profile = Profile::trusting_nobody().unwrap();
    let port = answering(b"HTTP/1.1 200 OK\r\n\r\nearly".to_vec()).await;
    let error = dial_through(&at(port), &to("target.test", 443, &profile), LONG).await.unwrap_err();
    assert!(matches!(error, ConnectError::ProxySpoke), "{error:?}");
}

#[tokio::test]
async fn one_deadline_covers_a_silent_proxy_and_a_silent_target() {
    let profile = Profile::trusting_nobody().unwrap();
    for answer in [&b""[..], b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n\r\n"] {
        let port = answering(answer.to_vec()).await;
        let dialled = dial_through(&at(port), &to("target.test", 443, &profile), Duration::from_millis(50)).await;
        assert!(matches!(dialled, Err(ConnectError::Timeout)), "{dialled:?}");
    }
}

#[tokio::test]
async fn an_unreachable_proxy_is_told_from_an_unreachable_target() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let profile = Profile::trusting_nobody().unwrap();
    let error = dial_through(&at(port), &to("target.test", 443, &profile), LONG).await.unwrap_err();
    assert!(matches!(error, ConnectError::ProxyUnreached(_)), "{error:?}");
    let error = dial_through(&at(port), &to("not a name", 443, &profile), LONG).await.unwrap_err();
    assert!(matches!(error, ConnectError::Dns(_)), "{error:?}");
}

#[tokio::test]
async fn an_address_that_is_not_admitted_is_not_asked_for() {
    let profile = Profile::trusting_nobody().unwrap();
    let (proxy_port, mut heads) = proxy(1).await;
    for host in ["169.254.169.254", "[fe80::1]", "0xa9fea9fe", "169.254.43518", "2852039166"] {
        let error = dial_through(&at(proxy_port), &to(host, 443, &profile), LONG).await.unwrap_err();
        assert!(matches!(error, ConnectError::Forbidden | ConnectError::Dns(_)), "{host}: {error:?}");
    }
    assert!(heads.try_recv().is_err());
}
