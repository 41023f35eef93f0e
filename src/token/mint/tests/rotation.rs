//! Refresh tokens that the server replaces with every use.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use parking_lot::Mutex;

use super::{body, request};
use crate::fetch::fake::Fake;
use crate::secret::Secret;
use crate::token::mint::TokenRequest;
use crate::token::refresh::{Grants, RefreshTokens};
use crate::token::{ClientAuthentication, Grant, GrantKind, MintError, Settings, Text, Values};

/// A server that knows one refresh token at a time and takes the whole grant back when an old one is used.
async fn strict(first: &'static str) -> Fake {
    let known = Mutex::new(first.to_owned());
    let used = Mutex::new(HashSet::new());
    Fake::serve(move |request| {
        let mut known = known.lock();
        let sent = refresh_token(request);
        let fresh = used.lock().insert(sent.clone());
        if !fresh || sent != *known {
            return answer(400, &serde_json::json!({"error": "invalid_grant"}));
        }
        *known = format!("{sent}+");
        answer(200, &serde_json::json!({"access_token": format!("for-{sent}"), "refresh_token": *known}))
    })
    .await
}

fn answer(status: u16, body: &serde_json::Value) -> Response<Bytes> {
    Response::builder().status(status).body(body.to_string().into()).unwrap()
}

fn refresh_token(request: &Request<Bytes>) -> String {
    let mut pairs = oauth2::url::form_urlencoded::parse(request.body());
    pairs.find(|(name, _)| name == "refresh_token").unwrap().1.into_owned()
}

fn settings(fake: &Fake, configured: &str, store: Option<&Path>) -> Settings {
    let mut settings = Settings::sample(fake.url("/token"));
    let kind = GrantKind::RefreshToken { store: store.map(Path::to_owned) };
    request(&mut settings).grant = Grant { kind, grant_type: None };
    request(&mut settings).client_authentication = Some(ClientAuthentication::None);
    settings.principals[0].refresh_token = Some(Secret::new(configured.to_owned()));
    settings
}

fn started(settings: &Settings) -> TokenRequest {
    let request = settings.request().unwrap();
    let values = Values::fixed(request).unwrap();
    TokenRequest::new(settings, request, &settings.principals[0], values, None)
}

async fn minted(request: &TokenRequest) -> Result<String, MintError> {
    request.send(None).await.map(|minted| minted.value().expose().to_owned())
}

#[tokio::test]
async fn a_rotated_token_takes_the_place_of_the_one_before() {
    let fake = strict("r").await;
    let request = started(&settings(&fake, "r", None));
    for expected in ["for-r", "for-r+", "for-r++"] {
        assert_eq!(minted(&request).await.unwrap(), expected);
    }
    assert_eq!(body(&fake.seen()[2]), "grant_type=refresh_token&refresh_token=r%2B%2B&client_id=default");
}

#[tokio::test]
async fn a_restart_goes_on_with_the_stored_token() {
    let fake = strict("r").await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.json");
    let settings = settings(&fake, "r", Some(&store));
    assert_eq!(minted(&started(&settings)).await.unwrap(), "for-r");
    assert_eq!(minted(&started(&settings)).await.unwrap(), "for-r+");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&store).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&store).unwrap()).unwrap();
    assert_eq!(stored["refresh_token"], "r++");
    assert_eq!(stored["initial_sha256"], "454349e422f05297191ead13e21d3db520e5abef52055e4964b82fb213f593a1");
}

#[tokio::test]
async fn a_newly_configured_token_wins_over_the_store() {
    let fake = strict("new").await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.json");
    let old = strict("old").await;
    minted(&started(&settings(&old, "old", Some(&store)))).await.unwrap();
    let settings = settings(&fake, "new", Some(&store));
    assert_eq!(minted(&started(&settings)).await.unwrap(), "for-new");
    assert_eq!(minted(&started(&settings)).await.unwrap(), "for-new+");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_costs_no_token() {
    let fake = strict("r").await;
    let folder = tempfile::tempdir().unwrap();
    let request = started(&settings(&fake, "r", Some(&folder.path().join("missing/store.json"))));
    for expected in ["for-r", "for-r+"] {
        assert_eq!(minted(&request).await.unwrap(), expected);
    }
    std::fs::create_dir(folder.path().join("missing")).unwrap();
    assert_eq!(minted(&request).await.unwrap(), "for-r++");
    assert!(folder.path().join("missing/store.json").exists(), "stored as soon as that works");
}

#[tokio::test]
async fn a_stored_token_that_is_refused_falls_back_to_the_configured_one_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.json");
    let before = strict("r").await;
    minted(&started(&settings(&before, "r", Some(&store)))).await.unwrap();
    // The grant was renewed under the same token: the server knows only the configured one again.
    let fake = strict("r").await;
    let request = started(&settings(&fake, "r", Some(&store)));
    assert_eq!(minted(&request).await.unwrap(), "for-r");
    assert_eq!(fake.seen().iter().map(refresh_token).collect::<Vec<_>>(), ["r+", "r"]);
    let refusing = Fake::serving(400, &[], r#"{"error":"invalid_grant"}"#).await;
    let request = started(&settings(&refusing, "r", Some(&store)));
    assert_eq!(minted(&request).await.unwrap_err().cause(), "invalid_grant");
    assert_eq!(refusing.seen().len(), 2);
    let unrotated = started(&settings(&refusing, "r", None));
    assert_eq!(minted(&unrotated).await.unwrap_err().cause(), "invalid_grant");
    assert_eq!(refusing.seen().len(), 3, "there is nothing to fall back to");
}

#[tokio::test]
async fn cells_of_one_grant_never_use_a_token_twice_not_even_over_a_reload() {
    let fake = strict("r").await;
    let grants = Grants::default();
    let plain = settings(&fake, "r", None);
    let mut scoped = plain.clone();
    request(&mut scoped).scope = Some(Text::Literal("a".to_owned()));
    let start = |settings: &Settings| {
        let mut request = started(settings);
        request.share_refresh_tokens(&grants);
        Arc::new(request)
    };
    let (one, two) = (start(&plain), start(&scoped));
    let (a, b, c) = tokio::join!(minted(&one), minted(&two), minted(&one));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    let reloaded = start(&plain);
    drop((one, two));
    assert_eq!(minted(&reloaded).await.unwrap(), "for-r+++");
}

#[tokio::test]
async fn a_store_that_a_reload_adds_gets_the_token_in_use() {
    let fake = strict("r").await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.json");
    let grants = Grants::default();
    let mut before = started(&settings(&fake, "r", None));
    before.share_refresh_tokens(&grants);
    minted(&before).await.unwrap();
    let mut after = started(&settings(&fake, "r", Some(&store)));
    after.share_refresh_tokens(&grants);
    assert_eq!(minted(&after).await.unwrap(), "for-r+");
    let restarted = started(&settings(&fake, "r", Some(&store)));
    assert_eq!(minted(&restarted).await.unwrap(), "for-r++");
}

#[tokio::test]
async fn a_new_refresh_token_is_kept_even_where_the_access_token_beside_it_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.json");
    let fake = Fake::serve(|request| {
        let rotated = format!("{}+", refresh_token(request));
        let body = serde_json::json!({"access_token": "a", "token_type": "mac", "refresh_token": rotated});
        answer(200, &body)
    })
    .await;
    let settings = settings(&fake, "r", Some(&store));
    let request = started(&settings);
    for _ in 0..2 {
        assert_eq!(minted(&request).await.unwrap_err().cause(), "the token type is not in accept_token_types");
    }
    minted(&started(&settings)).await.unwrap_err();
    assert_eq!(fake.seen().iter().map(refresh_token).collect::<Vec<_>>(), ["r", "r+", "r++"]);
}

#[tokio::test]
async fn a_refresh_token_in_an_error_is_none() {
    let fake = Fake::serving(400, &[], r#"{"error":"invalid_scope","refresh_token":"x"}"#).await;
    let request = started(&settings(&fake, "r", None));
    for _ in 0..2 {
        minted(&request).await.unwrap_err();
    }
    assert!(fake.seen().iter().all(|request| refresh_token(request) == "r"));
}

/// Pins: what was being written when a mint was given up raced with what the next one wrote, and the older could win.
#[tokio::test]
async fn a_mint_that_is_given_up_while_its_token_is_stored_leaves_the_store_to_the_next_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.json");
    let name = |text| crate::name::Name::parse(text).unwrap();
    let initial = Secret::new("r".to_owned());
    let tokens = Arc::new(RefreshTokens::new(name("external"), name("default"), initial, Some(store.clone())));
    for round in 0..50 {
        let turn = tokens.turn().await;
        let used = turn.token();
        // One poll begins to store; then whoever waited is gone.
        assert!(turn.succeeded(used, Some(Secret::new(format!("r-{round}")))).now_or_never().is_none());
    }
    let last = tokens.turn().await;
    assert_eq!(last.token().expose(), "r-49");
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&store).unwrap()).unwrap();
    assert_eq!(stored["refresh_token"], "r-49");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}
