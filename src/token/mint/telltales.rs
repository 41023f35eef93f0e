//! What an answer must not say back to us in front of others: every secret of a token request, in each form in which
//! it was or could have been written.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};

use super::TokenRequest;
use crate::secret::Secret;
use crate::token::assertion::{Assertion, Claim};
use crate::token::authentication::{assertions, form_encoded, percent_encoded};
use crate::token::wire::{Form, is_public};

/// What is shorter is a part of too many words, error codes among them, and gives nothing away.
const SHORTEST: usize = 4;

/// The secrets of `request` and of what was made for it: the parameters, and the credentials of the `Authorization`
/// field.
pub(super) fn telltales(request: &TokenRequest, form: &Form, credentials: Option<&Secret>) -> Vec<Secret> {
    let (principal, parameters) = (&request.principal, &request.settings.parameters);
    let own = [&principal.client_secret, &principal.password, &principal.refresh_token];
    let named = principal.secrets.iter().map(|(_, secret)| secret);
    let sent = form.iter().filter(|(name, _)| !is_public(name)).map(|(_, value)| value);
    let queried = parameters.query.iter().filter(|(name, _)| !is_public(name)).map(|(_, value)| value);
    let fields = parameters.headers.iter();
    let fields = fields.filter(|(name, _)| ![ACCEPT, CONTENT_TYPE, USER_AGENT].contains(name)).map(|(_, value)| value);
    let claimed = assertions(&request.settings).flat_map(claimed);
    let bare = own.into_iter().flatten().chain(named).chain(sent).chain(queried).chain(fields).chain(claimed);
    let bare = bare.chain(credentials).filter(|secret| secret.expose().len() >= SHORTEST);
    let mut all: Vec<Secret> = bare.flat_map(forms).collect();
    if let Some(secret) = &principal.client_secret {
        all.extend(pairs(&principal.client_id, secret.expose()));
    }
    all
}

/// One secret as it is written in a text, a form, a URL, JSON, and base64.
fn forms(secret: &Secret) -> Vec<Secret> {
    let text = secret.expose();
    let json = serde_json::Value::from(text).to_string();
    let json = json.trim_matches('"').to_owned();
    let written = [form_encoded(text), percent_encoded(text), json];
    let mut forms = vec![secret.clone()];
    forms.extend(written.into_iter().filter(|form| form != text).map(Secret::new));
    forms.push(Secret::new(STANDARD.encode(text)));
    forms.push(Secret::new(URL_SAFE_NO_PAD.encode(text)));
    forms
}

/// Basic credentials in all encodings: what a server quotes may be what it decoded and encoded again.
fn pairs(id: &str, secret: &str) -> [Secret; 3] {
    [
        format!("{id}:{secret}"),
        format!("{}:{}", form_encoded(id), form_encoded(secret)),
        format!("{}:{}", percent_encoded(id), percent_encoded(secret)),
    ]
    .map(|pair| Secret::new(STANDARD.encode(pair)))
}

fn claimed(assertion: &Assertion) -> impl Iterator<Item = &Secret> {
    assertion.claims.iter().chain(&assertion.header).filter_map(|(_, claim)| match claim {
        Claim::Secret(secret) => Some(secret),
        Claim::Json(_) | Claim::Formula(_) => None,
    })
}
