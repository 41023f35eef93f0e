//! Token endpoints and upstreams that only a proxy on the way out reaches: absolute-form for plain HTTP (RFC 9112
//! 3.2.2), `CONNECT` for TLS (RFC 9110 9.3.6), and its password for it alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::certificates::Authority;
use crate::support::http::{Connection, fields};
use crate::support::http2::{Http2, Say};
use crate::support::nginx::{Nginx, Tls};
use crate::support::proxy::Setup;
use crate::support::recorder::Recorder;
use crate::support::scene::{Scene, TokenEndpoint, basic};
use crate::support::scripted::{Scripted, answer};
use crate::support::servers::ClosedPort;

const PASSWORD: &str = "c4n4ry-Pr0xy:Dz5 Kf9&Yw2";

/// A small proxy on the way out: every request leads to `target`, whatever its name is. It keeps each head it is sent.
struct WayOut {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _accepting: JoinSet<()>,
}

impl WayOut {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, target, Arc::clone(&kept)));
            }
        });
        Self { address, heads, _accepting: accepting }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// One request, then whatever either side says.
async fn serve(stream: TcpStream, target: SocketAddr, heads: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    heads.lock().unwrap().push(head.clone());
    let mut onward = TcpStream::connect(target).await.unwrap();
    if head.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
    } else {
        onward.write_all(origin_form(&head).as_bytes()).await.unwrap();
    }
    // Either side may break the connection off; there is nothing to say about it here.
    let _ = copy_bidirectional(&mut stream, &mut onward).await;
}

/// The head as a proxy sends it on.
fn origin_form(head: &str) -> String {
    let (line, rest) = head.split_once("\r\n").unwrap();
    let [method, target, version] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let (_, path) =
        target.strip_prefix("http://").unwrap_or_else(|| panic!("not absolute: {line}")).split_once('/').unwrap();
    let rest: String =
        rest.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("proxy-")).collect();
    format!("{method} /{path} {version}\r\n{rest}")
}

fn tables(token_endpoint: &str, further: &str) -> String {
    format!(
        "[named_credentials.orders]\nurl = \"http://{{upstream}}\"\nexternal_credential = \"issuer\"\n\
         [external_credentials.issuer]\ntoken_endpoint = \"{token_endpoint}\"\nclient_id = \"orders\"\n\
         client_secret = {{ dangerous_literal = \"orders-secret\" }}\n{further}\n"
    )
}

fn secrets(setup: Setup) -> Setup {
    setup.env("PROXY_PASSWORD", PASSWORD)
}

/// `http_proxy` with a login, and these further keys.
fn through(address: SocketAddr, further: &str) -> String {
    format!(
        "http_proxy = {{ url = \"http://{address}\", username = \"user\", \
         password = {{ env = \"PROXY_PASSWORD\" }}{further} }}\n"
    )
}

#[tokio::test]
async fn plain_http_goes_in_absolute_form_and_the_password_stays_with_the_proxy() {
    let endpoint = TokenEndpoint::start().await;
    let way = WayOut::to(endpoint.address()).await;
    // The name means nothing to us: only the proxy has to know it.
    let lines = through(way.address, "") + "dangerous = { plain_http = true }\n";
    let tables = tables("http://login.invalid:8443/token?tenant=17", &lines);
    let scene = Scene::before(endpoint, &tables, secrets).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    assert_eq!(scene.renew("/orders/x").await.bearer(), "token-2");

    let (heads, asked) = (way.heads(), scene.endpoint.asked());
    assert_eq!((heads.len(), asked.len()), (2, 2), "{heads:#?}");
    for (head, asked) in heads.iter().zip(&asked) {
        assert!(head.starts_with("POST http://login.invalid:8443/token?tenant=17 HTTP/1.1\r\n"), "{head}");
        assert_eq!(fields(head, "host"), ["login.invalid:8443"]);
        assert_eq!(basic(fields(head, "proxy-authorization")[0]), format!("user:{PASSWORD}"));
        assert_eq!(asked.field("proxy-authorization"), None);
        assert_eq!(basic(asked.authorization()), "orders:orders-secret", "what is the endpoint's passes through");
    }
    assert!(scene.upstream.requests().iter().all(|seen| seen.fields("proxy-authorization").is_empty()));
    let log = scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
    assert!(!log.contains("c4n4ry"), "{log}");
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_and_the_proxy_sees_only_the_authority() {
    let endpoint = TokenEndpoint::start().await;
    let authority = Authority::new("a private CA");
    let identity = authority.server();
    let tls = Tls { identity: &identity, protocols: "TLSv1.3", client_authority: None };
    let Some(nginx) = Nginx::start(endpoint.address(), Some(tls)).await else { return };
    let way = WayOut::to(nginx.address).await;
    let lines = through(way.address, "") + "tls = { ca = \"ca.pem\" }\n";
    let tables = tables("https://localhost:9/token", &lines);
    let setup = |setup| secrets(setup).file("ca.pem", &authority.certificate);
    let scene = Scene::before(endpoint, &tables, setup).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");

    let heads = way.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with("CONNECT localhost:9 HTTP/1.1\r\n"), "{}", heads[0]);
    assert_eq!(basic(fields(&heads[0], "proxy-authorization")[0]), format!("user:{PASSWORD}"));
    assert!(fields(&heads[0], "authorization").is_empty(), "{}", heads[0]);
    let asked = scene.endpoint.asked();
    assert_eq!((asked.len(), asked[0].field("proxy-authorization")), (1, None));
    assert_eq!(basic(asked[0].authorization()), "orders:orders-secret");
}

#[tokio::test]
async fn what_no_proxy_names_is_reached_directly() {
    let nobody = ClosedPort::new();
    for (host, no_proxy, is_direct) in [
        ("127.0.0.1", "127.0.0.0/8", true),
        ("localhost", "localhost", true),
        ("127.0.0.1", "*", true),
        ("localhost", "127.0.0.0/8", false),
        ("127.0.0.1", "localhost", false),
        ("127.0.0.1", "10.0.0.0/8", false),
    ] {
        let endpoint = TokenEndpoint::start().await;
        let url = format!("http://{host}:{}/token", endpoint.address().port());
        let lines = through(nobody.address, &format!(", no_proxy = [\"{no_proxy}\"]"));
        let scene = Scene::before(endpoint, &tables(&url, &lines), secrets).await;
        let answer = scene.get("/orders/x", &[]).await;
        let expected = if is_direct { (200, 1) } else { (503, 0) };
        assert_eq!((answer.status, scene.endpoint.asked().len()), expected, "{host}, {no_proxy}: {}", answer.text());
    }
}

/// Neither the environment's proxy nor that of the token endpoint is the upstream's.
#[tokio::test]
async fn only_the_token_request_takes_that_way_and_the_environment_names_none() {
    let endpoint = TokenEndpoint::start().await;
    let way = WayOut::to(endpoint.address()).await;
    let nobody = ClosedPort::new();
    let tables = tables("http://{endpoint}/token", &through(way.address, ""));
    let elsewhere = format!("http://{}", nobody.address);
    let setup = |setup: Setup| {
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
            .iter()
            .fold(secrets(setup), |setup, name| setup.env(name, &elsewhere))
    };
    let scene = Scene::before(endpoint, &tables, setup).await;
    for _ in 0..3 {
        assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    }
    assert_eq!(way.heads().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_an_outage_and_shows_no_password() {
    // The scripted server is the proxy itself here.
    for url in ["http://login.invalid/token", "https://login.invalid/token"] {
        let refusing = TokenEndpoint::answering(|_| {
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
                .to_vec()
        })
        .await;
        let lines = through(refusing.address(), "") + "dangerous = { plain_http = true }\n";
        let scene = Scene::start(&tables(url, &lines), secrets).await;
        let answer = scene.get("/orders/x", &[]).await;
        assert_eq!(answer.status, 503, "{url}: {}", answer.text());
        assert_eq!(scene.upstream.connections(), 0);
        let shown = answer.text() + &scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
        assert!(!shown.contains("c4n4ry"), "{shown}");
        assert_eq!(refusing.asked().len(), 1, "{url}");
    }
}

/// Tables whose upstream is `url`, with these lines for it; tokens are had directly.
fn upstream_tables(url: &str, named: &str) -> String {
    format!(
        "[named_credentials.orders]\nurl = \"{url}\"\nexternal_credential = \"issuer\"\n{named}\n\
         [external_credentials.issuer]\ntoken_endpoint = \"http://{{endpoint}}/token\"\nclient_id = \"orders\"\n\
         client_secret = {{ dangerous_literal = \"orders-secret\" }}\n"
    )
}

const PLAIN: &str = "dangerous = { plain_http = true }\n";

#[tokio::test]
async fn a_plain_upstream_is_asked_in_absolute_form_and_never_sees_the_password() {
    let upstream = Recorder::start().await;
    let way = WayOut::to(upstream.address).await;
    let tables = upstream_tables("http://api.invalid:8080/v1", &(through(way.address, "") + PLAIN));
    let scene = Scene::start(&tables, secrets).await;
    let answer = scene.get("/orders/a?b=c", &[("Proxy-Authorization", "Basic bm8=")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let heads = way.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with("GET http://api.invalid:8080/v1/a?b=c HTTP/1.1\r\n"), "{}", heads[0]);
    assert_eq!(fields(&heads[0], "host"), ["api.invalid:8080"]);
    assert_eq!(fields(&heads[0], "proxy-authorization").len(), 1);
    assert_eq!(basic(fields(&heads[0], "proxy-authorization")[0]), format!("user:{PASSWORD}"));
    assert_eq!(upstream.only().bearer(), "token-1");
    assert!(upstream.only().fields("proxy-authorization").is_empty());
    let log = scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
    assert!(!log.contains("c4n4ry"), "{log}");
}

#[tokio::test]
async fn an_upstream_with_tls_is_reached_through_a_tunnel_whatever_version_of_http_it_speaks() {
    let authority = Authority::new("a private CA");
    for (http, tunnels) in [("http = \"2\"\n", 1), ("", 2)] {
        let upstream = Http2::with_tls(&authority.server(), |_| Say::Echo).await;
        let way = WayOut::to(upstream.address).await;
        let lines = through(way.address, "") + http + "tls = { ca = \"ca.pem\" }\n";
        let setup = |setup| secrets(setup).file("ca.pem", &authority.certificate).env("KEYBEARER_WORKERS", "1");
        let scene = Scene::start(&upstream_tables("https://localhost:9", &lines), setup).await;
        for _ in 0..3 {
            let answer = scene.get("/orders/x", &[]).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let heads = way.heads();
        // Where it is not said, the server says that it speaks HTTP/2 only.
        assert_eq!((heads.len(), upstream.connections()), (tunnels, 1), "{heads:#?}");
        for head in heads {
            assert!(head.starts_with("CONNECT localhost:9 HTTP/1.1\r\n"), "{head}");
            assert_eq!(basic(fields(&head, "proxy-authorization")[0]), format!("user:{PASSWORD}"));
            assert!(fields(&head, "authorization").is_empty(), "{head}");
        }
        assert!(upstream.requests().iter().all(|seen| seen.field("proxy-authorization").is_none()));
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_an_upstream_is_named_once_without_its_password() {
    for (url, further) in
        [("http://api.invalid", PLAIN), ("https://api.invalid", ""), ("https://api.invalid", "http = \"2\"")]
    {
        let refusing = Scripted::start().await.serve(|_| {
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
                .to_vec()
        });
        let lines = through(refusing.address, "") + further;
        let setup = |setup| secrets(setup).env("KEYBEARER_WORKERS", "1");
        let scene = Scene::start(&upstream_tables(url, &lines), setup).await;
        for _ in 0..3 {
            let answer = scene.get("/orders/x", &[]).await;
            answer.assert_problem(502, url);
            let cause = answer.field("proxy-status").unwrap();
            assert_eq!(cause, "keybearer; error=http_proxy_refused; details=\"it answered 407\"", "{url}");
            assert!(answer.field("proxy-authenticate").is_none(), "{}", answer.head);
        }
        let warnings = scene.proxy.warnings(1).await;
        let refusals =
            warnings.iter().filter(|line| line.to_string().contains("the proxy on the way out refuses")).count();
        assert_eq!(refusals, 1, "{url}: {warnings:#?}");
        let log = scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
        assert!(!log.contains("c4n4ry"), "{log}");
    }
}

#[tokio::test]
async fn one_proxy_for_all_is_switched_off_for_one_and_nobody_else_is_asked() {
    let endpoint = TokenEndpoint::start().await;
    let upstream = Recorder::start().await;
    let way = WayOut::to(upstream.address).await;
    let nobody = ClosedPort::new();
    let global = format!("http_proxy = {{ url = \"http://{}\", no_proxy = [\"127.0.0.1\"] }}\n", way.address);
    let tables = upstream_tables("http://api.invalid", PLAIN)
        + &format!(
            "[named_credentials.own]\nurl = \"http://{}\"\nhttp_proxy = false\ngenerate_authorization_header = false\n",
            nobody.address
        );
    // A key of the whole file stands above all tables.
    let config = (global + &crate::support::proxy::head("info") + &tables)
        .replace("{endpoint}", &endpoint.address().to_string());
    let proxy = Setup::new(&config).run().await;
    let ask = async |target| crate::support::http::get(proxy.address, target).await.unwrap();
    let answer = ask("/orders/x").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(way.heads().len(), 1, "the token endpoint stands in no_proxy");
    let answer = ask("/own/x").await;
    answer.assert_problem(502, "directly");
    assert!(answer.field("proxy-status").unwrap().contains("connection_refused"), "{}", answer.head);
    assert_eq!(way.heads().len(), 1);
}

#[tokio::test]
async fn the_environment_names_the_way_where_the_configuration_says_so() {
    let upstream = Recorder::start().await;
    let way = WayOut::to(upstream.address).await;
    let tables = upstream_tables("http://api.invalid", &format!("http_proxy = \"environment\"\n{PLAIN}"));
    let named = format!("http://user:c4n4ry@{}", way.address);
    let setup = |setup: Setup| setup.env("http_proxy", &named).env("HTTP_PROXY", "http://127.0.0.1:9");
    let scene = Scene::start(&tables, setup).await;
    let answer = scene.get("/orders/x", &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(basic(fields(&way.heads()[0], "proxy-authorization")[0]), "user:c4n4ry");
    let output = scene.proxy.setup.output(&["check"]).await;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(&format!("through the proxy {}", way.address)) && !told.contains("c4n4ry"), "{told}");
}

/// What callers name goes the same way as all else: in absolute-form, or within a `CONNECT`; a tunnel of theirs within one
/// too, and there the far end may speak first.
#[tokio::test]
async fn what_callers_name_goes_through_the_proxy_too() {
    let upstream = Scripted::start().await;
    let way = WayOut::to(upstream.address).await;
    let direct = Recorder::start().await;
    let global = format!(
        "http_proxy = {{ url = \"http://{}\", username = \"user\", password = {{ env = \"PROXY_PASSWORD\" }}, \
         no_proxy = [\"127.0.0.1\"] }}\n",
        way.address
    );
    let listed = format!("\"api.invalid:80\", \"api.invalid:22\", \"{}\", \"10.0.0.1:80\"", direct.address);
    let forward = format!(
        "forward_proxy = {{ passthrough = [{listed}], tunnel = [{listed}] }}\ndangerous = {{ private = true }}\n\n[admin]"
    );
    let config = global + &crate::support::proxy::head("info").replace("[admin]", &forward);
    let proxy = Setup::new(&config).env("PROXY_PASSWORD", PASSWORD).run().await;
    let ask = |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n");

    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(ask("GET http://api.invalid/x?y").as_bytes()).await.unwrap();
    let mut peer = upstream.accept().await;
    let seen = peer.request().await;
    assert!(seen.head.starts_with("GET /x?y HTTP/1.1\r\n"), "{}", seen.head);
    peer.send(&answer(200, &[], b"through")).await;
    assert_eq!(caller.answer(true).await.unwrap().body, b"through");

    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(ask("CONNECT api.invalid:22").as_bytes()).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.send(b"the far end speaks first\n").await;
    assert_eq!(caller.head().await.unwrap().status, 200);
    assert_eq!(caller.line().await.unwrap(), "the far end speaks first\n");
    caller.send(b"and is answered\n").await.unwrap();
    assert_eq!(peer.bytes(16).await, b"and is answered\n");

    let heads = way.heads();
    assert_eq!(heads.len(), 2, "{heads:#?}");
    for (head, line) in heads.iter().zip(["GET http://api.invalid/x?y HTTP/1.1", "CONNECT api.invalid:22 HTTP/1.1"]) {
        assert!(head.starts_with(line), "{head}");
        let sent = fields(head, "proxy-authorization");
        assert_eq!(sent.iter().map(|sent| basic(sent)).collect::<Vec<_>>(), [format!("user:{PASSWORD}")], "{head}");
    }

    // `no_proxy` counts for them as for all others.
    for line in [format!("GET http://{}/x", direct.address), format!("CONNECT {}", direct.address)] {
        let mut caller = Connection::open(proxy.address).await.unwrap();
        caller.send(ask(&line).as_bytes()).await.unwrap();
        assert_eq!(caller.head().await.unwrap().status, 200, "{line}");
    }
    assert_eq!((way.heads().len(), direct.requests().len()), (2, 1));
}

/// C25: an address that is written as one is judged before the proxy hears of it; a name is the proxy's to resolve.
#[tokio::test]
async fn the_proxy_is_asked_for_no_address_that_is_not_allowed() {
    let upstream = Recorder::start().await;
    let way = WayOut::to(upstream.address).await;
    let hosts = ["10.0.0.1", "[fd00::1]", "169.254.169.254", "[::ffff:192.168.1.1]"];
    let listed = hosts.map(|host| format!("\"{host}:80\"")).join(", ");
    let forward = format!("forward_proxy = {{ passthrough = [{listed}], tunnel = [{listed}] }}\n\n[admin]");
    let global = format!("http_proxy = {{ url = \"http://{}\" }}\n", way.address);
    let proxy = Setup::new(&(global + &crate::support::proxy::head("info").replace("[admin]", &forward))).run().await;
    for host in hosts {
        for line in [format!("GET http://{host}/x"), format!("CONNECT {host}:80")] {
            let mut caller = Connection::open(proxy.address).await.unwrap();
            let answer = caller.exchange(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            answer.assert_problem(502, &line);
            let cause = answer.field("proxy-status").unwrap();
            assert!(cause.contains("error=destination_ip_prohibited"), "{line}: {cause}");
        }
    }
    assert!(way.heads().is_empty(), "{:?}", way.heads());
}
