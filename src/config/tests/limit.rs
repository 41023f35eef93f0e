//! Limits of the process, of callers and of named credentials.

use std::time::Duration;

use super::{MINIMAL, assert_problem, good, problem, with};
use crate::limit::Rate;
use crate::proxy::settings::CredentialLimits;

const CALLER: &str = "[callers.billing]\nnetworks = [\"10.0.0.0/8\"]\n";

#[test]
fn a_caller_has_a_rate_or_none() {
    for (written, burst, interval) in [
        ("\"100/s\"", 100, Duration::from_millis(10)),
        ("\"600/m\"", 600, Duration::from_millis(100)),
        ("{ per_second = 10, burst = 50 }", 50, Duration::from_millis(100)),
        ("{ per_minute = 60 }", 60, Duration::from_secs(1)),
    ] {
        let config = good(&format!("{MINIMAL}{CALLER}rate = {written}\n")).config;
        let [(caller, rate)] = &config.caller_rates[..] else { panic!("{:?}", config.caller_rates) };
        assert_eq!((caller.as_str(), rate.burst(), rate.interval()), ("billing", burst, interval), "{written}");
    }
    assert!(good(&format!("{MINIMAL}{CALLER}")).config.caller_rates.is_empty());
}

#[test]
fn a_rate_that_is_none_is_refused() {
    for (written, expected) in [
        ("100", "write \"100/s\""),
        ("\"100\"", "this is not a rate"),
        ("\"0/s\"", "this is not a rate"),
        ("\"100/d\"", "this is not a rate"),
        ("{ }", "says no pace"),
        ("{ burst = 5 }", "says no pace"),
        ("{ per_secnd = 5 }", "did you mean"),
        ("{ per_second = 0 }", "greater than zero"),
        ("{ per_second = 5, burst = 0 }", "greater than zero"),
        ("{ per_second = 5, per_minute = 5 }", "one pace, not two"),
        ("{ per_second = 4294967295 }", "beyond one in a nanosecond"),
    ] {
        let found = problem(&format!("{MINIMAL}{CALLER}rate = {written}\n"));
        assert!(found.contains(expected), "{written}: {found}");
    }
}

#[test]
fn a_named_credential_has_limits_of_its_own_and_the_body_of_all() {
    assert_eq!(good(MINIMAL).config.named_credentials[0].limits, CredentialLimits::default());
    let text = with("named_credentials.orders", "limits = { rate = \"5/s\", requests = 7, body = \"1KiB\" }");
    let expected = CredentialLimits { rate: Rate::parse("5/s"), requests: Some(7), body: Some(1024) };
    assert_eq!(good(&text).config.named_credentials[0].limits, expected);
    let all = "[limits]\nbody = \"2KiB\"\n";
    assert_eq!(good(&format!("{text}{all}")).config.named_credentials[0].limits, expected);
    assert_eq!(good(&format!("{MINIMAL}{all}")).config.named_credentials[0].limits.body, Some(2048));
}

#[test]
fn limits_of_a_named_credential_are_checked() {
    for (lines, expected) in [
        ("limits = 5", "expected a table"),
        ("limits = { rate = \"5\" }", "this is not a rate"),
        ("limits = { requests = 0 }", "greater than zero"),
        ("limits = { body = \"0B\" }", "greater than zero"),
        ("limits = { bdy = \"1B\" }", "did you mean"),
    ] {
        assert_problem("named_credentials.orders", lines, expected);
    }
}
