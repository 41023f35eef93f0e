//! `mtls` of a caller: which names its certificate must carry.

use crate::caller::{CertificateRule, UriPattern};
use crate::config::document::CallerCertificate;
use crate::config::field::Field;
use crate::config::resolve::context::Context;

const NAMES: &str = "write mtls = { subject = \"CN=billing,O=Example\" }, { dns = \"billing.internal\" }, \
                     { uri = \"spiffe://example.org/ns/prod/sa/billing\" } or { email = \"…\" }; of several, all must hold";

/// None where something was reported.
pub(super) fn resolve(context: &Context<'_>, field: &Field<CallerCertificate>) -> Option<CertificateRule> {
    let (node, written) = field.get()?;
    let findings = context.findings;
    let texts = [&written.subject, &written.dns, &written.uri, &written.email];
    if texts.iter().all(|text| text.node().is_none()) {
        if !["subject", "dns", "uri", "email"].iter().any(|key| findings.is_misspelt(node, key)) {
            findings.error(node, "this names nothing that the certificate must carry", NAMES);
        }
        return None;
    }
    let checked = |field: &Field<String>, is_good: fn(&str) -> bool, message: &'static str| match field {
        Field::Missing => Some(None),
        Field::Wrong(_) => None,
        Field::Set(_, text) if is_good(text) => Some(Some(String::clone(text))),
        Field::Set(at, _) => {
            findings.error(*at, message, NAMES);
            None
        }
    };
    let subject = checked(&written.subject, is_subject, "this is not a subject as RFC 4514 writes it");
    let dns = checked(&written.dns, is_dns, "this is not a DNS name; it stands for itself alone, without `*`");
    let email = checked(&written.email, is_email, "this is not a mail address");
    let uri = match &written.uri {
        Field::Missing => Some(None),
        Field::Wrong(_) => None,
        Field::Set(at, text) => match UriPattern::parse(text) {
            Ok(pattern) => Some(Some(pattern)),
            Err(message) => {
                let help = "write the whole URI; \"spiffe://example.org/ns/prod/*\" stands for all SPIFFE ids below it";
                findings.error(*at, message, help);
                None
            }
        },
    };
    Some(CertificateRule { subject: subject?, dns: dns?, uri: uri?, email: email? })
}

fn is_subject(text: &str) -> bool {
    let types = text.split(',').filter_map(|part| part.split_once('=')).map(|(kind, _)| kind.trim());
    let is_type =
        |kind: &str| !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let mut types = types.peekable();
    types.peek().is_some() && !text.starts_with('/') && types.next().is_some_and(is_type)
}

fn is_dns(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && is_dns(domain))
}
