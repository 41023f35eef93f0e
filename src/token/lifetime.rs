//! How long a token counts as good: reading `expires_in`, bounding it, and the two lines within it.
//!
//! Pure: no clock, no randomness of its own. Members are read as they are found in the wild (number, float, string),
//! although RFC 6749 5.1 knows only a number.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{ExpiryUnit, LifetimeRules, RenewAhead};

/// Nothing is believed to live longer, whatever the configuration says: keeps clock arithmetic from overflowing.
const CEILING: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The lifetime of a token, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From the moment before the token request was sent.
    pub span: Duration,
    /// Who says so.
    pub origin: Origin,
}

impl Lifetime {
    /// Of what no server gave and no server takes back: a fixed token, a password. A century: no process sees its end.
    pub(super) const ENDLESS: Self =
        Self { span: Duration::from_secs(100 * 365 * 24 * 60 * 60), origin: Origin::Endpoint };

    /// Whether it is not expected to end.
    #[must_use]
    pub fn is_endless(self) -> bool {
        self == Self::ENDLESS
    }
}

/// Who named a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The token endpoint.
    Endpoint,
    /// `default_lifetime`: the answer names none that can be used.
    Default,
    /// `max_lifetime`: the answer names a longer one.
    Maximum,
}

/// Two lines in the life of a token, both counted from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    /// From here on a replacement is minted in the background; none: never ahead.
    pub(super) renew_ahead: Option<Duration>,
    /// From here on the token is not handed out.
    pub(super) unusable: Duration,
}

/// Reads a lifetime as whole seconds from `now`. `None`: missing, null, zero, negative, not finite, in the past, or not
/// what `unit` says at all; `default_lifetime` counts then.
///
/// Points in time are compared with our own clock: an answer's `Date` may be as old as a cache on the way.
pub(super) fn read(stated: Option<&Value>, unit: ExpiryUnit, now: SystemTime) -> Option<u64> {
    let stated = stated?;
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = |end: Duration| end.saturating_sub(since_1970).as_secs();
    let seconds = match unit {
        ExpiryUnit::Seconds => number(stated)?,
        ExpiryUnit::Milliseconds => number(stated)? / 1000,
        ExpiryUnit::Epoch => left(Duration::from_secs(number(stated)?)),
        ExpiryUnit::EpochMilliseconds => left(Duration::from_millis(number(stated)?)),
        ExpiryUnit::Rfc3339 => left(date_time(stated.as_str()?)?.duration_since(UNIX_EPOCH).ok()?),
    };
    Some(seconds).filter(|seconds| *seconds > 0)
}

/// A number that is not negative, also as a float or a text.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().and_then(whole_seconds)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse().ok().and_then(whole_seconds))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A date and time with an offset (RFC 3339 5.6). Without one it would be a guess, and is nothing.
fn date_time(text: &str) -> Option<SystemTime> {
    let text = text.trim().to_ascii_uppercase();
    if let Some(local) = text.strip_suffix('Z') {
        return universal(local);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (sign, offset) = offset.split_at_checked(1)?;
    let (hours, minutes) = offset.split_once(':')?;
    let offset = two_digits(hours, 23)? * 3600 + two_digits(minutes, 59)? * 60;
    let local = universal(local)?;
    match sign {
        "+" => local.checked_sub(Duration::from_secs(offset)),
        "-" => local.checked_add(Duration::from_secs(offset)),
        _ => None,
    }
}

/// `local` read as if it were in UTC. A space in place of the `T` is what the RFC itself suggests to people.
fn universal(local: &str) -> Option<SystemTime> {
    let (date, rest) = local.split_at_checked(10)?;
    let time = rest.strip_prefix(['T', ' '])?;
    humantime::parse_rfc3339(&format!("{date}T{time}Z")).ok()
}

fn two_digits(text: &str, most: u64) -> Option<u64> {
    let is_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_digits && *number <= most)
}

/// The floor of a float; what is too large for an integer becomes the largest, to be cut by `max_lifetime`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "negative and infinite values are excluded, and the cast saturates"
)]
fn whole_seconds(seconds: f64) -> Option<u64> {
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds as u64)
}

impl Lifetime {
    /// Applies the rules to what the endpoint said.
    pub(super) fn new(stated: Option<Duration>, rules: &LifetimeRules) -> Self {
        let most = rules.max.min(CEILING);
        match stated {
            Some(span) if span > most => Self { span: most, origin: Origin::Maximum },
            Some(span) => Self { span, origin: Origin::Endpoint },
            None => Self { span: rules.default.min(most), origin: Origin::Default },
        }
    }

    /// Where the lines lie. `chance` (0 to 1) spreads renewals ahead, so that replicas do not ask in step.
    ///
    /// Both lines are bounded by shares of the span: the margin by a tenth, or by a second where that is less than a
    /// fifth (servers count in whole seconds, so a token may end that much earlier than it says), and the renewal
    /// ahead by half. Even a token of one second is usable for most of it, and a server that hands out the same token
    /// until shortly before its end is not asked in a loop.
    pub(super) fn lines(self, rules: &LifetimeRules, chance: f64) -> Lines {
        let rounding = Duration::from_secs(1).min(self.span / 5);
        let margin = rules.expiry_margin.min(rounding.max(self.span / 10));
        let unusable = self.span - margin;
        let ahead = match rules.renew_ahead {
            RenewAhead::Off => return Lines { renew_ahead: None, unusable },
            RenewAhead::Before(ahead) => ahead,
            RenewAhead::Share(share) if share.is_finite() => self.span.mul_f64(share.clamp(0.0, 0.5)),
            RenewAhead::Share(_) => Duration::ZERO,
        };
        // Never so late that nothing is left of the window in which the old token still serves.
        let least = margin + margin / 2;
        let ahead = ahead.clamp(least, (self.span / 2).max(least));
        // At most a quarter of the window later: what is left must do for a slow endpoint and a second try.
        let later = (ahead - margin).mul_f64(chance.clamp(0.0, 1.0) / 4.0);
        Lines { renew_ahead: Some(self.span - ahead + later), unusable }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lifetime, Lines, Origin, read};
    use crate::token::{ExpiryUnit, LifetimeRules, RenewAhead};
    use serde_json::{Value, json};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    const S: Duration = Duration::from_secs(1);

    fn rules(renew_ahead: RenewAhead, margin: Duration) -> LifetimeRules {
        LifetimeRules { default: S * 900, max: S * 86_400, renew_ahead, expiry_margin: margin }
    }

    /// C3: `expires_in` is read in every form found in the wild.
    #[test]
    fn expires_in_is_read_in_every_form_found_in_the_wild() {
        for (value, seconds) in [
            (json!(3599), Some(3599)),
            (json!("3599"), Some(3599)),
            (json!(" 3599 "), Some(3599)),
            (json!(3599.9), Some(3599)),
            (json!("3599.9"), Some(3599)),
            (json!(1), Some(1)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!(1.0e300), Some(u64::MAX)),
            (json!("1e300"), Some(u64::MAX)),
            (json!("99999999999999999999999"), Some(u64::MAX)),
            (json!(0), None),
            (json!("0"), None),
            (json!(0.4), None),
            (json!(-1), None),
            (json!("-1"), None),
            (json!(-1.5), None),
            (json!("NaN"), None),
            (json!("inf"), None),
            (json!(""), None),
            (json!("soon"), None),
            (json!(null), None),
            (json!(true), None),
            (json!([3599]), None),
            (json!({"seconds": 3599}), None),
        ] {
            assert_eq!(read(Some(&value), ExpiryUnit::Seconds, SystemTime::now()), seconds, "{value}");
        }
        assert_eq!(read(None::<&Value>, ExpiryUnit::Seconds, SystemTime::now()), None);
    }

    #[test]
    fn other_units_and_points_in_time_become_seconds_from_now() {
        use ExpiryUnit::{Epoch, EpochMilliseconds, Milliseconds, Rfc3339};
        // 2023-11-14T22:13:20Z and a half.
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        for (unit, value, seconds) in [
            (Milliseconds, json!(3_599_999), Some(3599)),
            (Milliseconds, json!("3600000"), Some(3600)),
            (Milliseconds, json!(999), None),
            (Epoch, json!(1_700_003_600), Some(3599)),
            (Epoch, json!("1700003600.9"), Some(3599)),
            (Epoch, json!(u64::MAX), Some(u64::MAX - 1_700_000_001)),
            (Epoch, json!(1_700_000_000), None),
            (Epoch, json!(3600), None),
            (Epoch, json!("2023-11-14T22:13:20Z"), None),
            (EpochMilliseconds, json!(1_700_003_600_500_u64), Some(3600)),
            (EpochMilliseconds, json!(1_700_003_600), None),
            (Rfc3339, json!("2023-11-14T23:13:20Z"), Some(3599)),
            (Rfc3339, json!("2023-11-14t23:13:20.5z"), Some(3600)),
            (Rfc3339, json!("2023-11-14 23:13:20.500+00:00"), Some(3600)),
            (Rfc3339, json!("2023-11-15T01:13:21+02:00"), Some(3600)),
            (Rfc3339, json!("2023-11-14T17:43:21-05:30"), Some(3600)),
            (Rfc3339, json!("2023-11-14T22:13:20Z"), None),
            (Rfc3339, json!("1969-12-31T23:59:59Z"), None),
            (Rfc3339, json!("1970-01-01T00:00:00+02:00"), None),
            (Rfc3339, json!("2023-11-14T23:13:20"), None),
            (Rfc3339, json!("2023-11-14T23:13:20+0200"), None),
            (Rfc3339, json!("2023-11-14T23:13:20+24:00"), None),
            (Rfc3339, json!("2023-11-14T23:13:20+02:60"), None),
            (Rfc3339, json!("2023-11-14T23:13:20*02:00"), None),
            (Rfc3339, json!("2023-11-14"), None),
            (Rfc3339, json!("2023-11-14é23:13:20Z"), None),
            (Rfc3339, json!("ééé"), None),
            (Rfc3339, json!(""), None),
            (Rfc3339, json!(1_700_003_600), None),
        ] {
            assert_eq!(read(Some(&value), unit, now), seconds, "{unit:?} {value}");
        }
    }

    #[test]
    fn a_lifetime_is_the_endpoints_the_default_or_the_maximum() {
        let rules = rules(RenewAhead::Off, S);
        for (stated, span, origin) in [
            (Some(S * 3599), S * 3599, Origin::Endpoint),
            (None, S * 900, Origin::Default),
            (Some(S * 86_401), S * 86_400, Origin::Maximum),
            (Some(Duration::from_secs(u64::MAX)), S * 86_400, Origin::Maximum),
        ] {
            assert_eq!(Lifetime::new(stated, &rules), Lifetime { span, origin });
        }
    }

    #[test]
    fn an_endless_maximum_does_not_overflow_the_clock() {
        let rules = LifetimeRules { max: Duration::MAX, ..rules(RenewAhead::Share(0.2), Duration::MAX) };
        let lifetime = Lifetime::new(Some(Duration::MAX), &rules);
        let lines = lifetime.lines(&rules, 1.0);
        assert!(tokio::time::Instant::now().checked_add(lines.unusable).is_some());
    }

    #[test]
    fn the_lines_are_bounded_by_shares_of_the_lifetime() {
        let ms = Duration::from_millis;
        for (span, ahead, margin, chance, renew_ahead, unusable) in [
            (S * 3600, RenewAhead::Share(0.2), S * 10, 0.0, Some(S * 2880), S * 3590),
            (S * 3600, RenewAhead::Before(S * 30), S * 10, 0.0, Some(S * 3570), S * 3590),
            (S * 3600, RenewAhead::Before(S * 50), S * 10, 1.0, Some(S * 3560), S * 3590),
            (S * 3600, RenewAhead::Off, S * 10, 0.0, None, S * 3590),
            (S * 10, RenewAhead::Share(0.2), S * 10, 0.0, Some(S * 8), S * 9),
            (S, RenewAhead::Before(S * 30), S * 10, 0.0, Some(ms(500)), ms(800)),
            (S, RenewAhead::Share(0.9), S * 10, 0.0, Some(ms(500)), ms(800)),
            (S * 100, RenewAhead::Share(f64::NAN), S, 0.0, Some(ms(98_500)), S * 99),
            (S * 100, RenewAhead::Share(-1.0), S, 0.0, Some(ms(98_500)), S * 99),
            (S * 5, RenewAhead::Share(0.2), S * 10, 0.0, Some(ms(3500)), S * 4),
            (S * 100, RenewAhead::Before(Duration::MAX), Duration::MAX, 0.0, Some(S * 50), S * 90),
            (Duration::ZERO, RenewAhead::Share(0.2), S, 0.5, Some(Duration::ZERO), Duration::ZERO),
        ] {
            let lines = Lifetime { span, origin: Origin::Endpoint }.lines(&rules(ahead, margin), chance);
            assert_eq!(lines, Lines { renew_ahead, unusable }, "{span:?} {ahead:?} {margin:?}");
        }
    }
}
