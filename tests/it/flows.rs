//! Every flow that asks a token endpoint, on the wire: what the endpoint is sent, from the first token to the next.
//! Refresh tokens, which change as they are used, are in `refresh_tokens`.

use std::collections::BTreeSet;

use rcgen::KeyPair;

use crate::support::proxy::Setup;
use crate::support::recorder::Reply;
use crate::support::scene::{Parameters, Scene, TokenEndpoint, basic, body, claims, query, token};
use crate::support::scripted::{Received, answer};

/// As long as form encoding leaves nothing of it as it is.
const SECRET: &str = "p+w %d/=:&~é";
const PASSWORD: &str = "the p+ssword %&=é";

/// A named credential `orders` over an external credential of these lines.
fn orders(external: &str) -> String {
    format!(
        "[named_credentials.orders]\nurl = \"http://{{upstream}}\"\nexternal_credential = \"issuer\"\n\
         [external_credentials.issuer]\ntoken_endpoint = \"http://{{endpoint}}/token\"\n{external}\n"
    )
}

fn secrets(setup: Setup) -> Setup {
    let key = KeyPair::generate().unwrap().serialize_pem();
    setup.env("CLIENT_SECRET", SECRET).env("PASSWORD", PASSWORD).file("orders.key", &key)
}

/// The first token and, after it was refused, the second; what the token endpoint saw of both.
async fn twice(external: &str) -> [Received; 2] {
    let scene = Scene::start(&orders(external), secrets).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    assert_eq!(scene.renew("/orders/x").await.bearer(), "token-2");
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-2");
    let asked = scene.endpoint.asked();
    asked.try_into().unwrap_or_else(|asked: Vec<_>| panic!("two mints, not {}", asked.len()))
}

fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const CLIENT: &str = "client_id = \"the client\"\nclient_secret = { env = \"CLIENT_SECRET\" }\n";

#[tokio::test]
async fn password_sends_user_name_and_password_beside_the_clients_own() {
    let user = "flow = \"password\"\nusername = \"jo é\"\npassword = { env = \"PASSWORD\" }\nscope = \"a b\"\n";
    for asked in twice(&format!("{CLIENT}{user}")).await {
        let expected = [("grant_type", "password"), ("username", "jo é"), ("password", PASSWORD), ("scope", "a b")];
        assert_eq!((asked.method(), body(&asked)), ("POST", parameters(&expected)));
        assert_eq!(basic(asked.authorization()), "the+client:p%2Bw+%25d%2F%3D%3A%26%7E%C3%A9");
    }
}

#[tokio::test]
async fn jwt_bearer_signs_an_assertion_for_each_mint() {
    const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let lines = r#"
        flow = "jwt_bearer"
        client_id = "the-client"
        client_authentication = "none"
        signing = { key = { file = "orders.key" }, key_id = "key-1" }
        secrets = { TENANT = { dangerous_literal = "the-tenant" } }
        [external_credentials.issuer.assertion]
        subject = "jo@example.com"
        audience = ["https://login.example", "https://test.example"]
        lifetime = "3m"
        claims = { scope = "a b", admin = true, tenant = { formula = 'secrets.TENANT + "/" + principal.client_id' } }
    "#;
    let mut identifiers = BTreeSet::new();
    for asked in twice(lines).await {
        let sent = body(&asked);
        assert_eq!(sent["grant_type"], GRANT);
        assert_eq!(sent.keys().collect::<Vec<_>>(), ["assertion", "client_id", "grant_type"]);
        assert_eq!(asked.field("authorization"), None);
        let claims = claims(&sent["assertion"]);
        assert_eq!((&claims["iss"], &claims["sub"]), (&"the-client".into(), &"jo@example.com".into()));
        assert_eq!(claims["aud"], serde_json::json!(["https://login.example", "https://test.example"]));
        assert_eq!((&claims["scope"], &claims["admin"]), (&"a b".into(), &true.into()));
        assert_eq!(claims["tenant"], "the-tenant/the-client");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 180);
        identifiers.insert(claims["jti"].as_str().unwrap().to_owned());
    }
    assert_eq!(identifiers.len(), 2, "no assertion is sent twice");
}

/// What somebody else writes into a file is read anew for each mint: as the grant, as the client's proof, as the
/// subject of an exchange.
#[tokio::test]
async fn files_that_others_replace_are_read_for_each_mint() {
    const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
    for (lines, parameter) in [
        ("flow = \"jwt_bearer\"\nassertion = { file = \"rotated.jwt\" }", "assertion"),
        ("client_id = \"the-client\"\nassertion = { file = \"rotated.jwt\" }", "client_assertion"),
        (
            "flow = \"token_exchange\"\nsubject_token = { file = \"rotated.jwt\" }\n\
             subject_token_type = \"urn:ietf:params:oauth:token-type:jwt\"\nactor_token = { env = \"PASSWORD\" }\n\
             actor_token_type = \"urn:ietf:params:oauth:token-type:access_token\"\n\
             requested_token_type = \"urn:ietf:params:oauth:token-type:access_token\"\naudience = [\"a\"]",
            "subject_token",
        ),
    ] {
        let scene = Scene::start(&orders(lines), |setup| {
            secrets(setup).file("rotated.jwt", "eyJhbGciOiJub25lIn0.Zmlyc3Q.c2ln\n")
        })
        .await;
        let file = scene.proxy.setup.config().with_file_name("rotated.jwt");
        assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
        // Replaced as Kubernetes does it: another file takes the name.
        std::fs::write(file.with_extension("new"), "eyJhbGciOiJub25lIn0.c2Vjb25k.c2ln\n").unwrap();
        std::fs::rename(file.with_extension("new"), &file).unwrap();
        assert_eq!(scene.renew("/orders/x").await.bearer(), "token-2");
        let asked = scene.endpoint.parameters();
        let sent: Vec<_> = asked.iter().map(|asked| asked[parameter].as_str()).collect();
        assert_eq!(sent, ["eyJhbGciOiJub25lIn0.Zmlyc3Q.c2ln", "eyJhbGciOiJub25lIn0.c2Vjb25k.c2ln"], "{parameter}");
        if parameter == "subject_token" {
            assert_eq!(asked[1]["grant_type"], EXCHANGE);
            assert_eq!((&*asked[1]["actor_token"], &*asked[1]["audience"]), (PASSWORD, "a"));
            assert_eq!(asked[1]["subject_token_type"], "urn:ietf:params:oauth:token-type:jwt");
            assert_eq!(asked[1]["requested_token_type"], "urn:ietf:params:oauth:token-type:access_token");
        }

        // Gone: the token at hand goes on, and a new one cannot be had.
        std::fs::remove_file(&file).unwrap();
        scene.upstream.next(Reply::new(answer(401, &[], b"")));
        let refused = scene.get("/orders/x", &[]).await;
        assert_eq!(refused.status, 401, "{parameter}: {}", refused.text());
        assert!(refused.field("proxy-status").unwrap().contains("not-replayed:mint_failed"), "{}", refused.head);
        assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-2");
        assert_eq!(scene.endpoint.asked().len(), 2, "nothing is asked for without it");
    }
}

#[tokio::test]
async fn the_grant_has_another_name_or_none_where_the_server_wants_it_so() {
    let further = "parameters = { body = { account_id = \"17\" } }\n";
    for (lines, grant_type) in [
        ("grant_type = \"account_credentials\"\n", Some("account_credentials")),
        ("grant_type = \"\"\n", None),
        ("", Some("client_credentials")),
    ] {
        for asked in twice(&format!("{CLIENT}{lines}{further}")).await {
            let sent = body(&asked);
            assert_eq!(sent.get("grant_type").map(String::as_str), grant_type);
            assert_eq!(sent["account_id"], "17");
        }
    }
}

#[tokio::test]
async fn parameters_go_into_the_query_of_a_get_and_into_json_where_that_is_wanted() {
    let further = "scope = \"a b\"\nresource = \"https://r.example/?a=b\"\n\
                   parameters = { query = { api-version = \"1\" }, body = { tenant = { env = \"PASSWORD\" } }, \
                   headers = { metadata = \"true\" } }\n";
    let whole = [
        ("grant_type", "client_credentials"),
        ("scope", "a b"),
        ("resource", "https://r.example/?a=b"),
        ("tenant", PASSWORD),
    ];
    let client = [("client_id", "the client"), ("client_secret", SECRET)];
    for (lines, method, proof) in [
        ("client_authentication = \"query\"\nmethod = \"GET\"\n", "GET", &client[..]),
        ("method = \"GET\"\n", "GET", &[]),
        ("client_authentication = \"query\"\n", "POST", &client),
        ("client_authentication = \"json\"\n", "POST", &client),
        ("client_authentication = \"client_secret_post\"\n", "POST", &client),
    ] {
        for asked in twice(&format!("{CLIENT}{lines}{further}")).await {
            let expected = parameters(&[&whole, proof].concat());
            let (in_query, in_body) = (query(&asked), body(&asked));
            assert_eq!((asked.method(), in_query["api-version"].as_str()), (method, "1"), "{lines}");
            assert_eq!(asked.field("metadata"), Some("true"));
            if lines.contains("GET") || lines.contains("query") {
                let in_query: Parameters = in_query.into_iter().filter(|(name, _)| name != "api-version").collect();
                assert_eq!((in_query, in_body), (expected, Parameters::new()), "{lines}");
            } else {
                assert_eq!((in_query.len(), in_body), (1, expected), "{lines}");
            }
            let kind = asked.field("content-type");
            match lines.contains("json") {
                true => assert_eq!(kind, Some("application/json")),
                false if lines.contains("post") => assert_eq!(kind, Some("application/x-www-form-urlencoded")),
                false => assert_eq!(kind, None, "{lines}"),
            }
            let is_basic = proof.is_empty();
            assert_eq!(asked.field("authorization").is_some(), is_basic, "{lines}");
        }
    }
}

/// Each oddity on its own is covered by the recorded providers; here they meet.
#[tokio::test]
async fn a_wrapped_answer_with_a_time_of_expiry_and_a_token_in_a_field_of_its_own() {
    let endpoint = TokenEndpoint::answering(|_| {
        let body = r#"{"ok":true,"data":{"session":{"id":"session-17"}},"until":4102444800000,"kind":"Session"}"#;
        answer(200, &[("content-type", "application/json")], body.as_bytes())
    })
    .await;
    let lines = "client_authentication = \"json\"\nresponse = { token = \"/data/session/id\", expires_in = \"/until\", \
                 token_type = \"/kind\" }\nexpires_unit = \"epoch_ms\"\naccept_token_types = [\"session\"]\n\
                 max_lifetime = \"2h\"\ninject = { header = \"x-session\" }\n";
    let scene = Scene::before(endpoint, &orders(&format!("{CLIENT}{lines}")), secrets).await;
    let seen = scene.pass("/orders/x", &[("X-Session", "the caller's"), ("Authorization", "the caller's")]).await;
    assert_eq!(seen.fields("x-session"), ["session-17"]);
    assert!(seen.fields("authorization").is_empty(), "{}", seen.head);
    let log = scene.proxy.process.stderr.text();
    assert!(log.contains("\"lifetime_seconds\":7200"), "{log}");
}

/// Two external credentials that differ in the grant alone have tokens of their own.
#[tokio::test]
async fn tokens_of_different_flows_are_not_mixed_up() {
    let other = "[named_credentials.other]\nurl = \"http://{upstream}\"\nexternal_credential = \"other\"\n\
                 [external_credentials.other]\ntoken_endpoint = \"http://{endpoint}/token\"\nflow = \"password\"\n\
                 username = \"jo\"\npassword = { env = \"PASSWORD\" }\n";
    let endpoint = TokenEndpoint::answering(|asked| token(&format!("by-{}", body(asked)["grant_type"]))).await;
    let scene = Scene::before(endpoint, &(orders(CLIENT) + other + CLIENT), secrets).await;
    for _ in 0..2 {
        assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "by-client_credentials");
        assert_eq!(scene.pass("/other/x", &[]).await.bearer(), "by-password");
    }
    assert_eq!(scene.endpoint.asked().len(), 2);
}
