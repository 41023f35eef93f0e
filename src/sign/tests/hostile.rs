//! Keys that are none: each is refused with a reason that shows nothing of it, and nothing makes the reader panic.

use proptest::prelude::*;
use serde_json::json;

use super::samples::{ED25519_JWK, P256_JWK, RSA_JWK, all, foreign, pem, small_rsa};
use super::*;

/// A JWK less this member, or with this value for it.
fn changed(jwk: &str, name: &str, value: Option<&str>) -> String {
    let mut members: Map<String, Value> = serde_json::from_str(jwk).unwrap();
    members.remove(name);
    members.extend(value.map(|value| (name.to_owned(), json!(value))));
    Value::from(members).to_string()
}

fn refusal(text: &str) -> String {
    let SignError::Key(clause) = load(text, None).unwrap_err() else { panic!("another kind of error") };
    clause.to_owned()
}

#[test]
fn what_is_no_key_in_pem_is_refused_with_the_reason() {
    let [small, small_pkcs1] = small_rsa();
    let [secp256k1, ed448] = foreign();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    for (text, expected) in [
        ("", "neither PEM nor a JWK"),
        ("canary", "neither PEM nor a JWK"),
        ("-----BEGIN PRIVATE KEY-----\ncanary!\n-----END PRIVATE KEY-----", "damaged PEM"),
        ("-----BEGIN PRIVATE KEY-----\ncanary", "damaged PEM"),
        (&pem("ENCRYPTED PRIVATE KEY", b"canary"), "passphrase"),
        ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: a\n\ncanary\n", "passphrase"),
        (&pem("OPENSSH PRIVATE KEY", b"canary"), "OpenSSH"),
        (&pem("PUBLIC KEY", b"canary"), "public key"),
        (&certificate, "without a private key"),
        (&pem("PRIVATE KEY", b"canary"), "is damaged, or none of RSA"),
        (&pem("RSA PRIVATE KEY", b"canary"), "damaged RSA key"),
        (&pem("EC PRIVATE KEY", b"canary"), "is damaged, or on none of P-256"),
        (&secp256k1, "is damaged, or none of RSA"),
        (&ed448, "is damaged, or none of RSA"),
        (&small, "less than 2048 bits"),
        (&small_pkcs1, "less than 2048 bits"),
    ] {
        let clause = refusal(text);
        assert!(clause.contains(expected) && !clause.contains("canary"), "{expected:?}: {clause}");
    }
}

#[test]
fn what_is_no_private_jwk_is_refused_with_the_reason() {
    let change = |jwk, name, value| changed(jwk, name, value);
    for (text, expected) in [
        ("{".to_owned(), "well-formed"),
        (r#"{"kty":"EC","d":"canary","d":"canary"}"#.to_owned(), "well-formed"),
        (r#"{"kty":"EC","d":"c\u0061nary"}"#.to_owned(), "well-formed"),
        (r#"{"kty":"RSA","n":7}"#.to_owned(), "well-formed"),
        ("{}".to_owned(), "without `kty`"),
        (format!(r#"{{"keys":[{P256_JWK}]}}"#), "set of JWKs"),
        (r#"{"kty":"oct","k":"canary"}"#.to_owned(), "symmetric"),
        (change(P256_JWK, "kty", Some("canary")), "`kty`"),
        (change(P256_JWK, "use", Some("enc")), "`use`"),
        (change(P256_JWK, "alg", Some("ECDH-ES")), "algorithm not known"),
        (change(P256_JWK, "d", None), "public JWK"),
        (change(P256_JWK, "x", None), "without `x`"),
        (change(P256_JWK, "crv", Some("secp256k1")), "`crv`"),
        (change(P256_JWK, "crv", Some("P-384")), "do not agree"),
        (change(P256_JWK, "crv", None), "`crv`"),
        (change(P256_JWK, "d", Some("AQ")), "do not agree"),
        (change(P256_JWK, "d", Some("")), "do not agree"),
        (change(P256_JWK, "d", Some(&"A".repeat(100))), "too long"),
        (change(P256_JWK, "d", Some("canary!")), "base64url"),
        (change(RSA_JWK, "d", None), "public JWK"),
        (change(RSA_JWK, "p", None), "lacks one of"),
        (change(RSA_JWK, "qi", Some("AQ")), "damaged RSA key"),
        (change(RSA_JWK, "n", Some("")), "damaged RSA key"),
        (change(RSA_JWK, "oth", Some("canary")), "two prime factors"),
        (change(ED25519_JWK, "crv", Some("Ed448")), "not Ed25519"),
        (change(ED25519_JWK, "d", Some("AQ")), "32 bytes"),
        (change(ED25519_JWK, "x", None), "without `x`"),
        (change(ED25519_JWK, "x", Some("AQ")), "does not belong"),
    ] {
        let clause = refusal(&text);
        assert!(clause.contains(expected) && !clause.contains("canary"), "{expected:?}: {clause}");
    }
}

#[test]
fn debug_shows_the_algorithm_alone() {
    for sample in all() {
        let signer = Signer::load(&secret(&sample.pem[0]), None, Some("canary".to_owned()), None).unwrap();
        let expected = format!("Signer {{ algorithm: {:?}, .. }}", signer.algorithm());
        assert_eq!(format!("{signer:?}"), expected);
    }
}

/// Reads it in every way there is, and signs where that led to a key.
fn exercise(text: &str) {
    for algorithm in [None, Some(Algorithm::Ps256), Some(Algorithm::Es512)] {
        if let Ok(signer) = load(text, algorithm) {
            let jws = signer.sign(Map::new(), &Map::new()).unwrap();
            assert!(is_signed(signer.algorithm(), &signer.public_jwk(), jws.expose()));
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), json in "[{][ -~]{0,80}[}]") {
        exercise(&text);
        exercise(&json);
        prop_assert!(Signer::load(&secret(ED25519_JWK), None, None, Some(text.as_bytes())).is_err());
    }

    #[test]
    fn no_der_makes_it_panic(der in proptest::collection::vec(any::<u8>(), 0..200)) {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            exercise(&pem(label, &der));
        }
        let certificate = pem("CERTIFICATE", &der);
        prop_assert!(Signer::load(&secret(ED25519_JWK), None, None, Some(certificate.as_bytes())).is_err());
    }
}

proptest! {
    // Fewer: each case may sign with RSA.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_to_a_key_makes_it_panic(at in any::<prop::sample::Index>(), byte in 0x20..0x7f_u8) {
        for sample in all() {
            for text in [&sample.jwk].into_iter().chain(&sample.pem) {
                let mut bytes = text.clone().into_bytes();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                exercise(&String::from_utf8(bytes).unwrap());
            }
        }
    }
}
