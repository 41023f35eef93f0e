//! The client against servers on loopback.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::fake::Fake;
use super::{FetchError, Limits, Way, fetch};
use crate::connect::{Addresses, ConnectError, HttpProxy};
use crate::secret::Secret;
use crate::tls::Profile;

fn get(uri: impl ToString) -> Request<Bytes> {
    Request::get(uri.to_string()).body(Bytes::new()).unwrap()
}

fn direct(tls: &Profile) -> Way<'_> {
    Way { tls, http_proxy: None, addresses: Addresses::CONFIGURED }
}

fn nobody() -> Profile {
    Profile::trusting_nobody().unwrap()
}

#[tokio::test]
async fn the_request_is_in_origin_form_with_host_and_closes_the_connection() {
    let fake = Fake::serving(200, &[("x-mark", "1")], "hello").await;
    let url = fake.url("/token?grant_type=client_credentials");
    let request = Request::post(url.clone()).body(Bytes::from_static(b"a=b")).unwrap();
    let answer = fetch(request, direct(&nobody()), Limits::default()).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"hello"[..]));
    assert_eq!(answer.headers()["x-mark"], "1");
    let seen = fake.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].uri(), "/token?grant_type=client_credentials");
    assert_eq!(seen[0].headers()["host"], url.authority().unwrap().as_str());
    assert_eq!(seen[0].headers()["connection"], "close");
    assert_eq!(seen[0].headers()["content-length"], "3");
    assert_eq!(&seen[0].body()[..], b"a=b");
}

#[tokio::test]
async fn a_redirect_is_handed_back_and_not_followed() {
    let fake = Fake::serving(307, &[("location", "/elsewhere")], "").await;
    let answer = fetch(get(fake.url("/")), direct(&nobody()), Limits::default()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 307);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_body_over_the_limit_is_an_error_with_and_without_a_length() {
    let fake = Fake::serving(200, &[], "0123456789").await;
    for (body, fits) in [(10, true), (9, false), (0, false)] {
        let limits = Limits { body, ..Limits::default() };
        let answer = fetch(get(fake.url("/")), direct(&nobody()), limits).await;
        assert_eq!(answer.is_ok(), fits);
        assert!(fits || matches!(answer, Err(FetchError::TooLarge { limit }) if limit == body));
    }
    let chunked =
        raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n").await;
    let limits = Limits { body: 15, ..Limits::default() };
    assert!(matches!(fetch(get(&chunked), direct(&nobody()), limits).await, Err(FetchError::TooLarge { limit: 15 })));
}

#[tokio::test]
async fn a_server_that_never_answers_runs_into_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let limits = Limits { timeout: Duration::from_millis(50), ..Limits::default() };
    assert!(matches!(fetch(get(url), direct(&nobody()), limits).await, Err(FetchError::Timeout)));
}

#[tokio::test]
async fn a_broken_answer_and_a_closed_port_are_told_apart() {
    let broken = raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort").await;
    assert!(matches!(fetch(get(broken), direct(&nobody()), Limits::default()).await, Err(FetchError::Http(_))));
    let nonsense = raw("SSH-2.0-canary\r\n").await;
    assert!(matches!(fetch(get(nonsense), direct(&nobody()), Limits::default()).await, Err(FetchError::Http(_))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let refused = fetch(get(closed), direct(&nobody()), Limits::default()).await;
    assert!(matches!(refused, Err(FetchError::Connect(ConnectError::Refused(_)))));
}

#[tokio::test]
async fn urls_that_cannot_be_asked_are_refused_before_a_connection() {
    for url in ["/token", "ftp://127.0.0.1/", "http://user:canary@127.0.0.1/"] {
        let error = fetch(get(url), direct(&nobody()), Limits::default()).await.unwrap_err();
        assert!(matches!(error, FetchError::Url(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

fn proxy(url: &http::Uri, no_proxy: &[&str]) -> HttpProxy {
    let password = Secret::new("canary".to_owned());
    let no_proxy = no_proxy.iter().map(ToString::to_string).collect();
    HttpProxy::new("127.0.0.1", url.port_u16().unwrap(), Some("user"), Some(&password), no_proxy)
}

#[tokio::test]
async fn plain_http_goes_to_a_proxy_whole_with_credentials_for_the_proxy() {
    let fake = Fake::serving(200, &[], "hello").await;
    let proxy = proxy(&fake.url("/"), &["direct.test"]);
    let tls = nobody();
    let way = Way { tls: &tls, http_proxy: Some(&proxy), addresses: Addresses::CONFIGURED };
    let answer = fetch(get("http://issuer.test:8080/token?a=b"), way, Limits::default()).await.unwrap();
    assert_eq!(&answer.body()[..], b"hello");
    let seen = fake.seen();
    assert_eq!(seen[0].uri(), "http://issuer.test:8080/token?a=b");
    assert_eq!(seen[0].headers()["host"], "issuer.test:8080");
    assert_eq!(seen[0].headers()["proxy-authorization"], "Basic dXNlcjpjYW5hcnk=");
}

#[tokio::test]
async fn what_no_proxy_names_is_asked_directly_and_hears_nothing_of_the_proxy() {
    let fake = Fake::serving(200, &[], "hello").await;
    let elsewhere = Fake::serving(500, &[], "").await;
    let proxy = proxy(&elsewhere.url("/"), &["127.0.0.0/8"]);
    let tls = nobody();
    let way = Way { tls: &tls, http_proxy: Some(&proxy), addresses: Addresses::CONFIGURED };
    assert_eq!(fetch(get(fake.url("/a")), way, Limits::default()).await.unwrap().status().as_u16(), 200);
    let seen = fake.seen();
    assert_eq!(seen[0].uri(), "/a");
    assert!(!seen[0].headers().contains_key("proxy-authorization"));
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_that_wants_other_credentials_is_not_taken_for_the_target() {
    let fake = Fake::serving(407, &[("proxy-authenticate", "Basic")], "canary").await;
    let proxy = proxy(&fake.url("/"), &[]);
    let tls = nobody();
    let way = Way { tls: &tls, http_proxy: Some(&proxy), addresses: Addresses::CONFIGURED };
    for url in ["http://issuer.test/", "https://issuer.test/"] {
        let error = fetch(get(url), way, Limits::default()).await.unwrap_err();
        assert!(matches!(error, FetchError::Connect(ConnectError::Proxy { status: 407 })), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"));
    }
    assert_eq!(fake.seen().last().unwrap().method(), "CONNECT");
    let direct = fetch(get(fake.url("/")), direct(&tls), Limits::default()).await.unwrap();
    assert_eq!(direct.status().as_u16(), 407);
}

/// A server that reads one head, writes `answer` as it is and closes; its URL.
async fn raw(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let _ = socket.read(&mut head).await;
        let _ = socket.write_all(answer.as_bytes()).await;
        let _ = socket.shutdown().await;
    });
    url
}

/// Pins: a plain-HTTP endpoint on loopback needs no `dangerous`, because nothing leaves the machine; the proxy got it all.
#[tokio::test]
async fn what_goes_to_this_machine_in_the_open_is_not_carried_to_another_first() {
    let fake = Fake::serving(200, &[], "direct").await;
    let elsewhere = HttpProxy::new("proxy.invalid", 3128, None, None, Vec::new());
    let nobody = nobody();
    let way = Way { tls: &nobody, http_proxy: Some(&elsewhere), addresses: Addresses::CONFIGURED };
    let by_name = format!("http://localhost:{}/", fake.url("/").port_u16().unwrap());
    for url in [fake.url("/").to_string(), by_name] {
        let answer = fetch(get(url), way, Limits::default()).await.unwrap();
        assert_eq!(&answer.body()[..], b"direct");
    }
    let tls = fetch(get("https://localhost:1/"), way, Limits::default()).await;
    assert!(matches!(tls, Err(FetchError::Connect(ConnectError::ProxyUnreached(_)))), "{tls:?}");
}
