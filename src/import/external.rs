//! `ExternalCredential` as written: protocol, parameters by their type, principals. What they become is the concern of
//! `draft` and `flow`.

use super::metadata::{Element, Parameter, Shape, Vocabulary, text};
use super::note::{Notes, Place, shown};
use super::principal::{Principal, Principals};

const TOP: Shape = Shape {
    what: "an external credential",
    fields: &["authenticationProtocol", "label", "description", "fullName"],
    lists: &["externalCredentialParameters"],
    reserved: &[],
};

const PARAMETERS: Vocabulary = Vocabulary {
    lists: TOP.lists,
    shape: Shape {
        what: "a parameter of an external credential",
        fields: &[
            "parameterName",
            "parameterType",
            "parameterValue",
            "parameterGroup",
            "sequenceNumber",
            "description",
            "authProvider",
            "certificate",
            "externalAuthIdentityProvider",
            "principal",
        ],
        lists: &[],
        reserved: &[],
    },
    references: &["authProvider", "certificate", "externalAuthIdentityProvider", "principal"],
    types: &[
        "AdditionalRefreshStatusCode",
        "AuthHeader",
        "AuthParameter",
        "AuthProtocolVariant",
        "AuthProvider",
        "AuthProviderUrl",
        "AuthProviderUrlQueryParameter",
        "AwsStsPrincipal",
        "ExternalAuthIdentityProvider",
        "JwtBodyClaim",
        "JwtHeaderClaim",
        "NamedPrincipal",
        "PerUserPrincipal",
        "SigningCertificate",
    ],
    reserved: &[
        "CreatedByNamespace",
        "GlobalNamedPrincipal",
        "ManagedByComponent",
        "ManagedByFeature",
        "SfHttpRequestExtensionName",
        "SystemUserPrincipal",
    ],
    old: &[
        "AuthContext",
        "AuthProviderAuthParameter",
        "AuthProviderClientCertificate",
        "AuthProviderHttpCookie",
        "AuthProviderHttpHeader",
        "AuthProviderServerCertificate",
        "AuthQueryParameter",
        "FormulaVariable",
        "ParameterGroup",
    ],
};

/// `authenticationProtocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    AwsSv4,
    Basic,
    Custom,
    Jwt,
    JwtExchange,
    NoAuthentication,
    Oauth,
    Password,
}

/// One file.
#[derive(Debug)]
pub(super) struct External<'f> {
    /// The name of the file, which is the name of the credential.
    pub(super) name: String,
    pub(super) label: String,
    pub(super) description: Option<String>,
    pub(super) protocol: Protocol,
    pub(super) parameters: Vec<Parameter<'f>>,
    pub(super) principals: Principals,
    /// Where the protocol stands.
    pub(super) at: Place<'f>,
}

/// Whom a parameter is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Audience<'a> {
    /// All principals.
    All,
    /// One of several.
    Only(&'a Principal),
    /// No principal that is carried over.
    Nobody,
}

impl Protocol {
    const ALL: [(&'static str, Self); 8] = [
        ("AwsSv4", Self::AwsSv4),
        ("Basic", Self::Basic),
        ("Custom", Self::Custom),
        ("Jwt", Self::Jwt),
        ("JwtExchange", Self::JwtExchange),
        ("NoAuthentication", Self::NoAuthentication),
        ("Oauth", Self::Oauth),
        ("Password", Self::Password),
    ];

    /// The protocol of this name. The Connect API writes `OAuth`.
    pub(super) fn read(element: &Element<'_>, name: &str, notes: &mut Notes) -> Option<Self> {
        if element.text == "OAuth" {
            notes.warning(element.at, format!("{} is `OAuth`; metadata writes `Oauth`: read as that", shown(name)));
            return Some(Self::Oauth);
        }
        let known = Self::ALL.iter().find(|(known, _)| *known == element.text).map(|(_, protocol)| *protocol);
        if known.is_none() {
            let all: Vec<&str> = Self::ALL.iter().map(|(known, _)| *known).collect();
            let message = format!("{} is {}; it is one of {}", shown(name), shown(&element.text), all.join(", "));
            notes.error(element.at, message);
        }
        known
    }
}

impl<'f> External<'f> {
    /// Reads the fields of a file; none when something is missing. Says what is wrong.
    pub(super) fn read(name: &str, file: Place<'f>, elements: &[Element<'f>], notes: &mut Notes) -> Option<Self> {
        TOP.check(elements, notes);
        let element = elements.iter().find(|element| element.name == "authenticationProtocol");
        if element.is_none() {
            notes.error(file, "an external credential needs the element `authenticationProtocol`");
        }
        let protocol = element.and_then(|element| Protocol::read(element, "authenticationProtocol", notes));
        let parameters = PARAMETERS.read(elements, notes);
        for parameter in &parameters {
            if let Some(set) = parameter.component("principal") {
                let message = format!("the permission set {} opens this principal: name its callers", shown(&set.text));
                notes.remark(set.at, message);
            }
        }
        let principals = Principals::read(&parameters, notes);
        Some(Self {
            name: name.to_owned(),
            label: text(elements, "label").map_or_else(|| name.to_owned(), |label| label.text),
            description: text(elements, "description").map(|description| description.text),
            protocol: protocol?,
            parameters,
            principals,
            at: element?.at,
        })
    }

    /// The parameters of this type.
    pub(super) fn of_type(&self, kind: &str) -> impl Iterator<Item = &Parameter<'f>> {
        self.parameters.iter().filter(move |parameter| parameter.kind == kind)
    }

    /// The parameters of this type that are for all principals.
    pub(super) fn general(&self, kind: &str) -> impl Iterator<Item = &Parameter<'f>> {
        self.of_type(kind).filter(|parameter| self.audience(parameter) == Audience::All)
    }

    /// Whom a parameter is for: the group of the only principal is for all.
    pub(super) fn audience(&self, parameter: &Parameter<'_>) -> Audience<'_> {
        match parameter.group.as_deref() {
            None => Audience::All,
            Some(group) if group.eq_ignore_ascii_case("DefaultGroup") => Audience::All,
            Some(group) => match self.principals.named(group) {
                Some(_) if self.principals.list.len() == 1 => Audience::All,
                Some(principal) => Audience::Only(principal),
                None => Audience::Nobody,
            },
        }
    }
}
