//! The activation as the library asks for it: by whole names such as `request.path`, so that only what a formula
//! comes across is built, and texts are borrowed.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use cel::common::types::{CelInt, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use http::{HeaderMap, HeaderName};

use super::{Activation, PrincipalView, RequestView};
use crate::name::Name;

/// Shows an activation to the library.
pub(super) struct Variables<'a>(pub(super) &'a Activation<'a>);

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let activation = self.0;
        if variable == "now" {
            return Some(CowVal::owned(CelInt::from(now())));
        }
        if variable == "secrets" {
            let secrets = activation.secrets.iter();
            return Some(map(secrets.map(|(name, secret)| (name.as_str(), CelString::from(secret.expose())))));
        }
        // A member that is computed comes here under its variable's name alone; there is nothing to give for it.
        let (variable, member) = variable.split_once('.')?;
        match variable {
            "caller" => caller(activation.callers, member),
            "principal" => principal(activation.principal.as_ref()?, member).map(text),
            "request" => request(activation.request.as_ref()?, member),
            "secrets" => {
                activation.secrets.iter().find(|(name, _)| name == member).map(|(_, secret)| text(secret.expose()))
            }
            _ => None,
        }
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn caller<'b>(names: &'b [Name], member: &str) -> Option<CowVal<'b, 'b>> {
    match member {
        "name" => Some(text(names.first().map_or("", Name::as_str))),
        "names" => {
            let names = names.iter().map(|name| Box::new(CelString::from(name.as_str())) as Box<dyn Val + 'b>);
            Some(CowVal::owned(CelList::from(names.collect::<Vec<_>>())))
        }
        _ => None,
    }
}

fn principal<'b>(principal: &PrincipalView<'b>, member: &str) -> Option<&'b str> {
    match member {
        "name" => Some(principal.name.as_str()),
        "client_id" => Some(principal.client_id),
        "username" => Some(principal.username.unwrap_or("")),
        _ => None,
    }
}

fn request<'b>(request: &RequestView<'b>, member: &str) -> Option<CowVal<'b, 'b>> {
    match member {
        "method" => Some(text(request.method.as_str())),
        "host" => Some(text(request.host)),
        "path" => Some(text(request.path)),
        "query" => Some(text(request.query)),
        "headers" => {
            let fields = request.headers.keys().filter_map(|name| Some((name.as_str(), field(request.headers, name)?)));
            Some(map(fields))
        }
        _ => {
            let name = HeaderName::from_bytes(member.strip_prefix("headers.")?.as_bytes()).ok()?;
            field(request.headers, &name).map(CowVal::owned)
        }
    }
}

/// The value of a field; its lines joined (RFC 9110 5.3).
fn field<'b>(headers: &'b HeaderMap, name: &HeaderName) -> Option<CelString<'b>> {
    let mut lines = headers.get_all(name).iter().map(|value| std::str::from_utf8(value.as_bytes()).ok());
    let first = lines.next()??;
    let Some(second) = lines.next() else { return Some(CelString::from(first)) };
    let mut joined = format!("{first}, {}", second?);
    for line in lines {
        joined.push_str(", ");
        joined.push_str(line?);
    }
    Some(CelString::from(joined))
}

fn text<'b>(text: &'b str) -> CowVal<'b, 'b> {
    CowVal::owned(CelString::from(text))
}

fn map<'b>(entries: impl Iterator<Item = (&'b str, CelString<'b>)>) -> CowVal<'b, 'b> {
    let entries: HashMap<CelMapKey<'b>, Box<dyn Val + 'b>> =
        entries.map(|(name, value)| (CelMapKey::from(name), Box::new(value) as Box<dyn Val + 'b>)).collect();
    CowVal::owned(CelMap::from(entries))
}
