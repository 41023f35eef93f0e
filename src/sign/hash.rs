//! Digests (FIPS 180-4) and HMACs (RFC 2104) over bytes, for formulas. SHA-1 is there for servers that know nothing
//! else; nothing here chooses it.

use aws_lc_rs::{digest, hmac};

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the names of the standard")]
pub enum HashAlgorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl HashAlgorithm {
    /// The hash function of this name in one of its usual spellings, such as `SHA-256`, `sha256` or `hmacSHA256`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let folded: String = name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
        match folded.strip_prefix("hmac").unwrap_or(&folded) {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// The digest of `message`.
#[must_use]
pub fn digest(algorithm: HashAlgorithm, message: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        HashAlgorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        HashAlgorithm::Sha256 => &digest::SHA256,
        HashAlgorithm::Sha384 => &digest::SHA384,
        HashAlgorithm::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, message).as_ref().to_vec()
}

/// The HMAC of `message` under `key`.
#[must_use]
pub fn hmac(algorithm: HashAlgorithm, key: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        HashAlgorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        HashAlgorithm::Sha256 => hmac::HMAC_SHA256,
        HashAlgorithm::Sha384 => hmac::HMAC_SHA384,
        HashAlgorithm::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{HashAlgorithm, digest, hmac};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn usual_spellings_are_read() {
        for (algorithm, names) in [
            (HashAlgorithm::Sha1, ["SHA-1", "sha1", "hmacSHA1"]),
            (HashAlgorithm::Sha256, ["SHA-256", "Sha256", "HMAC-SHA-256"]),
            (HashAlgorithm::Sha384, ["SHA-384", "sha_384", "hmac_sha384"]),
            (HashAlgorithm::Sha512, ["SHA-512", "SHA512", "hmacSHA512"]),
        ] {
            for name in names {
                assert_eq!(HashAlgorithm::parse(name), Some(algorithm), "{name}");
            }
        }
        for name in ["", "hmac", "MD5", "SHA-224", "SHA-512/256", "SHA3-256", " SHA-256"] {
            assert_eq!(HashAlgorithm::parse(name), None, "{name}");
        }
    }

    /// FIPS 180-4's own example.
    #[test]
    fn digests_are_those_of_the_standard() {
        for (algorithm, start) in [
            (HashAlgorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (HashAlgorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (HashAlgorithm::Sha384, "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"),
            (HashAlgorithm::Sha512, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2"),
        ] {
            assert!(hex(&digest(algorithm, b"abc")).starts_with(start), "{algorithm:?}");
        }
    }

    /// RFC 2202 and RFC 4231, test case 2.
    #[test]
    fn hmacs_are_those_of_the_rfcs() {
        for (algorithm, start) in [
            (HashAlgorithm::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (HashAlgorithm::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (HashAlgorithm::Sha384, "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47"),
            (HashAlgorithm::Sha512, "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd6"),
        ] {
            assert!(
                hex(&hmac(algorithm, b"Jefe", b"what do ya want for nothing?")).starts_with(start),
                "{algorithm:?}"
            );
        }
    }
}
