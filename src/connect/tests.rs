//! Connections over loopback, and to where none may lead.

use super::{Addresses, ConnectError, Destination, NamedBy, Stream, dial};
use crate::tls::{Alpn, Profile, Settings};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(20);

fn plain(host: &str, port: u16) -> Destination<'_> {
    Destination {
        host,
        port,
        tls: None,
        addresses: Addresses::CONFIGURED,
        named_by: NamedBy::Configuration,
        dead_after: None,
        held_at_most: None,
    }
}

fn secure<'a>(host: &'a str, port: u16, profile: &'a Profile) -> Destination<'a> {
    Destination { tls: Some((profile, Alpn::Http1)), ..plain(host, port) }
}

#[tokio::test]
async fn a_plain_connection_carries_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut ours = dial(&plain("localhost", port), LONG).await.unwrap();
    let (mut theirs, _) = listener.accept().await.unwrap();
    ours.write_all(b"ping").await.unwrap();
    let mut read = [0; 4];
    theirs.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"ping");
}

#[tokio::test]
async fn an_ipv6_literal_is_dialled_with_or_without_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return; // no IPv6 on this machine
    };
    let port = listener.local_addr().unwrap().port();
    for host in ["::1", "[::1]"] {
        dial(&plain(host, port), LONG).await.unwrap();
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert!(matches!(dial(&plain("127.0.0.1", port), LONG).await, Err(ConnectError::Refused(_))));
    assert!(matches!(dial(&plain("name.invalid", port), LONG).await, Err(ConnectError::Dns(_))));
    assert!(matches!(dial(&plain("not a name", port), LONG).await, Err(ConnectError::Dns(_))));
}

#[tokio::test]
async fn the_deadline_covers_a_silent_tls_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let profile = Profile::trusting_nobody().unwrap();
    let dialled = dial(&secure("127.0.0.1", port, &profile), Duration::from_millis(50)).await;
    assert!(matches!(dialled, Err(ConnectError::Timeout)));
}

/// C8: TLS trusts the named CA and no other.
#[tokio::test]
async fn tls_trusts_the_named_ca_and_no_other() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(greet(listener, acceptor));
    let trusting = Profile::load(&Settings { ca: Some(ca), identity: None }).unwrap();
    let mut stream = dial(&secure("localhost", port, &trusting), LONG).await.unwrap();
    let mut read = String::new();
    stream.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "hello");
    let nobody = Profile::trusting_nobody().unwrap();
    assert!(matches!(dial(&secure("localhost", port, &nobody), LONG).await, Err(ConnectError::Tls(_))));
    assert!(matches!(dial(&secure("127.0.0.1", port, &trusting), LONG).await, Err(ConnectError::Tls(_))));
    serving.abort();
}

/// Says hello to whoever completes the handshake.
async fn greet(listener: TcpListener, acceptor: tokio_rustls::TlsAcceptor) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(socket).await else { continue };
        let _ = stream.write_all(b"hello").await;
        let _ = stream.shutdown().await;
    }
}

#[tokio::test]
async fn an_address_that_is_not_admitted_is_refused_before_a_packet_leaves() {
    let foreign = |host| Destination { addresses: Addresses::FOREIGN, ..plain(host, 9) };
    let configured = |host| plain(host, 9);
    for refused in [
        configured("169.254.169.254"),
        configured("[fe80::1]"),
        configured("::ffff:169.254.169.254"),
        configured("100.100.100.200"),
        foreign("127.0.0.1"),
        foreign("[::1]"),
        foreign("10.0.0.1"),
        foreign("localhost"),
        // The resolver reads what is no literal to us.
        foreign("2130706433"),
        foreign("0x7f.1"),
    ] {
        let dialled = dial(&refused, Duration::from_secs(5)).await;
        // A system without one of the odd forms does not know the name, which is as good.
        assert!(matches!(dialled, Err(ConnectError::Forbidden | ConnectError::Dns(_))), "{refused:?}: {dialled:?}");
    }
    assert!(matches!(dial(&configured("169.254.169.254"), LONG).await, Err(ConnectError::Forbidden)));
    assert!(matches!(dial(&foreign("localhost"), LONG).await, Err(ConnectError::Forbidden)));
}

#[tokio::test]
async fn what_is_dangerous_and_accepted_is_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let addresses = Addresses { link_local: false, private: true };
    assert!(dial(&Destination { addresses, ..plain("localhost", port) }, LONG).await.is_ok());
    let addresses = Addresses { link_local: true, private: false };
    let dialled = dial(&Destination { addresses, ..plain("127.0.0.1", port) }, LONG).await;
    assert!(matches!(dialled, Err(ConnectError::Forbidden)));
}

#[tokio::test]
async fn the_system_asks_after_hosts_that_say_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let Ok(Stream::Tcp(stream)) = dial(&plain(host, port), LONG).await else { panic!("it is plain") };
        let stream = socket2::SockRef::from(&stream);
        assert!(stream.keepalive().unwrap(), "{host}");
        assert!(stream.tcp_nodelay().unwrap(), "{host}: a request is not held back");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_system_gives_up_hosts_that_acknowledge_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let destination = Destination { dead_after: Some(LONG), ..plain(host, port) };
        let Ok(Stream::Tcp(stream)) = dial(&destination, LONG).await else { panic!("it is plain") };
        assert_eq!(socket2::SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(LONG), "{host}");
    }
}

#[tokio::test]
async fn the_system_holds_no_more_than_it_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let destination = Destination { held_at_most: Some(16 * 1024), ..plain(host, port) };
        let Ok(Stream::Tcp(ours)) = dial(&destination, LONG).await else { panic!("it is plain") };
        // The kernel takes twice as much, for what it needs itself.
        let size = socket2::SockRef::from(&ours).recv_buffer_size().unwrap();
        assert!(size <= 2 * 16 * 1024, "{host}: {size}");
    }
}
