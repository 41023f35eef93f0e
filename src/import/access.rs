//! `PermissionSet`: who may use which principal. Read for a proposal only, because permission sets are not callers.

use super::flow::Outcome;
use super::metadata::{Element, field, text, truth};
use super::note::{Notes, shown};

/// Proposes `callers` for the principals that a permission set opens.
pub(super) fn propose(name: &str, elements: &[Element<'_>], externals: &[(String, Outcome)], notes: &mut Notes) {
    for access in elements.iter().filter(|element| element.name == "externalCredentialPrincipalAccesses") {
        let is_enabled =
            field(&access.children, "enabled").is_none() || truth(&access.children, "enabled", true, notes);
        let Some(pair) = text(&access.children, "externalCredentialPrincipal").filter(|_| is_enabled) else { continue };
        // No name of an external credential holds a hyphen.
        let Some((external, principal)) = pair.text.split_once('-') else {
            let message = format!("{} is no external credential and principal", shown(&pair.text));
            notes.error(pair.at, message);
            continue;
        };
        let found = externals.iter().find(|(known, _)| known.eq_ignore_ascii_case(external));
        let Some((known, Outcome::Carried(draft))) = found else { continue };
        if let Some(principal) = draft.principals.iter().find(|one| one.original.eq_ignore_ascii_case(principal)) {
            let message = format!(
                "the permission set opens principal {} of {known}: to keep others out, name the callers that have it in \
                 [callers] and add callers = [\"{}\"] to the principal",
                principal.name, name
            );
            notes.remark(pair.at, message);
        }
    }
}
