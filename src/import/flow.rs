//! Protocol and variant of an external credential → its flow, and all that goes with it.

use super::claims::{self, Values};
use super::draft::Draft;
use super::external::{Audience, External, Protocol};
use super::header::{Formulas, Headers, is_credential};
use super::merge::{Identity, Origin};
use super::metadata::Parameter;
use super::note::{Notes, one_line, shown};
use super::output::Value;
use super::principal::Principals;
use super::provider::{Flow, Placement, Provider};
use super::status::Codes;
use super::todo::ToDos;
use super::url::{self, Purpose};

/// What became of an external credential.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It goes on.
    Carried(Box<Draft>),
    /// It does not, for this reason.
    Left(&'static str),
}

/// `AuthProtocolVariant` of OAuth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    ClientSecretBasic,
    ClientSecretPost,
    JwtAssertion,
    JwtBearer,
}

const VARIANTS: [(&str, Variant); 4] = [
    ("ClientCredentialsClientSecretBasic", Variant::ClientSecretBasic),
    ("ClientCredentialsClientSecret", Variant::ClientSecretPost),
    ("ClientCredentialsJwtAssertion", Variant::JwtAssertion),
    ("JwtBearer", Variant::JwtBearer),
];

/// Types that each flow uses, besides those that all do.
const OF_CLIENTS: &[&str] = &["AuthProviderUrl", "AuthProviderUrlQueryParameter", "AdditionalRefreshStatusCode"];
const OF_SIGNERS: &[&str] = &[
    "AuthProviderUrl",
    "AuthProviderUrlQueryParameter",
    "AdditionalRefreshStatusCode",
    "SigningCertificate",
    "JwtBodyClaim",
    "JwtHeaderClaim",
];
const OF_PROVIDERS: &[&str] = &["ExternalAuthIdentityProvider", "AdditionalRefreshStatusCode"];

/// Says why and goes on without it.
pub(super) const HAS_ERRORS: &str = "its file has errors";

/// Makes the draft of one external credential.
pub(super) struct Carrier<'a, 'f> {
    pub(super) external: &'a External<'f>,
    pub(super) providers: &'a [Provider<'f>],
    pub(super) notes: &'a mut Notes,
    pub(super) todos: &'a mut ToDos,
}

impl Carrier<'_, '_> {
    pub(super) fn carry_over(mut self) -> Outcome {
        let errors = self.notes.errors();
        let outcome = self.protocol();
        if self.notes.errors() > errors { Outcome::Left(HAS_ERRORS) } else { outcome }
    }

    fn protocol(&mut self) -> Outcome {
        let message = match self.external.protocol {
            Protocol::Oauth => return self.oauth(),
            Protocol::Basic => return self.user(),
            Protocol::Custom | Protocol::NoAuthentication => return self.custom(),
            Protocol::AwsSv4 => "AWS Signature Version 4 has no counterpart here",
            Protocol::Jwt | Protocol::JwtExchange | Protocol::Password => {
                "the protocol is reserved by Salesforce in external credentials"
            }
        };
        self.leave(message)
    }

    fn leave(&mut self, message: &'static str) -> Outcome {
        self.notes.not_carried_over(self.external.at, format!("external credential {}: {message}", self.external.name));
        Outcome::Left(message)
    }

    fn oauth(&mut self) -> Outcome {
        if self.external.of_type("AuthProvider").next().is_some() {
            return self.leave("the browser flow needs a person who signs in");
        }
        if let Some(parameter) = self.external.general("ExternalAuthIdentityProvider").next() {
            return self.provided(parameter);
        }
        match self.variant() {
            Some(Some(variant)) => self.variant_draft(variant),
            Some(None) => {
                let known: Vec<&str> = VARIANTS.iter().map(|(name, _)| *name).collect();
                let message = format!(
                    "OAuth needs a parameter of the type `AuthProtocolVariant` ({}), `AuthProvider` or \
                     `ExternalAuthIdentityProvider`",
                    known.join(", ")
                );
                self.notes.error(self.external.at, message);
                Outcome::Left(HAS_ERRORS)
            }
            None => Outcome::Left(HAS_ERRORS),
        }
    }

    /// The variant; inside, none when none is given; outside, when it is unknown.
    fn variant(&mut self) -> Option<Option<Variant>> {
        let Some(parameter) = self.external.general("AuthProtocolVariant").next() else { return Some(None) };
        let text = parameter.value.as_ref().map_or("", |value| value.text.as_str());
        let known = VARIANTS.iter().find(|(name, _)| *name == text).map(|(_, variant)| *variant);
        if known.is_none() {
            let names: Vec<&str> = VARIANTS.iter().map(|(name, _)| *name).collect();
            let at = parameter.value.as_ref().map_or(parameter.at, |value| value.at);
            let message = format!("`AuthProtocolVariant` is {}; it is one of {}", shown(text), names.join(", "));
            self.notes.error(at, message);
        }
        known.map(Some)
    }

    fn variant_draft(&mut self, variant: Variant) -> Outcome {
        let identity = match variant {
            Variant::ClientSecretBasic | Variant::ClientSecretPost => Identity::Client,
            Variant::JwtAssertion => Identity::ClientId,
            Variant::JwtBearer => Identity::Nothing,
        };
        let Some(mut draft) = self.begin(identity) else { return self.leave("all its principals are per user") };
        let flow = if variant == Variant::JwtBearer { "jwt_bearer" } else { "client_credentials" };
        draft.set("flow", Value::text(flow));
        self.endpoint(&mut draft);
        self.scope(&mut draft);
        match variant {
            Variant::ClientSecretBasic => authenticate(&mut draft, Placement::Basic),
            Variant::ClientSecretPost => authenticate(&mut draft, Placement::Post),
            Variant::JwtAssertion | Variant::JwtBearer => {
                if variant == Variant::JwtAssertion {
                    draft.set("client_authentication", Value::text("private_key_jwt"));
                }
                claims::carry_over(self.external, &mut draft, self.notes, self.todos);
            }
        }
        let used = if identity == Identity::Client { OF_CLIENTS } else { OF_SIGNERS };
        self.end(draft, used)
    }

    /// Client credentials managed by an external auth identity provider.
    fn provided(&mut self, parameter: &Parameter<'_>) -> Outcome {
        let name = parameter.component("externalAuthIdentityProvider").map_or("", |provider| provider.text.as_str());
        let Some(provider) = self.providers.iter().find(|provider| provider.name.eq_ignore_ascii_case(name)) else {
            let message = format!("the external auth identity provider {} is not among the files", shown(name));
            self.notes.not_carried_over(parameter.at, message);
            return Outcome::Left("the file of its external auth identity provider is not given, or has errors");
        };
        match provider.flow {
            Flow::AuthorizationCode => return self.leave("the browser flow needs a person who signs in"),
            Flow::SalesforceDefined => return self.leave("its identity provider is defined by Salesforce"),
            Flow::ClientCredentials => {}
        }
        let Some(mut draft) = self.begin(Identity::Client) else {
            return self.leave("all its principals are per user");
        };
        draft.set("flow", Value::text("client_credentials"));
        let Some(placement) = provider.apply(&mut draft, self.notes, self.todos) else {
            return self.leave("its identity provider has no `TokenUrl`");
        };
        self.scope(&mut draft);
        authenticate(&mut draft, placement);
        self.end(draft, OF_PROVIDERS)
    }

    fn user(&mut self) -> Outcome {
        let Some(mut draft) = self.begin(Identity::User) else { return self.leave("all its principals are per user") };
        draft.set("flow", Value::text("basic"));
        self.end(draft, &["AuthParameter"])
    }

    fn custom(&mut self) -> Outcome {
        let Some(mut draft) = self.begin(Identity::Nothing) else {
            return self.leave("all its principals are per user");
        };
        draft.set("flow", Value::text("none"));
        for parameter in self.external.of_type("AuthParameter") {
            if parameter.value.is_some() {
                let message = format!("the value of {} becomes a reference", shown(&parameter.name));
                self.notes.warning(parameter.at, message);
            }
            if parameter.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                draft.fields.secret(&parameter.name, Origin::Parameter);
            }
        }
        self.end(draft, &["AuthParameter"])
    }

    /// Name, comments and principals; none when all principals are of the kind that is not carried over.
    fn begin(&mut self, identity: Identity) -> Option<Draft> {
        let external = self.external;
        let mut draft = Draft::new(&external.name, &external.label, identity);
        draft.comments.extend(external.description.as_deref().map(one_line));
        draft.principals.clone_from(&external.principals.list);
        if draft.principals.is_empty() {
            if external.principals.are_per_user {
                return None;
            }
            self.notes.remark(external.at, "the external credential has no principal: one called `default` is made");
            draft.principals = Principals::only_default();
        }
        Some(draft)
    }

    /// Headers, and a word about every parameter that is left over.
    fn end(&mut self, mut draft: Draft, used: &[&str]) -> Outcome {
        if used.contains(&"AdditionalRefreshStatusCode") {
            let codes = Codes::read(self.external.general("AdditionalRefreshStatusCode"), self.notes);
            draft.entries.extend(codes.into_entries());
        }
        let parameters: Vec<&Parameter<'_>> = self.external.general("AuthHeader").collect();
        let headers = Headers {
            owner: &self.external.name,
            formulas: Formulas::Evaluated,
            is_authorization_taken: draft.is_authorization_taken(),
        };
        let headers = headers.carry_over(&parameters, &mut draft.fields, self.notes, self.todos);
        draft.entries.extend(headers.map(|headers| ("headers".to_owned(), headers)));
        self.mention_the_rest(used);
        Outcome::Carried(Box::new(draft))
    }

    fn mention_the_rest(&mut self, used: &[&str]) {
        for parameter in &self.external.parameters {
            if let Some(message) = self.left_over(parameter, used) {
                self.notes.not_carried_over(parameter.at, message);
            }
        }
    }

    /// What there is to say about a parameter that the flow has no use for, in this place or at all.
    fn left_over(&self, parameter: &Parameter<'_>, used: &[&str]) -> Option<String> {
        let kind = parameter.kind.as_str();
        let named = format!("{} ({})", shown(kind), shown(&parameter.name));
        let is_oauth = self.external.protocol == Protocol::Oauth;
        let is_second =
            |parameter| self.external.general(kind).nth(1).is_some_and(|second| std::ptr::eq(second, parameter));
        match kind {
            // Reported where principals are read.
            "NamedPrincipal" | "PerUserPrincipal" => return None,
            "AuthProtocolVariant" | "AuthProviderUrl" | "SigningCertificate" if is_second(parameter) => {
                return Some(format!("{named} is there twice, and the first counts"));
            }
            "AuthProtocolVariant" => return None,
            "AuthParameter" if is_oauth && parameter.name != "Scope" => {
                return Some(format!("{named} has no meaning in this flow"));
            }
            // Of the principals, each of which has all of them.
            "AuthParameter" if !is_oauth => return None,
            "AuthParameter" | "AuthHeader" => {}
            kind if used.contains(&kind) => {}
            _ => return Some(format!("{named} has no meaning in this flow")),
        }
        let may_differ = matches!(kind, "AuthParameter" | "JwtBodyClaim" | "JwtHeaderClaim");
        match self.external.audience(parameter) {
            Audience::Nobody => Some(format!("{named}: its group belongs to no named principal")),
            Audience::Only(principal) if !may_differ => {
                Some(format!("{named} is for the principal {} alone, and here it is the same for all", principal.name))
            }
            Audience::Only(_) | Audience::All => None,
        }
    }

    fn endpoint(&mut self, draft: &mut Draft) {
        let Some(value) = self.external.general("AuthProviderUrl").find_map(|parameter| parameter.value.as_ref())
        else {
            self.notes.error(self.external.at, "this flow needs a parameter of the type `AuthProviderUrl`");
            return;
        };
        if let Some(url) = url::read(value, "AuthProviderUrl", Purpose::TokenEndpoint, self.notes) {
            draft.set("token_endpoint", Value::Text(url));
        }
        let mut query = Vec::new();
        for parameter in self.external.general("AuthProviderUrlQueryParameter") {
            match &parameter.value {
                Some(value) if is_plain(parameter, &value.text) && !is_taken(&query, &parameter.name) => {
                    query.push((parameter.name.clone(), Value::text(value.text.as_str())));
                }
                Some(_) | None => {
                    let message =
                        format!("the query parameter {} has no plain value of its own", shown(&parameter.name));
                    self.notes.not_carried_over(parameter.at, message);
                }
            }
        }
        if !query.is_empty() {
            draft.parameters.push(("query".to_owned(), Value::Inline(query)));
        }
    }

    /// `Scope` is the one parameter that only its name tells.
    fn scope(&mut self, draft: &mut Draft) {
        let scopes: Vec<&Parameter<'_>> =
            self.external.of_type("AuthParameter").filter(|parameter| parameter.name == "Scope").collect();
        let values = Values::read(self.external, &scopes, draft, self.notes);
        let scope = values.into_value(self.external.principals.list.len(), |text| Value::text(text));
        draft.entries.extend(scope.map(|scope| ("scope".to_owned(), scope)));
    }
}

fn is_plain(parameter: &Parameter<'_>, value: &str) -> bool {
    !value.contains("{!") && !is_credential(&parameter.name)
}

fn is_taken(entries: &[(String, Value)], name: &str) -> bool {
    entries.iter().any(|(taken, _)| taken == name)
}

/// Salesforce does not form-encode id and secret: what is saved is what is sent.
fn authenticate(draft: &mut Draft, placement: Placement) {
    match placement {
        Placement::Basic => {
            draft.set("client_authentication", Value::text("client_secret_basic"));
            draft.set("basic_encoding", Value::text("raw"));
        }
        Placement::Post => draft.set("client_authentication", Value::text("client_secret_post")),
    }
}
