//! `keybearer health`: asks the admin listener whether the process takes traffic; for images without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{FAILURE, Global, failed};
use crate::config::Secrets;
use crate::server::Address;

pub(super) fn run(global: &Global) -> u8 {
    let address = match global.load(Secrets::Leave) {
        Ok(loaded) => loaded.config.admin.address,
        Err(status) => return status,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(probe(&address)) {
        Ok(()) => {
            anstream::println!("ready");
            0
        }
        Err(reason) => {
            anstream::eprintln!("keybearer: {reason}");
            FAILURE
        }
    }
}

/// The whole question may take this long: orchestrators ask again soon.
const DEADLINE: Duration = Duration::from_secs(2);

/// The most that is read of an answer.
const LIMIT: usize = 16 * 1024;

/// Asks `/readyz` at the admin listener's `address`; an unspecified one (`0.0.0.0`, `[::]`) is asked on loopback.
///
/// # Errors
/// A clause for the operator that says why the process is not ready, or not to be reached.
pub async fn probe(address: &Address) -> Result<(), String> {
    match tokio::time::timeout(DEADLINE, ask(address)).await {
        Ok(answered) => answered,
        Err(_) => Err(format!("no answer from {} within {} s", shown(address), DEADLINE.as_secs())),
    }
}

async fn ask(address: &Address) -> Result<(), String> {
    let unreachable = |error| format!("cannot connect to {}: {error}", shown(address));
    match address {
        Address::Tcp(listening) => {
            let asked = reachable(*listening);
            let stream = TcpStream::connect(asked).await.map_err(unreachable)?;
            exchange(stream, &asked.to_string()).await
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            exchange(stream, "localhost").await
        }
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("the admin listener did not answer: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::get("/readyz").header(HOST, host).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| format!("cannot ask the admin listener: {error}"))?;
    let asking = async move {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        // What the answer says beyond its status helps and is not needed.
        let text = Limited::new(answer.into_body(), LIMIT).collect().await.map(|body| body.to_bytes());
        Ok((status, text.unwrap_or_default()))
    };
    let mut asking = std::pin::pin!(asking);
    let answered: Result<(StatusCode, Bytes), String> = tokio::select! {
        answered = &mut asking => answered,
        // The connection may end first, with the answer already on its way to us.
        _ = connection => asking.await,
    };
    match answered? {
        (StatusCode::OK, _) => Ok(()),
        (status, text) => Err(format!("{}{}", status.as_u16(), reasons(&text))),
    }
}

/// The lines of the answer as one clause, without what a terminal would obey.
fn reasons(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.flat_map(|line| [": ", line]).flat_map(str::chars).filter(|c| !c.is_control()).collect()
}

/// Where a listener on `address` can be reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(address) => reachable(*address).to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Method, Request};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::{TcpListener, UnixListener};

    use super::{Address, exchange, probe, reachable};
    use crate::admin::{Admin, Audience};
    use crate::metrics::Metrics;
    use crate::readiness::Readiness;

    async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, admin: &Admin) {
        let answer = service_fn(|request: Request<Incoming>| async move {
            assert_eq!(request.method(), Method::GET);
            assert!(request.headers().contains_key("host"));
            Ok::<_, Infallible>(admin.answer(request.method(), request.uri().path(), Audience::Operator).await)
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await.unwrap();
    }

    fn admin() -> Admin {
        Admin {
            metrics: Metrics::new(),
            readiness: Readiness::new(),
            local: true,
            callers: std::sync::Arc::default(),
            admitted: Vec::new(),
            scrapes: crate::admin::Scrapes::default(),
        }
    }

    #[tokio::test]
    async fn a_ready_process_is_healthy_and_a_draining_one_is_not() {
        let admin = admin();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(format!("0.0.0.0:{}", listener.local_addr().unwrap().port()).parse().unwrap());
        let serve_one = async || serve(listener.accept().await.unwrap().0, &admin).await;
        let (answered, ()) = tokio::join!(probe(&address), serve_one());
        assert_eq!(answered, Ok(()));
        admin.readiness.drain();
        let (answered, ()) = tokio::join!(probe(&address), serve_one());
        assert_eq!(answered, Err("503: not ready: draining".to_owned()));
        drop(listener);
        let error = probe(&address).await.unwrap_err();
        assert!(error.starts_with("cannot connect to 127.0.0.1:"), "{error}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_asked_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let admin = admin();
        let address = Address::Unix(path);
        let (answered, ()) =
            tokio::join!(probe(&address), async { serve(listener.accept().await.unwrap().0, &admin).await });
        assert_eq!(answered, Ok(()));
    }

    #[tokio::test]
    async fn something_else_on_the_port_is_an_error() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (answered, ()) = tokio::join!(exchange(near, "localhost"), async {
            tokio::io::AsyncWriteExt::write_all(&mut far, b"SSH-2.0-something\r\n").await.unwrap();
            drop(far);
        });
        assert!(answered.unwrap_err().starts_with("the admin listener did not answer"));
    }

    #[test]
    fn an_unspecified_address_is_asked_on_loopback() {
        for (listening, asked) in
            [("0.0.0.0:9901", "127.0.0.1:9901"), ("[::]:9901", "[::1]:9901"), ("10.1.2.3:1", "10.1.2.3:1")]
        {
            assert_eq!(reachable(listening.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
