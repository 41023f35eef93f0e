//! Every flow, layout and client authentication, byte for byte as it arrives.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderName, Method, Request};

use super::{TOKEN, authorization, body, mint, request};
use crate::fetch::fake::Fake;
use crate::secret::{Secret, SecretSource};
use crate::token::{
    AssertionSource, BasicEncoding, ClientAuthentication, Grant, GrantKind, MintError, MintFailureKind, Settings, Text,
    TokenExchange,
};

const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2ln";
const JWT_TYPE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// Client `id` with the secret `s&t`.
fn settings(fake: &Fake, path: &str) -> Settings {
    let mut settings = Settings::sample(fake.url(path));
    settings.principals[0].client_id = "id".to_owned();
    settings.principals[0].client_secret = Some(secret("s&t"));
    settings
}

fn authenticate(settings: &mut Settings, authentication: ClientAuthentication) {
    request(settings).client_authentication = Some(authentication);
}

fn grant(settings: &mut Settings, kind: GrantKind) {
    request(settings).grant = Grant { kind, grant_type: None };
}

async fn sent(path: &str, change: impl FnOnce(&mut Settings)) -> Request<Bytes> {
    let fake = Fake::serving(200, &[], TOKEN).await;
    let mut settings = settings(&fake, path);
    change(&mut settings);
    mint(&settings).await.unwrap();
    let mut seen = fake.seen();
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}

async fn failed(change: impl FnOnce(&mut Settings)) -> MintError {
    let fake = Fake::serving(200, &[], TOKEN).await;
    let mut settings = settings(&fake, "/token");
    change(&mut settings);
    let error = mint(&settings).await.unwrap_err();
    assert!(fake.seen().is_empty());
    error
}

fn file(folder: &tempfile::TempDir, content: &str) -> PathBuf {
    let path = folder.path().join("token");
    std::fs::write(&path, content).unwrap();
    path
}

/// C1: each client authentication is in one place.
#[tokio::test]
async fn each_client_authentication_is_in_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let signed_elsewhere = ClientAuthentication::PrivateKeyJwt(AssertionSource::File(file(&folder, JWT)));
    let with_jwt =
        format!("grant_type=client_credentials&client_id=id&client_assertion_type={JWT_TYPE}&client_assertion={JWT}");
    for (authentication, uri, form) in [
        (ClientAuthentication::ClientSecretBasic(BasicEncoding::Form), "/token", "grant_type=client_credentials"),
        (
            ClientAuthentication::ClientSecretPost,
            "/token",
            "grant_type=client_credentials&client_id=id&client_secret=s%26t",
        ),
        (ClientAuthentication::Query, "/token?grant_type=client_credentials&client_id=id&client_secret=s%26t", ""),
        (
            ClientAuthentication::Json,
            "/token",
            r#"{"client_id":"id","client_secret":"s&t","grant_type":"client_credentials"}"#,
        ),
        (signed_elsewhere, "/token", with_jwt.as_str()),
        (ClientAuthentication::TlsClientAuth, "/token", "grant_type=client_credentials&client_id=id"),
        (ClientAuthentication::None, "/token", "grant_type=client_credentials&client_id=id"),
    ] {
        let basic = matches!(authentication, ClientAuthentication::ClientSecretBasic(_));
        let json = matches!(authentication, ClientAuthentication::Json);
        let seen = sent("/token", |settings| authenticate(settings, authentication.clone())).await;
        assert_eq!((seen.uri().to_string().as_str(), body(&seen)), (uri, form), "{authentication:?}");
        let media = if json { "application/json" } else { "application/x-www-form-urlencoded" };
        let said = seen.headers().get("content-type");
        assert!(said.is_none_or(|said| said == media), "{said:?}");
        assert_eq!(seen.headers().contains_key("authorization"), basic);
        if basic {
            assert_eq!(authorization(&seen), "Basic aWQ6cyUyNnQ=");
        }
    }
}

#[tokio::test]
async fn with_get_everything_is_in_the_query() {
    let seen = sent("/identity/oauth/token?v=1", |settings| {
        request(settings).method = Method::GET;
        request(settings).scope = Some(Text::Literal("a b".to_owned()));
        request(settings).parameters.query = vec![("q".to_owned(), secret("x"))];
        request(settings).parameters.body = vec![("b".to_owned(), secret("y"))];
        authenticate(settings, ClientAuthentication::Query);
    })
    .await;
    assert_eq!(seen.method(), "GET");
    assert_eq!(
        seen.uri(),
        "/identity/oauth/token?v=1&q=x&grant_type=client_credentials&scope=a+b&b=y&client_id=id&client_secret=s%26t"
    );
    assert_eq!(body(&seen), "");
    assert!(!seen.headers().contains_key("content-type") && !seen.headers().contains_key("content-length"));
}

#[tokio::test]
async fn a_grant_type_can_be_replaced_or_left_out() {
    let seen = sent("/token", |settings| request(settings).grant.grant_type = Some("account_credentials".to_owned()));
    assert_eq!(body(&seen.await), "grant_type=account_credentials");
    let seen = sent("/metadata/identity/oauth2/token?api-version=2018-02-01", |settings| {
        request(settings).grant.grant_type = Some(String::new());
        request(settings).method = Method::GET;
        request(settings).resource = vec!["https://vault.example".to_owned()];
        request(settings).parameters.headers = vec![(HeaderName::from_static("metadata"), secret("true"))];
        settings.principals[0].client_id = String::new();
        authenticate(settings, ClientAuthentication::None);
    })
    .await;
    assert_eq!(
        seen.uri(),
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.example"
    );
    assert_eq!(seen.headers()["metadata"], "true");
}

#[tokio::test]
async fn each_grant_has_its_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let assertion = file(&folder, JWT);
    let literal = |text: &str| SecretSource::DangerousLiteral(secret(text));
    let exchange = TokenExchange {
        subject_token: literal("sub ject"),
        subject_token_type: "urn:s".to_owned(),
        actor_token: Some((literal("actor"), "urn:a".to_owned())),
        requested_token_type: Some("urn:r".to_owned()),
    };
    for (kind, form) in [
        (
            GrantKind::JwtBearer(AssertionSource::File(assertion)),
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={JWT}"),
        ),
        (GrantKind::Password, "grant_type=password&username=me%40x&password=p%2Bw".to_owned()),
        (GrantKind::RefreshToken { store: None }, "grant_type=refresh_token&refresh_token=r%2F0".to_owned()),
        (
            GrantKind::TokenExchange(Box::new(exchange)),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=sub+ject\
             &subject_token_type=urn%3As&actor_token=actor&actor_token_type=urn%3Aa&requested_token_type=urn%3Ar"
                .to_owned(),
        ),
    ] {
        let seen = sent("/token", |settings| {
            settings.principals[0].username = Some("me@x".to_owned());
            settings.principals[0].password = Some(secret("p+w"));
            settings.principals[0].refresh_token = Some(secret("r/0"));
            grant(settings, kind);
        })
        .await;
        assert_eq!(body(&seen), form);
        assert_eq!(authorization(&seen), "Basic aWQ6cyUyNnQ=");
    }
}

#[tokio::test]
async fn tokens_of_others_are_read_anew_for_every_mint() {
    let fake = Fake::serving(200, &[], TOKEN).await;
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "first\n");
    let mut settings = settings(&fake, "/token");
    let exchange = TokenExchange {
        subject_token: SecretSource::File(path.clone()),
        subject_token_type: "urn:s".to_owned(),
        actor_token: None,
        requested_token_type: None,
    };
    grant(&mut settings, GrantKind::TokenExchange(Box::new(exchange)));
    mint(&settings).await.unwrap();
    std::fs::write(&path, "second").unwrap();
    mint(&settings).await.unwrap();
    let seen = fake.seen();
    assert!(body(&seen[0]).contains("subject_token=first&") && body(&seen[1]).contains("subject_token=second&"));
}

#[tokio::test]
async fn what_cannot_be_read_is_for_the_operator_to_know() {
    let missing = || Path::new("/no/such/canary").to_owned();
    let error = failed(|settings| grant(settings, GrantKind::JwtBearer(AssertionSource::File(missing())))).await;
    assert_eq!((error.kind(), error.cause()), (MintFailureKind::Unavailable, "the assertion cannot be made"));
    assert!(error.detail().is_some() && !error.failure().cause.contains("canary"));
    let exchange = TokenExchange {
        subject_token: SecretSource::File(missing()),
        subject_token_type: "urn:s".to_owned(),
        actor_token: None,
        requested_token_type: None,
    };
    let error = failed(|settings| grant(settings, GrantKind::TokenExchange(Box::new(exchange)))).await;
    assert_eq!(error.cause(), "the subject token cannot be read");
    assert!(error.detail().unwrap().contains("/no/such/canary"));
}

#[tokio::test]
async fn configured_parameters_and_fields_win_but_nobody_authenticates_twice() {
    let seen = sent("/token", |settings| {
        request(settings).parameters.body = vec![("client_id".to_owned(), secret("other"))];
        request(settings).parameters.headers = vec![
            (HeaderName::from_static("user-agent"), secret("batch/1")),
            (HeaderName::from_static("accept"), secret("application/vnd.github+json")),
        ];
        authenticate(settings, ClientAuthentication::ClientSecretPost);
    })
    .await;
    assert_eq!(body(&seen), "grant_type=client_credentials&client_id=other&client_secret=s%26t");
    assert_eq!(seen.headers()["user-agent"], "batch/1");
    assert_eq!(seen.headers()["accept"], "application/vnd.github+json");
    let error = failed(|settings| {
        request(settings).parameters.headers = vec![(HeaderName::from_static("authorization"), secret("canary"))];
    })
    .await;
    assert_eq!(error.kind(), MintFailureKind::Refused);
    assert!(error.to_string().contains("both authenticate") && !error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn an_empty_client_id_is_not_sent() {
    let seen = sent("/token", |settings| {
        settings.principals[0].client_id = String::new();
        authenticate(settings, ClientAuthentication::None);
    })
    .await;
    assert_eq!(body(&seen), "grant_type=client_credentials");
}
