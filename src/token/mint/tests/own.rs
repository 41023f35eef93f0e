//! Flows that ask nobody.

use http::Uri;

use super::mint;
use crate::fetch::fake::Fake;
use crate::secret::Secret;
use crate::token::{Flow, MintFailureKind, Settings, mint_observed};

fn settings(flow: Flow) -> Settings {
    let mut settings = Settings::sample(Uri::from_static("http://127.0.0.1:1/token"));
    settings.flow = flow;
    settings.principals[0].username = Some("Aladdin".to_owned());
    settings.principals[0].password = Some(Secret::new("open sesame".to_owned()));
    settings.principals[0].token = Some(Secret::new("fixed".to_owned()));
    settings
}

#[tokio::test]
async fn basic_and_static_give_what_is_configured_and_it_does_not_end() {
    for (flow, value) in [(Flow::Basic, "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), (Flow::Static, "fixed")] {
        let minted = mint(&settings(flow)).await.unwrap();
        assert_eq!(minted.value().expose(), value);
        assert!(minted.lifetime().is_endless());
    }
}

#[tokio::test]
async fn none_says_that_there_is_nothing_to_ask() {
    let fake = Fake::serving(200, &[], "").await;
    let mut settings = Settings::sample(fake.url("/token"));
    settings.flow = Flow::None;
    let observed = mint_observed(&settings, &settings.principals[0], &[]).await;
    let error = observed.outcome.unwrap_err();
    assert_eq!(error.kind(), MintFailureKind::Refused);
    assert!(error.to_string().contains("the flow has no token"), "{error}");
    assert!(observed.sightings.is_empty() && fake.seen().is_empty());
}

#[tokio::test]
async fn a_fixed_token_must_fit_into_a_field() {
    let mut settings = settings(Flow::Static);
    for token in [Some("canary\r\nx: y"), Some(""), None] {
        settings.principals[0].token = token.map(|token| Secret::new(token.to_owned()));
        let error = mint(&settings).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
