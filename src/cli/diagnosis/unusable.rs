//! Answers of success that bring no token that can be used: another type, another place, no token at all.

use serde_json::Value;

use super::heard::Heard;
use super::{Finding, finding};

/// In the order in which they are tried.
pub(super) const RULES: [fn(&Heard<'_>) -> Option<Finding>; 3] = [token_type, elsewhere, no_document];

fn token_type(heard: &Heard<'_>) -> Option<Finding> {
    if !is_success(heard) || !heard.mint.error.cause().contains("token type") {
        return None;
    }
    let request = heard.request()?;
    let pointer = request.response.token_type.as_str();
    let given = heard.document.as_ref().and_then(|document| document.pointer(pointer)?.as_str()).unwrap_or_default();
    if given.eq_ignore_ascii_case("dpop") && !request.dpop {
        return finding(
            "The token is bound to a key (DPoP), and keybearer was not told to hold one.",
            format!("Write dpop = true in {}.", heard.table()),
        );
    }
    if request.dpop {
        return finding(
            format!("DPoP was asked for, and the server gave a token of type \"{given}\" that is bound to nothing."),
            format!("Turn DPoP on for this client at the provider, or remove dpop from {}.", heard.table()),
        );
    }
    finding(
        format!("There is a token, and its type \"{given}\" is none that is known to be sent like a bearer token."),
        format!(
            "If the API takes it as a bearer token, write accept_token_types = [\"bearer\", \"{}\"] in {}.",
            given.to_lowercase(),
            heard.table()
        ),
    )
}

/// The token is in another member than the one that is read.
fn elsewhere(heard: &Heard<'_>) -> Option<Finding> {
    let document = heard.document.as_ref().filter(|_| is_success(heard))?;
    if !heard.mint.error.cause().contains("access token") {
        return None;
    }
    let mut found = Vec::new();
    candidates(document, "", &mut found);
    match found.first() {
        Some(pointer) => finding(
            format!("The token seems to be at {pointer} of the answer, and not where it is looked for."),
            format!("Write response = {{ token = \"{pointer}\" }} in {}.", heard.table()),
        ),
        None => finding(
            "The server says that all is well and sends no token: this may be another endpoint of the provider.",
            format!(
                "Check token_endpoint in {}; if the token is in an unusual place, name it with response = {{ token = \
                 \"/pointer/to/it\" }}; if this is how the provider reports an error, name where with error.",
                heard.table()
            ),
        ),
    }
}

fn no_document(heard: &Heard<'_>) -> Option<Finding> {
    (is_success(heard) && heard.document.is_none() && heard.code.is_empty()).then(|| Finding {
        meaning: "What came back is neither JSON nor a form, so this is hardly a token endpoint.".to_owned(),
        change: format!(
            "Check token_endpoint in {}; the issuer's /.well-known/openid-configuration names it.",
            heard.table()
        ),
    })
}

fn is_success(heard: &Heard<'_>) -> bool {
    heard.status.is_some_and(|status| (200..300).contains(&status))
}

/// Pointers to texts whose names say that they are tokens, in the order in which they stand.
fn candidates(value: &Value, at: &str, found: &mut Vec<String>) {
    let Value::Object(members) = value else { return };
    for (name, member) in members {
        let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        let lower = name.to_lowercase();
        let is_named_so = lower.ends_with("token") || lower == "jwt" || lower == "accesstoken";
        if is_named_so && !lower.contains("refresh") && member.as_str().is_some_and(|text| !text.is_empty()) {
            found.push(pointer);
        } else {
            candidates(member, &pointer, found);
        }
    }
}
