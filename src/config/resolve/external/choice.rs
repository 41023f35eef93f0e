//! What the flow is and how the client proves itself, as written or as what is written implies. Everything else about
//! an external credential is held against this.

use super::principal::identities;
use crate::config::document::{Authentication, ExternalCredential, Flow};
use crate::config::field::Field;
use crate::config::resolve::context::Context;
use crate::config::tree::NodeId;
use crate::sign::HmacAlgorithm;

/// How the client proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// What is written cannot be understood, so nothing follows from it.
    Unclear,
    /// As the issuer's metadata allow.
    Negotiated,
    /// In this way.
    By(Authentication),
}

/// The choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) flow: Flow,
    pub(super) client: Client,
    /// Whether `assertion.file` is there.
    pub(super) has_file: bool,
    /// The algorithm of `signing`, where the client secret is the key.
    pub(super) hmac: Option<HmacAlgorithm>,
}

impl Choice {
    /// None where the flow cannot be understood.
    pub(super) fn of(context: &Context<'_>, node: NodeId, written: &ExternalCredential) -> Option<Self> {
        let flow = match &written.flow {
            Field::Missing if context.findings.is_misspelt(node, "flow") => return None,
            Field::Missing => Flow::ClientCredentials,
            Field::Wrong(_) => return None,
            Field::Set(_, flow) => **flow,
        };
        let has_file = written.assertion.value().is_some_and(|assertion| assertion.file.node().is_some());
        let algorithm = written.signing.value().and_then(|signing| signing.algorithm.value());
        let hmac = algorithm.and_then(|name| hmac(name));
        let unclear = Self { flow, client: Client::Unclear, has_file, hmac };
        let client = match &written.client_authentication {
            _ if !unclear.asks() => Client::By(Authentication::None),
            Field::Missing if context.findings.is_misspelt(node, "client_authentication") => Client::Unclear,
            Field::Missing => unclear.implied(context, node, written),
            Field::Wrong(_) => Client::Unclear,
            Field::Set(_, authentication) => Client::By(**authentication),
        };
        Some(Self { client, ..unclear })
    }

    /// How the client proves itself where that is not written.
    fn implied(self, context: &Context<'_>, node: NodeId, written: &ExternalCredential) -> Client {
        let is_misspelt = |key: &str| context.findings.is_misspelt(node, key);
        let has_secret = identities(node, written)
            .any(|who| who.client_secret.node().is_some() || context.findings.is_misspelt(who.node, "client_secret"));
        let has_issuer = written.issuer.node().is_some() || is_misspelt("issuer");
        let has_endpoint = written.token_endpoint.node().is_some() || is_misspelt("token_endpoint");
        let has_certificate = written.tls.value().is_some_and(|tls| tls.certificate.node().is_some());
        let takes_signing = self.flow != Flow::JwtBearer;
        let authentication = if takes_signing && self.hmac.is_some() {
            Authentication::ClientSecretJwt
        } else if takes_signing && (self.has_file || written.signing.node().is_some()) {
            Authentication::PrivateKeyJwt
        } else if has_secret {
            // The encoding is that of client_secret_basic.
            if has_issuer && !has_endpoint && written.basic_encoding.node().is_none() {
                return Client::Negotiated;
            }
            Authentication::ClientSecretBasic
        } else if has_certificate {
            Authentication::TlsClientAuth
        } else if self.flow == Flow::ClientCredentials && written.grant_type.node().is_none() {
            // RFC 6749 4.4: this grant is for clients that prove themselves. Another grant under the same flow may
            // carry its proof in parameters.
            Authentication::ClientSecretBasic
        } else {
            Authentication::None
        };
        Client::By(authentication)
    }

    /// Whether the flow asks a token endpoint.
    pub(super) fn asks(self) -> bool {
        match self.flow {
            Flow::ClientCredentials | Flow::JwtBearer | Flow::Password | Flow::RefreshToken | Flow::TokenExchange => {
                true
            }
            Flow::SignedJwt | Flow::Basic | Flow::Static | Flow::None => false,
        }
    }

    /// Whether tokens of this flow end and are made anew.
    pub(super) fn renews(self) -> bool {
        self.asks() || self.flow == Flow::SignedJwt
    }

    pub(super) fn is_by(self, authentication: Authentication) -> bool {
        self.client == Client::By(authentication)
    }

    /// Whether the flow's own grant or token is signed by us.
    pub(super) fn grant_signs(self) -> bool {
        self.flow == Flow::SignedJwt || (self.flow == Flow::JwtBearer && !self.has_file)
    }

    /// Whether the client's assertion is the file's: the grant comes first.
    pub(super) fn client_reads_file(self) -> bool {
        self.has_file && self.flow != Flow::JwtBearer && self.is_by(Authentication::PrivateKeyJwt)
    }

    /// Whether the client signs to prove itself.
    pub(super) fn client_signs(self) -> bool {
        let signs = [Authentication::PrivateKeyJwt, Authentication::ClientSecretJwt, Authentication::BearerJwt];
        signs.into_iter().any(|authentication| self.is_by(authentication)) && !self.client_reads_file()
    }

    /// Whether the client secret is what something is signed with.
    pub(super) fn signs_with_secret(self) -> bool {
        let by_hmac = self.hmac.is_some() && (self.grant_signs() || self.is_by(Authentication::BearerJwt));
        by_hmac || self.is_by(Authentication::ClientSecretJwt)
    }
}

/// The HMAC of this name.
fn hmac(name: &str) -> Option<HmacAlgorithm> {
    match name {
        "HS256" => Some(HmacAlgorithm::Hs256),
        "HS384" => Some(HmacAlgorithm::Hs384),
        "HS512" => Some(HmacAlgorithm::Hs512),
        _ => None,
    }
}
