//! `NamedCredential` with parameters → `[named_credentials.NAME]`. The older form with everything in one record is read
//! in `legacy`.

use super::draft::Draft;
use super::flow::Outcome;
use super::header::{Formulas, Headers};
use super::legacy;
use super::merge::{Fields, Identity};
use super::metadata::{Element, Located, Parameter, Shape, Vocabulary, text, truth};
use super::note::{Notes, Place, shown};
use super::output::{Table, Value};
use super::todo::ToDos;
use super::url::{self, Purpose};

const TOP: Shape = Shape {
    what: "a named credential",
    fields: &[
        "label",
        "fullName",
        "description",
        "namedCredentialType",
        "calloutStatus",
        "generateAuthorizationHeader",
        "allowMergeFieldsInHeader",
        "allowMergeFieldsInBody",
    ],
    lists: &["namedCredentialParameters"],
    reserved: &[],
};

const PARAMETERS: Vocabulary = Vocabulary {
    lists: TOP.lists,
    shape: Shape {
        what: "a parameter of a named credential",
        fields: &[
            "parameterName",
            "parameterType",
            "parameterValue",
            "sequenceNumber",
            "description",
            "externalCredential",
            "certificate",
            "outboundNetworkConnection",
        ],
        lists: &[],
        reserved: &[
            "globalNamedPrincipalCredential",
            "managedFeatureEnabledCallout",
            "readOnlyNamedCredential",
            "systemUserNamedCredential",
        ],
    },
    references: &["externalCredential", "certificate", "outboundNetworkConnection"],
    types: &[
        "AllowedManagedPackageNamespaces",
        "Authentication",
        "ClientCertificate",
        "HttpHeader",
        "ManagedByNamespace",
        "OutboundNetworkConnection",
        "Url",
    ],
    reserved: &[
        "ConnectionStatus",
        "CreatedByNamespace",
        "CustomParameter",
        "ManagedByComponent",
        "ManagedByFeature",
        "NamedCredentialOptions",
        "SfHttpRequestExtensionName",
        "StandardNamedCredentialType",
    ],
    old: &[],
};

/// One file, and the way to the external credentials.
pub(super) struct Named<'a, 'f> {
    pub(super) name: &'a str,
    /// The beginning of the file.
    pub(super) file: Place<'f>,
    pub(super) elements: &'a [Element<'f>],
    /// What became of the external credentials; a legacy file adds one.
    pub(super) externals: &'a mut Vec<(String, Outcome)>,
    pub(super) notes: &'a mut Notes,
    pub(super) todos: &'a mut ToDos,
}

/// What both forms say in the same words.
pub(super) struct Options {
    pub(super) is_enabled: bool,
    pub(super) generates_authorization: bool,
    pub(super) formulas: Formulas,
}

impl<'f> Named<'_, 'f> {
    /// The table; none when there is an error, or nothing to carry over.
    pub(super) fn carry_over(mut self) -> Option<Table> {
        let errors = self.notes.errors();
        let kind = text(self.elements, "namedCredentialType");
        let has_parameters = self.elements.iter().any(|element| element.name == "namedCredentialParameters");
        match kind.as_ref().map(|kind| kind.text.as_str()) {
            Some("SecuredEndpoint") => {}
            Some("PrivateEndpoint") => {
                let at = kind.map_or(self.file, |kind| kind.at);
                self.notes.not_carried_over(at, "the private connection: the URL is called as this machine reaches it");
            }
            Some("Legacy") => return legacy::carry_over(self),
            None if !has_parameters => return legacy::carry_over(self),
            None => self.notes.warning(self.file, "`namedCredentialType` is missing: read as `SecuredEndpoint`"),
            Some("Standard") => {
                self.notes
                    .not_carried_over(self.file, "a named credential of the type `Standard`, reserved by Salesforce");
                return None;
            }
            Some(other) => {
                let known = "SecuredEndpoint, PrivateEndpoint, Legacy";
                let at = kind.as_ref().map_or(self.file, |kind| kind.at);
                self.notes.error(at, format!("`namedCredentialType` is {}; it is one of {known}", shown(other)));
                return None;
            }
        }
        self.secured(errors)
    }

    fn secured(&mut self, errors: usize) -> Option<Table> {
        TOP.check(self.elements, self.notes);
        let parameters = PARAMETERS.read(self.elements, self.notes);
        let options = self.options();
        let url = self.url(&parameters);
        let external = parameters
            .iter()
            .filter(|parameter| parameter.kind == "Authentication")
            .find_map(|parameter| parameter.component("externalCredential"));
        if external.is_none() {
            let message = "a named credential needs a parameter of the type `Authentication` with its \
                           `externalCredential`";
            self.notes.error(self.file, message);
        }
        let tls = self.tls(&parameters);
        let (url, external) = (url?, external?);
        if self.notes.errors() > errors {
            return None;
        }
        self.mention_the_rest(&parameters);
        let mut table = self.table(&url);
        self.link(&mut table, external, &options);
        let headers: Vec<&Parameter<'_>> =
            parameters.iter().filter(|parameter| parameter.kind == "HttpHeader").collect();
        let headers = self.headers(&headers, external, &options);
        table.entries.extend(tls.map(|tls| ("tls".to_owned(), tls)));
        table.entries.extend(headers.map(|headers| ("headers".to_owned(), headers)));
        Some(table)
    }

    /// What is switched on and off, in both forms.
    pub(super) fn options(&mut self) -> Options {
        let status = text(self.elements, "calloutStatus");
        let is_enabled = match status.as_ref().map(|status| status.text.as_str()) {
            None | Some("Enabled") => true,
            Some("Disabled") => false,
            Some(other) => {
                let at = status.as_ref().map_or(self.file, |status| status.at);
                self.notes.error(at, format!("`calloutStatus` is {}; it is Enabled or Disabled", shown(other)));
                true
            }
        };
        let generates_authorization = truth(self.elements, "generateAuthorizationHeader", true, self.notes);
        let formulas = match truth(self.elements, "allowMergeFieldsInHeader", false, self.notes) {
            true => Formulas::Evaluated,
            false => Formulas::Literal,
        };
        if truth(self.elements, "allowMergeFieldsInBody", false, self.notes) {
            let at = self.elements.iter().find(|element| element.name == "allowMergeFieldsInBody");
            let at = at.map_or(self.file, |element| element.at);
            self.notes.not_carried_over(at, "formulas in bodies: keybearer passes bodies on as they are");
        }
        Options { is_enabled, generates_authorization, formulas }
    }

    fn url(&mut self, parameters: &[Parameter<'f>]) -> Option<String> {
        let parameter = parameters.iter().find(|parameter| parameter.kind == "Url");
        let Some(value) = parameter.and_then(|parameter| parameter.value.as_ref()) else {
            self.notes.error(self.file, "a named credential needs a parameter of the type `Url` with its value");
            return None;
        };
        url::read(value, "Url", Purpose::Upstream, self.notes)
    }

    fn tls(&mut self, parameters: &[Parameter<'f>]) -> Option<Value> {
        let parameter = parameters.iter().find(|parameter| parameter.kind == "ClientCertificate")?;
        match parameter.component("certificate") {
            Some(certificate) => self.client_certificate(certificate),
            None => {
                self.notes.error(parameter.at, "a parameter of the type `ClientCertificate` needs its `certificate`");
                None
            }
        }
    }

    /// The `tls` table for a certificate that Salesforce keeps.
    pub(super) fn client_certificate(&mut self, certificate: &Located<'_>) -> Option<Value> {
        let name = &certificate.text;
        if crate::name::Name::parse(name).is_err() {
            self.notes.error(certificate.at, format!("{} is not the name of a certificate", shown(name)));
            return None;
        }
        let what = format!("the certificate {name} with its chain, as PEM");
        let chain = self.todos.file(&format!("certificates/{name}.pem"), what, super::key_source(name));
        let what = format!("the private key of the certificate {name}, as PEM");
        let key = self.todos.file(&format!("certificates/{name}.key"), what, super::key_source(name));
        Some(Value::Inline(vec![("certificate".to_owned(), chain), ("key".to_owned(), key)]))
    }

    /// The table with what it is and where it leads.
    pub(super) fn table(&self, url: &str) -> Table {
        let mut entries = Vec::new();
        for key in ["label", "description"] {
            entries.extend(text(self.elements, key).map(|text| (key.to_owned(), Value::Text(text.text))));
        }
        entries.push(("url".to_owned(), Value::text(url)));
        let path = vec!["named_credentials".to_owned(), self.name.to_owned()];
        Table { path, is_element: false, comments: Vec::new(), entries }
    }

    /// The way to the external credential. Without one the named credential stays, switched off, so that its callers
    /// learn that it is known and not ready.
    fn link(&mut self, table: &mut Table, external: &Located<'_>, options: &Options) {
        let reason = match self.find(&external.text) {
            Some((name, Outcome::Carried(draft))) => {
                table.entries.push(("external_credential".to_owned(), Value::text(name.as_str())));
                // Where the flow attaches nothing there is nothing to switch off.
                if !options.generates_authorization && draft.is_authorization_taken() {
                    table.entries.push(("generate_authorization_header".to_owned(), Value::Truth(false)));
                }
                None
            }
            Some((_, Outcome::Left(reason))) => Some(*reason),
            None => Some("it is not among the files that could be read"),
        };
        if let Some(reason) = reason {
            let external_shown = shown(&external.text);
            let message =
                format!("the external credential {external_shown}: {reason}; the named credential is switched off");
            self.notes.not_carried_over(external.at, message);
            table
                .comments
                .push(format!("Switched off: the external credential {external_shown} was not carried over."));
        }
        if reason.is_some() || !options.is_enabled {
            table.entries.push(("enabled".to_owned(), Value::Truth(false)));
        }
    }

    fn headers(&mut self, headers: &[&Parameter<'f>], external: &Located<'_>, options: &Options) -> Option<Value> {
        let found = self
            .externals
            .iter_mut()
            .find(|(name, _)| name.eq_ignore_ascii_case(&external.text))
            .map(|(_, found)| found);
        let mut nobody = Fields { external: String::new(), identity: Identity::Absent, secrets: Vec::new() };
        let (fields, is_taken) = match found {
            Some(Outcome::Carried(draft)) => {
                let is_taken = options.generates_authorization && draft.is_authorization_taken();
                (&mut draft.as_mut().fields, is_taken)
            }
            Some(Outcome::Left(_)) | None => (&mut nobody, false),
        };
        let carrier = Headers { owner: self.name, formulas: options.formulas, is_authorization_taken: is_taken };
        carrier.carry_over(headers, fields, self.notes, self.todos)
    }

    fn find(&self, name: &str) -> Option<&(String, Outcome)> {
        self.externals.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Puts an external credential of its own beside the others, under a name that is free.
    pub(super) fn add(&mut self, build: impl FnOnce(&str) -> Draft) -> String {
        let candidates = (1_u32..).map(|n| match n {
            1 => self.name.to_owned(),
            n => format!("{}_{n}", self.name),
        });
        let mut free = candidates.filter(|name| self.find(name).is_none());
        let name = free.next().unwrap_or_else(|| self.name.to_owned());
        let draft = build(&name);
        self.externals.push((name.clone(), Outcome::Carried(Box::new(draft))));
        name
    }

    fn mention_the_rest(&mut self, parameters: &[Parameter<'f>]) {
        for parameter in parameters {
            let message = match parameter.kind.as_str() {
                "OutboundNetworkConnection" => {
                    "the outbound network connection: the URL is called as this machine reaches it"
                }
                "AllowedManagedPackageNamespaces" => {
                    "the namespaces that may call: name callers with `callers` where that matters"
                }
                "ManagedByNamespace" => "the namespace that manages it: there are no packages here",
                _ => continue,
            };
            self.notes.not_carried_over(parameter.at, message);
        }
    }
}
