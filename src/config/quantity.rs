//! Durations, sizes and counts as they are written: with units where a bare number would leave a doubt.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

/// No duration of ours is longer than this; sums with the clock stay far from overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A duration such as `"5s"` or `"1m 30s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A number of bytes such as `"256KiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// A whole number that is not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

/// Reads a duration with its unit, a year at most.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let has_unit = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    humantime::parse_duration(text).ok().filter(|duration| has_unit && *duration <= LONGEST)
}

/// Reads a size with its unit.
pub(crate) fn size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: usize = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a duration with its unit; write it like \"5s\", \"250ms\" or \"1m 30s\", a year at most";
        deserializer.deserialize_str(Text { expected, parse: duration }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a size with its unit; write it like \"512B\", \"256KiB\" or \"64MiB\"";
        deserializer.deserialize_str(Text { expected, parse: size }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Whole).map(Self)
    }
}

/// A text with a form of its own.
struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(""), &self))
    }
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a whole number; write it without quotes, sign or fraction")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(0), &self))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, size};

    #[test]
    fn a_duration_carries_its_unit_and_ends_at_a_year() {
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("1m 30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
        for bad in ["", "5", "0", "s", "-5s", "5 parsecs", "1.5.2s", "100years", "18446744073709551615s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_size_carries_its_unit() {
        assert_eq!(size("512B"), Some(512));
        assert_eq!(size("256KiB"), Some(256 * 1024));
        assert_eq!(size("64 MiB"), Some(64 * 1024 * 1024));
        assert_eq!(size("1kB"), Some(1000));
        for bad in ["", "5", "KiB", "-5KiB", "1.5MiB", "5 k", "99999999999999999999B", "18446744073709551615GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
