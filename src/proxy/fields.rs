//! What formulas give for one exchange: values of fields, and the cell whose tokens are meant.
//!
//! Evaluated once, over the caller's request as it came but without the caller's own credentials, before anything of
//! ours is added to it.

use std::sync::Arc;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use super::plan::NamedCredential;
use super::settings::HeaderValueSource;
use super::stop::{self, Stop};
use crate::formula::{Activation, Formula, RequestView};
use crate::name::Name;
use crate::token::{Cell, Principal};

/// Whose exchange it is.
#[derive(Clone, Copy)]
pub(super) struct Parties<'a> {
    pub(super) named: &'a NamedCredential,
    /// The principal in use; none without an external credential.
    pub(super) principal: Option<&'a Principal>,
    /// Every caller that gave its proof.
    pub(super) callers: &'a [Name],
    /// Whether secrets were read.
    pub(super) has_secrets: bool,
}

/// What stands for a value that only a secret which was not read would tell.
const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");

/// What was found for an exchange.
#[derive(Default)]
pub(super) struct Computed {
    /// The values of the named credential's formulas in the order of its fields; none leaves the field out.
    values: std::vec::IntoIter<Option<HeaderValue>>,
    /// Where the tokens are; none: there is no token to attach.
    pub(super) cell: Option<Arc<Cell>>,
}

/// Evaluates what there is to evaluate.
pub(super) fn compute(
    parties: Parties<'_>,
    method: &Method,
    target: Option<&PathAndQuery>,
    headers: &HeaderMap,
) -> Result<Computed, Stop> {
    let Parties { named, principal, callers, has_secrets } = parties;
    if !named.has_formulas() {
        let cell = principal.filter(|_| named.attaches_token()).and_then(Principal::fixed_cell).cloned();
        return Ok(Computed { cell, ..Computed::default() });
    }
    let request = RequestView {
        method,
        host: headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""),
        path: target.map_or("/", PathAndQuery::path),
        query: target.and_then(PathAndQuery::query).unwrap_or(""),
        headers,
    };
    let activation = Activation {
        callers,
        principal: principal.map(Principal::view),
        request: Some(request),
        secrets: principal.map_or(&[], Principal::secrets),
    };
    let values: Vec<_> = named
        .fields()
        .iter()
        .filter_map(|(name, source)| match source {
            HeaderValueSource::Fixed(_) | HeaderValueSource::Secret(_) => None,
            HeaderValueSource::Formula(formula) if !has_secrets && formula.uses_secrets() => Some(Ok(Some(UNKNOWN))),
            HeaderValueSource::Formula(formula) => {
                Some(value(formula, &activation).map_err(|problem| stop::formula(&format!("field `{name}`"), &problem)))
            }
        })
        .collect::<Result<_, _>>()?;
    let cell = match principal.filter(|_| named.attaches_token()) {
        Some(principal) if !has_secrets && principal.varies_with_secrets() => None,
        Some(principal) => principal.cell(&activation).map_err(|problem| stop::cell(&problem))?,
        None => None,
    };
    Ok(Computed { values: values.into_iter(), cell })
}

impl Computed {
    /// Sets the configured fields, each in place of what the caller sent under its name. The result is the values among
    /// them that are secrets, or made from some.
    pub(super) fn apply(&mut self, named: &NamedCredential, headers: &mut HeaderMap) -> Vec<HeaderValue> {
        let mut secrets = Vec::new();
        for (name, source) in named.fields() {
            let value = match source {
                HeaderValueSource::Fixed(value) => Some(value.clone()),
                HeaderValueSource::Secret(value) => {
                    secrets.push(value.clone());
                    Some(value.clone())
                }
                HeaderValueSource::Formula(_) => {
                    let value = self.values.next().flatten();
                    secrets.extend(value.clone().filter(HeaderValue::is_sensitive));
                    value
                }
            };
            match value {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
        secrets
    }
}

/// The value of a field; an empty one leaves the field out.
fn value(formula: &Formula, activation: &Activation<'_>) -> Result<Option<HeaderValue>, String> {
    let text = formula.text(activation).map_err(|error| error.to_string())?;
    if text.is_empty() {
        return Ok(None);
    }
    // The text is not repeated: a secret may be in it.
    let mut value =
        HeaderValue::try_from(text).map_err(|_| "the formula's value is not one line of visible characters")?;
    value.set_sensitive(formula.uses_secrets());
    Ok(Some(value))
}

#[cfg(test)]
mod tests;
