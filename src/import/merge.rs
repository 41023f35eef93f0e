//! Where `$Credential` leads: to what a principal has here, and the named secrets that formulas make necessary.

use super::formula::{MergeFields, Untranslatable};
use super::note::shown;

/// What a principal of a flow proves itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nothing but what formulas use.
    Nothing,
    /// A client id; the proof is a signature.
    ClientId,
    /// Client id and secret.
    Client,
    /// User name and password.
    User,
    /// Nobody knows: the external credential is not carried over.
    Absent,
}

/// A secret of a principal that a formula refers to as `secrets.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedSecret {
    /// Its name; names that differ only in case are one, as in Salesforce.
    pub(super) name: String,
    /// What it is.
    pub(super) origin: Origin,
}

/// What a named secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A parameter of the principal.
    Parameter,
    /// The principal's password, which the flow uses too.
    Password,
    /// The principal's client secret, which the flow uses too.
    ClientSecret,
    /// The private key of this certificate.
    Certificate(String),
}

/// The merge fields of one external credential, and what formulas have used of them.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    /// The external credential's name.
    pub(super) external: String,
    pub(super) identity: Identity,
    pub(super) secrets: Vec<NamedSecret>,
}

impl Fields {
    /// The CEL of a named secret.
    pub(super) fn secret(&mut self, wanted: &str, origin: Origin) -> String {
        format!("secrets.{}", self.name_of(wanted, origin))
    }

    fn name_of(&mut self, wanted: &str, origin: Origin) -> String {
        let is_same = |secret: &&NamedSecret| secret.origin == origin && secret.name.eq_ignore_ascii_case(wanted);
        if let Some(known) = self.secrets.iter().find(is_same) {
            return known.name.clone();
        }
        // CEL's only words that cannot stand behind a dot are in lower case.
        let mut name = match wanted {
            "in" | "true" | "false" | "null" => wanted.to_ascii_uppercase(),
            other => other.to_owned(),
        };
        while self.secrets.iter().any(|secret| secret.name.eq_ignore_ascii_case(&name)) {
            name.push_str("_2");
        }
        self.secrets.push(NamedSecret { name: name.clone(), origin });
        name
    }
}

impl MergeFields for Fields {
    fn credential(&mut self, external: Option<&str>, parameter: &str) -> Result<String, Untranslatable> {
        let written = match external {
            Some(external) => shown(&format!("$Credential.{external}.{parameter}")),
            None => shown(&format!("$Credential.{parameter}")),
        };
        if self.identity == Identity::Absent {
            return Err(Untranslatable::NoCounterpart(format!("{written}, of a credential that is not carried over,")));
        }
        if external.is_some_and(|external| !external.eq_ignore_ascii_case(&self.external)) {
            return Err(Untranslatable::NoCounterpart(format!("{written}, of another external credential,")));
        }
        let lower = parameter.to_ascii_lowercase();
        match (self.identity, lower.as_str()) {
            (_, "oauthtoken" | "accesstoken" | "authorizationheadervalue" | "authorizationmethod") => {
                let message = format!("{written}, the token, which is attached by `inject` and not by formulas,");
                Err(Untranslatable::NoCounterpart(message))
            }
            (_, "body") => Err(Untranslatable::NoCounterpart(format!("{written}, the request's body,"))),
            (Identity::User, "username") => Ok("principal.username".to_owned()),
            (Identity::User, "password") => Ok(self.secret(parameter, Origin::Password)),
            (Identity::ClientId | Identity::Client, "clientid" | "oauthconsumerkey") => {
                Ok("principal.client_id".to_owned())
            }
            (Identity::Client, "clientsecret") => Ok(self.secret(parameter, Origin::ClientSecret)),
            _ if parameter.starts_with(|first: char| first.is_ascii_digit()) => {
                Err(Untranslatable::NoCounterpart(written))
            }
            _ => Ok(self.secret(parameter, Origin::Parameter)),
        }
    }

    fn certificate(&mut self, name: &str) -> Result<String, Untranslatable> {
        if self.identity == Identity::Absent {
            return Err(Untranslatable::NoCounterpart("a key of a credential that is not carried over".to_owned()));
        }
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !starts_well || !name.bytes().all(is_word) {
            return Err(Untranslatable::Malformed("this is not the name of a certificate"));
        }
        Ok(self.name_of(&format!("{name}_key"), Origin::Certificate(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Identity, MergeFields as _, Origin};

    fn fields(identity: Identity) -> Fields {
        Fields { external: "Api".to_owned(), identity, secrets: Vec::new() }
    }

    #[test]
    fn merge_fields_lead_to_the_principal_or_to_a_named_secret() {
        for (identity, external, parameter, cel) in [
            (Identity::User, Some("Api"), "Username", "principal.username"),
            (Identity::User, None, "Password", "secrets.Password"),
            (Identity::Client, Some("API"), "ClientId", "principal.client_id"),
            (Identity::ClientId, None, "OAuthConsumerKey", "principal.client_id"),
            (Identity::Nothing, Some("Api"), "Username", "secrets.Username"),
            (Identity::Nothing, Some("Api"), "in", "secrets.IN"),
        ] {
            assert_eq!(fields(identity).credential(external, parameter).as_deref(), Ok(cel));
        }
        for (external, parameter) in
            [(Some("Other"), "Key"), (None, "OAuthToken"), (Some("Api"), "Body"), (Some("Api"), "1x")]
        {
            assert!(fields(Identity::Client).credential(external, parameter).is_err(), "{parameter}");
        }
    }

    #[test]
    fn a_secret_is_one_whatever_the_case_and_a_certificate_is_not_a_parameter() {
        let mut fields = fields(Identity::Nothing);
        assert_eq!(fields.credential(Some("Api"), "Cert_key").unwrap(), "secrets.Cert_key");
        assert_eq!(fields.credential(None, "CERT_KEY").unwrap(), "secrets.Cert_key");
        assert_eq!(fields.certificate("Cert").unwrap(), "Cert_key_2");
        assert_eq!(fields.secrets[1].origin, Origin::Certificate("Cert".to_owned()));
        assert!(fields.certificate("no name").is_err());
    }
}
