//! The claims and headers of what we sign, and assertions from files.

use serde_json::json;

use super::source::AssertionError;
use super::*;

/// RFC 8037 A.1.
const KEY: &str = concat!(
    r#"{"kty":"OKP","crv":"Ed25519","kid":"k","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","#,
    r#""x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
);

fn signer() -> AssertionKey {
    AssertionKey::Signer(Arc::new(Signer::load(&Secret::new(KEY.to_owned()), None, None, None).unwrap()))
}

fn assertion() -> Assertion {
    Assertion {
        key: signer(),
        issuer: None,
        subject: None,
        audience: Vec::new(),
        lifetime: Duration::from_secs(120),
        claims: Vec::new(),
        header: Vec::new(),
    }
}

fn about() -> About<'static> {
    About {
        client_id: "orders",
        client_secret: None,
        audience: "https://issuer.example",
        activation: Activation::default(),
    }
}

fn own(name: &str, claim: Claim) -> (String, Claim) {
    (name.to_owned(), claim)
}

/// Header and claims.
fn parts(jwt: &Secret) -> [Value; 2] {
    use base64::Engine as _;
    let mut parts = jwt.expose().split('.').map(|part| {
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    });
    [parts.next().unwrap(), parts.next().unwrap()]
}

fn signed(assertion: &Assertion, about: &About<'_>) -> [Value; 2] {
    parts(&assertion.sign(Purpose::Grant, about).unwrap())
}

#[test]
fn the_usual_claims_are_those_of_rfc_7523() {
    let before = unix_time();
    let [_, mut claims] = signed(&assertion(), &about());
    let (issued_at, expiry) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!((before..=unix_time()).contains(&(issued_at + 10)), "set back a little");
    assert_eq!(expiry - issued_at, 120);
    assert_eq!(claims["jti"].as_str().unwrap().len(), 22);
    for name in ["iat", "exp", "jti"] {
        claims.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(claims, json!({ "iss": "orders", "sub": "orders", "aud": "https://issuer.example" }));
}

/// C11: each assertion has a `jti` of its own.
#[test]
fn each_assertion_has_a_jti_of_its_own() {
    let ids: std::collections::BTreeSet<String> =
        (0..50).map(|_| signed(&assertion(), &about())[1]["jti"].to_string()).collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn the_type_tells_what_it_is_for() {
    for (purpose, typ) in [
        (Purpose::ClientAuthentication, "client-authentication+jwt"),
        (Purpose::Grant, "JWT"),
        (Purpose::Bearer, "JWT"),
    ] {
        let [header, _] = parts(&assertion().sign(purpose, &about()).unwrap());
        assert_eq!(header, json!({ "alg": "EdDSA", "kid": "k", "typ": typ }));
    }
}

#[test]
fn issuer_subject_and_audience_are_as_configured() {
    let configured = Assertion {
        issuer: Some("i".to_owned()),
        subject: Some("s".to_owned()),
        audience: vec!["login.example".to_owned()],
        ..assertion()
    };
    let [_, claims] = signed(&configured, &about());
    assert_eq!([&claims["iss"], &claims["sub"], &claims["aud"]], ["i", "s", "login.example"]);
    let several = Assertion { audience: vec!["a".to_owned(), "b".to_owned()], ..assertion() };
    assert_eq!(signed(&several, &about())[1]["aud"], json!(["a", "b"]));
}

#[test]
fn what_is_not_known_is_left_out() {
    let [_, claims] = signed(&assertion(), &About { client_id: "", audience: "", ..about() });
    let names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["exp", "iat", "jti"]);
}

#[test]
fn configured_claims_and_header_members_replace_the_usual_ones_and_null_leaves_them_out() {
    let configured = Assertion {
        claims: vec![
            own("iss", Claim::Json(json!("other"))),
            own("jti", Claim::Json(Value::Null)),
            own("scope", Claim::Json(json!(["a", 1, { "b": true }]))),
            own("user", Claim::Secret(Secret::new("hidden".to_owned()))),
        ],
        header: vec![
            own("typ", Claim::Json(Value::Null)),
            own("kid", Claim::Json(Value::Null)),
            own("alg", Claim::Json(json!("none"))),
            own("x5c", Claim::Json(json!(["MII"]))),
        ],
        ..assertion()
    };
    let [header, claims] = signed(&configured, &about());
    assert_eq!(header, json!({ "alg": "EdDSA", "x5c": ["MII"] }));
    assert_eq!((&claims["iss"], &claims["user"]), (&json!("other"), &json!("hidden")));
    assert_eq!(claims["scope"], json!(["a", 1, { "b": true }]));
    assert!(claims.get("jti").is_none());
}

#[test]
fn a_formula_without_a_value_ends_it_and_names_the_claim() {
    let formula = Claim::Formula(Arc::new(Formula::compile("secrets.absent").unwrap()));
    for failing in [
        Assertion { claims: vec![own("region", formula.clone())], ..assertion() },
        Assertion { header: vec![own("region", formula.clone())], ..assertion() },
    ] {
        let error = failing.sign(Purpose::Grant, &about()).unwrap_err();
        assert!(matches!(&error, SignError::Claim(text) if text.starts_with("`region`: ")), "{error}");
    }
}

#[test]
fn the_client_secret_signs_where_that_is_configured() {
    let configured = Assertion { key: AssertionKey::ClientSecret(HmacAlgorithm::Hs512), ..assertion() };
    let secret = Secret::new("canary".to_owned());
    let [header, _] = signed(&configured, &About { client_secret: Some(&secret), ..about() });
    assert_eq!(header, json!({ "alg": "HS512", "typ": "JWT" }));
    let error = configured.sign(Purpose::Grant, &about()).unwrap_err();
    assert_eq!(error.to_string(), "the signing key is the client secret, and there is none");
}

/// C11: what is sent to a server begins a little earlier and a token of ours begins now.
#[test]
fn what_is_sent_to_a_server_begins_a_little_earlier_and_a_token_of_ours_begins_now() {
    let lasts = |purpose, milliseconds| {
        let short = Assertion { lifetime: Duration::from_millis(milliseconds), ..assertion() };
        let jwt = short.sign(purpose, &about()).unwrap();
        let [_, claims] = parts(&jwt);
        claims["exp"].as_u64().unwrap() + 1 - unix_time()
    };
    for (lifetime, from_now) in [(120_000, 110), (40_000, 30), (20_000, 15), (0, 0)] {
        assert!(lasts(Purpose::Grant, lifetime) >= from_now);
        assert!(lasts(Purpose::Bearer, lifetime) >= lifetime / 1000);
    }
}

#[test]
fn debug_shows_no_secret() {
    let canary = Secret::new("canary".to_owned());
    let configured = Assertion { claims: vec![own("a", Claim::Secret(canary))], ..assertion() };
    let text = format!("{:?}", AssertionSource::Signed(Box::new(configured)));
    assert!(!text.contains("canary") && !text.contains("nWGxne"), "{text}");
}

#[tokio::test]
async fn an_assertion_is_signed_off_the_runtime() {
    fn movable<F: Future + Send>(future: F) -> F {
        future
    }
    let source = AssertionSource::Signed(Box::new(assertion()));
    let [header, claims] = parts(&movable(source.obtain(Purpose::Grant, &about())).await.unwrap());
    assert_eq!((header["alg"].as_str(), claims["iss"].as_str()), (Some("EdDSA"), Some("orders")));
    let unsigned = Assertion { key: AssertionKey::ClientSecret(HmacAlgorithm::Hs256), ..assertion() };
    let error = AssertionSource::Signed(Box::new(unsigned)).obtain(Purpose::Grant, &about()).await.unwrap_err();
    assert!(matches!(error, AssertionError::Sign(SignError::Key(_))), "{error}");
}

#[tokio::test]
async fn an_assertion_file_is_read_anew_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let source = AssertionSource::File(path.clone());
    for (content, expected) in [("one", "one"), ("\r\n two\n\n", "two")] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(source.obtain(Purpose::Grant, &about()).await.unwrap().expose(), expected);
    }
}

#[tokio::test]
async fn an_assertion_file_that_cannot_be_used_is_named_without_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let [blank, binary, missing] = ["blank", "binary", "missing"].map(|name| folder.path().join(name));
    std::fs::write(&blank, " \n\n").unwrap();
    std::fs::write(&binary, b"canary\xff").unwrap();
    for (path, reason) in [(blank, "empty"), (binary, "not UTF-8"), (missing, "No such file")] {
        let error = AssertionSource::File(path.clone()).obtain(Purpose::Grant, &about()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains(reason), "{text}");
        assert_eq!(text.matches(path.to_str().unwrap()).count(), 1, "{text}");
        assert!(!format!("{text} {error:?}").contains("canary"));
    }
}
