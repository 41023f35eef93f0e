//! What stands in the header, and HMACs.

use serde_json::json;

use super::samples::ED25519_JWK;
use super::*;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn the_header_begins_with_alg_and_keeps_its_own_members() {
    let signer = Signer::load(&secret(ED25519_JWK), None, Some("k".to_owned()), None).unwrap();
    for (members, expected) in [
        (json!({}), r#"{"alg":"EdDSA","kid":"k"}"#),
        (json!({ "aaa": 1, "typ": "JWT" }), r#"{"alg":"EdDSA","kid":"k","aaa":1,"typ":"JWT"}"#),
        (json!({ "kid": "mine" }), r#"{"alg":"EdDSA","kid":"mine"}"#),
        (json!({ "kid": null, "typ": null }), r#"{"alg":"EdDSA"}"#),
        (json!({ "alg": "none" }), r#"{"alg":"EdDSA","kid":"k"}"#),
    ] {
        let jws = signer.sign(object(members), &object(json!({ "a": "é" }))).unwrap();
        assert_eq!((part(&jws, 0).as_str(), part(&jws, 1).as_str()), (expected, r#"{"a":"é"}"#));
        assert!(is_signed(Algorithm::EdDsa, &signer.public_jwk(), jws.expose()));
    }
}

#[test]
fn hmacs_sign_with_secrets_of_any_length() {
    for (algorithm, hash) in HmacAlgorithm::ALL.into_iter().zip(["SHA-256", "SHA-384", "SHA-512"]) {
        for key in ["", "short", &"long".repeat(100)] {
            let jws = sign_with_secret(algorithm, &secret(key), object(json!({ "alg": "none" })), &Map::new()).unwrap();
            assert_eq!(part(&jws, 0), format!(r#"{{"alg":"{}"}}"#, algorithm.name()));
            let (input, mac) = jws.expose().rsplit_once('.').unwrap();
            let expected = hmac(HashAlgorithm::parse(hash).unwrap(), key.as_bytes(), input.as_bytes());
            assert_eq!(decode(mac), expected);
        }
    }
}

#[test]
fn random_ids_have_128_bits_and_differ() {
    let ids: std::collections::BTreeSet<String> = (0..100).map(|_| random_id().unwrap()).collect();
    assert_eq!(ids.len(), 100);
    assert!(ids.iter().all(|id| decode(id).len() == 16));
}

#[test]
fn a_generated_key_signs_with_es256() {
    let [one, other] = [Signer::generate_es256().unwrap(), Signer::generate_es256().unwrap()];
    let jws = one.sign(Map::new(), &Map::new()).unwrap();
    assert!(is_signed(Algorithm::Es256, &one.public_jwk(), jws.expose()));
    assert!(!is_signed(Algorithm::Es256, &other.public_jwk(), jws.expose()));
    assert_ne!(one.fingerprint(), other.fingerprint());
}
