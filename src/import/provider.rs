//! `ExternalAuthIdentityProvider`: a token endpoint that several external credentials share, with what is sent along.

use super::draft::Draft;
use super::header::is_credential;
use super::metadata::{Element, Parameter, Shape, Vocabulary, text};
use super::note::{Notes, Place, one_line, shown};
use super::output::Value;
use super::todo::ToDos;
use super::url::{self, Purpose};

const TOP: Shape = Shape {
    what: "an external auth identity provider",
    fields: &["authenticationFlow", "authenticationProtocol", "label", "description", "fullName"],
    // The documentation's table has the plural, its example the singular.
    lists: &["externalAuthIdentityProviderParameters", "externalAuthIdentityProviderParameter"],
    reserved: &[],
};

const PARAMETERS: Vocabulary = Vocabulary {
    lists: TOP.lists,
    shape: Shape {
        what: "a parameter of an external auth identity provider",
        fields: &["parameterName", "parameterType", "parameterValue", "sequenceNumber", "description"],
        lists: &[],
        reserved: &[],
    },
    references: &[],
    types: &[
        "AuthorizeRequestQueryParameter",
        "AuthorizeUrl",
        "ClientAuthentication",
        "IdentityProviderOptions",
        "RefreshRequestBodyParameter",
        "RefreshRequestHttpHeader",
        "RefreshRequestQueryParameter",
        "StandardExternalIdentityProvider",
        "TokenRequestBodyParameter",
        "TokenRequestHttpHeader",
        "TokenRequestQueryParameter",
        "TokenUrl",
        "UserInfoUrl",
    ],
    reserved: &["CreatedByNamespace", "ManagedByComponent", "ManagedByFeature"],
    old: &[],
};

/// Those that client credentials use.
const USED: [&str; 5] = [
    "ClientAuthentication",
    "TokenRequestBodyParameter",
    "TokenRequestHttpHeader",
    "TokenRequestQueryParameter",
    "TokenUrl",
];

/// One file.
#[derive(Debug)]
pub(super) struct Provider<'f> {
    pub(super) name: String,
    label: String,
    /// `authenticationFlow`
    pub(super) flow: Flow,
    endpoint: Option<String>,
    placement: Placement,
    parameters: Vec<Parameter<'f>>,
}

/// `authenticationFlow`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// A person signs in in a browser.
    AuthorizationCode,
    ClientCredentials,
    /// Whatever Salesforce means by it.
    SalesforceDefined,
}

/// `ClientAuthentication`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// `ClientSecretBasic`, the default.
    Basic,
    /// `ClientSecretPost`
    Post,
}

impl<'f> Provider<'f> {
    /// Reads the fields of a file. Says what is wrong.
    pub(super) fn read(name: &str, file: Place<'f>, elements: &[Element<'f>], notes: &mut Notes) -> Option<Self> {
        TOP.check(elements, notes);
        let flow = flow(file, elements, notes);
        if let Some(protocol) = text(elements, "authenticationProtocol")
            && !matches!(protocol.text.as_str(), "OAuth" | "Oauth" | "SalesforceDefined")
        {
            let found = shown(&protocol.text);
            notes.error(protocol.at, format!("`authenticationProtocol` is {found}; it is OAuth or SalesforceDefined"));
        }
        let mut parameters = PARAMETERS.read(elements, notes);
        parameters.sort_by_key(|parameter| parameter.sequence.unwrap_or(u64::MAX));
        let endpoint = parameters.iter().find(|parameter| parameter.kind == "TokenUrl");
        let endpoint = endpoint.and_then(|parameter| parameter.value.as_ref());
        let endpoint = endpoint.and_then(|value| url::read(value, "TokenUrl", Purpose::TokenEndpoint, notes));
        let placement = placement(&parameters, notes);
        Some(Self {
            name: name.to_owned(),
            label: text(elements, "label").map_or_else(|| name.to_owned(), |label| label.text),
            flow: flow?,
            endpoint,
            placement,
            parameters,
        })
    }

    /// What an external credential that refers to it becomes: endpoint, client authentication, parameters. None when
    /// the token endpoint is missing.
    pub(super) fn apply(&self, draft: &mut Draft, notes: &mut Notes, todos: &mut ToDos) -> Option<Placement> {
        let endpoint = self.endpoint.as_ref()?;
        draft.set("token_endpoint", Value::text(endpoint.as_str()));
        let setup = "Setup > Named Credentials > External Auth Identity Providers";
        draft.provider = Some((self.name.clone(), format!("{setup} > {}", one_line(&self.label))));
        for (kind, key) in [
            ("TokenRequestBodyParameter", "body"),
            ("TokenRequestQueryParameter", "query"),
            ("TokenRequestHttpHeader", "headers"),
        ] {
            let mut entries: Vec<(String, Value)> = Vec::new();
            for parameter in self.parameters.iter().filter(|parameter| parameter.kind == kind) {
                if entries.iter().any(|(name, _)| *name == parameter.name) {
                    let message = format!("the parameter {} is there twice", shown(&parameter.name));
                    notes.not_carried_over(parameter.at, message);
                } else if let Some(value) = self.value(parameter, notes, todos) {
                    entries.push((parameter.name.clone(), value));
                }
            }
            if !entries.is_empty() {
                draft.parameters.push((key.to_owned(), Value::Inline(entries)));
            }
        }
        for parameter in self.parameters.iter().filter(|parameter| !USED.contains(&parameter.kind.as_str())) {
            let message = format!("{} has no meaning for client credentials: ignored", shown(&parameter.kind));
            notes.remark(parameter.at, message);
        }
        Some(self.placement)
    }

    fn value(&self, parameter: &Parameter<'_>, notes: &mut Notes, todos: &mut ToDos) -> Option<Value> {
        let name = shown(&parameter.name);
        let Some(value) = &parameter.value else {
            notes.not_carried_over(parameter.at, format!("the parameter {name}: it has no value"));
            return None;
        };
        if value.text.contains("{!") {
            notes.not_carried_over(value.at, format!("the parameter {name}: a formula has no counterpart here"));
            return None;
        }
        if is_credential(&parameter.name) {
            let message = format!("the parameter {name} looks like a secret in clear text; it becomes a reference");
            notes.warning(value.at, message);
            let variable = parameter.name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
            let what = format!("the value of the parameter {name} of the identity provider {}", self.name);
            let source = format!("{}:{}", value.at.file, value.at.line);
            return Some(todos.shared(&[&self.name, &variable], what, source));
        }
        Some(Value::text(value.text.as_str()))
    }
}

fn flow(file: Place<'_>, elements: &[Element<'_>], notes: &mut Notes) -> Option<Flow> {
    let Some(flow) = text(elements, "authenticationFlow") else {
        notes.error(file, "an external auth identity provider needs the element `authenticationFlow`");
        return None;
    };
    match flow.text.as_str() {
        "AuthorizationCode" => Some(Flow::AuthorizationCode),
        "ClientCredentials" => Some(Flow::ClientCredentials),
        "SalesforceDefined" => Some(Flow::SalesforceDefined),
        other => {
            let known = "AuthorizationCode, ClientCredentials, SalesforceDefined";
            notes.error(flow.at, format!("`authenticationFlow` is {}; it is one of {known}", shown(other)));
            None
        }
    }
}

fn placement(parameters: &[Parameter<'_>], notes: &mut Notes) -> Placement {
    let parameter = parameters.iter().find(|parameter| parameter.kind == "ClientAuthentication");
    let Some(value) = parameter.and_then(|parameter| parameter.value.as_ref()) else { return Placement::Basic };
    match value.text.as_str() {
        "ClientSecretBasic" => Placement::Basic,
        "ClientSecretPost" => Placement::Post,
        other => {
            let known = "ClientSecretBasic, ClientSecretPost";
            notes.error(value.at, format!("`ClientAuthentication` is {}; it is one of {known}", shown(other)));
            Placement::Basic
        }
    }
}
