//! An external credential on its way into the document: what is known of it, until the formulas of its named
//! credentials have said which secrets its principals need.

use super::merge::{Fields, Identity, NamedSecret, Origin};
use super::note::one_line;
use super::output::{Table, Value};
use super::principal::Principal;
use super::todo::ToDos;

/// `[external_credentials.NAME]` in the making.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    /// Lines above it.
    pub(super) comments: Vec<String>,
    pub(super) entries: Vec<(String, Value)>,
    /// `[….assertion]`
    pub(super) assertion: Vec<(String, Value)>,
    /// `[….parameters]`
    pub(super) parameters: Vec<(String, Value)>,
    pub(super) principals: Vec<Principal>,
    /// What formulas find, and have found.
    pub(super) fields: Fields,
    /// A user name that the metadata gives.
    pub(super) username: Option<String>,
    /// The identity provider that holds the client instead of the principals, with its place in Setup.
    pub(super) provider: Option<(String, String)>,
    /// The place in Setup of what its principals hold.
    pub(super) setup: Setup,
}

/// A page of Salesforce's Setup.
#[derive(Debug)]
pub(super) enum Setup {
    /// An external credential, whose principals have pages of their own.
    External(String),
    /// A record that holds everything itself.
    Legacy(String),
}

impl Draft {
    pub(super) fn new(name: &str, label: &str, identity: Identity) -> Self {
        Self {
            name: name.to_owned(),
            comments: vec![one_line(label)],
            entries: Vec::new(),
            assertion: Vec::new(),
            parameters: Vec::new(),
            principals: Vec::new(),
            fields: Fields { external: name.to_owned(), identity, secrets: Vec::new() },
            username: None,
            provider: None,
            setup: Setup::External(one_line(label)),
        }
    }

    pub(super) fn set(&mut self, key: &str, value: Value) {
        self.entries.push((key.to_owned(), value));
    }

    /// Whether the flow attaches something of its own to `Authorization`.
    pub(super) fn is_authorization_taken(&self) -> bool {
        !self.entries.iter().any(|(key, value)| key == "flow" && *value == Value::text("none"))
    }

    /// The tables, and a to-do for each secret.
    pub(super) fn finish(mut self, todos: &mut ToDos) -> Vec<Table> {
        let path = vec!["external_credentials".to_owned(), self.name.clone()];
        let comments = std::mem::take(&mut self.comments);
        let entries = std::mem::take(&mut self.entries);
        let mut tables = vec![Table { path: path.clone(), is_element: false, comments, entries }];
        for (key, entries) in
            [("assertion", std::mem::take(&mut self.assertion)), ("parameters", std::mem::take(&mut self.parameters))]
        {
            if !entries.is_empty() {
                let path = [path.as_slice(), &[key.to_owned()]].concat();
                tables.push(Table { path, is_element: false, comments: Vec::new(), entries });
            }
        }
        let path = [path.as_slice(), &["principals".to_owned()]].concat();
        for principal in &self.principals {
            let entries = self.principal(principal, todos);
            tables.push(Table { path: path.clone(), is_element: true, comments: Vec::new(), entries });
        }
        tables
    }

    fn principal(&self, principal: &Principal, todos: &mut ToDos) -> Vec<(String, Value)> {
        let mut entries = vec![("name".to_owned(), Value::text(principal.name.as_str()))];
        entries.extend(principal.sequence.map(|number| ("sequence".to_owned(), Value::Number(number))));
        if matches!(self.fields.identity, Identity::ClientId | Identity::Client) {
            entries.push(("client_id".to_owned(), self.client(principal, "client_id", "client id", todos)));
        }
        let mut proof = None;
        if self.fields.identity == Identity::Client {
            let secret = self.client(principal, "client_secret", "client secret", todos);
            proof = Some(secret.clone());
            entries.push(("client_secret".to_owned(), secret));
        }
        if self.fields.identity == Identity::User {
            let username = match &self.username {
                Some(username) => Value::text(username.as_str()),
                None => self.own(principal, "username", "user name", todos),
            };
            let password = self.own(principal, "password", "password", todos);
            proof = Some(password.clone());
            entries.push(("username".to_owned(), username));
            entries.push(("password".to_owned(), password));
        }
        let secrets: Vec<(String, Value)> = self
            .fields
            .secrets
            .iter()
            .map(|secret| (secret.name.clone(), self.secret(principal, secret, proof.as_ref(), todos)))
            .collect();
        if !secrets.is_empty() {
            entries.push(("secrets".to_owned(), Value::Inline(secrets)));
        }
        entries
    }

    /// A named secret; password and client secret are the ones that the flow uses.
    fn secret(&self, principal: &Principal, secret: &NamedSecret, proof: Option<&Value>, todos: &mut ToDos) -> Value {
        match (&secret.origin, proof) {
            (Origin::Password | Origin::ClientSecret, Some(proof)) => proof.clone(),
            (Origin::Certificate(certificate), _) => {
                let what = format!("the private key of the certificate {certificate}, as PEM, for a formula");
                todos.shared(&[&self.name, &secret.name], what, super::key_source(certificate))
            }
            (Origin::Password | Origin::ClientSecret | Origin::Parameter, _) => {
                self.own(principal, &secret.name, &format!("parameter {}", secret.name), todos)
            }
        }
    }

    /// Something of the client, which is the principal's own or the identity provider's.
    fn client(&self, principal: &Principal, key: &str, what: &str, todos: &mut ToDos) -> Value {
        match &self.provider {
            None => self.own(principal, key, what, todos),
            Some((provider, setup)) => {
                let what = format!("the {what} of the identity provider {provider}");
                todos.shared(&[provider, key], what, setup.clone())
            }
        }
    }

    fn own(&self, principal: &Principal, key: &str, what: &str, todos: &mut ToDos) -> Value {
        let what = format!("the {what} of principal {} of {}", principal.name, self.name);
        let source = match &self.setup {
            Setup::External(label) => {
                let principal = one_line(&principal.original);
                format!("Setup > Named Credentials > External Credentials > {label} > Principals > {principal}")
            }
            Setup::Legacy(label) => format!("Setup > Named Credentials > {label}"),
        };
        todos.secret(&[&self.name, principal.name.as_str(), key], what, source)
    }
}
