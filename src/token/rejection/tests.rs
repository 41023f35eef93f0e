use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{JsonRule, RejectionRules, Replay, Rule, Seen, StatusPattern, Verdict};

const ACCEPTED: Verdict = Verdict::Accepted;
const REJECTED: Verdict = Verdict::Rejected(None);

fn code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn challenged(challenge: &str) -> HeaderMap {
    headers(&[("www-authenticate", challenge)])
}

fn when(rules: Vec<Rule>) -> RejectionRules {
    RejectionRules { when: rules, ..RejectionRules::default() }
}

fn on(status: u16) -> Rule {
    Rule { status: vec![StatusPattern::Code(code(status))], ..Rule::default() }
}

fn text(status: u16, text: &str) -> Rule {
    Rule { body_contains: Some(text.to_owned()), ..on(status) }
}

fn pointer(pointer: &str, values: &[Value]) -> Rule {
    let json = JsonRule { pointer: pointer.to_owned(), values: values.to_vec() };
    Rule { json: Some(json), ..Rule::default() }
}

fn replayed(rule: Rule, replay: Replay) -> Rule {
    Rule { replay: Some(replay), ..rule }
}

/// What is said of a whole body.
fn whole(rules: &RejectionRules, status: u16, body: &str) -> Verdict {
    rules.body(code(status), &HeaderMap::new(), Seen::Whole(body.as_bytes()))
}

fn head(rules: &RejectionRules, status: u16) -> Verdict {
    rules.head(code(status), &HeaderMap::new())
}

#[test]
fn without_rules_a_401_and_listed_codes_are_rejections() {
    let rules = RejectionRules { additional_status_codes: vec![code(403), code(498)], ..RejectionRules::default() };
    for (status, expected) in
        [(200, ACCEPTED), (400, ACCEPTED), (401, REJECTED), (403, REJECTED), (498, REJECTED), (500, ACCEPTED)]
    {
        assert_eq!(head(&rules, status), expected, "{status}");
        assert_eq!(whole(&rules, status, "anything"), expected, "{status}");
    }
    assert!(!rules.needs_body());
}

#[test]
fn a_challenge_can_say_that_another_token_would_not_help() {
    let rules = RejectionRules { additional_status_codes: vec![code(403)], ..RejectionRules::default() };
    for (challenge, expected) in [
        (r#"Bearer error="insufficient_scope", scope="orders.write""#, ACCEPTED),
        ("bearer error=insufficient_scope", ACCEPTED),
        (r#"Bearer realm="x" error="insufficient_scope""#, ACCEPTED),
        ("Bearer error='insufficient_scope\"", ACCEPTED),
        (r#"Basic realm="x", DPoP algs="ES256", error="insufficient_scope""#, ACCEPTED),
        (r#"DPoP error="use_dpop_nonce""#, ACCEPTED),
        (r#"Bearer error="invalid_token", DPoP error="insufficient_scope""#, REJECTED),
        (r#"Bearer error="invalid_token", DPoP error="use_dpop_nonce""#, REJECTED),
        // In a text, or of a scheme that knows no such error, the words mean nothing.
        (r#"Bearer realm="insufficient_scope""#, REJECTED),
        (r#"Bearer error="invalid_token", error_description="not insufficient_scope""#, REJECTED),
        (r#"Bearer error_description="error=insufficient_scope""#, REJECTED),
        (r#"Basic error="insufficient_scope""#, REJECTED),
        ("Bearer", REJECTED),
    ] {
        for status in [401, 403] {
            assert_eq!(rules.head(code(status), &challenged(challenge)), expected, "{status} {challenge}");
        }
    }
    let mut several = challenged("Basic realm=x");
    several.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=insufficient_scope"));
    assert_eq!(rules.head(code(401), &several), ACCEPTED);
}

#[test]
fn a_rule_can_refuse_what_its_challenge_excuses() {
    let rules = when(vec![on(401)]);
    assert_eq!(rules.head(code(401), &challenged("Bearer error=insufficient_scope")), REJECTED);
}

#[test]
fn status_patterns_are_codes_or_classes() {
    let rule = Rule { status: vec![StatusPattern::Code(code(500)), StatusPattern::Class(4)], ..Rule::default() };
    let rules = when(vec![rule]);
    for (status, expected) in [(400, REJECTED), (499, REJECTED), (500, REJECTED), (501, ACCEPTED), (200, ACCEPTED)] {
        assert_eq!(head(&rules, status), expected, "{status}");
    }
}

#[test]
fn a_field_contains_a_text_in_any_of_its_values_and_in_any_case() {
    let contains = |name: &'static str, text: &str| (HeaderName::from_static(name), text.to_owned());
    let rules = when(vec![Rule {
        header_contains: vec![contains("www-authenticate", "Token_Expired"), contains("x-fault", "")],
        ..on(400)
    }]);
    let given = |lines: &[(&str, &str)]| rules.head(code(400), &headers(lines));
    let broken = r#"Bearer realm="null",error='invalid_token",error_description='keymanagement.service.access_token_expired: Access Token expired""#;
    assert_eq!(given(&[("www-authenticate", "Basic"), ("www-authenticate", broken), ("x-fault", "")]), REJECTED);
    assert_eq!(given(&[("www-authenticate", broken)]), ACCEPTED, "all parts must hold");
    assert_eq!(given(&[("www-authenticate", "Basic"), ("x-fault", "token_expired")]), ACCEPTED);
    assert_eq!(rules.head(code(401), &challenged(broken)), REJECTED, "a 401 is one without the rule");
}

#[test]
fn only_a_body_that_can_change_the_outcome_is_looked_at() {
    let rules = RejectionRules {
        additional_status_codes: vec![code(403)],
        when: vec![
            text(500, "expired"),
            Rule { header_contains: vec![(WWW_AUTHENTICATE, "x".to_owned())], ..text(400, "y") },
        ],
        unless: vec![text(401, "product"), text(404, "z")],
    };
    assert!(rules.needs_body());
    for (status, expected) in [
        (200, ACCEPTED),
        (500, Verdict::Look),
        // The fields do not match, so the body cannot.
        (400, ACCEPTED),
        (401, Verdict::Look),
        (403, REJECTED),
        // An exception to what is no rejection anyway.
        (404, ACCEPTED),
    ] {
        assert_eq!(head(&rules, status), expected, "{status}");
    }
    assert_eq!(rules.head(code(400), &challenged("X")), Verdict::Look);
}

#[test]
fn a_text_is_found_as_soon_as_it_is_there() {
    let rules = when(vec![text(500, "token_expired")]);
    let judge = |seen| rules.body(code(500), &HeaderMap::new(), seen);
    assert_eq!(judge(Seen::Beginning(b"fault: token_exp")), Verdict::Look);
    assert_eq!(judge(Seen::Beginning(b"fault: token_expired, and")), REJECTED);
    assert_eq!(judge(Seen::Cut(b"fault: token_expired, and")), REJECTED);
    assert_eq!(judge(Seen::Cut(b"fault: token_exp")), ACCEPTED);
    assert_eq!(judge(Seen::Whole(b"fault: Token_Expired")), ACCEPTED, "case counts");
    assert_eq!(judge(Seen::Whole(b"")), ACCEPTED);
}

#[test]
fn json_values_are_equal_as_json_is() {
    let marketo = r#"{"requestId":"e42b","success":false,"errors":[{"code":"602","message":"Access token expired"}]}"#;
    let two = when(vec![pointer("/errors/0/code", &[json!("601"), json!("602")])]);
    assert_eq!(whole(&two, 200, marketo), REJECTED);
    assert_eq!(whole(&two, 200, &marketo.replace("\"602\"", "602")), ACCEPTED);
    assert_eq!(whole(&two, 200, &marketo.replace("602", "610")), ACCEPTED);
    let number = when(vec![pointer("/error/code", &[json!(498)])]);
    assert_eq!(whole(&number, 200, r#"{"error":{"code":498}}"#), REJECTED);
    assert_eq!(whole(&number, 200, "\u{feff}{\"error\":{\"code\":498}}"), REJECTED, "a byte order mark");
    assert_eq!(whole(&number, 200, r#"{"error":{"code":"498"}}"#), ACCEPTED);
    let there = when(vec![pointer("/error", &[])]);
    assert_eq!(whole(&there, 200, r#"{"error":{}}"#), REJECTED);
    assert_eq!(whole(&there, 200, r#"{"error":false}"#), REJECTED);
    assert_eq!(whole(&there, 200, r#"{"error":null}"#), ACCEPTED);
    assert_eq!(whole(&there, 200, r#"{"errors":1}"#), ACCEPTED);
    assert_eq!(whole(&when(vec![pointer("", &[json!("expired")])]), 200, "\"expired\""), REJECTED);
    for body in ["", "no JSON", "{\"error\":1", "{\"error\":1} more", &"[".repeat(10_000)] {
        assert_eq!(whole(&there, 200, body), ACCEPTED, "{body:.20}");
    }
}

#[test]
fn a_document_that_was_cut_matches_no_rule_on_it() {
    let rules = when(vec![pointer("", &[json!(12)])]);
    let judge = |seen| rules.body(code(200), &HeaderMap::new(), seen);
    assert_eq!(judge(Seen::Beginning(b"12")), Verdict::Look);
    assert_eq!(judge(Seen::Cut(b"12")), ACCEPTED);
    assert_eq!(judge(Seen::Whole(b"12")), REJECTED);
}

#[test]
fn all_parts_of_a_rule_hold_or_it_does_not() {
    let rule = Rule { body_contains: Some("INVALID".to_owned()), ..pointer("/code", &[json!(1)]) };
    let rules = when(vec![rule]);
    assert_eq!(whole(&rules, 200, r#"{"code":1,"text":"INVALID"}"#), REJECTED);
    assert_eq!(whole(&rules, 200, r#"{"code":1}"#), ACCEPTED);
    assert_eq!(whole(&rules, 200, r#"{"code":2,"text":"INVALID"}"#), ACCEPTED);
}

#[test]
fn refresh_unless_wins_over_everything() {
    let rules = RejectionRules {
        additional_status_codes: vec![code(403)],
        when: vec![on(500), text(502, "expired")],
        unless: vec![
            Rule { status: vec![], ..text(200, "NoApiProductMatch") },
            Rule { header_contains: vec![(HeaderName::from_static("x-csrf-token"), "required".to_owned())], ..on(403) },
        ],
    };
    for status in [401, 403, 500, 502] {
        assert_eq!(head(&rules, status), Verdict::Look, "{status}");
        assert_eq!(whole(&rules, status, "expired"), REJECTED, "{status}");
        assert_eq!(whole(&rules, status, "expired: NoApiProductMatchFound"), ACCEPTED, "{status}");
    }
    assert_eq!(rules.head(code(403), &headers(&[("x-csrf-token", "Required")])), ACCEPTED);
    assert_eq!(head(&rules, 404), ACCEPTED);
    // Found already, but an exception may still follow.
    let judge = |seen| rules.body(code(502), &HeaderMap::new(), seen);
    assert_eq!(judge(Seen::Beginning(b"expired")), Verdict::Look);
    assert_eq!(judge(Seen::Beginning(b"NoApiProductMatch")), ACCEPTED);
    assert_eq!(judge(Seen::Cut(b"expired")), REJECTED);
}

#[test]
fn the_first_rule_that_holds_says_what_is_replayed() {
    let rules = when(vec![
        replayed(text(500, "expired"), Replay::Always),
        replayed(text(500, "unknown"), Replay::Always),
        replayed(on(500), Replay::Never),
        on(401),
    ]);
    assert_eq!(whole(&rules, 500, "expired"), Verdict::Rejected(Some(Replay::Always)));
    assert_eq!(whole(&rules, 500, "other"), Verdict::Rejected(Some(Replay::Never)));
    assert_eq!(head(&rules, 500), Verdict::Look, "rejected in any case, but how it is replayed is open");
    let unknown = rules.body(code(500), &HeaderMap::new(), Seen::Beginning(b"unknown"));
    assert_eq!(unknown, Verdict::Rejected(Some(Replay::Always)), "the open one would say the same");
    let same = when(vec![text(500, "expired"), on(500)]);
    assert_eq!(head(&same, 500), REJECTED, "nothing is open");
    let listed = when(vec![replayed(on(401), Replay::Always)]);
    assert_eq!(head(&listed, 401), REJECTED, "which a 401 is without the rule");
}

proptest! {
    /// What is certain early stays so, whatever follows.
    #[test]
    fn a_verdict_on_a_beginning_is_the_verdict_on_the_whole(
        body in "[ab]{0,8}",
        at in 0_usize..9,
        texts in proptest::collection::vec(("[ab]{1,3}", 0_usize..3), 0..4),
        status in prop_oneof![Just(200_u16), Just(401)],
    ) {
        let replays = [None, Some(Replay::Always), Some(Replay::Never)];
        let rule = |(text, replay): &(String, usize)| Rule {
            body_contains: Some(text.clone()),
            replay: replays[*replay],
            ..Rule::default()
        };
        let half = texts.len() / 2;
        let rules = RejectionRules {
            when: texts[half..].iter().map(rule).collect(),
            unless: texts[..half].iter().map(rule).collect(),
            ..RejectionRules::default()
        };
        let judge = |seen| rules.body(code(status), &HeaderMap::new(), seen);
        let early = judge(Seen::Beginning(&body.as_bytes()[..at.min(body.len())]));
        let late = judge(Seen::Whole(body.as_bytes()));
        prop_assert_ne!(late, Verdict::Look);
        prop_assert_eq!(judge(Seen::Cut(body.as_bytes())), late);
        if early != Verdict::Look {
            prop_assert_eq!(early, late);
        }
    }
}
