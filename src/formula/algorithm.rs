//! Names of algorithms as formulas write them: those of JOSE, and the spellings that Salesforce and Java know.

use crate::sign::{Algorithm, HashAlgorithm};

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As in a JWS (RFC 7518 3.4): for an elliptic curve the two numbers one after the other.
    Jose,
    /// For an elliptic curve the two numbers as ASN.1 (RFC 3279 2.2.3), which is what X.509 and Java use.
    Der,
}

/// For `hash` and `hmac`.
pub(super) fn hash(name: &str) -> Option<HashAlgorithm> {
    HashAlgorithm::parse(name)
}

/// For `sign`.
pub(super) fn signature(name: &str) -> Option<(Algorithm, Form)> {
    let folded: String = name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    let algorithm = match folded.as_str() {
        "rs256" | "rsasha256" | "sha256withrsa" => Algorithm::Rs256,
        "rs384" | "rsasha384" | "sha384withrsa" => Algorithm::Rs384,
        "rs512" | "rsasha512" | "sha512withrsa" => Algorithm::Rs512,
        "ps256" => Algorithm::Ps256,
        "ps384" => Algorithm::Ps384,
        "ps512" => Algorithm::Ps512,
        "es256" | "ecdsasha256p1363" | "ecdsasha256" | "sha256withecdsa" => Algorithm::Es256,
        "es384" | "ecdsasha384p1363" | "ecdsasha384" | "sha384withecdsa" => Algorithm::Es384,
        "es512" | "ecdsasha512p1363" | "ecdsasha512" | "sha512withecdsa" => Algorithm::Es512,
        "eddsa" | "ed25519" => Algorithm::EdDsa,
        _ => return None,
    };
    let is_der = folded.contains("ecdsa") && !folded.ends_with("p1363");
    Some((algorithm, if is_der { Form::Der } else { Form::Jose }))
}

/// What to write instead of an unknown name.
pub(super) fn known(function: &str) -> &'static str {
    match function {
        "hash" | "hmac" => "write `SHA-256`, `SHA-384`, `SHA-512` or `SHA-1`",
        _ => "write a name such as `RS256`, `PS256`, `ES256`, `EdDSA` or `RSA-SHA256`",
    }
}

/// The two numbers of an elliptic curve's signature as ASN.1: a SEQUENCE of two INTEGERs.
pub(super) fn to_der(numbers: &[u8]) -> Vec<u8> {
    let (r, s) = numbers.split_at(numbers.len() / 2);
    let mut content = integer(r);
    content.extend(integer(s));
    tagged(0x30, &content)
}

/// An unsigned number: no leading zeroes, and one where the first bit would read as a sign.
fn integer(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = number.get(start..).unwrap_or_default();
    let mut content = Vec::with_capacity(digits.len() + 1);
    if digits.first().is_none_or(|first| *first >= 0x80) {
        content.push(0);
    }
    content.extend_from_slice(digits);
    tagged(0x02, &content)
}

/// Tag, length, content; a signature of any curve here is shorter than 256 bytes.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    let mut encoded = vec![tag];
    if length >= 0x80 {
        encoded.push(0x81);
    }
    encoded.push(length);
    encoded.extend_from_slice(content);
    encoded
}

#[cfg(test)]
mod tests {
    use super::{Form, signature, to_der};
    use crate::sign::Algorithm;

    #[test]
    fn usual_spellings_are_read() {
        for (name, expected) in [
            ("RS256", Some((Algorithm::Rs256, Form::Jose))),
            ("RSA-SHA256", Some((Algorithm::Rs256, Form::Jose))),
            ("rsa-sha512", Some((Algorithm::Rs512, Form::Jose))),
            ("ES384", Some((Algorithm::Es384, Form::Jose))),
            ("ECDSA-SHA256", Some((Algorithm::Es256, Form::Der))),
            ("ECDSA-SHA256-P1363", Some((Algorithm::Es256, Form::Jose))),
            ("EdDSA", Some((Algorithm::EdDsa, Form::Jose))),
            ("RSA-SHA1", None),
            ("RSA", None),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(signature(name), expected, "{name}");
        }
    }

    #[test]
    fn numbers_become_asn1() {
        assert_eq!(to_der(&[0, 1, 0x80, 2]), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 2]);
        assert_eq!(to_der(&[0, 0]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        let long = to_der(&[0x7f; 132]);
        assert_eq!(long[..5], [0x30, 0x81, 136, 2, 66]);
        assert_eq!(long.len(), 3 + 136);
    }
}
