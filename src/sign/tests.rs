//! Signatures are verified by the library itself, with the public JWK that we would show to others.

mod compact;
mod hostile;
mod keys;
pub(in crate::sign) mod samples;
mod vectors;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature as library;

use super::*;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn load(key: &str, algorithm: Option<Algorithm>) -> Result<Signer, SignError> {
    Signer::load(&secret(key), algorithm, None, None)
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// The object in one part of a compact JWS, as it stands there.
fn part(jws: &Secret, at: usize) -> String {
    String::from_utf8(decode(jws.expose().split('.').nth(at).unwrap())).unwrap()
}

fn is_valid(algorithm: Algorithm, jwk: &Value, message: &[u8], signature: &[u8]) -> bool {
    let number = |name: &str| decode(jwk[name].as_str().unwrap());
    let rsa = |parameters: &library::RsaParameters| {
        PublicKeyComponents { n: number("n"), e: number("e") }.verify(parameters, message, signature).is_ok()
    };
    let plain = |verification: &'static dyn library::VerificationAlgorithm, key: Vec<u8>| {
        library::UnparsedPublicKey::new(verification, key).verify(message, signature).is_ok()
    };
    let point = || [vec![4], number("x"), number("y")].concat();
    match algorithm {
        Algorithm::Rs256 => rsa(&library::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => rsa(&library::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => rsa(&library::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => rsa(&library::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => rsa(&library::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => rsa(&library::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 => plain(&library::ECDSA_P256_SHA256_FIXED, point()),
        Algorithm::Es384 => plain(&library::ECDSA_P384_SHA384_FIXED, point()),
        Algorithm::Es512 => plain(&library::ECDSA_P521_SHA512_FIXED, point()),
        Algorithm::EdDsa => plain(&library::ED25519, number("x")),
    }
}

/// Whether the signature of a compact JWS is that of its first two parts.
fn is_signed(algorithm: Algorithm, jwk: &Value, jws: &str) -> bool {
    let (input, signature) = jws.rsplit_once('.').unwrap();
    is_valid(algorithm, jwk, input.as_bytes(), &decode(signature))
}
