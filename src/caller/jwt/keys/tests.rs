//! The pace at which keys are asked for, under a paused clock with keys in a file; the way to them, over loopback.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{KeyOrigin, KeySource, PACE, Supply, pause};
use crate::connect::{Addresses, HttpProxies, HttpProxy};
use crate::fetch::fake::Fake;
use crate::sign::Signer;
use crate::tls::Profile;

fn key_set(count: usize) -> String {
    let keys: Vec<_> = (0..count).map(|_| Signer::generate_es256().unwrap().public_jwk()).collect();
    json!({ "keys": keys }).to_string()
}

fn source(origin: KeyOrigin) -> KeySource {
    let tls = Arc::new(Profile::trusting_nobody().unwrap());
    KeySource {
        origin,
        tls,
        bearer_token_file: None,
        dangerous_plain_http: false,
        addresses: Addresses::FOREIGN,
        http_proxies: HttpProxies::default(),
    }
}

/// Keys in a file of a folder, watched.
fn watched(path: &Path) -> (Supply, Arc<AtomicU64>) {
    let revision = Arc::new(AtomicU64::new(0));
    let supply = Supply::new("i".to_owned(), source(KeyOrigin::File(path.to_owned())), Arc::clone(&revision));
    supply.watch(&Handle::current());
    (supply, revision)
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_known_is_asked_for_once_and_not_again_for_a_while() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, key_set(1)).unwrap();
    let (supply, revision) = watched(&path);
    supply.renewal(0).unwrap().ended().await;
    assert_eq!((supply.fetches(), supply.keys().len()), (1, 1));

    let changes = revision.load(Ordering::Relaxed);
    std::fs::write(&path, key_set(2)).unwrap();
    let (one, other) = (supply.renewal(1).unwrap(), supply.renewal(1).unwrap());
    tokio::join!(one.ended(), other.ended());
    assert_eq!((supply.fetches(), supply.keys().len()), (2, 2), "once for both");
    assert_eq!(revision.load(Ordering::Relaxed), changes + 1);
    assert!(supply.renewal(2).is_none(), "it was asked for a moment ago");
    supply.renewal(1).unwrap().ended().await;
    assert_eq!(supply.fetches(), 2, "whoever looked before that may look again at once");

    tokio::time::advance(PACE).await;
    supply.renewal(2).unwrap().ended().await;
    assert_eq!(supply.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_are_kept_and_the_same_keys_are_no_change() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, key_set(1)).unwrap();
    let (supply, revision) = watched(&path);
    supply.renewal(0).unwrap().ended().await;
    let changes = revision.load(Ordering::Relaxed);
    for (seen, document) in [(1, "no JSON"), (2, r#"{"keys":[]}"#)] {
        std::fs::write(&path, document).unwrap();
        tokio::time::sleep(PACE * 7).await;
        if let Some(renewal) = supply.renewal(supply.fetches()) {
            renewal.ended().await;
        }
        assert!(supply.fetches() > seen);
        assert_eq!((supply.keys().len(), revision.load(Ordering::Relaxed)), (1, changes));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_asked_for_again_every_hour() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, key_set(1)).unwrap();
    let (supply, _) = watched(&path);
    supply.renewal(0).unwrap().ended().await;
    std::fs::write(&path, key_set(3)).unwrap();
    let hourly = supply.renewal(0).unwrap().progress.wait_for(|progress| progress.fetches == 2).await.map(|_| ());
    assert!(hourly.is_ok());
    assert_eq!(supply.keys().len(), 3);
}

#[test]
fn failures_are_followed_by_longer_and_longer_pauses() {
    assert!(pause(0, 0.0) >= Duration::from_secs(54 * 60) && pause(0, 1.0) <= Duration::from_secs(66 * 60));
    assert_eq!(pause(1, 1.0), Duration::from_secs(1));
    assert_eq!(pause(4, 1.0), Duration::from_secs(8));
    assert_eq!(pause(1000, 1.0), Duration::from_secs(60));
    assert_eq!(pause(4, 0.0), Duration::from_secs(6));
}

async fn fetched(source: &KeySource, issuer: &str) -> Result<Bytes, String> {
    source.fetch(issuer).await.map_err(|problem| problem.into_owned())
}

#[tokio::test]
async fn keys_are_found_by_the_issuers_metadata_and_the_bearer_token_stays_with_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "the-token-of-the-pod\n").unwrap();
    let keys = Fake::serving(200, &[], "the keys").await;
    let elsewhere = keys.url("/keys").to_string();
    let issuer = Fake::serve(move |request| {
        let issuer = format!("http://{}", request.headers()["host"].to_str().unwrap());
        let body = match request.uri().path() {
            "/here/.well-known/openid-configuration" => {
                json!({ "issuer": format!("{issuer}/here"), "jwks_uri": format!("{issuer}/keys") }).to_string()
            }
            "/there/.well-known/openid-configuration" => {
                json!({ "issuer": format!("{issuer}/there"), "jwks_uri": elsewhere }).to_string()
            }
            "/plain/.well-known/openid-configuration" => {
                json!({ "issuer": format!("{issuer}/plain"), "jwks_uri": "http://192.0.2.1/keys" }).to_string()
            }
            "/keys" => "my keys".to_owned(),
            _ => return Response::builder().status(404).body(Bytes::new()).unwrap(),
        };
        Response::new(Bytes::from(body))
    })
    .await;
    let source = KeySource { bearer_token_file: Some(file), ..source(KeyOrigin::Discovery) };
    let at = |path: &str| issuer.url(path).to_string();
    assert_eq!(fetched(&source, &at("/here")).await.unwrap(), "my keys");
    assert_eq!(fetched(&source, &at("/there")).await.unwrap(), "the keys");
    assert!(fetched(&source, &at("/plain")).await.unwrap_err().contains("not https"));
    assert!(fetched(&source, &at("/none")).await.unwrap_err().starts_with("status 404"));

    let authorization = |request: &http::Request<Bytes>| request.headers().get("authorization").cloned();
    assert!(issuer.seen().iter().all(|request| authorization(request).unwrap() == "Bearer the-token-of-the-pod"));
    assert!(keys.seen().iter().all(|request| authorization(request).is_none()), "not for whom the metadata name");
}

#[tokio::test]
async fn redirects_errors_and_long_answers_are_no_keys() {
    let origin = |fake: &Fake| source(KeyOrigin::Url(fake.url("/keys")));
    let moved = Fake::serving(302, &[("location", "http://127.0.0.1:1/keys")], "").await;
    assert!(fetched(&origin(&moved), "i").await.unwrap_err().contains("redirect"));
    let long = Fake::serve(|_| Response::new(Bytes::from(vec![b' '; 300 * 1024]))).await;
    assert!(fetched(&origin(&long), "i").await.unwrap_err().contains("longer than"));
    let missing = source(KeyOrigin::File("/nowhere/keys".into()));
    assert!(fetched(&missing, "i").await.unwrap_err().contains("/nowhere/keys"));
}

/// C25: an issuer that is not known to be in our network must not send us into it. Its metadata come through a proxy, which
/// alone can resolve its name.
#[tokio::test]
async fn metadata_from_elsewhere_do_not_lead_into_our_network() {
    let keys = Fake::serving(200, &[], "the keys").await;
    let port = keys.url("/").port_u16().unwrap();
    for (host, accepted) in
        [("127.0.0.1", false), ("localhost", false), ("[::ffff:127.0.0.1]", false), ("127.0.0.1", true)]
    {
        let named = format!("http://{host}:{port}/keys");
        let proxy = Fake::serve(move |request| {
            let issuer = format!("http://{}", request.headers()["host"].to_str().unwrap());
            Response::new(json!({ "issuer": issuer, "jwks_uri": named }).to_string().into())
        })
        .await;
        let direct = ["localhost", "127.0.0.0/8", "::ffff:127.0.0.1"].map(str::to_owned).to_vec();
        let way = HttpProxy::new("127.0.0.1", proxy.url("/").port_u16().unwrap(), None, None, direct);
        let source = KeySource {
            dangerous_plain_http: true,
            addresses: if accepted { Addresses::CONFIGURED } else { Addresses::FOREIGN },
            http_proxies: HttpProxies::both(way),
            ..source(KeyOrigin::Discovery)
        };
        let found = fetched(&source, "http://issuer.invalid").await;
        if accepted {
            assert_eq!(found.unwrap(), "the keys");
        } else {
            let problem = found.unwrap_err();
            assert!(problem.contains("not allowed"), "{host}: {problem}");
        }
        assert_eq!(keys.seen().len(), usize::from(accepted), "{host}");
        let asked: Vec<_> = proxy.seen().iter().map(|request| request.uri().to_string()).collect();
        assert_eq!(asked, ["http://issuer.invalid/.well-known/openid-configuration"], "in absolute-form, to the proxy");
    }
}
