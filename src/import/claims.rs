//! Values that may differ from principal to principal, scope and claims, and `JwtHeaderClaim`, `JwtBodyClaim` and
//! `SigningCertificate` → `signing` and `assertion`.

use super::draft::Draft;
use super::external::{Audience, External};
use super::formula::{Translated, clock, literal, translate};
use super::metadata::{Located, Parameter};
use super::note::{Notes, shown};
use super::output::Value;
use super::principal::Principal;
use super::todo::ToDos;

/// One value for all principals, or one for each of some.
#[derive(Debug, Default)]
pub(super) struct Values<'a> {
    general: Option<Translated>,
    own: Vec<(&'a Principal, Translated)>,
}

impl<'a> Values<'a> {
    /// The values of the parameters `chosen`, which all mean the same setting. What cannot be carried over is said.
    pub(super) fn read<'f: 'a>(
        external: &'a External<'f>,
        chosen: &[&'a Parameter<'f>],
        draft: &mut Draft,
        notes: &mut Notes,
    ) -> Self {
        let mut values = Self::default();
        for parameter in chosen {
            let Some(value) = &parameter.value else { continue };
            let mut used = draft.fields.clone();
            let translated = match translate(&value.text, &mut used) {
                Ok(translated) => translated,
                Err(reason) => {
                    notes.not_carried_over(value.at, format!("{}: {reason}", shown(&parameter.name)));
                    continue;
                }
            };
            let is_free = match external.audience(parameter) {
                Audience::All => {
                    let is_free = values.general.is_none();
                    values.general.get_or_insert(translated);
                    is_free
                }
                Audience::Only(principal) => {
                    let is_free = values.own.iter().all(|(other, _)| *other != principal);
                    values.own.extend(Some((principal, translated)).filter(|_| is_free));
                    is_free
                }
                // Said where all parameters of such groups are.
                Audience::Nobody => continue,
            };
            match is_free {
                true => draft.fields = used,
                false => {
                    let message = format!("{}: it is there twice, and the first counts", shown(&parameter.name));
                    notes.not_carried_over(parameter.at, message);
                }
            }
        }
        values
    }

    /// A plain text, or a formula that tells the principals apart; none when there is no value.
    pub(super) fn into_value(self, principals: usize, as_text: fn(&str) -> Value) -> Option<Value> {
        if self.own.is_empty() {
            return Some(match self.general? {
                Translated::Text(text) => as_text(&text),
                Translated::Clock(ahead) => Value::reference("formula", clock(ahead)),
                Translated::Formula(cel) => Value::reference("formula", cel),
            });
        }
        let mut own = self.own;
        let last = match self.general {
            Some(general) => general.to_cel(),
            // Where each principal has its own value, the last needs no question.
            None if own.len() == principals => own.pop().map_or_else(|| literal(""), |(_, value)| value.to_cel()),
            None => literal(""),
        };
        let cel = own.into_iter().rev().fold(last, |otherwise, (principal, value)| {
            format!("principal.name == {} ? {} : {otherwise}", literal(principal.name.as_str()), value.to_cel())
        });
        Some(Value::reference("formula", cel))
    }
}

/// `signing` and `[….assertion]` of an external credential whose flow signs a JWT. None when the key is missing.
pub(super) fn carry_over(
    external: &External<'_>,
    draft: &mut Draft,
    notes: &mut Notes,
    todos: &mut ToDos,
) -> Option<()> {
    let Some(certificate) = certificate(external) else {
        notes.error(external.at, "this flow needs a parameter of the type `SigningCertificate` with its `certificate`");
        return None;
    };
    let mut head = Vec::new();
    let mut key_id = None;
    let mut algorithm = "RS256".to_owned();
    for group in by_name(external.of_type("JwtHeaderClaim")) {
        let name = group.first().map_or("", |parameter| parameter.name.as_str());
        let Some(value) = value(external, &group, draft, notes) else { continue };
        match (name, value) {
            ("alg", Value::Text(text)) if is_algorithm(&text) => algorithm = text,
            ("kid", Value::Text(text)) => key_id = Some(text),
            ("alg", _) => {
                let message = "the claim `alg` is no algorithm with a private key; RS256 is what Salesforce signs with";
                if let Some(parameter) = group.first() {
                    notes.not_carried_over(parameter.at, message);
                }
            }
            (name, value) => head.push((name.to_owned(), value)),
        }
    }
    let what =
        format!("the private key of the certificate {}, as PEM, with which {} signs", certificate.text, draft.name);
    let key = todos.secret(&[&draft.name, "signing_key"], what, super::key_source(&certificate.text));
    let mut signing = vec![("algorithm".to_owned(), Value::Text(algorithm)), ("key".to_owned(), key)];
    signing.extend(key_id.map(|id| ("key_id".to_owned(), Value::Text(id))));
    draft.set("signing", Value::Inline(signing));
    body(external, draft, notes);
    if !head.is_empty() {
        draft.assertion.push(("header".to_owned(), Value::Inline(head)));
    }
    Some(())
}

fn certificate<'a, 'f>(external: &'a External<'f>) -> Option<&'a Located<'f>> {
    external.general("SigningCertificate").find_map(|parameter| parameter.component("certificate"))
}

fn body(external: &External<'_>, draft: &mut Draft, notes: &mut Notes) {
    let mut claims = Vec::new();
    for group in by_name(external.of_type("JwtBodyClaim")) {
        let Some(first) = group.first() else { continue };
        // Keybearer writes them itself, and Salesforce lets nobody change them.
        if matches!(first.name.as_str(), "iat" | "nbf") {
            continue;
        }
        if first.name == "exp" {
            lifetime(external, &group, draft, notes);
            continue;
        }
        let Some(value) = value(external, &group, draft, notes) else { continue };
        match (first.name.as_str(), value) {
            ("iss", value @ Value::Text(_)) => draft.assertion.push(("issuer".to_owned(), value)),
            ("sub", value @ Value::Text(_)) => draft.assertion.push(("subject".to_owned(), value)),
            ("aud", value) if is_audience(&value) => draft.assertion.push(("audience".to_owned(), value)),
            (name, value) => claims.push((name.to_owned(), value)),
        }
    }
    if !claims.is_empty() {
        draft.assertion.push(("claims".to_owned(), Value::Inline(claims)));
    }
}

/// `exp` as Salesforce writes it gives the lifetime; both count from the moment of signing.
fn lifetime(external: &External<'_>, group: &[&Parameter<'_>], draft: &mut Draft, notes: &mut Notes) {
    let values = Values::read(external, group, draft, notes);
    match (values.general, values.own.is_empty()) {
        (Some(Translated::Clock(ahead)), true) if ahead > 0 => {
            draft.assertion.push(("lifetime".to_owned(), Value::Text(format!("{ahead}s"))));
        }
        (None, true) => {}
        _ => {
            if let Some(parameter) = group.first() {
                let message = "the claim `exp`: only a number of seconds from now, the same for all principals, has a \
                               counterpart here, `lifetime`; it is left at 2 minutes";
                notes.not_carried_over(parameter.at, message);
            }
        }
    }
}

fn value(external: &External<'_>, group: &[&Parameter<'_>], draft: &mut Draft, notes: &mut Notes) -> Option<Value> {
    Values::read(external, group, draft, notes).into_value(external.principals.list.len(), from_claim)
}

/// A claim's text: JSON where it is a JSON text, list or object, as Salesforce writes `aud`; plain otherwise.
pub(super) fn from_claim(text: &str) -> Value {
    let is_json = text.starts_with(['"', '[', '{']);
    match serde_json::from_str(text).ok().filter(|_| is_json) {
        Some(serde_json::Value::String(text)) => Value::Text(text),
        Some(json) => Value::Json(json),
        None => Value::text(text),
    }
}

/// A text or a list of texts.
pub(super) fn is_audience(value: &Value) -> bool {
    match value {
        Value::Text(_) => true,
        Value::Json(serde_json::Value::Array(items)) => {
            !items.is_empty() && items.iter().all(serde_json::Value::is_string)
        }
        Value::Json(_) | Value::Number(_) | Value::Truth(_) | Value::List(_) | Value::Inline(_) => false,
    }
}

fn is_algorithm(name: &str) -> bool {
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"].contains(&name)
}

/// Parameters of the same name together, in the order of their first ones.
fn by_name<'a, 'f: 'a>(parameters: impl Iterator<Item = &'a Parameter<'f>>) -> Vec<Vec<&'a Parameter<'f>>> {
    let mut groups: Vec<Vec<&'a Parameter<'f>>> = Vec::new();
    for parameter in parameters {
        let known = groups.iter_mut().find(|group| group.first().is_some_and(|first| first.name == parameter.name));
        match known {
            Some(group) => group.push(parameter),
            None => groups.push(vec![parameter]),
        }
    }
    groups
}
