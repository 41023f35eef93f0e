//! What is attached without asking a server for it: a fixed token, user name and password, a JWT that we sign, or fields
//! alone. A refusal must not become a storm where there is nothing new to be had.

use rcgen::KeyPair;
use serde_json::Value;

use crate::support::http::Answer;
use crate::support::metrics::Scrape;
use crate::support::proxy::Setup;
use crate::support::recorder::Reply;
use crate::support::scene::{Scene, basic, claims};
use crate::support::scripted::answer;

const TOKEN: &str = "c4n4ry-Fix3d-Bt8Zr1Wq5Mk9Lx3";
const PASSWORD: &str = "p:w é&=c4n4ry-Qn2Vd7";

async fn scene(external: &str) -> Scene {
    let tables = format!(
        "[named_credentials.orders]\nurl = \"http://{{upstream}}\"\nexternal_credential = \"own\"\n\
         [external_credentials.own]\n{external}\n"
    );
    let key = KeyPair::generate().unwrap().serialize_pem();
    let setup = |setup: Setup| setup.env("TOKEN", TOKEN).env("PASSWORD", PASSWORD).file("orders.key", &key);
    Scene::start(&tables, setup).await
}

/// The upstream refuses this request, and what the caller gets is its answer.
async fn refused(scene: &Scene) -> Answer {
    let challenge = [("WWW-Authenticate", "Bearer error=\"invalid_token\"")];
    scene.upstream.next(Reply::new(answer(401, &challenge, b"the upstream's own words")));
    let answer = scene.get("/orders/x", &[]).await;
    assert_eq!((answer.status, &*answer.body), (401, &b"the upstream's own words"[..]), "{}", answer.text());
    assert_eq!(answer.field("www-authenticate"), Some(challenge[0].1));
    answer
}

fn reason(answer: &Answer) -> &str {
    let status = answer.field("proxy-status").unwrap_or_else(|| panic!("no Proxy-Status in {}", answer.head));
    let (_, rest) = status.split_once("not-replayed:").unwrap_or_else(|| panic!("{status}"));
    rest.trim_end_matches('"')
}

#[tokio::test]
async fn a_fixed_token_travels_in_the_field_that_the_api_wants() {
    for (inject, field, value) in [
        ("", "authorization", format!("Bearer {TOKEN}")),
        ("inject = { header = \"x-subscription-key\" }", "x-subscription-key", TOKEN.to_owned()),
        ("inject = { scheme = \"ApiKey\" }", "authorization", format!("ApiKey {TOKEN}")),
        ("inject = { scheme = \"\" }", "authorization", TOKEN.to_owned()),
    ] {
        let scene = scene(&format!("flow = \"static\"\ntoken = {{ env = \"TOKEN\" }}\n{inject}\n")).await;
        let own = [("Authorization", "Bearer the-caller's"), ("X-Subscription-Key", "the caller's")];
        let seen = scene.pass("/orders/x", &own).await;
        assert_eq!(seen.fields(field), [value], "{inject}");
        assert!(!seen.head.contains("Bearer the-caller's"), "{}", seen.head);
        let log = scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
        assert!(!log.contains("c4n4ry"), "{log}");
    }
}

/// There is no other token: the refusal passes through, once with that reason, and then quietly.
#[tokio::test]
async fn a_refused_fixed_token_is_not_sent_again() {
    let scene = scene("flow = \"static\"\ntoken = { env = \"TOKEN\" }\ninject = { header = \"x-key\" }\n").await;
    assert_eq!(reason(&refused(&scene).await), "same_token");
    for _ in 0..20 {
        assert_eq!(reason(&refused(&scene).await), "refused", "no renewal is even tried");
    }
    assert_eq!(scene.upstream.requests().len(), 21, "each request was sent once");
    assert_eq!(scene.pass("/orders/x", &[]).await.fields("x-key"), [TOKEN], "others go on");
    let log = scene.proxy.exchanges(22).await;
    assert_eq!((&log[0]["not_replayed_reason"], &log[21]["status"]), (&"same_token".into(), &200.into()));
    assert!(log.iter().all(|line| line["replayed"] == Value::Bool(false)), "{log:#?}");
    let scrape = Scrape::of(&scene.proxy).await;
    assert_eq!(scrape.sum("keybearer_rejections_total", &[]), 21.0);
    assert_eq!(scrape.sum("keybearer_mints_total", &[]), 0.0, "nothing was minted");
    let warnings = scene.proxy.warnings(1).await;
    assert_eq!(warnings.len(), 1, "one line, and not one for each refusal: {warnings:#?}");
}

#[tokio::test]
async fn basic_sends_user_name_and_password_as_utf_8() {
    let scene = scene("flow = \"basic\"\nusername = \"jo é\"\npassword = { env = \"PASSWORD\" }\n").await;
    let seen = scene.pass("/orders/x", &[("Authorization", "Basic dGhlOmNhbGxlcg==")]).await;
    assert_eq!(basic(seen.fields("authorization")[0]), format!("jo é:{PASSWORD}"));
    assert_eq!(reason(&refused(&scene).await), "same_token");
    assert_eq!(reason(&refused(&scene).await), "refused");
    assert_eq!(scene.upstream.requests().len(), 3);
    let log = scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
    assert!(!log.contains("c4n4ry"), "{log}");
}

#[tokio::test]
async fn without_a_token_the_fields_go_alone_and_no_refusal_is_ours() {
    let scene = scene(
        "flow = \"none\"\nsecrets = { KEY = { env = \"TOKEN\" } }\nheaders = [\n\
         { name = \"x-key\", value = { env = \"TOKEN\" } },\n\
         { name = \"x-key-2\", value = { formula = '\"k=\" + secrets.KEY' } },\n]\n",
    )
    .await;
    let seen = scene.pass("/orders/x", &[("Authorization", "Bearer the-caller's"), ("X-Key", "the caller's")]).await;
    assert_eq!((seen.fields("x-key"), seen.fields("x-key-2")), (vec![TOKEN], vec![&*format!("k={TOKEN}")]));
    assert!(seen.fields("authorization").is_empty(), "the caller's does not travel either:\n{}", seen.head);
    let answer = refused(&scene).await;
    assert_eq!(answer.field("proxy-status"), None, "{}", answer.head);
    assert_eq!(scene.upstream.requests().len(), 2);
    let log = scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
    assert!(!log.contains("c4n4ry"), "{log}");
}

#[tokio::test]
async fn a_jwt_of_our_own_is_signed_anew_after_a_refusal() {
    let scene = scene(
        "flow = \"signed_jwt\"\nclient_id = \"the-client\"\nsigning = { key = { file = \"orders.key\" } }\n\
         assertion = { subject = \"jo\", audience = \"https://api.example\", lifetime = \"5m\", \
         claims = { role = { formula = 'principal.name' } } }\n",
    )
    .await;
    let first = scene.pass("/orders/x", &[]).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), first.bearer(), "one for many requests");
    let second = scene.renew("/orders/x").await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), second.bearer());

    let (first, second) = (claims(first.bearer()), claims(second.bearer()));
    for token in [&first, &second] {
        assert_eq!((&token["iss"], &token["sub"]), (&"the-client".into(), &"jo".into()));
        assert_eq!((&token["aud"], &token["role"]), (&"https://api.example".into(), &"default".into()));
        assert_eq!(token["exp"].as_u64().unwrap() - token["iat"].as_u64().unwrap(), 300);
    }
    assert_ne!(first["jti"], second["jti"]);
    assert!(scene.endpoint.asked().is_empty(), "nobody was asked");
}

/// An API that takes none of our JWTs must not keep us signing.
#[tokio::test]
async fn refusals_of_a_jwt_of_our_own_are_braked() {
    let scene =
        scene("flow = \"signed_jwt\"\nclient_id = \"the-client\"\nsigning = { key = { file = \"orders.key\" } }\n")
            .await;
    for _ in 0..40 {
        scene.upstream.next(Reply::new(answer(401, &[], b"")));
    }
    for _ in 0..20 {
        assert_eq!(scene.get("/orders/x", &[]).await.status, 401);
    }
    let sent = scene.upstream.requests().len();
    assert!((21..=24).contains(&sent), "20 requests and a few replays, not {sent}");
}
