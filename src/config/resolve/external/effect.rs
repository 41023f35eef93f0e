//! Keys that have no effect with the flow chosen: mistakes, because whoever wrote them expects one.

use super::choice::{Choice, Client};
use crate::config::document::{ExternalCredential, Flow};
use crate::config::resolve::context::Context;
use crate::config::tree::NodeId;

/// A key of the table and where it stands, if it does.
type Key = (&'static str, Option<NodeId>);

/// Says which keys have no effect. Those of principals, `signing`, `assertion` and `basic_encoding` are judged where
/// they are resolved.
pub(super) fn judge(context: &Context<'_>, written: &ExternalCredential, choice: Choice) {
    let flow = choice.flow.word();
    let say = |keys: &[Key], help: &str| {
        for (key, node) in keys {
            context.has_no_effect(*node, format!("`{key}` has no effect with flow = \"{flow}\""), help);
        }
    };
    if !choice.asks() {
        say(&of_request(written), "leave it out: this flow asks no token endpoint");
    }
    if !choice.renews() {
        say(&of_renewal(written), "leave it out: what this flow attaches never changes");
    }
    if choice.flow == Flow::SignedJwt {
        let keys =
            [("default_lifetime", written.default_lifetime.node()), ("max_lifetime", written.max_lifetime.node())];
        say(&keys, "leave it out: assertion.lifetime says how long the token lives");
    }
    if choice.flow == Flow::None {
        say(&[("inject", written.inject.node())], "leave it out: there is no token; `headers` are what is attached");
    }
    if choice.flow != Flow::RefreshToken {
        let key = ("refresh_token_store", written.refresh_token_store.node());
        say(&[key], "leave it out, or choose flow = \"refresh_token\"");
    }
    if choice.flow != Flow::TokenExchange {
        say(&of_exchange(written), "leave it out, or choose flow = \"token_exchange\"");
    }
    advise_on_issuer(context, written, choice);
}

fn of_request(written: &ExternalCredential) -> [Key; 19] {
    [
        ("grant_type", written.grant_type.node()),
        ("token_endpoint", written.token_endpoint.node()),
        ("issuer", written.issuer.node()),
        ("method", written.method.node()),
        ("tls", written.tls.node()),
        ("timeout", written.timeout.node()),
        ("http_proxy", written.http_proxy.node()),
        ("scope", written.scope.node()),
        ("audience", written.audience.node()),
        ("resource", written.resource.node()),
        ("parameters", written.parameters.node()),
        ("client_authentication", written.client_authentication.node()),
        ("basic_encoding", written.basic_encoding.node()),
        ("dpop", written.dpop.node()),
        ("response", written.response.node()),
        ("expires_unit", written.expires_unit.node()),
        ("error", written.error.node()),
        ("accept_token_types", written.accept_token_types.node()),
        ("dangerous", written.dangerous.node()),
    ]
}

fn of_renewal(written: &ExternalCredential) -> [Key; 9] {
    [
        ("default_lifetime", written.default_lifetime.node()),
        ("max_lifetime", written.max_lifetime.node()),
        ("renew_ahead", written.renew_ahead.node()),
        ("expiry_margin", written.expiry_margin.node()),
        ("readiness", written.readiness.node()),
        ("mint", written.mint.node()),
        ("additional_refresh_status_codes", written.additional_refresh_status_codes.node()),
        ("refresh_when", written.refresh_when.node()),
        ("refresh_unless", written.refresh_unless.node()),
    ]
}

fn of_exchange(written: &ExternalCredential) -> [Key; 5] {
    [
        ("subject_token", written.subject_token.node()),
        ("subject_token_type", written.subject_token_type.node()),
        ("actor_token", written.actor_token.node()),
        ("actor_token_type", written.actor_token_type.node()),
        ("requested_token_type", written.requested_token_type.node()),
    ]
}

/// Beside a token endpoint the issuer is the audience of what we sign, and nothing else.
fn advise_on_issuer(context: &Context<'_>, written: &ExternalCredential, choice: Choice) {
    let Some(node) = written.issuer.node().filter(|node| context.is_written(*node)) else { return };
    let signs = choice.grant_signs() || choice.client_signs();
    let has_audience = written.assertion.value().is_some_and(|assertion| assertion.audience.node().is_some());
    let is_audience = signs && (!has_audience || is_for_client(choice));
    if choice.asks() && written.token_endpoint.node().is_some() && !is_audience && choice.client != Client::Unclear {
        let message = "beside `token_endpoint`, `issuer` is the audience of an assertion, and none is sent to it";
        context.findings.key_warning(
            node,
            message,
            "leave it out, or leave out `token_endpoint` to have it discovered",
        );
    }
}

/// Whether the client's assertion is another than the one described.
fn is_for_client(choice: Choice) -> bool {
    choice.flow == Flow::JwtBearer && choice.client_signs()
}
