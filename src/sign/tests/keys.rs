//! Which keys are read, and which algorithm, key id and certificate go with them.

use aws_lc_rs::signature::EcdsaKeyPair;
use serde_json::json;

use super::samples::{ED25519_JWK, P256_JWK, RSA_JWK, all, ec_jwk, private_number};
use super::*;
use crate::sign::algorithm::Curve;

/// A JWK with this member as well, or instead.
fn with(jwk: &str, name: &str, value: Value) -> String {
    let mut members: Map<String, Value> = serde_json::from_str(jwk).unwrap();
    members.insert(name.to_owned(), value);
    Value::from(members).to_string()
}

#[test]
fn every_algorithm_signs_with_its_key_from_jwk_and_from_every_pem_form() {
    for sample in all() {
        let public = load(&sample.jwk, None).unwrap().public_jwk();
        for (text, algorithm) in [&sample.jwk]
            .into_iter()
            .chain(&sample.pem)
            .flat_map(|text| sample.algorithms.iter().map(move |algorithm| (text, *algorithm)))
        {
            let signer = load(text, Some(algorithm)).unwrap();
            assert_eq!((signer.algorithm(), signer.public_jwk()), (algorithm, public.clone()));
            let jws = signer.sign(Map::new(), &Map::new()).unwrap();
            assert!(is_signed(algorithm, &public, jws.expose()), "{algorithm:?}");
            assert!(!is_signed(algorithm, &public, &jws.expose().replacen('.', "A.", 1)), "{algorithm:?}");
        }
    }
}

#[test]
fn without_an_algorithm_the_key_decides() {
    for (sample, expected) in all().iter().zip(["RS256", "ES256", "ES384", "ES512", "EdDSA"]) {
        for text in [&sample.jwk].into_iter().chain(&sample.pem) {
            assert_eq!(load(text, None).unwrap().algorithm().name(), expected);
        }
    }
    let jwk = with(RSA_JWK, "alg", json!("PS384"));
    assert_eq!(load(&jwk, None).unwrap().algorithm(), Algorithm::Ps384, "RFC 7517 4.4");
    assert_eq!(load(&jwk, Some(Algorithm::Rs512)).unwrap().algorithm(), Algorithm::Rs512, "what is configured wins");
}

#[test]
fn a_key_of_another_kind_is_refused_with_the_reason() {
    for sample in all() {
        for algorithm in Algorithm::ALL {
            match load(&sample.pem[0], Some(algorithm)) {
                Ok(_) => assert!(sample.algorithms.contains(&algorithm)),
                Err(error) => {
                    assert!(!sample.algorithms.contains(&algorithm), "{algorithm:?}: {error}");
                    assert!(error.to_string().starts_with("the signing key is not an "), "{error}");
                }
            }
        }
    }
    let error = load(RSA_JWK, Some(Algorithm::Es256)).unwrap_err().to_string();
    assert_eq!(error, "the signing key is not an EC key on the curve P-256, which ES256 needs");
    let error = load(&with(P256_JWK, "alg", json!("RS256")), None).unwrap_err().to_string();
    assert_eq!(error, "the signing key is not an RSA key, which algorithms RS… and PS… need");
}

#[test]
fn white_space_around_a_key_and_written_line_ends_do_no_harm() {
    for sample in all() {
        for text in [&sample.jwk].into_iter().chain(&sample.pem) {
            let expected = load(text, None).unwrap().public_jwk();
            for text in [format!("\r\n\t {text}\n \n"), text.replace('\n', "\r\n"), text.replace('\n', "\\n")] {
                assert_eq!(load(&text, None).unwrap().public_jwk(), expected);
            }
        }
    }
    let bundle = format!("a comment\n{}", all()[1].pem[1]);
    assert!(load(&bundle, None).is_ok(), "openssl ecparam writes other blocks and text before the key");
}

#[test]
fn jwks_of_careless_writers_are_read() {
    let rsa: Value = serde_json::from_str(RSA_JWK).unwrap();
    let n = [&[0][..], &decode(rsa["n"].as_str().unwrap())].concat();
    let jwk = with(RSA_JWK, "n", json!(URL_SAFE_NO_PAD.encode(n)));
    let jwk = with(&jwk, "e", json!("AQAB===="));
    assert_eq!(load(&jwk, None).unwrap().public_jwk(), load(RSA_JWK, None).unwrap().public_jwk());

    // One key in 256 has a private number that begins with a zero.
    let pair = loop {
        let pair = EcdsaKeyPair::generate(Curve::P256.signing()).unwrap();
        if private_number(&pair)[0] == 0 {
            break pair;
        }
    };
    let jwk = ec_jwk(Curve::P256, &pair);
    let short = with(&jwk, "d", json!(URL_SAFE_NO_PAD.encode(&private_number(&pair)[1..])));
    assert_eq!(load(&short, None).unwrap().public_jwk(), load(&jwk, None).unwrap().public_jwk());
}

#[test]
fn the_key_id_is_the_configured_one_or_the_jwks_own() {
    let jwk = secret(&with(ED25519_JWK, "kid", json!("own \"é")));
    let signer = Signer::load(&jwk, None, None, None).unwrap();
    assert_eq!(signer.key_id(), Some("own \"é"));
    let signer = Signer::load(&jwk, None, Some("configured".to_owned()), None).unwrap();
    assert_eq!(signer.key_id(), Some("configured"));
    assert_eq!(load(ED25519_JWK, None).unwrap().key_id(), None);
}

#[test]
fn public_keys_hold_no_private_member() {
    for (sample, expected) in all().iter().zip(["e kty n", "crv kty x y", "crv kty x y", "crv kty x y", "crv kty x"]) {
        let public = load(&with(&sample.jwk, "kid", json!("k")), None).unwrap().public_jwk();
        let given: Value = serde_json::from_str(&sample.jwk).unwrap();
        let members = public.as_object().unwrap();
        assert_eq!(members.keys().map(String::as_str).collect::<Vec<_>>().join(" "), expected);
        assert!(members.iter().all(|(name, value)| given[name] == *value));
    }
}

#[test]
fn the_fingerprint_tells_keys_algorithms_key_ids_and_certificates_apart() {
    let print = |key: &str, algorithm, kid: Option<&str>| {
        *Signer::load(&secret(key), algorithm, kid.map(str::to_owned), None).unwrap().fingerprint()
    };
    let certified = certificate(&all()[1].pem[0]);
    let certified = Signer::load(&secret(P256_JWK), None, None, Some(certified.as_bytes())).unwrap();
    let different = [
        print(RSA_JWK, None, None),
        print(RSA_JWK, Some(Algorithm::Ps256), None),
        print(P256_JWK, None, None),
        print(P256_JWK, None, Some("")),
        print(P256_JWK, None, Some("k")),
        *certified.fingerprint(),
    ];
    let mut distinct = different.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), different.len());
    for sample in all() {
        let expected = print(&sample.jwk, None, None);
        assert!(sample.pem.iter().all(|pem| print(pem, None, None) == expected), "the form of a key does not count");
    }
}

/// A certificate of this key, signed by itself.
fn certificate(pem: &str) -> String {
    let pair = rcgen::KeyPair::from_pem(pem).unwrap();
    rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap().self_signed(&pair).unwrap().pem()
}

#[test]
fn a_certificate_gives_its_sha_256_thumbprint() {
    for sample in all() {
        let certificate = certificate(&sample.pem[0]);
        let chain = format!("{certificate}{}", self::certificate(&all()[2].pem[0]));
        let signer = Signer::load(&secret(&sample.jwk), None, None, Some(chain.as_bytes())).unwrap();
        let jws = signer.sign(Map::new(), &Map::new()).unwrap();
        let header: Value = serde_json::from_str(&part(&jws, 0)).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let expected = URL_SAFE_NO_PAD.encode(digest(HashAlgorithm::Sha256, &der));
        assert_eq!(header, json!({ "alg": signer.algorithm().name(), "x5t#S256": expected }));
    }
}

#[test]
fn a_certificate_of_another_key_and_what_is_none_are_refused() {
    let samples = all();
    let other = certificate(&samples[2].pem[0]);
    for (text, expected) in [
        (other.as_str(), "the certificate is not that of the signing key"),
        (samples[1].pem[0].as_str(), "the certificate file holds no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\ncanary!\n", "the certificate file holds no certificate in PEM"),
        ("", "the certificate file holds no certificate in PEM"),
    ] {
        let error = Signer::load(&secret(P256_JWK), None, None, Some(text.as_bytes())).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, SignError::Certificate(_)));
    }
}

#[test]
fn names_of_algorithms_are_read_as_they_are_written() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
    }
    for algorithm in HmacAlgorithm::ALL {
        assert_eq!(HmacAlgorithm::parse(algorithm.name()), Some(algorithm));
        assert_eq!(Algorithm::parse(algorithm.name()), None);
    }
    for name in ["", "none", "es256", "ES256K", "HS256"] {
        assert_eq!(Algorithm::parse(name), None);
    }
    assert_eq!(HmacAlgorithm::parse("RS256"), None);
}
