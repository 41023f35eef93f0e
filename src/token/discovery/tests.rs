//! The schedule under a paused clock with scripted attempts, and who shares what.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Discoveries, Discovery, Metadata, pause, unavailable};
use crate::connect::HttpProxy;
use crate::fetch::fake::Fake;
use crate::secret::Secret;
use crate::token::failure::MintError;
use crate::token::{Endpoint, Settings};

const PATIENCE: Duration = Duration::from_secs(10);

type Attempt = Box<dyn Fn() -> BoxFuture<'static, Result<Metadata, MintError>> + Send + Sync>;

fn metadata(url: &str) -> Metadata {
    Metadata { token_endpoint: url.parse().unwrap(), mtls_token_endpoint: None, authentication_methods: Vec::new() }
}

fn found(url: &'static str) -> Attempt {
    Box::new(move || ready(Ok(metadata(url))).boxed())
}

fn fails(cause: &'static str) -> Attempt {
    Box::new(move || ready(Err(unavailable(cause))).boxed())
}

fn hangs() -> Attempt {
    Box::new(|| pending().boxed())
}

/// When attempts began.
type Begun = Arc<Mutex<Vec<Instant>>>;

/// A discovery that makes these attempts in turn, the last again and again.
fn scripted(script: Vec<Attempt>) -> (Arc<Discovery>, Begun) {
    let begun = Begun::default();
    let seen = Arc::clone(&begun);
    let attempt = move || {
        let mut seen = seen.lock();
        let next = seen.len().min(script.len() - 1);
        seen.push(Instant::now());
        script[next]()
    };
    (Discovery::watched("https://i.test".to_owned(), PATIENCE, attempt, &Handle::current()), begun)
}

fn gaps(begun: &Begun) -> Vec<f64> {
    begun.lock().windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
}

fn endpoint_of(discovered: &Result<Arc<Metadata>, MintError>) -> String {
    discovered.as_ref().unwrap().token_endpoint.to_string()
}

#[tokio::test(start_paused = true)]
async fn metadata_are_fetched_at_start_and_about_every_hour() {
    let (discovery, begun) = scripted(vec![found("https://a.test/1"), found("https://a.test/2")]);
    assert_eq!(endpoint_of(&discovery.metadata().await), "https://a.test/1");
    tokio::time::advance(Duration::from_secs(3000)).await;
    assert_eq!(begun.lock().len(), 1);
    tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
    assert_eq!(endpoint_of(&discovery.metadata().await), "https://a.test/2");
    assert!(gaps(&begun).len() >= 3 && gaps(&begun).iter().all(|gap| (3240.0..=3961.0).contains(gap)), "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_after_one_to_sixty_seconds_and_a_success_begins_afresh() {
    let script = vec![fails("a"), fails("a"), fails("b"), found("https://a.test/1"), fails("c")];
    let (discovery, begun) = scripted(script);
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let gaps = gaps(&begun);
    for (gap, most) in gaps.iter().zip([1.0, 2.0, 4.0, 3960.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]) {
        assert!((most * 0.75..=most + 0.01).contains(gap), "{gaps:?}");
    }
    assert_eq!(endpoint_of(&discovery.metadata().await), "https://a.test/1", "the last good ones stay in use");
}

#[tokio::test(start_paused = true)]
async fn who_comes_before_the_first_attempt_has_ended_waits_for_it() {
    let slow: Attempt = Box::new(|| {
        async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(metadata("https://a.test/1"))
        }
        .boxed()
    });
    let (discovery, _) = scripted(vec![slow]);
    let begun = Instant::now();
    let (one, other) = tokio::join!(discovery.metadata(), discovery.metadata());
    assert_eq!((endpoint_of(&one), endpoint_of(&other)), ("https://a.test/1".into(), "https://a.test/1".into()));
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn between_attempts_the_last_error_is_given_at_once_with_the_time_that_is_left() {
    let (discovery, begun) = scripted(vec![fails("no issuer metadata: status 503")]);
    let before = Instant::now();
    let error = discovery.metadata().await.unwrap_err();
    assert_eq!(error.cause(), "no issuer metadata: status 503");
    let left = error.retry_after.unwrap();
    assert!((0.75..=1.0).contains(&left.as_secs_f64()), "{left:?}");
    assert_eq!((before.elapsed(), begun.lock().len()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_or_panics_is_a_failure_and_another_follows() {
    let panics: Attempt = Box::new(|| async { panic!("a defect") }.boxed());
    let (discovery, begun) = scripted(vec![hangs(), panics, found("https://a.test/1")]);
    let before = Instant::now();
    assert_eq!(discovery.metadata().await.unwrap_err().cause(), "timed out");
    assert_eq!(before.elapsed(), PATIENCE);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(endpoint_of(&discovery.metadata().await), "https://a.test/1");
    assert_eq!(begun.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    let (discovery, begun) = scripted(vec![fails("a")]);
    let other = Arc::clone(&discovery);
    drop(discovery);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(begun.lock().len() > 1);
    drop(other);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(Arc::strong_count(&begun), 1, "what the task held is gone");
}

#[test]
fn the_wait_is_bounded_and_obeys_retry_after_within_reason() {
    let s = Duration::from_secs;
    for (failures, asked, chance, expected) in [
        (0, s(0), 0.0, s(3240)),
        (0, s(0), 1.0, s(3960)),
        (1, s(0), 1.0, s(1)),
        (1, s(0), 0.0, Duration::from_millis(750)),
        (7, s(0), 1.0, s(60)),
        (u32::MAX, s(0), 1.0, s(60)),
        (1, s(30), 1.0, s(30)),
        (1, s(86_400), 1.0, s(600)),
    ] {
        let waited = pause(failures, asked, chance);
        assert!(waited.abs_diff(expected) < Duration::from_millis(1), "{failures} {asked:?}: {waited:?}");
    }
}

fn endpoint(issuer: &str) -> Endpoint {
    let settings = Settings::sample("http://127.0.0.1:1/".parse().unwrap());
    Endpoint { url: None, issuer: Some(issuer.to_owned()), ..settings.request().unwrap().endpoint.clone() }
}

#[tokio::test]
async fn equal_issuers_that_are_asked_in_the_same_way_are_watched_once() {
    let mut discoveries = Discoveries::default();
    let mut get = |endpoint: &Endpoint| discoveries.get(endpoint, &Handle::current());
    let proxied = |password: &str| {
        let password = Secret::new(password.to_owned());
        let proxy = HttpProxy::new("127.0.0.1", 1, Some("user"), Some(&password), Vec::new());
        Endpoint { http_proxy: Some(Arc::new(proxy)), ..endpoint("http://127.0.0.1:1/a") }
    };
    let first = get(&endpoint("http://127.0.0.1:1/a"));
    assert!(Arc::ptr_eq(&first, &get(&endpoint("http://127.0.0.1:1/a"))));
    assert!(!Arc::ptr_eq(&first, &get(&endpoint("http://127.0.0.1:1/b"))));
    let through_proxy = get(&proxied("one"));
    assert!(!Arc::ptr_eq(&first, &through_proxy));
    assert!(Arc::ptr_eq(&through_proxy, &get(&proxied("one"))));
    assert!(!Arc::ptr_eq(&through_proxy, &get(&proxied("two"))));
    drop((first, through_proxy));
    for number in 0..1000 {
        get(&endpoint(&format!("http://127.0.0.1:1/{number}")));
    }
    assert!(discoveries.all.len() <= 65, "those that nobody holds are forgotten");
}

#[tokio::test]
async fn a_command_asks_once_and_keeps_what_it_got() {
    let fake = Fake::serve(|request| {
        let own = format!("http://{}", request.headers()["host"].to_str().unwrap());
        let body = format!(r#"{{"issuer":"{own}","token_endpoint":"{own}/token"}}"#);
        http::Response::new(bytes::Bytes::from(body))
    })
    .await;
    let issuer = fake.url("").to_string();
    let discovery = Discovery::once(endpoint(issuer.trim_end_matches('/')));
    let (one, other) = tokio::join!(discovery.metadata(), discovery.metadata());
    assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
    assert_eq!(fake.seen().len(), 1);
    assert!(Discovery::once(endpoint("http://127.0.0.1:1")).metadata().await.is_err());
}
