//! What an API answered to the trial request with a fresh token: whether it took the token, and why not.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::heard::{cut, field, is_page, sentence, title};
use super::{Diagnosis, Finding, Skew, finding};
use crate::header::{self, Challenge};
use crate::token::{Received, Settings};

/// A trial request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Probed<'a> {
    /// The named credential.
    pub name: &'a str,
    /// Scheme, host and path of the URL that was asked.
    pub url: &'a str,
    /// The host in it.
    pub host: &'a str,
    /// What was sent, masked, as in `GET https://api.example.com/ with Authorization: Bearer ********`.
    pub sent: &'a str,
    /// What came back, masked.
    pub answer: &'a Received,
    /// How the token was obtained; none: no token was attached.
    pub external: Option<&'a Settings>,
    /// The token's claims, where it is a JWT.
    pub claims: Option<&'a Value>,
    /// The API's clock against ours.
    pub skew: Option<Skew>,
    /// Whether the configuration takes this answer for a rejection.
    pub is_rejection: bool,
}

const RULES: [fn(&Probed<'_>) -> Option<Finding>; 12] = [
    redirect,
    proof,
    possession,
    insufficient_scope,
    forbidden,
    no_token,
    other_scheme,
    clock,
    audience,
    opaque,
    untrusted,
    listed,
];

/// Why the API refuses; none where it does not.
#[must_use]
pub fn refused(probed: &Probed<'_>) -> Option<Diagnosis> {
    let status = probed.answer.status;
    if !probed.is_rejection && !matches!(status, 401 | 403 | 300..=399) {
        return None;
    }
    let found = RULES.iter().find_map(|rule| rule(probed))?;
    Some(Diagnosis {
        sent: format!("Sent: {}.", probed.sent),
        received: received(probed),
        meaning: found.meaning,
        change: found.change,
    })
}

fn received(probed: &Probed<'_>) -> String {
    let answer = probed.answer;
    if let Some(to) = field(answer, "location").filter(|_| matches!(answer.status, 300..=399)) {
        return format!("Received: {}, a redirect to {}.", answer.status, without_query(to));
    }
    let challenge = challenge(answer);
    let mut text = format!("Received: {}", answer.status);
    if !challenge.is_empty() {
        text.push_str(&format!(" with WWW-Authenticate: {}", cut(&challenge, 300)));
    }
    let said = serde_json::from_str::<Value>(&answer.body).ok().and_then(|document| sentence(&document));
    match said {
        Some(words) => text.push_str(&format!(", \"{}\"", cut(words.trim_end_matches('.'), 200))),
        None if is_page(answer) => {
            let title = title(&answer.body).map(|title| format!(" titled \"{title}\"")).unwrap_or_default();
            text.push_str(&format!(" and a web page{title}"));
        }
        None => {}
    }
    text.push('.');
    text
}

fn redirect(probed: &Probed<'_>) -> Option<Finding> {
    let location = field(probed.answer, "location").filter(|_| matches!(probed.answer.status, 300..=399))?;
    let place = without_query(location);
    let lower = place.to_lowercase();
    let table = named(probed);
    if ["login", "signin", "sign-in", "sso", "saml", "authorize"].iter().any(|word| lower.contains(word)) {
        return finding(
            "This is the door for people with a browser: it sends everybody to a login page and does not look at \
             tokens.",
            format!("Write the URL of the API itself in url of {table}; the provider's documentation names its host."),
        );
    }
    let same_host = place.starts_with('/') || place.split('/').nth(2).is_some_and(|host| host == probed.host);
    if same_host {
        return finding(
            "The resource is at another path of the same host.",
            format!(
                "Use that path: in url of {table} if every request is meant, otherwise with --path or in the caller."
            ),
        );
    }
    finding(
        "The API is elsewhere; keybearer does not follow, because the token would go there too.",
        format!("If that is the right place, write url = \"{place}\" in {table}."),
    )
}

fn proof(probed: &Probed<'_>) -> Option<Finding> {
    let challenge = challenge(probed.answer).to_lowercase();
    let bound = probed.external?.request()?.dpop;
    if bound && challenge.contains("use_dpop_nonce") {
        return finding(
            "The API asked for a nonce in the DPoP proof, got it, and asks again: several servers behind one name may \
             not share their nonces.",
            "Try again; if it stays, ask the provider.",
        );
    }
    (bound && challenge.contains("invalid_dpop_proof")).then(|| Finding {
        meaning: "The API cannot take our DPoP proof: it may see itself under another URL, behind a gateway, or our \
                  clocks differ."
            .to_owned(),
        change: format!("Write url in {} with the host that the API knows itself by; compare clocks.", named(probed)),
    })
}

fn possession(probed: &Probed<'_>) -> Option<Finding> {
    let external = probed.external?;
    (asks_for(probed.answer, "DPoP") && !external.request()?.dpop).then(|| Finding {
        meaning: "The API takes only tokens that are bound to a key (DPoP).".to_owned(),
        change: format!("Write dpop = true in {}.", table(external)),
    })
}

fn insufficient_scope(probed: &Probed<'_>) -> Option<Finding> {
    let challenge = challenge(probed.answer);
    let said = format!("{challenge} {}", probed.answer.body).to_lowercase();
    if !said.contains("insufficient_scope") {
        return None;
    }
    let external = probed.external?;
    let challenges = challenges(probed.answer);
    let wanted = challenges.iter().find_map(|challenge| challenge.parameter("scope"));
    let change = match wanted {
        Some(scope) => format!("Write scope = \"{scope}\" in {}", table(external)),
        None => format!("Add to scope in {} what the API's documentation names for this request", table(external)),
    };
    finding(
        "The token is good, and its scope does not cover this request.",
        format!("{change}; and grant that scope to the client at the provider."),
    )
}

fn forbidden(probed: &Probed<'_>) -> Option<Finding> {
    if probed.answer.status != 403 || probed.is_rejection {
        return None;
    }
    let Some(external) = probed.external else {
        return finding(
            "The API lets nobody in without a credential, or not from here.",
            format!("Write external_credential = \"…\" in {}.", named(probed)),
        );
    };
    finding(
        "The token was accepted, and its owner may not do this: a role or permission is missing, the API refuses \
         this machine's address, or a key of the gateway's own is missing.",
        format!(
            "At the provider, give the client the role or permission; if this path is not meant for it, try another \
             with --path. A gateway's key goes into headers of {}. If the API says 403 for a token that has expired, \
             write additional_refresh_status_codes = [403] in {}.",
            named(probed),
            table(external)
        ),
    )
}

fn no_token(probed: &Probed<'_>) -> Option<Finding> {
    probed.external.is_none().then(|| Finding {
        meaning: "The API wants a credential, and none is attached.".to_owned(),
        change: format!(
            "Write external_credential = \"…\" in {}, and see that generate_authorization_header is not false.",
            named(probed)
        ),
    })
}

fn other_scheme(probed: &Probed<'_>) -> Option<Finding> {
    let external = probed.external?;
    let ours = external.inject.scheme.as_deref().unwrap_or("Bearer");
    let challenges = challenges(probed.answer);
    if [ours, "Bearer", "DPoP"].iter().any(|known| challenges.iter().any(|challenge| challenge.is(known))) {
        return None;
    }
    let wanted = challenges.iter().map(|challenge| challenge.scheme.as_str()).find(|scheme| !scheme.is_empty())?;
    let change = if wanted.eq_ignore_ascii_case("basic") {
        format!(
            "If it takes user name and password, write flow = \"basic\" with username and password in {}; if it \
             takes tokens somewhere else, write url in {} accordingly.",
            table(external),
            named(probed)
        )
    } else {
        format!(
            "If it takes the token under that name, write inject = {{ scheme = \"{}\" }} in {}.",
            wanted,
            table(external)
        )
    };
    finding(format!("The API does not ask for a token but for {wanted} credentials."), change)
}

fn clock(probed: &Probed<'_>) -> Option<Finding> {
    let skew = probed.skew.filter(|skew| skew.is_harmful())?;
    finding(
        format!(
            "The clock of this machine is {} the API's; a token that was just made may count as not yet valid or \
             expired.",
            skew.told()
        ),
        "Compare both clocks with a third (date -u): start a time service on the machine that is wrong.",
    )
}

fn audience(probed: &Probed<'_>) -> Option<Finding> {
    let (external, claims) = (probed.external?, probed.claims?);
    let audiences = texts(claims.get("aud")?);
    let fits = audiences.iter().any(|audience| audience.to_lowercase().contains(&probed.host.to_lowercase()));
    if audiences.is_empty() || fits {
        return None;
    }
    let (sought, word) = match external.request() {
        Some(request) if !request.resource.is_empty() => ("resource", "Change"),
        Some(request) if !request.audience.is_empty() => ("audience", "Change"),
        Some(_) | None => ("audience", "Write"),
    };
    let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or("its issuer");
    finding(
        format!(
            "The token is meant for {} (its aud), and the API is {}: most likely it is a token for another API. Or \
             the API does not trust {issuer}, which made it.",
            audiences.join(", "),
            probed.host
        ),
        format!(
            "{word} {sought} = \"…\" in {} to the identifier of this API at the provider (with Entra, scope = \
             \"IDENTIFIER/.default\").",
            table(external)
        ),
    )
}

fn opaque(probed: &Probed<'_>) -> Option<Finding> {
    let external = probed.external?;
    let request = external.request().filter(|_| probed.claims.is_none())?;
    let unnamed = request.audience.is_empty() && request.resource.is_empty();
    unnamed.then(|| Finding {
        meaning: "The token is opaque, made without an audience, and the API does not know it. Issuers such as Auth0 \
                  give a JWT that an API can check only to those who say which API it is for."
            .to_owned(),
        change: format!(
            "Write audience = \"…\" in {}: the identifier of the API as the provider lists it. If the provider knows \
             no audience, check that url in {} and token_endpoint belong to the same environment.",
            table(external),
            named(probed)
        ),
    })
}

fn untrusted(probed: &Probed<'_>) -> Option<Finding> {
    let external = probed.external.filter(|_| probed.answer.status == 401)?;
    let issuer = probed.claims.and_then(|claims| claims.get("iss")?.as_str());
    let made = issuer.map_or_else(String::new, |issuer| format!(" made by {issuer}"));
    let carried = match &external.inject.scheme {
        Some(scheme) => format!("{}: {scheme} …", external.inject.header),
        None => format!("{}: …", external.inject.header),
    };
    let Some(_) = external.request() else {
        return finding(
            format!("The API does not accept this credential, sent as {carried}."),
            format!("Check the secret in {}, and inject = {{ header, scheme }} there.", table(external)),
        );
    };
    finding(
        format!(
            "The API does not accept a fresh token{made}: it trusts another issuer or environment, wants another \
             client, or looks for the token in another place than {carried}."
        ),
        format!(
            "Check that url in {} and token_endpoint in {} belong to the same environment, and that the client may \
             use this API; if it wants the token elsewhere, write inject = {{ header = \"…\" }}.",
            named(probed),
            table(external)
        ),
    )
}

fn listed(probed: &Probed<'_>) -> Option<Finding> {
    let external = probed.external?;
    finding(
        format!(
            "The configuration takes {} for a refused token, and the API gave it for a fresh one: every request \
             like this costs a renewal until the allowance is used up.",
            probed.answer.status
        ),
        format!(
            "If the token is not at fault, narrow additional_refresh_status_codes or refresh_when in {}, or exclude \
             this answer with refresh_unless.",
            table(external)
        ),
    )
}

fn named(probed: &Probed<'_>) -> String {
    format!("[named_credentials.{}]", probed.name)
}

fn table(external: &Settings) -> String {
    format!("[external_credentials.{}]", external.name)
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// All challenges as one text.
fn challenge(answer: &Received) -> String {
    let fields = answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
    fields.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
}

/// The challenges, read.
fn challenges(answer: &Received) -> Vec<Challenge> {
    let mut fields = HeaderMap::new();
    for (name, value) in &answer.headers {
        if let (true, Ok(value)) = (name.eq_ignore_ascii_case(WWW_AUTHENTICATE.as_str()), HeaderValue::try_from(value))
        {
            fields.append(WWW_AUTHENTICATE, value);
        }
    }
    header::challenges(&fields)
}

/// Whether one of the challenges is of this scheme.
fn asks_for(answer: &Received, scheme: &str) -> bool {
    challenges(answer).iter().any(|challenge| challenge.is(scheme))
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}
