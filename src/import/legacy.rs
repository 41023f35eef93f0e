//! The older form of `NamedCredential`, URL and authentication in one record. It can hold passwords and tokens as text:
//! these become references, are warned of, and are never repeated.

use super::claims::{from_claim, is_audience};
use super::draft::{Draft, Setup};
use super::external::Protocol;
use super::merge::Identity;
use super::metadata::{Located, Shape, field, text};
use super::named::{Named, Options};
use super::note::{one_line, shown};
use super::output::{Table, Value};
use super::principal::Principals;
use super::url::{self, Purpose};

const TOP: Shape = Shape {
    what: "a legacy named credential",
    fields: &[
        "label",
        "fullName",
        "description",
        "namedCredentialType",
        "calloutStatus",
        "generateAuthorizationHeader",
        "allowMergeFieldsInHeader",
        "allowMergeFieldsInBody",
        "endpoint",
        "protocol",
        "principalType",
        "username",
        "password",
        "authProvider",
        "oauthScope",
        "oauthToken",
        "oauthRefreshToken",
        "authTokenEndpointUrl",
        "jwtIssuer",
        "jwtTextSubject",
        "jwtFormulaSubject",
        "jwtAudience",
        "jwtSigningCertificate",
        "jwtValidityPeriodSeconds",
        "awsAccessKey",
        "awsAccessSecret",
        "awsRegion",
        "awsService",
        "certificate",
        "outboundNetworkConnection",
    ],
    lists: &[],
    reserved: &[],
};

/// Elements that hold a secret as text.
const SECRETS: [&str; 5] = ["password", "oauthToken", "oauthRefreshToken", "awsAccessKey", "awsAccessSecret"];

/// What the record becomes besides a named credential.
enum Means {
    /// An external credential of its own.
    Draft(Box<dyn FnOnce(&str) -> Draft>),
    /// Nothing: it calls without authentication.
    Nothing,
    /// It has no counterpart, for this reason.
    Left(&'static str),
}

pub(super) fn carry_over(mut named: Named<'_, '_>) -> Option<Table> {
    let errors = named.notes.errors();
    TOP.check(named.elements, named.notes);
    for element in named.elements.iter().filter(|element| SECRETS.contains(&element.name.as_str())) {
        if !element.text.is_empty() {
            let message = format!(
                "{} is in the file in clear text: change it where it is checked, and remove it here",
                shown(&element.name)
            );
            named.notes.warning(element.at, message);
        }
    }
    let url = match text(named.elements, "endpoint") {
        Some(endpoint) => url::read(&endpoint, "endpoint", Purpose::Upstream, named.notes),
        None => {
            named.notes.error(named.file, "a legacy named credential needs the element `endpoint`");
            None
        }
    };
    let options = named.options();
    let Some(element) = field(named.elements, "protocol") else {
        named.notes.error(named.file, "a legacy named credential needs the element `protocol`");
        return None;
    };
    let protocol = Protocol::read(element, "protocol", named.notes);
    let certificate = text(named.elements, "certificate");
    let tls = certificate.and_then(|certificate| named.client_certificate(&certificate));
    let means = means(&mut named, protocol?);
    let url = url?;
    if named.notes.errors() > errors {
        return None;
    }
    if let Some(connection) = text(named.elements, "outboundNetworkConnection") {
        let message = "the outbound network connection: the URL is called as this machine reaches it";
        named.notes.not_carried_over(connection.at, message);
    }
    let mut table = named.table(&url);
    link(&mut named, &mut table, means, &options);
    table.entries.extend(tls.map(|tls| ("tls".to_owned(), tls)));
    Some(table)
}

fn link(named: &mut Named<'_, '_>, table: &mut Table, means: Means, options: &Options) {
    let mut is_enabled = options.is_enabled;
    match means {
        Means::Draft(build) => {
            let name = named.add(build);
            table.entries.push(("external_credential".to_owned(), Value::Text(name)));
            if !options.generates_authorization {
                table.entries.push(("generate_authorization_header".to_owned(), Value::Truth(false)));
            }
        }
        // Says that this is meant.
        Means::Nothing => table.entries.push(("generate_authorization_header".to_owned(), Value::Truth(false))),
        Means::Left(reason) => {
            let at = field(named.elements, "protocol").map_or(named.file, |element| element.at);
            let message = format!("its authentication: {reason}; the named credential is switched off");
            named.notes.not_carried_over(at, message);
            table.comments.push("Switched off: its authentication was not carried over.".to_owned());
            is_enabled = false;
        }
    }
    if !is_enabled {
        table.entries.push(("enabled".to_owned(), Value::Truth(false)));
    }
}

fn means(named: &mut Named<'_, '_>, protocol: Protocol) -> Means {
    let kind = text(named.elements, "principalType");
    match kind.as_ref().map(|kind| kind.text.as_str()) {
        None | Some("NamedUser") => {}
        Some("Anonymous") => return Means::Nothing,
        Some("PerUser") => return Means::Left("each user has credentials of their own"),
        Some(other) => {
            let at = kind.as_ref().map_or(named.file, |kind| kind.at);
            let message = format!("`principalType` is {}; it is one of Anonymous, NamedUser, PerUser", shown(other));
            named.notes.error(at, message);
        }
    }
    match protocol {
        Protocol::NoAuthentication => Means::Nothing,
        Protocol::Password => user(named),
        Protocol::Jwt => signed(named, None),
        Protocol::JwtExchange => match text(named.elements, "authTokenEndpointUrl") {
            Some(endpoint) => signed(named, Some(&endpoint)),
            None => {
                named.notes.error(named.file, "the protocol `JwtExchange` needs the element `authTokenEndpointUrl`");
                Means::Left("it has no token endpoint")
            }
        },
        Protocol::Oauth => Means::Left("the browser flow needs a person who signs in"),
        Protocol::AwsSv4 => Means::Left("AWS Signature Version 4 has no counterpart here"),
        Protocol::Basic | Protocol::Custom => {
            named.notes.error(named.file, "a legacy named credential has no protocol `Basic` or `Custom`");
            Means::Left("its protocol is unknown")
        }
    }
}

fn user(named: &Named<'_, '_>) -> Means {
    let start = start(named, Identity::User);
    let username = text(named.elements, "username").map(|username| username.text);
    Means::Draft(Box::new(move |name| {
        let mut draft = start(name);
        draft.set("flow", Value::text("basic"));
        draft.username = username;
        draft
    }))
}

/// The JWT itself is the token, or is exchanged for one.
fn signed(named: &mut Named<'_, '_>, endpoint: Option<&Located<'_>>) -> Means {
    let Some(certificate) = text(named.elements, "jwtSigningCertificate") else {
        named.notes.error(named.file, "a JWT needs the element `jwtSigningCertificate`");
        return Means::Left("it has no certificate to sign with");
    };
    if let Some(formula) = text(named.elements, "jwtFormulaSubject") {
        named.notes.not_carried_over(formula.at, "`jwtFormulaSubject`: there are no users here to make a subject of");
    }
    let mut entries =
        vec![("flow".to_owned(), Value::text(if endpoint.is_some() { "jwt_bearer" } else { "signed_jwt" }))];
    if let Some(endpoint) = endpoint {
        let url = url::read(endpoint, "authTokenEndpointUrl", Purpose::TokenEndpoint, named.notes);
        entries.extend(url.map(|url| ("token_endpoint".to_owned(), Value::Text(url))));
        entries.extend(text(named.elements, "oauthScope").map(|scope| ("scope".to_owned(), Value::Text(scope.text))));
    }
    let assertion = assertion(named);
    let what =
        format!("the private key of the certificate {}, as PEM, with which {} signs", certificate.text, named.name);
    let key = named.todos.secret(&[named.name, "signing_key"], what, super::key_source(&certificate.text));
    let signing = Value::Inline(vec![("algorithm".to_owned(), Value::text("RS256")), ("key".to_owned(), key)]);
    entries.push(("signing".to_owned(), signing));
    let start = start(named, Identity::Nothing);
    Means::Draft(Box::new(move |name| {
        let mut draft = start(name);
        draft.entries = entries;
        draft.assertion = assertion;
        draft
    }))
}

fn assertion(named: &mut Named<'_, '_>) -> Vec<(String, Value)> {
    let mut assertion = Vec::new();
    for (element, key) in [("jwtIssuer", "issuer"), ("jwtTextSubject", "subject")] {
        assertion.extend(text(named.elements, element).map(|text| (key.to_owned(), Value::Text(text.text))));
    }
    if let Some(audience) = text(named.elements, "jwtAudience") {
        match from_claim(&audience.text) {
            value if is_audience(&value) => assertion.push(("audience".to_owned(), value)),
            _ => {
                let message = "`jwtAudience` is neither a text nor a list of texts";
                named.notes.error(audience.at, message);
            }
        }
    }
    if let Some(seconds) = text(named.elements, "jwtValidityPeriodSeconds") {
        match seconds.text.parse::<u32>() {
            Ok(seconds) if seconds > 0 => assertion.push(("lifetime".to_owned(), Value::Text(format!("{seconds}s")))),
            Ok(_) | Err(_) => {
                let message =
                    format!("`jwtValidityPeriodSeconds` is {}; it is a number of seconds", shown(&seconds.text));
                named.notes.error(seconds.at, message);
            }
        }
    }
    assertion
}

/// An empty draft whose secrets are where the record is.
fn start(named: &Named<'_, '_>, identity: Identity) -> impl FnOnce(&str) -> Draft + 'static {
    let label = text(named.elements, "label").map_or_else(|| named.name.to_owned(), |label| label.text);
    let original = named.name.to_owned();
    move |name| {
        let mut draft = Draft::new(name, &format!("{label} (legacy)"), identity);
        draft.fields.external = original;
        draft.setup = Setup::Legacy(one_line(&label));
        draft.principals = Principals::only_default();
        draft
    }
}
