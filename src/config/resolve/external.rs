//! `[external_credentials.NAME]`: how to authenticate.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, StatusCode};

use super::context::{Context, names};
use super::named::NamedCredentials;
use super::{header, principal, secret, tls};
use crate::config::document::{
    Authentication, Document, Encoding, ExternalCredential, Inject as WrittenInject, OneOrMany, Parameters as Written,
    RenewAhead as WrittenRenewAhead, TextOrSecret,
};
use crate::config::field::{Entries, Field};
use crate::config::findings::Findings;
use crate::config::quantity;
use crate::config::tree::NodeId;
use crate::config::url::Url;
use crate::secret::Secret;
use crate::token::{
    BasicEncoding, ClientAuthentication, Endpoint, Inject, LifetimeRules, Parameters, RenewAhead, Settings,
};

/// RFC 6749 says `Bearer`; the others are what servers made of it. Empty, null and absent are `""`.
const TOKEN_TYPES: [&str; 5] = ["bearer", "bearertoken", "application access token", "n_a", ""];

/// Every external credential.
pub(super) struct Externals<'a> {
    /// The names that are written; none: the table itself is wrong.
    names: Option<Vec<&'a str>>,
    resolved: Vec<(NodeId, Settings)>,
}

impl<'a> Externals<'a> {
    pub(super) fn resolve(context: &Context<'_>, document: &'a Document) -> Self {
        let entries = document.external_credentials.value().into_iter().flat_map(Entries::iter);
        let resolved = entries
            .filter_map(|(name, field)| {
                let (node, written) = field.get()?;
                resolve(context, node, name, written).map(|settings| (node, settings))
            })
            .collect();
        Self { names: names(context.findings, &document.external_credentials, "external_credentials"), resolved }
    }

    /// The names that are written; none when nothing can be said about them.
    pub(super) fn names(&self) -> Option<&[&'a str]> {
        self.names.as_deref()
    }

    /// The external credential of this name, if there is nothing wrong with it.
    pub(super) fn find(&self, name: &str) -> Option<&Settings> {
        self.resolved.iter().map(|(_, settings)| settings).find(|settings| settings.name.as_str() == name)
    }

    /// Warns of external credentials that nothing uses.
    pub(super) fn advise(&self, findings: &Findings<'_>, named: &NamedCredentials) {
        for (node, settings) in self.resolved.iter().filter(|(_, settings)| !named.use_external(&settings.name)) {
            let help = format!("set external_credential = \"{}\" in a named credential, or remove it", settings.name);
            findings.key_warning(*node, "no named credential uses this external credential", help);
        }
    }

    pub(super) fn into_settings(self) -> Vec<Settings> {
        self.resolved.into_iter().map(|(_, settings)| settings).collect()
    }
}

fn resolve(context: &Context<'_>, node: NodeId, name: &str, written: &ExternalCredential) -> Option<Settings> {
    let name = context.name(node, name);
    let endpoint = endpoint(context, node, written);
    let client_authentication = authentication(context, written);
    let lifetime = lifetime(context, written);
    let codes = status_codes(context, &written.additional_refresh_status_codes);
    let inject = inject(context, &written.inject);
    let principals = principal::resolve(context, node, written);
    let parameters = parameters(context, &written.parameters);
    let scope = values(context, &written.scope, Spaces::Separate);
    Some(Settings {
        name: name?,
        endpoint: endpoint?,
        client_authentication,
        scope: Some(scope.join(" ")).filter(|scope| !scope.is_empty()),
        audience: values(context, &written.audience, Spaces::Allowed),
        resource: values(context, &written.resource, Spaces::Allowed),
        parameters,
        lifetime: lifetime?,
        accept_token_types: token_types(&written.accept_token_types),
        mint_at_start: written.mint.value().is_some(),
        required_for_readiness: written.readiness.value().is_some(),
        additional_refresh_status_codes: codes,
        inject: inject?,
        principals: principals?,
    })
}

fn endpoint(context: &Context<'_>, node: NodeId, written: &ExternalCredential) -> Option<Endpoint> {
    const HELP: &str = "write the URL that gives out tokens: token_endpoint = \"https://…\"";
    let timeout = context.positive_or(&written.timeout, 10);
    let (at, text) = context.findings.required(&written.token_endpoint, node, "token_endpoint", HELP)?;
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err((message, help)) => {
            context.findings.error(at, message, help);
            return None;
        }
    };
    let accepted = context.accepts(node, &written.dangerous, "plain_http", |dangers| &dangers.plain_http);
    if !url.is_https && !url.is_loopback() && !accepted {
        let message = "the client secret would travel over plain HTTP to another machine";
        context.findings.error(at, message, "write https://, or accept it with dangerous = { plain_http = true }");
    }
    let tls = if url.is_https { tls::profile(context, at, &written.tls) } else { tls::none(context, &written.tls) };
    Some(Endpoint { url: url.to_uri()?, tls: tls?, timeout: timeout? })
}

fn authentication(context: &Context<'_>, written: &ExternalCredential) -> ClientAuthentication {
    let encoding = match written.basic_encoding.value() {
        Some(Encoding::Raw) => BasicEncoding::Raw,
        Some(Encoding::Form) | None => BasicEncoding::Form,
    };
    match written.client_authentication.value() {
        Some(Authentication::ClientSecretPost) => {
            if let Some(node) = written.basic_encoding.node() {
                let help = "leave it out: client_secret_post sends id and secret in the body";
                context.findings.key_error(node, "`basic_encoding` belongs to client_secret_basic", help);
            }
            ClientAuthentication::ClientSecretPost
        }
        Some(Authentication::ClientSecretBasic) | None => ClientAuthentication::ClientSecretBasic(encoding),
    }
}

/// Whether a value in a list may hold spaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spaces {
    Allowed,
    /// They separate values, so one value holds none.
    Separate,
}

fn values(context: &Context<'_>, field: &Field<OneOrMany>, spaces: Spaces) -> Vec<String> {
    let Some((node, written)) = field.get() else { return Vec::new() };
    let values: Vec<(NodeId, &str)> = match written {
        OneOrMany::Text(text) if spaces == Spaces::Separate => text.split(' ').map(|text| (node, text)).collect(),
        OneOrMany::Text(text) => vec![(node, text)],
        OneOrMany::List(items) => {
            items.iter().filter_map(Field::get).map(|(node, text)| (node, text.as_str())).collect()
        }
    };
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

fn parameters(context: &Context<'_>, field: &Field<Written>) -> Parameters {
    let Some(written) = field.value() else { return Parameters::default() };
    if let Some(grant_type) = entries(&written.body).find(|(key, _)| *key == "grant_type").and_then(|(_, at)| at.node())
    {
        context.findings.key_error(grant_type, "the flow sets `grant_type`", "leave it out");
    }
    Parameters {
        body: texts(context, &written.body),
        query: texts(context, &written.query),
        headers: headers(context, &written.headers),
    }
}

fn entries(field: &Field<Entries<TextOrSecret>>) -> impl Iterator<Item = (&str, &Field<TextOrSecret>)> {
    field.value().into_iter().flat_map(Entries::iter)
}

fn texts(context: &Context<'_>, field: &Field<Entries<TextOrSecret>>) -> Vec<(String, Secret)> {
    entries(field).filter_map(|(key, value)| Some((key.to_owned(), secret::text_or_secret(context, value)?))).collect()
}

fn headers(context: &Context<'_>, field: &Field<Entries<TextOrSecret>>) -> Vec<(HeaderName, Secret)> {
    let mut headers = Vec::new();
    for (key, field) in entries(field) {
        let Some(node) = field.node() else { continue };
        let name = header::name(context, node, key);
        let Some(value) = secret::text_or_secret(context, field) else { continue };
        if HeaderValue::from_str(value.expose()).is_err() {
            let help = "it must be one line of visible characters and spaces";
            context.findings.error(node, "this cannot be the value of a header field", help);
        }
        let Some(name) = name else { continue };
        if name == AUTHORIZATION || name == http::header::CONTENT_TYPE {
            let help = "leave it out: `client_authentication` decides how the client proves itself";
            context.findings.key_error(node, format!("the token request sets `{name}` itself"), help);
        }
        headers.push((name, value));
    }
    headers
}

fn lifetime(context: &Context<'_>, written: &ExternalCredential) -> Option<LifetimeRules> {
    let default = context.positive_or(&written.default_lifetime, 15 * 60);
    let max = context.positive_or(&written.max_lifetime, 24 * 60 * 60);
    if let (Some((node, default)), Some(max)) = (written.default_lifetime.get(), max)
        && default.0 > max
    {
        let message = "the default lifetime is longer than the longest one believed";
        context.findings.error(node, message, "shorten it, or raise `max_lifetime` (24h when it is not set)");
    }
    let expiry_margin = written.expiry_margin.value().map_or(Duration::from_secs(10), |margin| margin.0);
    let renew_ahead = renew_ahead(context, &written.renew_ahead);
    Some(LifetimeRules { default: default?, max: max?, renew_ahead: renew_ahead?, expiry_margin })
}

fn renew_ahead(context: &Context<'_>, field: &Field<WrittenRenewAhead>) -> Option<RenewAhead> {
    let (node, written) = match field {
        Field::Missing => return Some(RenewAhead::Share(0.2)),
        Field::Wrong(_) => return None,
        Field::Set(node, written) => (*node, written),
    };
    let renew_ahead = match written {
        WrittenRenewAhead::Boolean(flag) => Some(RenewAhead::Off).filter(|_| !flag),
        WrittenRenewAhead::Text(text) => match text.strip_suffix('%') {
            Some(share) => share_of(share).map(RenewAhead::Share),
            None => quantity::duration(text).filter(|duration| !duration.is_zero()).map(RenewAhead::Before),
        },
    };
    if renew_ahead.is_none() {
        let help = "write a share between 0% and 100% (\"20%\"), a duration (\"30s\"), or false";
        context.findings.error(node, "this is not a time to renew a token at", help);
    }
    renew_ahead
}

fn share_of(percent: &str) -> Option<f64> {
    let digits = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f64 = percent.parse().ok().filter(|_| digits)?;
    Some(percent / 100.0).filter(|share| *share > 0.0 && *share < 1.0)
}

fn token_types(field: &Field<Vec<Field<String>>>) -> Vec<String> {
    match field {
        Field::Missing => TOKEN_TYPES.map(ToOwned::to_owned).to_vec(),
        Field::Wrong(_) | Field::Set(..) => Context::unique(Context::texts(field).map(|(_, text)| text.to_lowercase())),
    }
}

fn status_codes(context: &Context<'_>, list: &Field<Vec<Field<quantity::Count>>>) -> Vec<StatusCode> {
    let mut codes = Vec::new();
    for (node, count) in list.value().into_iter().flatten().filter_map(Field::get) {
        match u16::try_from(count.0).ok().filter(|code| (400..600).contains(code)) {
            Some(401) => {
                context.findings.warning(node, "401 always means that the token is no longer good", "leave it out");
            }
            Some(code) => codes.extend(StatusCode::from_u16(code)),
            None => {
                let help = "write codes from 400 to 599, such as [403]";
                context.findings.error(node, "this status code cannot mean that a token is no longer good", help);
            }
        }
    }
    Context::unique(codes)
}

fn inject(context: &Context<'_>, field: &Field<WrittenInject>) -> Option<Inject> {
    let written = match field {
        Field::Missing => return Some(Inject { header: AUTHORIZATION, scheme: Some("Bearer".to_owned()) }),
        Field::Wrong(_) => return None,
        Field::Set(_, written) => written,
    };
    let header = match &written.header {
        Field::Missing => Some(AUTHORIZATION),
        Field::Wrong(_) => None,
        Field::Set(node, text) => header::name(context, *node, text),
    };
    let scheme = match &written.scheme {
        Field::Missing => {
            Some("Bearer".to_owned()).filter(|_| header.as_ref().is_some_and(|name| name == AUTHORIZATION))
        }
        Field::Wrong(_) => return None,
        Field::Set(node, text) => scheme(context, *node, text),
    };
    Some(Inject { header: header?, scheme })
}

/// A scheme is a token (RFC 9110 11.1), and so is a field's name. An empty one means none.
fn scheme(context: &Context<'_>, node: NodeId, text: &str) -> Option<String> {
    if !text.is_empty() && text.parse::<HeaderName>().is_err() {
        let help = "write one word such as \"Bearer\", or \"\" to send the token alone";
        context.findings.error(node, "this is not an authentication scheme", help);
    }
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
