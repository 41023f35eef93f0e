//! What the rules of presets make of answers that providers are known to give to an expired token, and of those that
//! look alike but that no new token cures.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{load, minimum};
use crate::config::preset::Preset;
use crate::token::{RejectionRules, Seen, Verdict};

fn rules(preset: &str, more: &str) -> RejectionRules {
    let text = minimum(preset) + more;
    load(&text).unwrap_or_else(|problems| panic!("{problems}")).config.external_credentials.remove(0).rejection.clone()
}

fn is_rejected(rules: &RejectionRules, (status, field, body): (u16, &str, &str)) -> bool {
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = field.split_once(": ") {
        headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    match rules.head(status, &headers) {
        Verdict::Look => matches!(rules.body(status, &headers, Seen::Whole(body.as_bytes())), Verdict::Rejected(_)),
        Verdict::Rejected(_) => true,
        Verdict::Accepted => false,
    }
}

/// Preset, answer, and whether it says that the token is no longer good.
type Case<'a> = (&'a str, (u16, &'a str, &'a str), bool);

fn fault(code: &str) -> String {
    format!("{{\"fault\":{{\"faultstring\":\"x\",\"detail\":{{\"errorcode\":\"{code}\"}}}}}}")
}

#[test]
fn apigee_tells_expiry_from_entitlement_and_quota() {
    let rules = rules("apigee", "additional_refresh_status_codes = [403]\n");
    let challenge = "www-authenticate: Bearer realm=\"null\",error='invalid_token\",error_description=\
                     'keymanagement.service.access_token_expired: Access Token expired\"";
    for (status, code, rejected) in [
        (401, "keymanagement.service.access_token_expired", true),
        (500, "keymanagement.service.access_token_expired", true),
        (400, "keymanagement.service.invalid_access_token", true),
        (500, "oauth.v2.InvalidAccessToken", true),
        (401, "anything.else", true),
        (401, "keymanagement.service.InvalidAPICallAsNoApiProductMatchFound", false),
        (401, "keymanagement.service.apiresource_doesnot_exist", false),
        (401, "oauth.v2.InvalidApiKeyForGivenResource", false),
        (403, "steps.oauth.v2.InsufficientScope", false),
        (500, "policies.ratelimit.QuotaViolation", false),
        (429, "policies.ratelimit.SpikeArrestViolation", false),
        (500, "messaging.adaptors.http.flow.ErrorResponseCode", false),
        (404, "keymanagement.service.access_token_expired", false),
    ] {
        assert_eq!(is_rejected(&rules, (status, "", &fault(code))), rejected, "{status} {code}");
    }
    // As recorded: the quotes do not match, and the body is XML.
    assert!(is_rejected(&rules, (400, challenge, "<error/>")));
    assert!(is_rejected(&rules, (401, "", "")));
}

#[test]
fn an_expired_token_is_found_where_it_is_not_a_401() {
    let cases: [Case<'_>; 20] = [
        ("salesforce", (500, "", "<faultcode>sf:INVALID_SESSION_ID</faultcode>"), true),
        ("salesforce", (500, "", "<faultcode>sf:UNKNOWN_EXCEPTION</faultcode>"), false),
        ("salesforce_jwt", (500, "", "<faultcode>sf:INVALID_SESSION_ID</faultcode>"), true),
        ("marketo", (200, "", r#"{"success":false,"errors":[{"code":"602","message":"Access token expired"}]}"#), true),
        ("marketo", (200, "", r#"{"success":false,"errors":[{"code":"601"}]}"#), true),
        ("marketo", (200, "", r#"{"success":false,"errors":[{"code":"606"}]}"#), false),
        ("marketo", (200, "", r#"{"success":true,"result":[]}"#), false),
        ("arcgis", (498, "", ""), true),
        ("arcgis", (200, "", r#"{"error":{"code":498,"message":"Invalid token."}}"#), true),
        ("arcgis", (200, "", r#"{"error":{"code":499}}"#), true),
        ("arcgis", (200, "", r#"{"error":{"code":400}}"#), false),
        ("meta", (400, "", r#"{"error":{"code":190,"type":"OAuthException"}}"#), true),
        ("meta", (400, "", r#"{"error":{"code":100}}"#), false),
        ("databricks", (403, "", r#"{"error_code":403,"message":"Invalid access token."}"#), true),
        ("databricks", (403, "", r#"{"error_code":"PERMISSION_DENIED"}"#), false),
        (
            "sp_api",
            (403, "", r#"{"errors":[{"code":"Unauthorized","details":"The access token you provided has expired."}]}"#),
            true,
        ),
        ("sp_api", (403, "", r#"{"errors":[{"code":"Unauthorized","details":""}]}"#), false),
        ("servicenow", (401, "www-authenticate: BASIC realm=\"Service-now\"", ""), true),
        ("box", (401, "www-authenticate: Bearer realm=\"Service\", error=\"invalid_token\"", ""), true),
        ("sap", (403, "x-csrf-token: Required", "CSRF token validation failed"), false),
    ];
    for (preset, answer, rejected) in cases {
        assert_eq!(is_rejected(&rules(preset, ""), answer), rejected, "{preset} {answer:?}");
    }
    let listed = rules("sap", "additional_refresh_status_codes = [403]\n");
    assert!(!is_rejected(&listed, (403, "x-csrf-token: Required", "CSRF token validation failed")));
    assert!(is_rejected(&listed, (403, "", "")));
}

#[test]
fn every_preset_leaves_good_answers_alone_and_takes_a_401_for_a_rejection() {
    for name in Preset::names() {
        let rules = rules(name, "");
        assert!(is_rejected(&rules, (401, "", "")), "{name}");
        for status in [200, 204, 301, 400, 403, 404, 429, 500, 503] {
            assert!(!is_rejected(&rules, (status, "", "{}")), "{name} {status}");
        }
    }
}
