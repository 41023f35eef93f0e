//! The way to a token: where the token endpoint is, whether it can be reached, the mint, what the token says, and
//! whether the clocks agree.

use std::time::SystemTime;

use http::Uri;
use serde_json::Value;

use super::reach::{Leg, Steps};
use super::report::Report;
use crate::cli::diagnosis::{self, Diagnosis, Mint, NOTABLE_SKEW, Skew};
use crate::cli::token::Jwt;
use crate::name::Name;
use crate::token::{
    Flow, MintError, Minted, Observed, Origin, PrincipalSettings, RequestSettings, Settings, Sighting,
    discover_token_endpoint, mint_observed,
};

const STEPS: Steps =
    Steps { dns: "token endpoint: DNS", connection: "token endpoint: connection", tls: "token endpoint: TLS" };

/// A token, and what the trial request needs to know of it.
pub(super) struct Obtained {
    /// None where the flow has no token.
    pub(super) minted: Option<Minted>,
    pub(super) claims: Option<Value>,
    pub(super) dpop: Option<std::sync::Arc<crate::token::Dpop>>,
}

/// Gets a token.
///
/// # Errors
/// The diagnosis of the first step that failed.
pub(super) async fn obtain(
    settings: &Settings,
    principal: &PrincipalSettings,
    callers: &[Name],
    report: &mut Report,
) -> Result<Obtained, Diagnosis> {
    if let Some(request) = settings.request() {
        let url = token_endpoint(settings, request, report).await?;
        if let Some(leg) = leg(settings, request, &url, "token_endpoint") {
            leg.walk(report).await?;
        }
    }
    if matches!(settings.flow, Flow::None) {
        report.skipped("token", "flow = \"none\" has no token");
        report.skipped("claims", "no token");
        return Ok(Obtained { minted: None, claims: None, dpop: None });
    }
    let Observed { sightings, outcome, dpop } = mint_observed(settings, principal, callers).await;
    let skew = skew(&sightings);
    let minted = match outcome {
        Ok(minted) => minted,
        Err(error) => {
            report.failed("token", error.to_string());
            report.skipped("claims", "no token");
            clock(settings, skew, report);
            return Err(explain(settings, principal, &sightings, &error).await);
        }
    };
    token(&minted, &sightings, report);
    let claims = Jwt::read(minted.value().expose()).map(|jwt| jwt.claims);
    claims_step(settings, &minted, claims.as_ref(), report);
    clock(settings, skew, report);
    Ok(Obtained { minted: Some(minted), claims, dpop })
}

/// Why a mint failed. Where no answer came, the way is gone once more, to see where it ends.
pub(in crate::cli) async fn explain(
    settings: &Settings,
    principal: &PrincipalSettings,
    sightings: &[Sighting],
    error: &MintError,
) -> Diagnosis {
    if let Some(request) = settings.request() {
        let unanswered =
            sightings.last().and_then(|last| Some((last.sent.url.as_str(), last.received.as_ref().err()?)));
        let discovering = sightings.is_empty() && request.endpoint.url.is_none();
        if let Some((url, causes)) = unanswered
            && let Ok(url) = url.parse::<Uri>()
            && let Some(leg) = leg(settings, request, &url, "token_endpoint")
        {
            return match leg.walk(&mut Report::silent()).await {
                Err(diagnosis) => diagnosis,
                Ok(()) => leg.silent(causes).await,
            };
        }
        if discovering && let Err(error) = discover_token_endpoint(&request.endpoint).await {
            return undiscovered(settings, request, &error).await;
        }
    }
    let skew = skew(sightings);
    diagnosis::mint(&Mint { settings, principal, sightings, error, skew })
}

/// The configured token endpoint, or the one that the issuer names.
async fn token_endpoint(settings: &Settings, request: &RequestSettings, report: &mut Report) -> Result<Uri, Diagnosis> {
    if let Some(url) = &request.endpoint.url {
        return Ok(url.clone());
    }
    match discover_token_endpoint(&request.endpoint).await {
        Ok(url) => {
            report.ok("issuer metadata", format!("the token endpoint is {url}"));
            Ok(url)
        }
        Err(error) => {
            report.failed("issuer metadata", error.to_string());
            Err(undiscovered(settings, request, &error).await)
        }
    }
}

async fn undiscovered(settings: &Settings, request: &RequestSettings, error: &MintError) -> Diagnosis {
    let issuer = request.endpoint.issuer.as_deref().and_then(|issuer| issuer.parse::<Uri>().ok());
    if let Some(leg) = issuer.and_then(|issuer| leg(settings, request, &issuer, "issuer"))
        && let Err(diagnosis) = leg.walk(&mut Report::silent()).await
    {
        return diagnosis;
    }
    diagnosis::metadata(settings, request, error)
}

fn leg<'a>(settings: &Settings, request: &'a RequestSettings, url: &Uri, key: &'static str) -> Option<Leg<'a>> {
    let endpoint = &request.endpoint;
    let key = if endpoint.url.is_none() { "issuer" } else { key };
    let place = (format!("[external_credentials.{}]", settings.name), key);
    Leg::new(url, endpoint.way(), endpoint.timeout, place, STEPS)
}

/// The mint in one line.
fn token(minted: &Minted, sightings: &[Sighting], report: &mut Report) {
    let status = sightings.last().and_then(|last| last.received.as_ref().ok()).map(|answer| answer.status);
    let lifetime = minted.lifetime();
    let span = humantime::format_duration(lifetime.span);
    let from = match lifetime.origin {
        Origin::Endpoint => "",
        Origin::Default => " (default_lifetime, the endpoint names none)",
        Origin::Maximum => " (max_lifetime, the endpoint names more)",
    };
    let scope = minted.scope().map(|scope| format!(", scope {scope}")).unwrap_or_default();
    let status = status.map(|status| format!("{status}, ")).unwrap_or_default();
    let told = format!("{status}lifetime {span}{from}{scope}");
    let missing = minted.missing_scopes();
    if missing.is_empty() {
        report.ok("token", told);
    } else {
        report.warning("token", format!("{told}; asked for and not granted: {}", missing.join(" ")));
    }
}

fn claims_step(settings: &Settings, minted: &Minted, claims: Option<&Value>, report: &mut Report) {
    let Some(claims) = claims else {
        match settings.flow {
            Flow::Basic => report.skipped("claims", "user name and password"),
            Flow::Request(_) | Flow::SignedJwt(_) | Flow::Static | Flow::None => {
                report.skipped("claims", "the token is opaque: only its issuer can read it");
            }
        }
        return;
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let at = |name: &str| claims.get(name).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    let now = now as f64;
    let notable = NOTABLE_SKEW.as_secs_f64();
    let shown =
        ["iss", "aud", "scope", "scp"].iter().filter_map(|name| Some(format!("{name} {}", plain(claims.get(*name)?))));
    let told = shown.collect::<Vec<_>>().join(", ");
    let told = if told.is_empty() { "a JWT".to_owned() } else { format!("a JWT: {told}") };
    let problem = if at("exp").is_some_and(|exp| exp <= now) {
        "exp is over by our clock"
    } else if at("nbf").is_some_and(|nbf| nbf > now + notable) {
        "nbf is still to come by our clock"
    } else if at("iat").is_some_and(|iat| iat > now + notable) {
        "iat is still to come by our clock"
    } else if at("exp").is_some_and(|exp| exp + 60.0 < now + minted.lifetime().span.as_secs_f64()) {
        "exp comes before the lifetime above is over; write max_lifetime or default_lifetime accordingly"
    } else {
        return report.ok("claims", told);
    };
    report.warning("claims", format!("{told}; {problem}"));
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// What the `Date` of the last answer says.
fn skew(sightings: &[Sighting]) -> Option<Skew> {
    let answers = sightings.iter().rev().filter_map(|sighting| sighting.received.as_ref().ok());
    let mut dates =
        answers.flat_map(|answer| answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("date")));
    Skew::of(&dates.next()?.1, SystemTime::now())
}

fn clock(settings: &Settings, skew: Option<Skew>, report: &mut Report) {
    if settings.request().is_none() {
        return;
    }
    match skew {
        None => report.skipped("clock", "the answer has no Date"),
        Some(skew) if skew.by > NOTABLE_SKEW => {
            report.warning("clock", format!("ours is {} the token endpoint's", skew.told()));
        }
        Some(_) => report.ok("clock", "ours agrees with the token endpoint's"),
    }
}
