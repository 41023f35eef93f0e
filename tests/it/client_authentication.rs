//! Every way in which a client proves who it is, before a certified OAuth server that refuses what is not exact.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, RsaKeySize, SignatureAlgorithm};
use serde_json::{Value, json};

use crate::support::http::{self, request};
use crate::support::oidc::{Issuer, RESOURCE};
use crate::support::proxy::{Setup, head};

/// Every character that one encoding or another treats in its own way; RFC 6749 A.2 allows no more than ASCII.
const SECRET: &str = "p+w %d/=:&~*!'()-._?#;,@\\\"0123456789abcdef";

/// A client, and how the proxy is told about it.
struct Way {
    /// The client id, and the name of the named credential.
    id: &'static str,
    /// `token_endpoint_auth_method` and `token_endpoint_auth_signing_alg` as registered.
    registered: (&'static str, Option<&'static str>),
    /// The lines of its external credential.
    lines: &'static str,
    /// The kind of its key, where it has one.
    key: Option<Key>,
}

#[derive(Clone, Copy)]
enum Key {
    Rsa,
    Pair(&'static SignatureAlgorithm),
}

const BY_SECRET: &str = "client_secret = { env = \"CLIENT_SECRET\" }\n";

/// As many as there are.
fn ways() -> Vec<Way> {
    use Key::{Pair, Rsa};
    let secret = |id, method, lines| Way { id, registered: (method, None), lines, key: None };
    let key = |id, algorithm, lines, key| Way { id, registered: ("private_key_jwt", algorithm), lines, key: Some(key) };
    vec![
        secret("basic", "client_secret_basic", "client_authentication = \"client_secret_basic\""),
        secret("by_default", "client_secret_basic", ""),
        secret("post", "client_secret_post", "client_authentication = \"client_secret_post\""),
        secret("hs256", "client_secret_jwt", "client_authentication = \"client_secret_jwt\""),
        Way {
            id: "hs512",
            registered: ("client_secret_jwt", Some("HS512")),
            lines: "client_authentication = \"client_secret_jwt\"\nsigning = { algorithm = \"HS512\" }",
            key: None,
        },
        key("rs256", Some("RS256"), "signing = { key = { file = \"rs256.key\" } }", Rsa),
        key("rs384", Some("RS384"), "signing = { algorithm = \"RS384\", key = { file = \"rs384.key\" } }", Rsa),
        key("rs512", Some("RS512"), "signing = { algorithm = \"RS512\", key = { file = \"rs512.key\" } }", Rsa),
        key("ps256", Some("PS256"), "signing = { algorithm = \"PS256\", key = { file = \"ps256.key\" } }", Rsa),
        key("ps384", Some("PS384"), "signing = { algorithm = \"PS384\", key = { file = \"ps384.key\" } }", Rsa),
        key("ps512", Some("PS512"), "signing = { algorithm = \"PS512\", key = { file = \"ps512.key\" } }", Rsa),
        key(
            "es256",
            Some("ES256"),
            "signing = { key = { file = \"es256.key\" } }",
            Pair(&rcgen::PKCS_ECDSA_P256_SHA256),
        ),
        key(
            "es384",
            Some("ES384"),
            "signing = { key = { file = \"es384.key\" } }",
            Pair(&rcgen::PKCS_ECDSA_P384_SHA384),
        ),
        key(
            "es512",
            Some("ES512"),
            "signing = { key = { file = \"es512.key\" } }",
            Pair(&rcgen::PKCS_ECDSA_P521_SHA512),
        ),
        key("eddsa", Some("EdDSA"), "signing = { key = { file = \"eddsa.key\" } }", Pair(&rcgen::PKCS_ED25519)),
    ]
}

fn key_pair(key: Key) -> KeyPair {
    match key {
        Key::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        Key::Pair(algorithm) => KeyPair::generate_for(algorithm).unwrap(),
    }
}

/// C10: every way of proving who the client is is accepted.
#[tokio::test]
async fn every_way_of_proving_who_the_client_is_is_accepted() {
    let (mut clients, mut keys) = (Vec::new(), Vec::new());
    for way in ways() {
        let pair = way.key.map(key_pair);
        let (method, algorithm) = way.registered;
        clients.push(json!({
            "client_id": way.id,
            "client_secret": if way.key.is_none() { json!(SECRET) } else { Value::Null },
            "public_key": pair.as_ref().map(KeyPair::public_key_pem),
            "authentication": method,
            "metadata": algorithm.map_or(json!({}), |name| json!({"token_endpoint_auth_signing_alg": name})),
        }));
        keys.extend(pair.map(|pair| (format!("{}.key", way.id), pair.serialize_pem())));
    }
    for client in &mut clients {
        client.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    let settings = json!({"clients": clients, "resources": [RESOURCE]});
    let Some(issuer) = Issuer::with(&settings).await else { return };

    let mut config = head("info");
    for way in ways() {
        let secret = if way.key.is_none() { BY_SECRET } else { "" };
        config.push_str(&format!(
            "[named_credentials.{id}]\nurl = \"http://{api}\"\nexternal_credential = \"{id}\"\n\
             [external_credentials.{id}]\ntoken_endpoint = \"{endpoint}\"\nissuer = \"http://{issuer}\"\n\
             client_id = \"{id}\"\nresource = \"{RESOURCE}\"\n{secret}{lines}\n",
            id = way.id,
            api = issuer.resource,
            endpoint = issuer.token_endpoint(),
            issuer = issuer.issuer,
            lines = way.lines,
        ));
    }
    let mut setup = Setup::new(&config).env("CLIENT_SECRET", SECRET);
    for (name, pem) in &keys {
        setup = setup.file(name, pem);
    }
    let proxy = setup.run().await;
    for way in ways() {
        let answer = http::get(proxy.address, &format!("/{}/echo", way.id)).await.unwrap();
        assert_eq!(answer.status, 200, "{}: {}\n{}", way.id, answer.text(), proxy.process.stderr.text());
        assert_eq!(answer.json()["token"]["client_id"], way.id);
        assert_eq!(answer.json()["token"]["aud"], RESOURCE, "the resource that was asked for (RFC 8707)");
    }
    let stats = issuer.stats().await;
    assert_eq!((stats.token_requests(), stats.token_answers(200)), (ways().len() as u64, ways().len() as u64));
}

/// The claims of the assertion in a recorded token request.
fn claims(recorded: &Value) -> Value {
    let body = recorded["body"].as_str().unwrap();
    let assertion = body.split('&').find_map(|pair| pair.strip_prefix("client_assertion=")).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// C11: an assertion is never sent twice and the server would refuse it.
#[tokio::test]
async fn an_assertion_is_never_sent_twice_and_the_server_would_refuse_it() {
    let pair = KeyPair::generate().unwrap();
    let client = json!({"client_id": "orders", "authentication": "private_key_jwt", "public_key": pair.public_key_pem(),
                        "metadata": {"token_endpoint_auth_signing_alg": "ES256"}});
    let Some(issuer) = Issuer::with(&json!({"clients": [client], "resources": [RESOURCE]})).await else { return };
    let config = format!(
        "{head}[named_credentials.orders]\nurl = \"http://{api}\"\nexternal_credential = \"orders\"\n\
         [external_credentials.orders]\nissuer = \"http://{issuer}\"\nclient_id = \"orders\"\n\
         signing = {{ key = {{ file = \"orders.key\" }} }}\n",
        head = head("info"),
        api = issuer.resource,
        issuer = issuer.issuer,
    );
    let proxy = Setup::new(&config).file("orders.key", &pair.serialize_pem()).run().await;
    for _ in 0..4 {
        let answer = http::get(proxy.address, "/orders/echo").await.unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.process.stderr.text());
        issuer.revoke_all().await;
    }
    let recorded = issuer.token_requests().await;
    let identifiers: BTreeSet<String> = recorded.iter().map(|sent| claims(sent)["jti"].to_string()).collect();
    assert_eq!((recorded.len(), identifiers.len()), (4, 4), "one mint each, and a jti of its own for each");
    assert!(recorded.iter().all(|sent| claims(sent)["aud"] == format!("http://{}", issuer.issuer)), "{recorded:?}");
    assert_eq!(issuer.stats().await.token_answers(200), 4, "none of ours was refused");

    let body = recorded[0]["body"].as_str().unwrap().as_bytes();
    let form = [("Content-Type", "application/x-www-form-urlencoded"), ("Connection", "close")];
    let mut caller = http::Connection::open(issuer.issuer).await.unwrap();
    let again = caller.exchange(&request("POST", "/token", &form, body)).await.unwrap();
    assert_eq!((again.status, &again.json()["error"]), (401, &json!("invalid_client")), "{}", again.text());
}

#[tokio::test]
async fn discovery_finds_the_endpoint_and_the_way_to_authenticate() {
    let client = json!({"client_id": "orders", "client_secret": SECRET, "authentication": "client_secret_basic"});
    let Some(issuer) = Issuer::with(&json!({"clients": [client], "resources": [RESOURCE]})).await else { return };
    let config = |issuer: &str, api| {
        format!(
            "{}[named_credentials.orders]\nurl = \"http://{api}\"\nexternal_credential = \"orders\"\n\
             [external_credentials.orders]\nissuer = \"{issuer}\"\nclient_id = \"orders\"\n{BY_SECRET}",
            head("info")
        )
    };
    let right = format!("http://{}", issuer.issuer);
    let proxy = Setup::new(&config(&right, issuer.resource)).env("CLIENT_SECRET", SECRET).run().await;
    let answer = http::get(proxy.address, "/orders/echo").await.unwrap();
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.process.stderr.text());

    // The same server by another name: RFC 8414 3.3, the metadata must not be used.
    let wrong = format!("http://localhost:{}", issuer.issuer.port());
    let before = issuer.stats().await.token_requests();
    let proxy = Setup::new(&config(&wrong, issuer.resource)).env("CLIENT_SECRET", SECRET).run().await;
    let answer = http::get(proxy.address, "/orders/echo").await.unwrap();
    assert!(matches!(answer.status, 502 | 503), "{}", answer.text());
    assert_eq!(issuer.stats().await.token_requests(), before, "and no secret is sent anywhere");
}
