//! Listeners with TLS: both versions of HTTP, callers' certificates, and files that change under a running proxy.

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http2::curl;
use crate::support::certificates::{Authority, Identity};
use crate::support::frames::{ACK, END_HEADERS, END_STREAM, Fields, HEADERS, SETTINGS, block, frame};
use crate::support::recorder::{Recorder, Reply};
use crate::support::scripted::Scripted;
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, eventually, within};

/// A proxy with a TLS listener, and what callers need.
struct Ground {
    authority: Authority,
    stage: Stage,
    folder: PathBuf,
}

fn head(tls: &str, limits: &str) -> String {
    crate::support::proxy::head("info").replace(
        "[admin]",
        &format!("tls = {{ certificate = \"server.pem\", key = \"server.key\"{tls} }}\n{limits}\n[admin]"),
    )
}

impl Ground {
    /// With `client_ca` and the like after the certificate and its key.
    async fn start(tls: &str) -> Self {
        Self::limited(tls, "").await
    }

    async fn limited(tls: &str, limits: &str) -> Self {
        let authority = Authority::new("a private CA");
        let identity = authority.server();
        let orders = named("orders", "", "forwarded = \"x-forwarded\"");
        let (setup, issuer, upstream): (_, _, Recorder) = Stage::set_up(&head(tls, limits), &orders).await;
        let setup = setup
            .file("server.pem", &identity.certificate)
            .file("server.key", &identity.key)
            .file("callers.pem", &authority.certificate);
        let folder = setup.config().parent().unwrap().to_owned();
        std::fs::write(folder.join("ca.pem"), &authority.certificate).unwrap();
        let stage = Stage { issuer, upstream, proxy: setup.run().await };
        Self { authority, stage, folder }
    }

    fn write(&self, name: &str, identity: &Identity) {
        std::fs::write(self.folder.join(format!("{name}.pem")), &identity.certificate).unwrap();
        std::fs::write(self.folder.join(format!("{name}.key")), &identity.key).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Runs curl with these arguments before the URL.
    async fn curl(&self, arguments: &[&str]) -> Option<Output> {
        let url = format!("https://localhost:{}/orders/x", self.stage.proxy.address.port());
        let ca = self.path("ca.pem");
        let all = [&["-i", "--cacert", &ca], arguments, &[&url]].concat();
        curl(&all).await
    }

    /// As [`Self::curl`], with the certificate of `name`.
    async fn as_client(&self, name: &str, arguments: &[&str]) -> Option<Output> {
        let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        self.curl(&[&["--cert", certificate.as_str(), "--key", key.as_str()], arguments].concat()).await
    }

    fn hang_up(&self) {
        self.stage.proxy.process.signal(Signal::HUP);
    }

    /// Waits for a diagnostic line with this text.
    async fn says(&self, text: &str) {
        let found =
            self.stage.proxy.process.stderr.find(|lines| lines.iter().find(|line| line.contains(text)).cloned());
        within("the proxy says so", PATIENCE, found).await.unwrap_or_else(|| panic!("never said: {text}"));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn both_versions_of_http_and_of_tls_are_spoken() {
    let ground = Ground::start("").await;
    for (arguments, first) in [
        (vec!["--http2"], "HTTP/2 200"),
        (vec!["--http1.1"], "HTTP/1.1 200 OK"),
        (vec!["--no-alpn"], "HTTP/1.1 200 OK"),
        (vec!["--http2", "--tlsv1.3"], "HTTP/2 200"),
        (vec!["--http2", "--tls-max", "1.2"], "HTTP/2 200"),
        (vec!["--http2", "-d", "sent"], "HTTP/2 200"),
    ] {
        let Some(output) = ground.curl(&arguments).await else { return };
        assert!(text(&output).starts_with(first), "{arguments:?}: {}", text(&output));
        let seen = ground.stage.upstream.last();
        assert_eq!(seen.fields("x-forwarded-proto"), ["https"], "{}", seen.head);
    }
    assert_eq!(ground.stage.upstream.last().body, b"sent");
    let own = format!("Origin: https://localhost:{}", ground.stage.proxy.address.port());
    let Some(output) = ground.curl(&["-H", &own]).await else { return };
    assert!(text(&output).starts_with("HTTP/2 200"), "the listener's own origin: {}", text(&output));
    let other = own.replace("https", "http");
    let Some(output) = ground.curl(&["-H", &other]).await else { return };
    assert!(text(&output).starts_with("HTTP/2 403"), "another origin: {}", text(&output));
    // RFC 9112 3.2.2
    let target = format!("https://localhost:{}/orders/absolute", ground.stage.proxy.address.port());
    let Some(output) = ground.curl(&["--http1.1", "--request-target", &target]).await else { return };
    assert!(text(&output).starts_with("HTTP/1.1 200"), "{}", text(&output));
    let Some(output) = ground.curl(&["--http1.1", "--request-target", &target.replace("https", "http")]).await else {
        return;
    };
    assert!(text(&output).starts_with("HTTP/1.1 421"), "{}", text(&output));
    // Without TLS nothing is served.
    let mut plain = TcpStream::connect(ground.stage.proxy.address).await.unwrap();
    plain.write_all(b"GET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end", PATIENCE, plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_is_closed() {
    let ground = Ground::limited("", "[limits]\nheader_timeout = \"300ms\"\n").await;
    // The first bytes of a ClientHello, and none.
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let began = Instant::now();
        let mut caller = TcpStream::connect(ground.stage.proxy.address).await.unwrap();
        caller.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = within("the end", PATIENCE, caller.read_to_end(&mut answer)).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(10), "{took:?}");
    }
    assert!(ground.stage.upstream.requests().is_empty());
}

#[tokio::test]
async fn a_caller_shows_a_certificate_where_it_is_asked_for_one() {
    let stranger = Authority::new("another CA").client("stranger");
    for (tls, without) in [
        (", client_ca = \"callers.pem\"", false),
        (", client_ca = \"callers.pem\", client_certificate = \"optional\"", true),
    ] {
        let ground = Ground::start(tls).await;
        ground.write("billing", &ground.authority.client("billing"));
        ground.write("stranger", &stranger);
        for version in ["1.2", "1.3"] {
            let limits = ["--tls-max", version];
            let Some(output) = ground.as_client("billing", &limits).await else { return };
            assert!(text(&output).starts_with("HTTP/2 200"), "{version}: {}", text(&output));
            let Some(output) = ground.as_client("stranger", &limits).await else { return };
            assert!(!text(&output).contains("HTTP/2 200"), "a foreign one: {}", text(&output));
            let Some(output) = ground.curl(&limits).await else { return };
            assert_eq!(text(&output).contains("HTTP/2 200"), without, "none: {}", text(&output));
        }
        let expected = if without { 4 } else { 2 };
        assert_eq!(ground.stage.upstream.requests().len(), expected);
    }
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_bad_one_is_not() {
    let ground = Ground::start("").await;
    let Some(output) = ground.curl(&[]).await else { return };
    assert!(text(&output).starts_with("HTTP/2 200"), "{}", text(&output));

    std::fs::write(ground.folder.join("server.pem"), "canary").unwrap();
    ground.hang_up();
    ground.says("the new certificate is no good").await;
    let Some(output) = ground.curl(&[]).await else { return };
    assert!(text(&output).starts_with("HTTP/2 200"), "the last good one stays: {}", text(&output));
    assert!(!ground.stage.proxy.process.stderr.text().contains("canary"));

    // Kubernetes swaps a link to a folder; here the files are links, and the other authority's are behind them.
    let other = Authority::new("the next CA");
    let (next, server) = (ground.folder.join("next"), other.server());
    std::fs::create_dir(&next).unwrap();
    std::fs::write(next.join("server.pem"), &server.certificate).unwrap();
    std::fs::write(next.join("server.key"), &server.key).unwrap();
    for name in ["server.pem", "server.key"] {
        let link = ground.folder.join("link");
        std::os::unix::fs::symlink(next.join(name), &link).unwrap();
        std::fs::rename(link, ground.folder.join(name)).unwrap();
    }
    ground.hang_up();
    ground.says("a new certificate is in use").await;
    let Some(output) = ground.curl(&[]).await else { return };
    assert!(!text(&output).contains("HTTP/2 200"), "the old authority did not sign it: {}", text(&output));
    std::fs::write(ground.folder.join("ca.pem"), &other.certificate).unwrap();
    let Some(output) = ground.curl(&[]).await else { return };
    assert!(text(&output).starts_with("HTTP/2 200"), "{}", text(&output));
}

#[tokio::test]
async fn connections_end_when_other_authorities_vouch_for_callers() {
    let ground = Ground::start(", client_ca = \"callers.pem\"").await;
    let identity = ground.authority.client("billing");
    ground.write("billing", &identity);
    let Some(output) = ground.as_client("billing", &[]).await else { return };
    assert!(text(&output).starts_with("HTTP/2 200"), "{}", text(&output));
    let mut open = Vec::new();
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let mut caller = connect(&ground, &identity, protocol).await;
        let first: &[u8] = if protocol == b"h2" {
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
        } else {
            b"GET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
        };
        caller.write_all(first).await.unwrap();
        let mut buffer = [0; 1024];
        assert!(within("an answer", PATIENCE, caller.read(&mut buffer)).await.unwrap() > 0);
        open.push(caller);
    }

    let other = Authority::new("the next CA of callers");
    std::fs::write(ground.folder.join("callers.pem"), &other.certificate).unwrap();
    ground.hang_up();
    ground.says("other authorities vouch for callers").await;
    let mut http1 = open.pop().unwrap();
    let mut rest = Vec::new();
    let _ = within("the connection ends", PATIENCE, http1.read_to_end(&mut rest)).await;
    let mut http2 = open.pop().unwrap();
    // GOAWAY, and the PING by which h2 learns that it was read.
    let mut seen = Vec::new();
    eventually("a GOAWAY", async || {
        let mut buffer = [0; 1024];
        let read = within("more", PATIENCE, http2.read(&mut buffer)).await.ok()?;
        seen.extend_from_slice(&buffer[..read]);
        seen.windows(9).any(|header| header[..4] == [0, 0, 8, 7]).then_some(())
    })
    .await;
    // A caller that does not want to hear it gets nothing more.
    let before = ground.stage.upstream.requests().len();
    let ask = [frame(SETTINGS, ACK, 0, b""), frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&secure("/orders/x")))];
    http2.write_all(&ask.concat()).await.unwrap();
    let mut seen = Vec::new();
    eventually("an answer", async || {
        let mut buffer = [0; 4096];
        let read = within("more", PATIENCE, http2.read(&mut buffer)).await.ok()?;
        seen.extend_from_slice(&buffer[..read]);
        String::from_utf8_lossy(&seen).contains("\"status\":421").then_some(())
    })
    .await;
    assert_eq!(ground.stage.upstream.requests().len(), before);
    let Some(output) = ground.as_client("billing", &[]).await else { return };
    assert!(!text(&output).contains("HTTP/2 200"), "{}", text(&output));
    ground.write("billing", &other.client("billing"));
    let Some(output) = ground.as_client("billing", &[]).await else { return };
    assert!(text(&output).starts_with("HTTP/2 200"), "{}", text(&output));
}

/// The pseudo-fields of a GET over TLS.
fn secure(path: &str) -> Fields<'_> {
    vec![(":method", b"GET"), (":scheme", b"https"), (":authority", b"localhost"), (":path", path.as_bytes())]
}

/// A TLS connection with a certificate of the caller's own.
async fn connect(ground: &Ground, identity: &Identity, alpn: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&ground.authority.certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![der(&identity.certificate)], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(ground.stage.proxy.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap()
}

/// What was agreed on in the handshake is what has to be spoken.
#[tokio::test]
async fn http_2_that_was_agreed_on_has_to_begin_with_its_preface() {
    let ground = Ground::start("").await;
    let identity = ground.authority.client("unasked");
    let mut caller = connect(&ground, &identity, b"h2").await;
    caller.write_all(b"GET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end", PATIENCE, caller.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    let mut caller = connect(&ground, &identity, b"http/1.1").await;
    caller.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end", PATIENCE, caller.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 505"), "{}", String::from_utf8_lossy(&answer));
}

/// A tunnel, a download over HTTP/1 and a stream of HTTP/2 last no longer than `drain.deadline` after nobody vouches for
/// their caller any more.
#[tokio::test]
async fn what_is_open_is_cut_off_a_while_after_the_trust_in_its_caller() {
    let far = Scripted::start().await;
    let limits = format!(
        "forward_proxy = {{ tunnel = [\"{}\"] }}\ndangerous = {{ private = true }}\n[drain]\ndeadline = \"500ms\"\n",
        far.address
    );
    let ground = Ground::limited(", client_ca = \"callers.pem\"", &limits).await;
    let identity = ground.authority.client("billing");
    let unfinished = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun";
    let mut tunnel = connect(&ground, &identity, b"http/1.1").await;
    tunnel.write_all(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", far.address).as_bytes()).await.unwrap();
    let mut peer = far.accept().await;
    peer.send(b"tunnelled").await;
    let mut download = connect(&ground, &identity, b"http/1.1").await;
    ground.stage.upstream.next(Reply::new(unfinished));
    download.write_all(b"GET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    read_until(&mut download, "begun").await;
    let mut streams = connect(&ground, &identity, b"h2").await;
    ground.stage.upstream.next(Reply::new(unfinished));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let ask = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&secure("/orders/x")));
    streams
        .write_all(&[preface, frame(SETTINGS, 0, 0, b""), frame(SETTINGS, ACK, 0, b""), ask].concat())
        .await
        .unwrap();
    read_until(&mut streams, "begun").await;
    read_until(&mut tunnel, "tunnelled").await;

    let other = Authority::new("the next CA of callers");
    std::fs::write(ground.folder.join("callers.pem"), &other.certificate).unwrap();
    let began = Instant::now();
    ground.hang_up();
    for (mut open, what) in [(tunnel, "tunnel"), (download, "download"), (streams, "streams")] {
        let mut rest = Vec::new();
        let _ = within("it is cut off", PATIENCE, open.read_to_end(&mut rest)).await;
        assert!(began.elapsed() >= Duration::from_millis(450), "{what} had time until the deadline");
    }
    assert!(peer.is_closed().await);
}

/// Reads until this text has come.
async fn read_until(stream: &mut tokio_rustls::client::TlsStream<TcpStream>, text: &str) {
    let mut seen = Vec::new();
    eventually(text, async || {
        let mut buffer = [0; 4096];
        let read = within("more", PATIENCE, stream.read(&mut buffer)).await.ok()?;
        seen.extend_from_slice(&buffer[..read]);
        String::from_utf8_lossy(&seen).contains(text).then_some(())
    })
    .await;
}
