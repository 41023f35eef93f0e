//! `client_authentication`: how the client proves itself to the token endpoint.

use super::choice::{Choice, Client};
use super::signing::Signing;
use crate::config::document::{Authentication, Encoding, ExternalCredential, Method};
use crate::config::field::Field;
use crate::config::resolve::context::Context;
use crate::config::tree::NodeId;
use crate::token::{BasicEncoding, ClientAuthentication};

/// None where something was reported; within, none where the issuer's metadata decide.
pub(super) fn resolve(
    context: &Context<'_>,
    (node, written): (NodeId, &ExternalCredential),
    choice: Choice,
    signing: &Signing<'_>,
) -> Option<Option<ClientAuthentication>> {
    judge(context, (node, written), choice);
    let authentication = match choice.client {
        Client::Unclear => return None,
        Client::Negotiated => return Some(None),
        Client::By(Authentication::ClientSecretBasic) => ClientAuthentication::ClientSecretBasic(encoding(written)),
        Client::By(Authentication::ClientSecretPost) => ClientAuthentication::ClientSecretPost,
        Client::By(Authentication::Query) => ClientAuthentication::Query,
        Client::By(Authentication::Json) => ClientAuthentication::Json,
        Client::By(Authentication::ClientSecretJwt) => ClientAuthentication::ClientSecretJwt(signing.client_secret()?),
        Client::By(Authentication::PrivateKeyJwt) => ClientAuthentication::PrivateKeyJwt(signing.client()?),
        Client::By(Authentication::TlsClientAuth) => ClientAuthentication::TlsClientAuth,
        Client::By(Authentication::BearerJwt) => ClientAuthentication::BearerJwt(signing.bearer()?),
        Client::By(Authentication::None) => ClientAuthentication::None,
    };
    Some(Some(authentication))
}

fn encoding(written: &ExternalCredential) -> BasicEncoding {
    match written.basic_encoding.value() {
        Some(Encoding::Raw) => BasicEncoding::Raw,
        Some(Encoding::Percent) => BasicEncoding::Percent,
        Some(Encoding::Form) | None => BasicEncoding::Form,
    }
}

/// What does not go together with the way chosen.
fn judge(context: &Context<'_>, (node, written): (NodeId, &ExternalCredential), choice: Choice) {
    let Client::By(authentication) = choice.client else { return };
    if authentication != Authentication::ClientSecretBasic {
        let help = format!("leave it out: {} does not encode id and secret so", authentication.word());
        context.has_no_effect(written.basic_encoding.node(), "`basic_encoding` belongs to client_secret_basic", help);
    }
    let at = written.client_authentication.node().unwrap_or(node);
    if matches!(written.method.value(), Some(Method::Get)) {
        let body = match authentication {
            Authentication::ClientSecretPost => Some("client_secret_post sends id and secret in the body"),
            Authentication::Json => Some("json sends all parameters in the body"),
            Authentication::ClientSecretBasic
            | Authentication::ClientSecretJwt
            | Authentication::PrivateKeyJwt
            | Authentication::TlsClientAuth
            | Authentication::None
            | Authentication::Query
            | Authentication::BearerJwt => None,
        };
        if let Some(why) = body {
            let help = "write client_authentication = \"query\", or leave out `method`";
            context.findings.error(at, format!("a GET has no body, and {why}"), help);
        }
    }
    if authentication == Authentication::TlsClientAuth && !has_certificate(context, node, written) {
        let help = "add tls = { certificate = \"client.pem\", key = \"client.key\" }";
        context.findings.error(at, "tls_client_auth needs a client certificate", help);
    }
    if authentication == Authentication::Query && context.is_written(at) {
        let message = "the client secret travels in a URL, which servers and proxies write to their logs \
                       (RFC 6749 2.3.1)";
        let help = "choose another way if the server takes one; if not, keep the token endpoint's URLs out of all logs";
        context.findings.warning(at, message, help);
    }
}

fn has_certificate(context: &Context<'_>, node: NodeId, written: &ExternalCredential) -> bool {
    match &written.tls {
        Field::Missing => context.findings.is_misspelt(node, "tls"),
        Field::Wrong(_) => true,
        // One without the other has been reported.
        Field::Set(at, tls) => {
            [tls.certificate.node(), tls.key.node()].iter().any(Option::is_some)
                || context.findings.is_misspelt(*at, "certificate")
        }
    }
}
