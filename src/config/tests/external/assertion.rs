//! `signing` and `assertion`.

use std::time::Duration;

use serde_json::json;

use super::{ENDPOINT, assert_fault, request, usual};
use crate::sign::HmacAlgorithm;
use crate::token::{Assertion, AssertionKey, AssertionSource, Claim, ClientAuthentication, GrantKind};

fn assertion(lines: &str) -> Assertion {
    match request(&usual(&format!("client_authentication = \"client_secret_jwt\"\n{lines}"))).client_authentication {
        Some(ClientAuthentication::ClientSecretJwt(assertion)) => *assertion,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_assertion_is_taken_over() {
    let plain = assertion("");
    assert!(matches!(plain.key, AssertionKey::ClientSecret(HmacAlgorithm::Hs256)));
    assert_eq!((plain.issuer, plain.subject, plain.audience), (None, None, Vec::new()));
    assert_eq!(plain.lifetime, Duration::from_secs(120));

    let full = assertion(
        "[external_credentials.x.assertion]\nissuer = \"i\"\nsubject = \"s\"\naudience = [\"a\", \"b\"]\nlifetime = \"30s\"\n\
         header = { x = 1 }\n[external_credentials.x.assertion.claims]\ntext = \"t\"\nnumber = -5\nfloat = 0.5\nflag = true\n\
         list = [1, [\"2\"]]\nobject = { a = { b = 1 }, env = \"c\" }\nempty = {}\nsecret = { dangerous_literal = \"s\" }\n\
         computed = { formula = \"principal.name\" }",
    );
    assert_eq!((full.issuer.as_deref(), full.subject.as_deref()), (Some("i"), Some("s")));
    assert_eq!((full.audience, full.lifetime), (vec!["a".to_owned(), "b".to_owned()], Duration::from_secs(30)));
    assert_eq!(full.header.len(), 1);
    let seen: Vec<_> = full
        .claims
        .iter()
        .map(|(name, claim)| match claim {
            Claim::Json(value) => (name.as_str(), value.clone()),
            Claim::Secret(secret) => (name.as_str(), json!(["secret", secret.expose()])),
            Claim::Formula(formula) => (name.as_str(), json!(["formula", formula.source()])),
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("text", json!("t")),
            ("number", json!(-5)),
            ("float", json!(0.5)),
            ("flag", json!(true)),
            ("list", json!([1, ["2"]])),
            ("object", json!({ "a": { "b": 1 }, "env": "c" })),
            ("empty", json!({})),
            ("secret", json!(["secret", "s"])),
            ("computed", json!(["formula", "principal.name"])),
        ]
    );
}

#[test]
fn an_assertion_is_checked() {
    for (table, expected) in [
        ("issuer = \"\"", "this text is empty"),
        ("audience = []\nsubject = 5", "expected a text, found a number"),
        ("lifetime = \"0s\"", "longer than zero"),
        ("claims = { a = 1979-05-27 }", "JSON has no date or time"),
        ("claims = { a = [1979-05-27] }", "JSON has no date or time"),
        ("claims = { a = nan }", "JSON has no such number"),
        ("claims = { a = { b = { formula = \"c\" } } }", "a whole claim"),
        ("claims = { a = [{ env = \"A\" }] }", "a whole claim"),
        ("claims = { a = { env = \"KEYBEARER_TEST_NO_SUCH_VARIABLE\" } }", "is not set"),
        ("claims = { a = { formula = 5 } }", "expected a text, found a number"),
        ("claims = 5", "expected a table"),
        ("isuer = \"a\"", "did you mean `issuer`?"),
    ] {
        let lines =
            format!("client_authentication = \"client_secret_jwt\"\n[external_credentials.x.assertion]\n{table}");
        assert_fault(&usual(&lines), expected);
    }
    let lines = "client_authentication = \"private_key_jwt\"\nclient_id = \"a\"\nsigning = { algorithm = \"none\", key = { dangerous_literal = \"k\" } }";
    assert_fault(&format!("{ENDPOINT}{lines}"), "not an algorithm for signatures");
    assert_fault(
        &usual("signing = { algoritm = \"HS256\" }\nclient_authentication = \"client_secret_jwt\""),
        "did you mean `algorithm`?",
    );
}

#[test]
fn the_grant_and_the_client_have_assertions_of_their_own() {
    let request = request(&usual(
        "flow = \"jwt_bearer\"\nclient_authentication = \"client_secret_jwt\"\nsigning = { algorithm = \"HS256\" }\n\
         assertion = { subject = \"user\", claims = { a = 1 } }",
    ));
    let GrantKind::JwtBearer(AssertionSource::Signed(grant)) = request.grant.kind else { panic!() };
    assert_eq!((grant.subject.as_deref(), grant.claims.len()), (Some("user"), 1));
    let Some(ClientAuthentication::ClientSecretJwt(client)) = request.client_authentication else { panic!() };
    assert_eq!((client.subject, client.claims.len()), (None, 0));
}
