//! The exposition, read back line by line.

use std::time::{Duration, Instant, SystemTime};

use super::{Metrics, MintOutcome};
use crate::access_log::{Asked, NotReplayed, Record, RequestId};
use crate::name::Name;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn record(status: u16) -> Record {
    let asked = Asked {
        time: SystemTime::UNIX_EPOCH,
        listener: name("default"),
        caller: None,
        named_credential: Some(name("orders")),
        external_credential: None,
        principal: None,
        method: http::Method::GET,
        path: "/canary-path".to_owned(),
    };
    Record {
        took: Duration::ZERO,
        id: RequestId::numbered("1", 1),
        asked: Some(Box::new(asked)),
        status,
        upstream_status: Some(status),
        rejected: false,
        renewed: false,
        replayed: false,
        not_replayed_reason: None,
        bytes_in: 3,
        bytes_out: 5,
        error: None,
    }
}

/// The value of the series written exactly so.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("a series ends with a number"))
}

#[test]
fn an_exchange_is_counted_under_its_named_credential_and_status() {
    let metrics = Metrics::new();
    let orders = metrics.named_credential(&name("orders"));
    orders.observe(&record(200));
    orders.observe(&record(200));
    orders.observe(&record(599));
    orders.observe(&record(0));
    metrics.unmatched().observe(&record(404));
    let text = metrics.encode();
    for (series, count) in [
        ("keybearer_requests_total{named_credential=\"orders\",status=\"200\"}", 2.0),
        ("keybearer_requests_total{named_credential=\"orders\",status=\"5xx\"}", 1.0),
        ("keybearer_requests_total{named_credential=\"orders\",status=\"none\"}", 1.0),
        ("keybearer_requests_total{named_credential=\"\",status=\"404\"}", 1.0),
        ("keybearer_rejections_total{named_credential=\"orders\"}", 0.0),
        ("keybearer_bytes_in_total{named_credential=\"orders\"}", 12.0),
        ("keybearer_bytes_out_total{named_credential=\"orders\"}", 20.0),
        ("keybearer_request_duration_seconds_count{named_credential=\"orders\"}", 4.0),
        ("keybearer_request_duration_seconds_bucket{le=\"+Inf\",named_credential=\"orders\"}", 4.0),
    ] {
        assert_eq!(value(&text, series), Some(count), "{series}\n{text}");
    }
    assert!(!text.contains("canary"), "paths are no labels");
}

#[test]
fn a_rejection_is_counted_with_what_came_of_it() {
    let metrics = Metrics::new();
    let orders = metrics.named_credential(&name("orders"));
    let rejected = |renewed, replayed, not_replayed_reason| Record {
        rejected: true,
        renewed,
        replayed,
        not_replayed_reason,
        ..record(401)
    };
    orders.observe(&rejected(true, true, None));
    orders.observe(&rejected(true, true, Some(NotReplayed::Refused)));
    orders.observe(&rejected(true, false, Some(NotReplayed::BodyTooLarge)));
    orders.observe(&rejected(false, false, Some(NotReplayed::MintFailed)));
    orders.observe(&rejected(true, false, Some(NotReplayed::SameToken)));
    let text = metrics.encode();
    for (series, count) in [
        ("keybearer_rejections_total{named_credential=\"orders\"}", 5.0),
        ("keybearer_renewals_total{named_credential=\"orders\",outcome=\"ok\"}", 3.0),
        ("keybearer_renewals_total{named_credential=\"orders\",outcome=\"failed\"}", 1.0),
        ("keybearer_renewals_total{named_credential=\"orders\",outcome=\"same_token\"}", 1.0),
        ("keybearer_replays_total{named_credential=\"orders\",outcome=\"ok\",reason=\"\"}", 1.0),
        ("keybearer_replays_total{named_credential=\"orders\",outcome=\"refused\",reason=\"refused\"}", 1.0),
        ("keybearer_replays_total{named_credential=\"orders\",outcome=\"none\",reason=\"body_too_large\"}", 1.0),
        ("keybearer_replays_total{named_credential=\"orders\",outcome=\"none\",reason=\"mint_failed\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(count), "{series}\n{text}");
    }
}

#[test]
fn failures_are_counted_by_their_word() {
    let metrics = Metrics::new();
    let orders = metrics.named_credential(&name("orders"));
    for error in ["token_refused", "dns_error", "token_refused"] {
        orders.observe(&Record { error: Some(error), ..record(502) });
    }
    let text = metrics.encode();
    assert_eq!(value(&text, "keybearer_errors_total{named_credential=\"orders\",error=\"token_refused\"}"), Some(2.0));
    assert_eq!(value(&text, "keybearer_errors_total{named_credential=\"orders\",error=\"dns_error\"}"), Some(1.0));
}

#[test]
fn tokens_are_counted_per_principal_and_their_rest_is_computed_at_the_scrape() {
    let metrics = Metrics::new();
    let tokens = metrics.external_credential(&name("apigee"), &name("default"));
    tokens.minted(MintOutcome::Ok, Duration::from_millis(40));
    tokens.minted(MintOutcome::Unavailable, Duration::from_secs(61));
    tokens.renewal_exhausted();
    let labels = "external_credential=\"apigee\",principal=\"default\"";
    let text = metrics.encode();
    assert_eq!(value(&text, &format!("keybearer_token_expires_seconds{{{labels}}}")), None);
    assert_eq!(value(&text, &format!("keybearer_mints_total{{{labels},outcome=\"ok\"}}")), Some(1.0));
    assert_eq!(value(&text, &format!("keybearer_mints_total{{{labels},outcome=\"unavailable\"}}")), Some(1.0));
    assert_eq!(value(&text, &format!("keybearer_mints_total{{{labels},outcome=\"refused\"}}")), Some(0.0));
    assert_eq!(value(&text, &format!("keybearer_renewals_withheld_total{{{labels}}}")), Some(1.0));
    let bucket = |bound| format!("keybearer_mint_duration_seconds_bucket{{le=\"{bound}\",{labels}}}");
    assert_eq!(value(&text, &bucket("0.025")), Some(0.0));
    assert_eq!(value(&text, &bucket("0.05")), Some(1.0));
    assert_eq!(value(&text, &bucket("60.0")), Some(1.0));
    assert_eq!(value(&text, &bucket("+Inf")), Some(2.0));

    tokens.lives_until(Some(Instant::now() + Duration::from_secs(600)));
    let rest = value(&metrics.encode(), &format!("keybearer_token_expires_seconds{{{labels}}}")).unwrap();
    assert!(rest > 500.0 && rest <= 600.0, "{rest}");
    tokens.lives_until(Some(Instant::now()));
    assert_eq!(value(&metrics.encode(), &format!("keybearer_token_expires_seconds{{{labels}}}")), Some(0.0));
    tokens.lives_until(None);
    assert_eq!(value(&metrics.encode(), &format!("keybearer_token_expires_seconds{{{labels}}}")), None);
}

#[test]
fn connections_of_upstreams_and_callers_are_counted() {
    let metrics = Metrics::new();
    let upstream = metrics.upstream("api.example:8443");
    upstream.opened();
    upstream.opened();
    upstream.closed();
    upstream.reused();
    upstream.retried_stale();
    metrics.connections().inc();
    metrics.replay_memory().inc_by(4096);
    metrics.access_log_dropped().inc();
    let text = metrics.encode();
    for (series, count) in [
        ("keybearer_upstream_connections{upstream=\"api.example:8443\"}", 1.0),
        ("keybearer_upstream_connections_opened_total{upstream=\"api.example:8443\"}", 2.0),
        ("keybearer_upstream_connections_reused_total{upstream=\"api.example:8443\"}", 1.0),
        ("keybearer_upstream_stale_retries_total{upstream=\"api.example:8443\"}", 1.0),
        ("keybearer_connections", 1.0),
        ("keybearer_replay_memory_bytes", 4096.0),
        ("keybearer_access_log_dropped_lines_total", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(count), "{series}\n{text}");
    }
}

#[test]
fn the_text_is_well_formed() {
    let metrics = Metrics::new();
    metrics.named_credential(&name("orders")).observe(&Record { error: Some("dns_error"), ..record(200) });
    let tokens = metrics.external_credential(&name("apigee"), &name("default"));
    tokens.minted(MintOutcome::Ok, Duration::from_millis(40));
    tokens.lives_until(Some(Instant::now()));
    metrics.upstream("[::1]:8080").opened();
    let text = metrics.encode();
    assert!(text.ends_with("# EOF\n"));
    let mut families = std::collections::BTreeSet::new();
    let mut family = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} is described once");
        } else if !line.starts_with("# TYPE ") {
            assert!(line.starts_with(family), "{line} belongs to {family}");
            let (series, number) = line.rsplit_once(' ').unwrap();
            assert!(number.parse::<f64>().is_ok(), "{line}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
        }
    }
    for expected in
        ["keybearer_build", "process_start_time_seconds", "keybearer_requests", "keybearer_token_expires_seconds"]
    {
        assert!(families.contains(expected), "{expected} in {families:?}");
    }
    assert!(!text.contains("_total_total"));
}

#[test]
fn what_was_never_used_has_no_series() {
    let metrics = Metrics::new();
    let orders = metrics.named_credential(&name("orders"));
    let _idle = metrics.named_credential(&name("idle"));
    let tokens = metrics.external_credential(&name("idle"), &name("default"));
    tokens.lives_until(None);
    orders.observe(&record(200));
    let text = metrics.encode();
    assert!(text.contains("{named_credential=\"orders\"") && !text.contains("idle"), "{text}");
}

#[test]
fn beyond_the_limit_all_others_are_counted_together() {
    let metrics = Metrics::new();
    metrics.limit(2);
    let named: Vec<_> = ["a", "b", "c", "d"].map(|text| metrics.named_credential(&name(text))).into();
    named.iter().rev().for_each(|each| each.observe(&record(200)));
    metrics.unmatched().observe(&record(404));
    named.iter().for_each(|each| each.observe(&record(200)));
    let tokens: Vec<_> = ["a", "b", "c"].map(|text| metrics.external_credential(&name(text), &name("default"))).into();
    for each in &tokens {
        each.minted(MintOutcome::Ok, Duration::from_millis(40));
        each.lives_until(Some(Instant::now() + Duration::from_secs(60)));
    }
    let upstreams: Vec<_> = ["a:1", "b:1", "c:1"].map(|authority| metrics.upstream(authority)).into();
    upstreams.iter().for_each(super::UpstreamMetrics::opened);
    let text = metrics.encode();
    let requests = |name| format!("keybearer_requests_total{{named_credential=\"{name}\",status=\"200\"}}");
    for (name, count) in [("c", Some(2.0)), ("d", Some(2.0)), ("_other", Some(4.0)), ("a", None), ("b", None)] {
        assert_eq!(value(&text, &requests(name)), count, "{name}\n{text}");
    }
    assert_eq!(value(&text, "keybearer_requests_total{named_credential=\"\",status=\"404\"}"), Some(1.0));
    let other = "external_credential=\"_other\",principal=\"_other\"";
    assert_eq!(value(&text, &format!("keybearer_mints_total{{{other},outcome=\"ok\"}}")), Some(1.0));
    assert_eq!(value(&text, &format!("keybearer_token_expires_seconds{{{other}}}")), None, "of many there is none");
    assert_eq!(value(&text, "keybearer_upstream_connections{upstream=\"_other\"}"), Some(1.0));
}

#[test]
fn what_nobody_holds_leaves_after_one_more_scrape() {
    let metrics = Metrics::new();
    let handle = metrics.named_credential(&name("orders"));
    handle.observe(&record(200));
    metrics.named_credential(&name("orders")).observe(&record(200));
    let series = "keybearer_requests_total{named_credential=\"orders\",status=\"200\"}";
    assert_eq!(value(&metrics.encode(), series), Some(2.0));
    assert_eq!(value(&metrics.encode(), series), Some(2.0));
    drop(handle);
    assert_eq!(value(&metrics.encode(), series), Some(2.0));
    assert_eq!(value(&metrics.encode(), series), None);
}
