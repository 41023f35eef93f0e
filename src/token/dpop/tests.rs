//! Proofs as a server reads them, and nonces as servers hand them out.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::json;

use super::*;

const ORIGIN: &str = "https://api.example.com";

fn decode(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).unwrap()
}

/// Header and claims of a proof whose signature is that of the key inside.
fn verified(proof: &HeaderValue) -> [Value; 2] {
    let proof = proof.to_str().unwrap();
    let (input, signature) = proof.rsplit_once('.').unwrap();
    let parts = input.split_once('.').unwrap();
    let [header, claims]: [Value; 2] = [parts.0, parts.1].map(|part| serde_json::from_slice(&decode(part)).unwrap());
    let coordinate = |name: &str| decode(header["jwk"][name].as_str().unwrap());
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(input.as_bytes(), &decode(signature)).unwrap();
    [header, claims]
}

fn claims(dpop: &Dpop, origin: &str, path: &str, token: Option<&str>) -> Value {
    let [_, claims] = verified(&dpop.proof(&Method::GET, origin, path, token).unwrap());
    claims
}

fn nonce(value: &str) -> HeaderMap {
    [(http::HeaderName::from_static("dpop-nonce"), HeaderValue::from_str(value).unwrap())].into_iter().collect()
}

#[test]
fn a_proof_is_that_of_rfc_9449_4_2() {
    let dpop = Dpop::generate().unwrap();
    let before = unix_time();
    let proof = dpop.proof(&Method::POST, "https://server.example.com", "/token", None).unwrap();
    assert!(proof.is_sensitive());
    let [header, mut claims] = verified(&proof);
    assert_eq!(header, json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": dpop.public }));
    assert_eq!(header["jwk"].as_object().unwrap().len(), 4, "nothing private");
    let claims = claims.as_object_mut().unwrap();
    assert!((before..=unix_time()).contains(&claims.remove("iat").unwrap().as_u64().unwrap()), "not set back");
    assert_eq!(decode(claims.remove("jti").unwrap().as_str().unwrap()).len(), 16);
    assert_eq!(*claims, *json!({ "htm": "POST", "htu": "https://server.example.com/token" }).as_object().unwrap());
    let thumbprint = digest(HashAlgorithm::Sha256, header["jwk"].to_string().as_bytes());
    assert_eq!(decode(&dpop.thumbprint()), thumbprint);
}

#[test]
fn a_proof_for_a_protected_resource_holds_the_hash_of_rfc_9449_7_1() {
    let dpop = Dpop::generate().unwrap();
    let token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    let claims = claims(&dpop, "https://resource.example.org", "/protectedresource", Some(token));
    assert_eq!(claims["ath"], "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    assert_eq!(claims["htu"], "https://resource.example.org/protectedresource");
}

/// C13: no two proofs share their `jti` and no two cells their key.
#[test]
fn no_two_proofs_share_their_jti_and_no_two_cells_their_key() {
    let dpop = Dpop::generate().unwrap();
    let ids: std::collections::BTreeSet<String> =
        (0..50).map(|_| claims(&dpop, ORIGIN, "/", None)["jti"].to_string()).collect();
    assert_eq!(ids.len(), 50);
    assert_ne!(dpop.thumbprint(), Dpop::generate().unwrap().thumbprint());
}

#[test]
fn the_target_is_normalized_and_has_neither_query_nor_fragment() {
    let dpop = Dpop::generate().unwrap();
    for (origin, path, expected) in [
        ("HTTPS://API.Example.com:443", "/A%2fb", "https://api.example.com/A%2fb"),
        ("https://api.example.com:8443", "/a?q=1", "https://api.example.com:8443/a"),
        ("https://api.example.com:80", "/a#f", "https://api.example.com:80/a"),
        ("https://api.example.com:", "", "https://api.example.com/"),
        ("http://[::1]:80", "/", "http://[::1]/"),
        ("http://127.0.0.1:8080", "?q", "http://127.0.0.1:8080/"),
        ("https://[2001:db8::443]", "/", "https://[2001:db8::443]/"),
    ] {
        assert_eq!(claims(&dpop, origin, path, None)["htu"], expected);
    }
}

#[test]
fn a_proof_carries_the_newest_nonce_of_its_origin_alone() {
    let dpop = Dpop::generate().unwrap();
    assert!(!dpop.note(ORIGIN, &HeaderMap::new()));
    assert_eq!(claims(&dpop, ORIGIN, "/", None)["nonce"], Value::Null);
    assert!(dpop.note(ORIGIN, &nonce("eyJ7S_zG.eyJH0-Z.HX4w-7v")));
    assert!(!dpop.note(ORIGIN, &nonce("eyJ7S_zG.eyJH0-Z.HX4w-7v")), "the same again");
    assert!(dpop.note("https://issuer.example.com", &nonce("issuer")));
    assert_eq!(claims(&dpop, ORIGIN, "/", None)["nonce"], "eyJ7S_zG.eyJH0-Z.HX4w-7v");
    assert!(dpop.note("HTTPS://api.EXAMPLE.com:443", &nonce("newer")), "the same origin");
    assert_eq!(claims(&dpop, ORIGIN, "/", None)["nonce"], "newer");
    assert_eq!(claims(&dpop, "https://issuer.example.com", "/", None)["nonce"], "issuer");
    assert_eq!(claims(&dpop, "https://other.example.com", "/", None)["nonce"], Value::Null);
}

#[test]
fn a_nonce_that_is_none_is_ignored() {
    let dpop = Dpop::generate().unwrap();
    assert!(dpop.note(ORIGIN, &nonce("kept")));
    let longest = "n".repeat(512);
    for refused in ["", "a b", "a\"b", "a\\b", "a\tb", "a,\u{e9}", &format!("{longest}n")] {
        let headers =
            [(http::HeaderName::from_static("dpop-nonce"), HeaderValue::from_bytes(refused.as_bytes()).unwrap())];
        assert!(!dpop.note(ORIGIN, &headers.into_iter().collect()), "{refused:?}");
    }
    let mut two = nonce("one");
    two.append("dpop-nonce", HeaderValue::from_static("two"));
    assert!(!dpop.note(ORIGIN, &two), "which of them?");
    assert_eq!(claims(&dpop, ORIGIN, "/", None)["nonce"], "kept");
    assert!(dpop.note(ORIGIN, &nonce(&longest)));
}

#[test]
fn the_oldest_of_too_many_origins_is_forgotten() {
    let dpop = Dpop::generate().unwrap();
    let origin = |number: usize| format!("https://{number}.example.com");
    for number in 0..64 {
        assert!(dpop.note(&origin(number), &nonce("first")));
    }
    assert!(dpop.note(&origin(0), &nonce("second")), "now the newest");
    assert!(dpop.note(&origin(64), &nonce("first")));
    let kept = |number: usize| claims(&dpop, &origin(number), "/", None)["nonce"].clone();
    assert_eq!([kept(0), kept(1), kept(2), kept(64)], [json!("second"), Value::Null, json!("first"), json!("first")]);
}

#[test]
fn debug_shows_no_nonce() {
    let dpop = Dpop::generate().unwrap();
    dpop.note(ORIGIN, &nonce("canary"));
    assert!(!format!("{dpop:?}").contains("canary"));
}
