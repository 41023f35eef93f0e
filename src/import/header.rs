//! `HttpHeader` and `AuthHeader` parameters → `headers`.

use http::{HeaderName, HeaderValue};

use super::formula::{Translated, translate};
use super::merge::Fields;
use super::metadata::{Located, Parameter};
use super::note::{Notes, shown};
use super::output::Value;
use super::todo::ToDos;
use crate::header::is_ours_alone;

/// Whose headers they are and what holds for them.
pub(super) struct Headers<'a> {
    /// The credential, for the names of variables.
    pub(super) owner: &'a str,
    /// Whether formulas in them are formulas.
    pub(super) formulas: Formulas,
    /// Whether the flow itself sets `Authorization`.
    pub(super) is_authorization_taken: bool,
}

/// *Allow Formulas in HTTP Header*
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Formulas {
    /// Ticked.
    Evaluated,
    /// Not ticked: a formula is sent as it is written.
    Literal,
}

impl Headers<'_> {
    /// The elements of `headers`, in the order of their sequence numbers.
    pub(super) fn carry_over(
        &self,
        parameters: &[&Parameter<'_>],
        fields: &mut Fields,
        notes: &mut Notes,
        todos: &mut ToDos,
    ) -> Option<Value> {
        let mut ordered = parameters.to_vec();
        ordered.sort_by_key(|parameter| parameter.sequence.unwrap_or(u64::MAX));
        let mut taken: Vec<HeaderName> = Vec::new();
        let mut entries = Vec::new();
        for parameter in ordered {
            let header = shown(&parameter.name);
            let name = match self.name(&parameter.name, &taken) {
                Ok(name) => name,
                Err(reason) => {
                    notes.not_carried_over(parameter.at, format!("the header {header}: {reason}"));
                    continue;
                }
            };
            let Some(value) = &parameter.value else {
                notes.not_carried_over(parameter.at, format!("the header {header}: it has no value"));
                continue;
            };
            let value = match self.value(&name, value, fields, notes) {
                Ok(Plain::Value(value)) => value,
                Ok(Plain::Secret) => {
                    notes.warning(
                        value.at,
                        format!("the header {header} looks like a secret in clear text; it becomes a reference"),
                    );
                    let variable = name.as_str().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
                    let what = format!("the value of the header {header} of {}", self.owner);
                    todos.secret(&[self.owner, &variable], what, format!("{}:{}", value.at.file, value.at.line))
                }
                Err(reason) => {
                    notes.not_carried_over(value.at, format!("the header {header}: {reason}"));
                    continue;
                }
            };
            entries.push(Value::Inline(vec![
                ("name".to_owned(), Value::text(name.as_str())),
                ("value".to_owned(), value),
            ]));
            taken.push(name);
        }
        Some(Value::List(entries)).filter(|_| !taken.is_empty())
    }

    fn name(&self, text: &str, taken: &[HeaderName]) -> Result<HeaderName, &'static str> {
        let name: HeaderName = text.parse().map_err(|_| "this is not the name of a header field")?;
        if name == http::header::HOST {
            return Err("`host` is set with `host_header`");
        }
        if is_ours_alone(&name) {
            return Err("it frames the message or belongs to one connection, and the proxy sees to it");
        }
        if taken.contains(&name) {
            return Err("it is there twice, and keybearer sends each header once");
        }
        if self.is_authorization_taken && name == http::header::AUTHORIZATION {
            return Err("the flow itself sets it; turn off `generate_authorization_header` to set it by hand");
        }
        Ok(name)
    }

    fn value(
        &self,
        name: &HeaderName,
        value: &Located<'_>,
        fields: &mut Fields,
        notes: &mut Notes,
    ) -> Result<Plain, String> {
        let text = match self.formulas {
            Formulas::Literal => {
                if value.text.contains("{!") {
                    let message = "formulas in headers are not allowed by `allowMergeFieldsInHeader`: sent as written";
                    notes.remark(value.at, message);
                }
                value.text.clone()
            }
            Formulas::Evaluated => {
                let mut used = fields.clone();
                let translated = translate(&value.text, &mut used).map_err(|reason| reason.to_string())?;
                *fields = used;
                match translated {
                    Translated::Text(text) => text,
                    other @ (Translated::Formula(_) | Translated::Clock(_)) => {
                        return Ok(Plain::Value(Value::reference("formula", other.to_cel())));
                    }
                }
            }
        };
        if HeaderValue::from_str(&text).is_err() {
            return Err("its value is not one line of visible characters".to_owned());
        }
        Ok(if is_credential(name.as_str()) { Plain::Secret } else { Plain::Value(Value::Text(text)) })
    }
}

enum Plain {
    Value(Value),
    /// A text that must not be repeated.
    Secret,
}

/// Whether a field or parameter of this name probably carries a secret.
pub(super) fn is_credential(name: &str) -> bool {
    const PARTS: [&str; 11] = [
        "authorization",
        "apikey",
        "accesskey",
        "secret",
        "token",
        "password",
        "passwd",
        "cookie",
        "credential",
        "subscriptionkey",
        "signature",
    ];
    let name: String = name.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    PARTS.iter().any(|part| name.contains(part)) || name.ends_with("key") || name.ends_with("auth")
}

#[cfg(test)]
mod tests {
    use super::is_credential;

    #[test]
    fn names_of_secrets_are_known() {
        for name in ["Authorization", "X-API-Key", "api_key", "X-Auth-Token", "Cookie", "Ocp-Apim-Subscription-Key"] {
            assert!(is_credential(name), "{name}");
        }
        for name in ["Accept", "X-Tenant", "Content-Type", "x-version", "keyboard"] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
