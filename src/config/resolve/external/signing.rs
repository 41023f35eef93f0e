//! `signing` and `assertion`: what is signed, and with what.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::choice::Choice;
use super::{claim, request};
use crate::config::Secrets;
use crate::config::document::{self, Authentication, ExternalCredential, Flow};
use crate::config::field::Field;
use crate::config::resolve::context::Context;
use crate::config::resolve::formula::Sight;
use crate::config::resolve::secret;
use crate::config::tree::NodeId;
use crate::sign::{Algorithm, HmacAlgorithm, SignError, Signer};
use crate::token::{Assertion, AssertionKey, AssertionSource, Claim};

/// How long an assertion is good for where that is not written.
const LIFETIME: u64 = 120;

/// What an external credential signs with; its key is read once, when it is first needed.
pub(super) struct Signing<'a> {
    context: &'a Context<'a>,
    /// The external credential.
    node: NodeId,
    written: &'a ExternalCredential,
    choice: Choice,
    sight: Sight<'a>,
    signer: OnceCell<Option<Arc<Signer>>>,
}

impl<'a> Signing<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        (node, written): (NodeId, &'a ExternalCredential),
        choice: Choice,
        sight: Sight<'a>,
    ) -> Self {
        Self { context, node, written, choice, sight, signer: OnceCell::new() }
    }

    /// What the flow sends or attaches.
    pub(super) fn grant(&self) -> Option<AssertionSource> {
        if self.choice.has_file && self.choice.flow == Flow::JwtBearer {
            return self.file().map(AssertionSource::File);
        }
        self.token().map(AssertionSource::Signed)
    }

    /// The token of the flow `signed_jwt`.
    pub(super) fn token(&self) -> Option<Box<Assertion>> {
        self.own(self.key()?).map(Box::new)
    }

    /// How the client proves itself with `private_key_jwt`.
    pub(super) fn client(&self) -> Option<AssertionSource> {
        if self.choice.client_reads_file() {
            return self.file().map(AssertionSource::File);
        }
        if self.choice.hmac.is_some() && self.choice.flow != Flow::JwtBearer {
            let help = "choose client_authentication = \"client_secret_jwt\", or an algorithm with a private key";
            self.wrong_algorithm("private_key_jwt does not sign with a secret", help);
            return None;
        }
        self.clients_own(AssertionKey::Signer(self.signer()?)).map(Box::new).map(AssertionSource::Signed)
    }

    /// How the client proves itself with `client_secret_jwt`.
    pub(super) fn client_secret(&self) -> Option<Box<Assertion>> {
        let algorithm = match self.written.signing.value().and_then(|signing| signing.algorithm.node()) {
            Some(_) if self.choice.hmac.is_none() && self.choice.flow != Flow::JwtBearer => {
                let help = "write \"HS256\", \"HS384\" or \"HS512\", or choose client_authentication = \
                            \"private_key_jwt\"";
                self.wrong_algorithm("client_secret_jwt signs with the client secret", help);
                return None;
            }
            Some(_) | None => self.choice.hmac.unwrap_or(HmacAlgorithm::Hs256),
        };
        self.clients_own(AssertionKey::ClientSecret(algorithm)).map(Box::new)
    }

    /// How the client proves itself with `bearer_jwt`.
    pub(super) fn bearer(&self) -> Option<Box<Assertion>> {
        self.clients_own(self.key()?).map(Box::new)
    }

    fn wrong_algorithm(&self, message: &str, help: &str) {
        if let Some(node) = self.written.signing.value().and_then(|signing| signing.algorithm.node()) {
            self.context.findings.error(node, message, help);
        }
    }

    /// The key for what may be signed with either kind.
    fn key(&self) -> Option<AssertionKey> {
        match self.choice.hmac {
            Some(algorithm) => Some(AssertionKey::ClientSecret(algorithm)),
            None => self.signer().map(AssertionKey::Signer),
        }
    }

    fn signer(&self) -> Option<Arc<Signer>> {
        self.signer.get_or_init(|| self.load()).clone()
    }

    fn load(&self) -> Option<Arc<Signer>> {
        const HELP: &str = "write signing = { key = { file = \"private-key.pem\" } }: a private key as PEM or JWK";
        let findings = self.context.findings;
        let (at, signing) = findings.required(&self.written.signing, self.node, "signing", HELP)?;
        let key = findings.required(&signing.key, at, "key", HELP);
        let algorithm = optional(&signing.algorithm, |node, name| algorithm(self.context, node, name));
        let certificate = optional(&signing.certificate, |node, path| certificate(self.context, node, path));
        let (key_at, reference) = key?;
        let key = secret::read(self.context, key_at, reference);
        let (algorithm, certificate) = (algorithm?, certificate?);
        if signing.key_id.is_wrong() {
            return None;
        }
        let signer = match self.context.secrets {
            Secrets::Read => {
                let key_id = signing.key_id.value().cloned();
                Signer::load(&key?, algorithm, key_id, certificate.as_deref())
            }
            // Nothing is sent to anybody either.
            Secrets::Leave => Signer::generate_es256(),
        };
        match signer {
            Ok(signer) => Some(Arc::new(signer)),
            Err(error) => {
                let (node, help) = match (&error, signing.certificate.node()) {
                    (SignError::Certificate(_), Some(node)) => {
                        (node, "name a PEM file with the certificate of the key")
                    }
                    _ => (key_at, "it must be a private key as PEM (PKCS #8, PKCS #1, SEC 1; no passphrase) or JWK"),
                };
                findings.error(node, error.to_string(), help);
                None
            }
        }
    }

    /// The assertion that the table describes, where it describes the flow's; otherwise one of the client's own.
    fn clients_own(&self, key: AssertionKey) -> Option<Assertion> {
        if self.choice.flow != Flow::JwtBearer {
            return self.own(key);
        }
        let nothing = document::Assertion::default();
        self.assertion(key, &nothing)
    }

    fn own(&self, key: AssertionKey) -> Option<Assertion> {
        let nothing = document::Assertion::default();
        match &self.written.assertion {
            Field::Missing => self.assertion(key, &nothing),
            Field::Wrong(_) => None,
            Field::Set(_, written) => self.assertion(key, written),
        }
    }

    fn assertion(&self, key: AssertionKey, written: &document::Assertion) -> Option<Assertion> {
        let text = |field: &Field<String>| optional(field, |node, text| non_empty(self.context, node, text));
        let issuer = text(&written.issuer);
        let subject = text(&written.subject);
        let audience = request::values(self.context, &written.audience, request::Spaces::Allowed);
        let lifetime = self.context.positive_or(&written.lifetime, LIFETIME);
        let claims = claim::resolve(self.context, &written.claims, self.sight);
        let mut header = claim::resolve(self.context, &written.header, self.sight);
        if let AssertionKey::ClientSecret(_) = key {
            self.name_key(&mut header);
        }
        Some(Assertion { key, issuer: issuer?, subject: subject?, audience, lifetime: lifetime?, claims, header })
    }

    /// A private key knows its id by itself; a secret does not.
    fn name_key(&self, header: &mut Vec<(String, Claim)>) {
        let id = self.written.signing.value().and_then(|signing| signing.key_id.value());
        if let Some(id) = id.filter(|_| !header.iter().any(|(name, _)| name == "kid")) {
            header.push(("kid".to_owned(), Claim::Json(Value::from(id.as_str()))));
        }
    }

    /// `assertion.file`
    fn file(&self) -> Option<PathBuf> {
        let (node, text) = self.written.assertion.value()?.file.get()?;
        let text = non_empty(self.context, node, text)?;
        Some(self.context.path(node, &text))
    }
}

/// Says which keys of `signing` and `assertion` have no effect.
pub(super) fn judge(context: &Context<'_>, written: &ExternalCredential, choice: Choice) {
    let signs = choice.grant_signs() || choice.client_signs();
    let reads = choice.client_reads_file() || (choice.has_file && choice.flow == Flow::JwtBearer);
    if !signs {
        let help = "leave it out, or choose a flow or a client_authentication that signs, such as \"private_key_jwt\"";
        context.has_no_effect(written.signing.node(), "`signing` has no effect: nothing is signed here", help);
    }
    if !signs && !reads {
        let help = "leave it out, or choose a flow or a client_authentication that sends one, such as \
                    \"private_key_jwt\"";
        context.has_no_effect(written.assertion.node(), "`assertion` has no effect: none is sent here", help);
        return;
    }
    judge_key(context, written, choice);
    judge_file(context, written, reads);
}

/// Where the client secret is all that is signed with, there is no private key.
fn judge_key(context: &Context<'_>, written: &ExternalCredential, choice: Choice) {
    let Some(signing) = written.signing.value() else { return };
    let uses_key = (choice.grant_signs() && choice.hmac.is_none())
        || (choice.is_by(Authentication::PrivateKeyJwt) && choice.client_signs())
        || (choice.is_by(Authentication::BearerJwt) && choice.hmac.is_none());
    if uses_key || !choice.signs_with_secret() {
        return;
    }
    for (key, node) in [("key", signing.key.node()), ("certificate", signing.certificate.node())] {
        let help = "leave it out, or choose an algorithm with a private key, such as \"RS256\"";
        context.has_no_effect(node, format!("`{key}` has no effect: the client secret is the key"), help);
    }
}

/// What comes from a file is not described.
fn judge_file(context: &Context<'_>, written: &ExternalCredential, reads: bool) {
    let Some(assertion) = written.assertion.value().filter(|assertion| assertion.file.node().is_some()) else { return };
    if !reads {
        let help = "leave it out; a file can hold the assertion of flow = \"jwt_bearer\" and of private_key_jwt";
        context.has_no_effect(assertion.file.node(), "`file` has no effect: the assertion is signed here", help);
        return;
    }
    for (key, node) in [
        ("issuer", assertion.issuer.node()),
        ("subject", assertion.subject.node()),
        ("audience", assertion.audience.node()),
        ("lifetime", assertion.lifetime.node()),
        ("claims", assertion.claims.node()),
        ("header", assertion.header.node()),
    ] {
        let message = format!("`{key}` has no effect on an assertion that comes from a file");
        context.has_no_effect(node, message, "leave it out, or sign the assertion here: remove `file`");
    }
}

fn algorithm(context: &Context<'_>, node: NodeId, name: &str) -> Option<Algorithm> {
    let algorithm = Algorithm::parse(name);
    if algorithm.is_none() {
        let help = "write one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, or, to sign with \
                    the client secret, HS256, HS384, HS512";
        context.findings.error(node, "this is not an algorithm for signatures", help);
    }
    algorithm
}

fn certificate(context: &Context<'_>, node: NodeId, path: &str) -> Option<Vec<u8>> {
    if context.secrets == Secrets::Leave {
        return Some(Vec::new());
    }
    let path = context.file(node, path);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let help = "the path is relative to the configuration file; name a PEM file with the key's certificate";
            context.findings.error(node, format!("cannot read {}: {error}", path.display()), help);
            None
        }
    }
}

fn non_empty(context: &Context<'_>, node: NodeId, text: &str) -> Option<String> {
    if text.is_empty() {
        context.findings.error(node, "this text is empty", "write a value, or leave the key out");
        return None;
    }
    Some(text.to_owned())
}

/// None where something was reported.
fn optional<T, U>(field: &Field<T>, read: impl FnOnce(NodeId, &T) -> Option<U>) -> Option<Option<U>> {
    match field {
        Field::Missing => Some(None),
        Field::Wrong(_) => None,
        Field::Set(node, value) => read(*node, value).map(Some),
    }
}
