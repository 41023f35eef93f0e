//! What the token endpoint of a recording must see.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oauth2::url::form_urlencoded;
use serde_json::Value;

use super::mapping::{CLIENT, Entry, FEDERATED, SECRET};
use crate::support::scene::{Parameters, body, claims, query};
use crate::support::scripted::Received;

/// Fails unless `request` is what the provider wants.
pub(crate) fn check(entry: &Entry, request: &Received) {
    let context = format!("{}:\n{request:#?}", entry.name());
    assert_eq!(request.method(), entry.method(), "{context}");
    let (query, body) = (query(request), body(request));
    if entry.method() == "POST" && !request.body.is_empty() {
        let wanted = entry.request("content_type").as_str().unwrap();
        assert!(request.field("content-type").unwrap().starts_with(wanted), "{context}");
    }
    assert!(query.keys().all(|name| !body.contains_key(name)), "a parameter twice: {context}");
    let sent: Parameters = query.clone().into_iter().chain(body.clone()).collect();
    let sent = |name: &str| sent.get(name).map(String::as_str);

    let grant_type = Some(entry.grant_type()).filter(|name| !name.is_empty());
    assert_eq!(sent("grant_type"), grant_type, "{context}");
    if entry.request("grant_in") == "query" || entry.method() == "GET" {
        assert!(query.contains_key("grant_type"), "{context}");
    }
    for (name, value) in entry.extra_parameters() {
        let expected = if name == "refresh_token" { "the-refresh-token" } else { &value };
        assert_eq!(sent(&name), Some(expected), "{context}");
    }
    if !entry.extra_parameters().iter().any(|(name, _)| name == "scope") {
        assert_eq!(sent("scope"), None, "no scope is not an empty scope: {context}");
    }
    for (name, value) in entry.extra_headers() {
        assert_eq!(request.field(&name), Some(value.as_str()), "{context}");
    }
    proof(entry, request, &sent, &body, &context);
}

/// The one way in which this client says who it is, and no second one (RFC 6749 2.3).
fn proof<'a>(
    entry: &Entry,
    request: &Received,
    sent: &impl Fn(&str) -> Option<&'a str>,
    body: &Parameters,
    context: &str,
) {
    let basic = |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let authorization = request.field("authorization");
    match entry.style() {
        "basic_form" => {
            assert_eq!(authorization, Some(&*basic(CLIENT, &encoded(SECRET))), "{context}");
            assert_eq!((sent("client_id"), sent("client_secret")), (None, None), "{context}");
        }
        "basic_raw" => {
            assert_eq!(authorization, Some(&*basic(CLIENT, SECRET)), "{context}");
            assert_eq!((sent("client_id"), sent("client_secret")), (None, None), "{context}");
        }
        "post_body" | "json_body" | "json_body_or_post" => {
            assert_eq!(authorization, None, "{context}");
            assert_eq!(body.get("client_secret").map(String::as_str), Some(SECRET), "{context}");
            assert_eq!(body.get("client_id").map(String::as_str), Some(CLIENT), "{context}");
        }
        "query" => {
            assert_eq!(authorization, None, "{context}");
            assert_eq!((sent("client_id"), sent("client_secret")), (Some(CLIENT), Some(SECRET)), "{context}");
            assert!(body.is_empty(), "{context}");
        }
        "client_assertion" => {
            assert_eq!((sent("client_assertion"), sent("client_secret")), (Some(FEDERATED), None), "{context}");
        }
        "private_key_jwt" => {
            let claims = claims(sent("client_assertion").unwrap());
            assert_eq!((&claims["iss"], &claims["sub"]), (&Value::from(CLIENT), &Value::from(CLIENT)), "{context}");
            assert!(request.field("dpop").is_some(), "{context}");
        }
        "jwt_bearer_grant" => {
            let claims = claims(sent("assertion").unwrap());
            assert_eq!((&claims["iss"], &claims["aud"]), (&Value::from(CLIENT), &Value::from("https://provider.test")));
            assert_eq!((authorization, sent("client_secret")), (None, None), "{context}");
        }
        "bearer_jwt" => {
            let claims = claims(authorization.unwrap().strip_prefix("Bearer ").unwrap());
            assert_eq!(claims["iss"], CLIENT, "{context}");
        }
        "apikey_in_body" | "none" => assert_eq!((authorization, sent("client_secret")), (None, None), "{context}"),
        other => panic!("no check for {other}"),
    }
}

/// The nonce in a request's DPoP proof.
pub(crate) fn nonce(request: &Received) -> Option<String> {
    claims(request.field("dpop")?)["nonce"].as_str().map(str::to_owned)
}
