//! The signature algorithms by their registered names, and which key each takes.

use super::HashAlgorithm;

/// A signature algorithm of RFC 7518 or RFC 8037 that has a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the registered names")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// An HMAC of RFC 7518 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the registered names")]
pub enum HmacAlgorithm {
    Hs256,
    Hs384,
    Hs512,
}

/// What a private key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    Ec(Curve),
    Ed25519,
}

/// The curves of RFC 7518 6.2.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Algorithm {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The algorithm of this name in JOSE, such as `ES256`; case counts (RFC 7515 4.1.1).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in JOSE.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The one kind of key it takes.
    pub(super) fn key_kind(self) -> KeyKind {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyKind::Rsa,
            Self::Es256 => KeyKind::Ec(Curve::P256),
            Self::Es384 => KeyKind::Ec(Curve::P384),
            Self::Es512 => KeyKind::Ec(Curve::P521),
            Self::EdDsa => KeyKind::Ed25519,
        }
    }
}

impl HmacAlgorithm {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Hs256, Self::Hs384, Self::Hs512];

    /// The algorithm of this name in JOSE, such as `HS256`; case counts.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in JOSE.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    pub(super) fn hash(self) -> HashAlgorithm {
        match self {
            Self::Hs256 => HashAlgorithm::Sha256,
            Self::Hs384 => HashAlgorithm::Sha384,
            Self::Hs512 => HashAlgorithm::Sha512,
        }
    }
}

impl KeyKind {
    /// What is used where nothing is configured: the only one, or for RSA the one that every server knows.
    pub(super) fn usual_algorithm(self) -> Algorithm {
        match self {
            Self::Rsa => Algorithm::Rs256,
            Self::Ec(Curve::P256) => Algorithm::Es256,
            Self::Ec(Curve::P384) => Algorithm::Es384,
            Self::Ec(Curve::P521) => Algorithm::Es512,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }

    /// What to say of a key of another kind; one clause.
    pub(super) fn demand(self) -> &'static str {
        match self {
            Self::Rsa => "is not an RSA key, which algorithms RS… and PS… need",
            Self::Ec(Curve::P256) => "is not an EC key on the curve P-256, which ES256 needs",
            Self::Ec(Curve::P384) => "is not an EC key on the curve P-384, which ES384 needs",
            Self::Ec(Curve::P521) => "is not an EC key on the curve P-521, which ES512 needs",
            Self::Ed25519 => "is not an Ed25519 key, which EdDSA needs",
        }
    }
}

impl Curve {
    pub(super) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// `crv`
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Length of a coordinate in bytes.
    pub(super) fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}
