//! How answers are read: the token endpoint's, and the upstream's that mean a token is no longer good.

use serde_json::json;

use super::{assert_fault, config, request, settings, usual};
use crate::config::tests::good;
use crate::proxy::settings::Replay;
use crate::token::{ExpiryUnit, StatusPattern};

#[test]
fn how_the_answer_is_read_is_taken_over() {
    let response = request(&usual(
        "response = { token = \"/data/0/t~1k\", token_type = \"\" }\nexpires_unit = \"epoch_ms\"\nerror = [\"/a\", \"/b\"]",
    ))
    .response;
    assert_eq!((response.token.as_str(), response.token_type.as_str()), ("/data/0/t~1k", ""));
    assert_eq!((response.expires_in.as_str(), response.expires_unit), ("/expires_in", ExpiryUnit::EpochMilliseconds));
    assert_eq!(response.error, ["/a", "/b"]);
    assert_eq!(request(&usual("error = \"/x\"")).response.error, ["/x"]);
    for (word, unit) in [
        ("s", ExpiryUnit::Seconds),
        ("ms", ExpiryUnit::Milliseconds),
        ("epoch", ExpiryUnit::Epoch),
        ("rfc3339", ExpiryUnit::Rfc3339),
    ] {
        assert_eq!(request(&usual(&format!("expires_unit = \"{word}\""))).response.expires_unit, unit);
    }
    for (lines, expected) in [
        ("response = { token = \"token\" }", "not a JSON pointer"),
        ("response = { expires_in = \"/a~2\" }", "not a JSON pointer"),
        ("response = { token_type = \"/a~\" }", "not a JSON pointer"),
        ("response = { tokn = \"/a\" }", "did you mean `token`?"),
        ("error = \"code\"", "not a JSON pointer"),
        ("error = []", "holds no pointer"),
        ("expires_unit = \"seconds\"", "expected one of `s`, `ms`"),
    ] {
        assert_fault(&usual(lines), expected);
    }
}

#[test]
fn rules_of_renewal_are_taken_over() {
    let rules = settings(&usual(
        "additional_refresh_status_codes = [403, 999, 403]\nrefresh_when = [{ status = [500, \"4xx\"], \
         header_contains = { WWW-Authenticate = \"expired\" }, body_contains = \"token\", \
         json = { pointer = \"/errors/0/code\", in = [601, \"601\", true, 601] }, replay = \"always\" }]\n\
         refresh_unless = [{ json = { pointer = \"/quota\" } }]",
    ))
    .rejection;
    assert_eq!(rules.additional_status_codes.iter().map(http::StatusCode::as_u16).collect::<Vec<_>>(), [403, 999]);
    let rule = &rules.when[0];
    assert_eq!(rule.status, [StatusPattern::Code(http::StatusCode::INTERNAL_SERVER_ERROR), StatusPattern::Class(4)]);
    assert_eq!(rule.header_contains, [(http::header::WWW_AUTHENTICATE, "expired".to_owned())]);
    assert_eq!((rule.body_contains.as_deref(), rule.replay), (Some("token"), Some(Replay::Always)));
    let json = rule.json.as_ref().unwrap();
    assert_eq!((json.pointer.as_str(), &json.values), ("/errors/0/code", &vec![json!(601), json!("601"), json!(true)]));
    assert!(rules.unless[0].json.as_ref().unwrap().values.is_empty() && rules.unless[0].replay.is_none());
}

#[test]
fn rules_of_renewal_are_checked() {
    for (rule, expected) in [
        ("", "no part"),
        ("replay = \"always\"", "no part"),
        ("status = []", "holds no status"),
        ("status = [99]", "not a status code or a class"),
        ("status = [1000]", "not a status code or a class"),
        ("status = [\"1xx\"]", "not a status code or a class"),
        ("status = [\"+4xx\"]", "not a status code or a class"),
        ("status = [\"500\"]", "not a status code or a class"),
        ("status = [true]", "a status code or a class of them"),
        ("status = 500", "expected a list"),
        ("header_contains = {}", "names no field"),
        ("header_contains = { \"a b\" = \"x\" }", "not the name of a header field"),
        ("header_contains = { a = \"\" }", "empty text"),
        ("header_contains = { a = 5 }", "expected a text"),
        ("body_contains = \"\"", "empty text"),
        ("json = { in = [1] }", "the key `pointer` is missing"),
        ("json = { pointer = \"a\" }", "not a JSON pointer"),
        ("json = { pointer = \"/a\", in = [] }", "holds no value"),
        ("json = { pointer = \"/a\", in = [[1]] }", "expected one value, found a list"),
        ("json = { pointer = \"/a\", in = [{ a = 1 }] }", "expected one value, found a table"),
        ("status = [500], replay = \"alway\"", "did you mean \"always\"?"),
        ("statuss = [500]", "did you mean `status`?"),
    ] {
        assert_fault(&usual(&format!("refresh_when = [{{ {rule} }}]")), expected);
    }
    assert_fault(&usual("refresh_unless = [{ status = [500], replay = \"always\" }]"), "belongs to `refresh_when`");
    assert_fault(&usual("additional_refresh_status_codes = [1000]"), "from 400 to 999");
    assert_fault(&usual("additional_refresh_status_codes = [399]"), "from 400 to 999");
}

#[test]
fn a_rule_that_replays_any_method_is_pointed_out_where_a_post_may_come() {
    let warnings = |text: &str| good(text).warnings.iter().map(|warning| warning.message.clone()).collect::<Vec<_>>();
    let always = config(&usual("refresh_when = [{ status = [500], replay = \"always\" }]"));
    assert!(warnings(&always).iter().any(|message| message.contains("may be carried out twice")));
    let by_route =
        config(&usual("refresh_when = [{ status = [500] }]")).replacen("url =", "replay = \"always\"\nurl =", 1);
    assert!(warnings(&by_route).iter().any(|message| message.contains("may be carried out twice")));
    let never = by_route.replace("[500] }", "[500], replay = \"never\" }");
    assert!(warnings(&never).is_empty());
    let reading = always.replacen("url =", "match = { methods = [\"GET\"] }\nurl =", 1);
    assert!(warnings(&reading).is_empty());
}
