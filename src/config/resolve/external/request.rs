//! What is asked for: scope, audience, resource, and further parameters of the token request.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};

use super::choice::{Choice, Client};
use super::principal::identities;
use super::signing::Signing;
use super::{answer, authentication, endpoint, grant};
use crate::config::document::{
    Authentication, ExternalCredential, Flow, Method as WrittenMethod, OneOrMany, Parameters as Written, TextOrSecret,
    Texts,
};
use crate::config::field::{Entries, Field};
use crate::config::resolve::context::Context;
use crate::config::resolve::formula::{self, Sight};
use crate::config::resolve::{header, secret};
use crate::config::tree::NodeId;
use crate::secret::Secret;
use crate::token::{Parameters, RequestSettings, Text};

/// The token request; none where something was reported.
pub(super) fn resolve(
    context: &Context<'_>,
    (node, written): (NodeId, &ExternalCredential),
    choice: Choice,
    signing: &Signing<'_>,
    sight: Sight<'_>,
) -> Option<RequestSettings> {
    let endpoint = endpoint::resolve(context, node, written);
    let grant = grant::resolve(context, (node, written), choice, signing);
    let client_authentication = authentication::resolve(context, (node, written), choice, signing);
    let parameters = parameters(context, (node, written), choice);
    let scope = texts(context, &written.scope, Spaces::Separate, sight);
    let audience = texts(context, &written.audience, Spaces::Allowed, sight);
    let resource = values(context, &written.resource, Spaces::Allowed);
    let response = answer::resolve(context, written);
    let dpop = written.dpop.value().copied().unwrap_or(false);
    if written.dpop.is_wrong() || written.method.is_wrong() || written.basic_encoding.is_wrong() {
        return None;
    }
    Some(RequestSettings {
        endpoint: endpoint?,
        grant: grant?,
        method: match written.method.value() {
            Some(WrittenMethod::Get) => Method::GET,
            Some(WrittenMethod::Post) | None => Method::POST,
        },
        client_authentication: client_authentication?,
        scope: joined(scope),
        audience,
        resource,
        parameters,
        response: response?,
        dpop,
    })
}

/// Whether a value in a list may hold spaces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spaces {
    Allowed,
    /// They separate values, so one value holds none.
    Separate,
}

/// The values of a scope are one parameter.
fn joined(values: Vec<Text>) -> Option<Text> {
    let mut literals = Vec::new();
    for value in values {
        match value {
            Text::Literal(text) => literals.push(text),
            Text::Formula(formula) => return Some(Text::Formula(formula)),
        }
    }
    Some(literals.join(" ")).filter(|scope| !scope.is_empty()).map(Text::Literal)
}

fn texts(context: &Context<'_>, field: &Field<Texts>, spaces: Spaces, sight: Sight<'_>) -> Vec<Text> {
    let Some((node, written)) = field.get() else { return Vec::new() };
    let values = match written {
        Texts::Text(text) => checked(context, split(node, text, spaces), spaces),
        Texts::List(items) => checked(context, listed(items), spaces),
        Texts::Table(table) => {
            return formula::table(context, node, table, sight).map(Text::Formula).into_iter().collect();
        }
    };
    values.into_iter().map(Text::Literal).collect()
}

/// A text or a list of texts.
pub(super) fn values(context: &Context<'_>, field: &Field<OneOrMany>, spaces: Spaces) -> Vec<String> {
    let Some((node, written)) = field.get() else { return Vec::new() };
    let values = match written {
        OneOrMany::Text(text) => split(node, text, spaces),
        OneOrMany::List(items) => listed(items),
    };
    checked(context, values, spaces)
}

fn split(node: NodeId, text: &str, spaces: Spaces) -> Vec<(NodeId, &str)> {
    match spaces {
        Spaces::Separate => text.split(' ').map(|text| (node, text)).collect(),
        Spaces::Allowed => vec![(node, text)],
    }
}

fn listed(items: &[Field<String>]) -> Vec<(NodeId, &str)> {
    items.iter().filter_map(Field::get).map(|(node, text)| (node, text.as_str())).collect()
}

fn checked(context: &Context<'_>, values: Vec<(NodeId, &str)>, spaces: Spaces) -> Vec<String> {
    for (node, text) in &values {
        let has_space = spaces == Spaces::Separate && text.contains(char::is_whitespace);
        if text.is_empty() || has_space || text.contains(char::is_control) {
            let help = "write each value once, with nothing around it; leave the key out to ask for nothing";
            context.findings.error(*node, "this value is empty or holds a space or control character", help);
            break;
        }
    }
    values.into_iter().map(|(_, text)| text.to_owned()).collect()
}

fn parameters(context: &Context<'_>, (node, written): (NodeId, &ExternalCredential), choice: Choice) -> Parameters {
    let Some(table) = written.parameters.value() else { return Parameters::default() };
    judge_body(context, (node, written), choice, table);
    Parameters {
        body: pairs(context, &table.body),
        query: pairs(context, &table.query),
        headers: headers(context, written, choice, &table.headers),
    }
}

/// A parameter is not sent twice (RFC 6749 3.2).
fn judge_body(context: &Context<'_>, (node, written): (NodeId, &ExternalCredential), choice: Choice, table: &Written) {
    let sent = sent(node, written, choice);
    for (key, field) in entries(&table.body) {
        let Some(at) = field.node() else { continue };
        if key == "grant_type" {
            let help = "leave it out; the key `grant_type` of the external credential changes it";
            context.findings.key_error(at, "the flow sets `grant_type`", help);
        } else if let Some((_, by)) = sent.iter().find(|(name, _)| *name == key) {
            let help = format!("leave it out here, or remove {by}");
            context.findings.key_error(at, format!("`{key}` is sent already"), help);
        }
    }
}

/// The parameters that other keys bring about, and which those are.
fn sent(node: NodeId, written: &ExternalCredential, choice: Choice) -> Vec<(&'static str, &'static str)> {
    use Authentication::{ClientSecretJwt, ClientSecretPost, Json, PrivateKeyJwt, Query};
    let mut sent = Vec::new();
    let mut add = |is_sent: bool, names: &[&'static str], by: &'static str| {
        sent.extend(names.iter().filter(|_| is_sent).map(|name| (*name, by)));
    };
    let by = |ways: &[Authentication]| ways.iter().any(|way| choice.is_by(*way));
    let has_id = identities(node, written).any(|who| who.client_id.node().is_some());
    // Beside an `Authorization` field some servers want the id in the body too.
    let is_id_sent = !by(&[Authentication::ClientSecretBasic, Authentication::BearerJwt])
        && !matches!(choice.client, Client::Unclear | Client::Negotiated);
    add(written.scope.node().is_some(), &["scope"], "`scope`");
    add(written.audience.node().is_some(), &["audience"], "`audience`");
    add(written.resource.node().is_some(), &["resource"], "`resource`");
    add(has_id && is_id_sent, &["client_id"], "the principal's `client_id`");
    add(has_id && by(&[ClientSecretPost, Query, Json]), &["client_secret"], "the principal's `client_secret`");
    add(
        by(&[ClientSecretJwt, PrivateKeyJwt]),
        &["client_assertion", "client_assertion_type"],
        "the `client_authentication` that sends it",
    );
    add(choice.flow == Flow::JwtBearer, &["assertion"], "flow = \"jwt_bearer\"");
    add(choice.flow == Flow::Password, &["username", "password"], "flow = \"password\"");
    add(choice.flow == Flow::TokenExchange, &["subject_token", "subject_token_type"], "flow = \"token_exchange\"");
    add(written.actor_token.node().is_some(), &["actor_token", "actor_token_type"], "`actor_token`");
    add(written.requested_token_type.node().is_some(), &["requested_token_type"], "`requested_token_type`");
    sent
}

fn entries(field: &Field<Entries<TextOrSecret>>) -> impl Iterator<Item = (&str, &Field<TextOrSecret>)> {
    field.value().into_iter().flat_map(Entries::iter)
}

fn pairs(context: &Context<'_>, field: &Field<Entries<TextOrSecret>>) -> Vec<(String, Secret)> {
    entries(field).filter_map(|(key, value)| Some((key.to_owned(), secret::text_or_secret(context, value)?))).collect()
}

fn headers(
    context: &Context<'_>,
    written: &ExternalCredential,
    choice: Choice,
    field: &Field<Entries<TextOrSecret>>,
) -> Vec<(HeaderName, Secret)> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    let is_dpop = written.dpop.value().copied().unwrap_or(false);
    for (key, field) in entries(field) {
        let Some(node) = field.node() else { continue };
        let name = header::name(context, node, key);
        let Some(value) = secret::text_or_secret(context, field) else { continue };
        if HeaderValue::from_str(value.expose()).is_err() {
            let help = "it must be one line of visible characters and spaces";
            context.findings.error(node, "this cannot be the value of a header field", help);
        }
        let Some(name) = name else { continue };
        let is_ours = name == CONTENT_TYPE
            || (name == AUTHORIZATION && sets_authorization(choice))
            || (name.as_str() == "dpop" && is_dpop);
        if is_ours {
            let help = "leave it out: `client_authentication` decides how the client proves itself";
            context.findings.key_error(node, format!("the token request sets `{name}` itself"), help);
        }
        if headers.iter().any(|(other, _)| *other == name) {
            context.findings.key_error(node, format!("the field `{name}` is set twice"), "leave one of them out");
        }
        headers.push((name, value));
    }
    headers
}

fn sets_authorization(choice: Choice) -> bool {
    match choice.client {
        Client::Unclear => false,
        Client::Negotiated | Client::By(Authentication::ClientSecretBasic | Authentication::BearerJwt) => true,
        Client::By(
            Authentication::ClientSecretPost
            | Authentication::ClientSecretJwt
            | Authentication::PrivateKeyJwt
            | Authentication::TlsClientAuth
            | Authentication::None
            | Authentication::Query
            | Authentication::Json,
        ) => false,
    }
}
