//! What callers may use of a named credential, and what each of them may use: checked once it is known who calls what,
//! before a token is touched and before a byte of the body is read.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use super::decide::Found;
use super::plan::{NamedCredential, Plan};
use super::settings::CredentialLimits;
use super::stop::Stop;
use crate::answer::{Detail, Failure};
use crate::limit::{Bucket, Limit, Places};

/// What is left of the `limits` of a named credential.
#[derive(Debug)]
pub(super) struct Usage {
    bucket: Option<Bucket>,
    places: Option<Places>,
}

impl Usage {
    /// Nothing used yet; none where nothing is limited.
    pub(super) fn new(limits: &CredentialLimits) -> Option<Arc<Self>> {
        let usage = Self { bucket: limits.rate.map(Bucket::new), places: limits.requests.map(Places::new) };
        (usage.bucket.is_some() || usage.places.is_some()).then(|| Arc::new(usage))
    }
}

/// Charges every caller that has a rate.
pub(super) fn charge_callers(plan: &Plan, found: &mut Found) -> Result<(), Stop> {
    if plan.caller_rates.is_empty() {
        return Ok(());
    }
    for caller in &found.callers {
        if let Some(Err(wait)) = plan.caller_rates.get(caller).map(|left| left.bucket.take()) {
            found.limit = Some(Limit::CallerRate);
            return Err(stop(Failure::RateLimited, format!("the rate of the caller {caller}"), wait));
        }
    }
    Ok(())
}

/// Holds the request against the limits of its named credential; what it takes is given back with `found.place`.
pub(super) fn enter(named: &NamedCredential, headers: &HeaderMap, found: &mut Found) -> Result<(), Stop> {
    if named.settings.limits.body.is_some_and(|most| length(headers) > most as u64) {
        return Err(Stop::new(Failure::BodyTooLarge));
    }
    let Some(usage) = &named.usage else { return Ok(()) };
    if let Some(Err(wait)) = usage.bucket.as_ref().map(Bucket::take) {
        found.limit = Some(Limit::CredentialRate);
        return Err(stop(Failure::RateLimited, "the rate of this named credential".to_owned(), wait));
    }
    if let Some(places) = &usage.places {
        found.place = places.take();
        if found.place.is_none() {
            found.limit = Some(Limit::CredentialRequests);
            return Err(crowded("this named credential serves as many requests as it may"));
        }
    }
    Ok(())
}

/// All places are taken.
pub(super) fn crowded(text: &str) -> Stop {
    stop(Failure::OverCapacity, text.to_owned(), Duration::from_secs(1))
}

/// The limit behind a failure that has only one; `is_routed`: a named credential was found before.
pub(super) fn limit_of(failure: Failure, is_routed: bool) -> Option<Limit> {
    let by_failure = [
        (Failure::TargetTooLong, Limit::Target),
        (Failure::HeaderTooLarge, Limit::Header),
        (Failure::TooManyFields, Limit::HeaderFields),
        (Failure::BodyTooLarge, Limit::Body),
        // A head that is late was never routed.
        (Failure::RequestTimeout, if is_routed { Limit::BodyTimeout } else { Limit::HeaderTimeout }),
    ];
    by_failure.into_iter().find(|(of, _)| *of == failure).map(|(_, limit)| limit)
}

/// The length that the caller announced; the guard has seen to it that it is a number, and said once.
fn length(headers: &HeaderMap) -> u64 {
    let text = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    text.map_or(0, |digits| digits.parse().unwrap_or(u64::MAX))
}

fn stop(failure: Failure, text: String, retry_after: Duration) -> Stop {
    Stop { failure, detail: Detail { text: Some(text), retry_after: Some(retry_after), ..Detail::default() } }
}
