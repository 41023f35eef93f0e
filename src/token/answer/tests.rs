//! Answers as found in the wild, and hostile ones.

use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::{Answer, judge};
use crate::secret::Secret;
use crate::token::ResponseRules;
use crate::token::backoff::Pace;
use crate::token::failure::{Concerns, MintError, MintFailureKind};

const HTML: &str = "<html><body>Access denied by the firewall</body></html>";

fn judged_by(
    rules: &ResponseRules,
    status: u16,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Result<Answer, MintError> {
    let builder = headers.iter().fold(Response::builder().status(status), |b, (name, value)| b.header(*name, *value));
    let answer = builder.body(Bytes::copy_from_slice(body.as_ref())).unwrap();
    judge(&answer, rules, &[Secret::new("client-secret-canary".to_owned())])
}

fn judged(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Answer, MintError> {
    judged_by(&ResponseRules::default(), status, headers, body)
}

fn failed(rules: &ResponseRules, status: u16, body: &str) -> MintError {
    judged_by(rules, status, &[], body).map(|_| ()).unwrap_err()
}

/// Rules for answers that wrap everything.
fn wrapped() -> ResponseRules {
    ResponseRules {
        token: "/data/token".to_owned(),
        expires_in: "/data/expires".to_owned(),
        token_type: "/data/type".to_owned(),
        error: vec!["/code".to_owned()],
        ..ResponseRules::default()
    }
}

/// C3: tokens are read in every shape found in the wild.
#[test]
fn tokens_are_read_in_every_shape_found_in_the_wild() {
    for (status, body, token, seconds, scope) in [
        (200, r#"{"access_token":"t","token_type":"Bearer","expires_in":3599}"#, "t", Some(3599), None),
        (
            200,
            r#"{"access_token":"t","token_type":"BearerToken","expires_in":"3599","scope":""}"#,
            "t",
            Some(3599),
            None,
        ),
        (200, r#"{"access_token":"v^1#i^1#p^1","token_type":"Application Access Token"}"#, "v^1#i^1#p^1", None, None),
        (201, r#"{"access_token":"t"}"#, "t", None, None),
        (200, r#"{"access_token":"t","token_type":null,"expires_in":null}"#, "t", None, None),
        (200, r#"{"access_token":"t","token_type":"bearer","expires_in":-1}"#, "t", None, None),
        (200, r#"{"access_token":"t","scope":["a","b"],"expires_in":3599.0}"#, "t", Some(3599), Some("a b")),
        (200, r#"{"access_token":"t","scope":"a b","error":null,"refresh_token":"r"}"#, "t", None, Some("a b")),
        (200, "\r\n {\"access_token\":\"t\",\"error\":\"\"}\n", "t", None, None),
        (200, "access_token=t&token_type=bearer&expires_in=60&scope=a+b", "t", Some(60), Some("a b")),
    ] {
        let answer = judged(status, &[("content-type", "text/plain")], body).unwrap();
        assert_eq!(answer.access_token.expose(), token, "{body}");
        assert_eq!((answer.expires_in, answer.scope.as_deref()), (seconds, scope), "{body}");
    }
}

#[test]
fn an_answer_without_a_usable_token_is_unusable_at_the_transient_pace() {
    for (status, body) in [
        (200, ""),
        (200, "{}"),
        (200, "[]"),
        (200, r#"["t"]"#),
        (200, r#""t""#),
        (200, HTML),
        (204, ""),
        (302, ""),
        (307, r#"{"access_token":"t"}"#),
        (200, r#"{"access_token":""}"#),
        (200, r#"{"access_token":"a b"}"#),
        (200, r#"{"access_token":"a\r\nx: y"}"#),
        (200, r#"{"access_token":"a\u0000"}"#),
        (200, r#"{"access_token":"ä"}"#),
        (200, r#"{"access_token":7}"#),
        (200, r#"{"access_token":"a","access_token":"b"}"#),
        (200, "access_token=a&access_token=b"),
        (200, r#"{"access_token":"t","token_type":"DPoP"}"#),
        (200, r#"{"access_token":"t","token_type":"mac"}"#),
        (200, r#"{"access_token":"t","token_type":7}"#),
        (200, r#"{"error":"something_else"}"#),
        (200, r#"{"access_token":"t""#),
    ] {
        let error = judged(status, &[], body).map(|_| ()).unwrap_err();
        assert_eq!((error.kind, error.pace), (MintFailureKind::Unusable, Pace::Transient), "{status} {body}: {error}");
    }
}

/// C5: permanent failures are told from transient ones.
#[test]
fn permanent_failures_are_told_from_transient_ones() {
    let fault =
        r#"{"fault":{"faultstring":"Invalid client","detail":{"errorcode":"oauth.v2.InvalidClientIdentifier"}}}"#;
    for (status, body, permanent, cause) in [
        (400, r#"{"error":"invalid_grant"}"#, true, "invalid_grant"),
        (401, r#"{"error":"invalid_client","error_description":"no"}"#, true, "invalid_client"),
        (200, r#"{"error":"invalid_client"}"#, true, "invalid_client"),
        (500, r#"{"error":"invalid_client"}"#, true, "invalid_client"),
        (401, r#"{"ErrorCode":"invalid_client","Error":"ClientId is Invalid"}"#, true, "invalid_client"),
        (401, fault, true, "oauth.v2.InvalidClientIdentifier"),
        (500, fault, false, "oauth.v2.InvalidClientIdentifier"),
        (400, r#"{"error":"made_up"}"#, true, "made_up"),
        (400, r#"{"error":401}"#, true, "401"),
        (400, r#"{"error":{"status":400,"message":"x"}}"#, true, "400"),
        (400, r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#, true, "UNAUTHENTICATED"),
        (400, r#"{"error":{"message":"x"}}"#, true, "status 400 with an error code that is not a word"),
        (400, r#"{"error":"use_dpop_nonce"}"#, true, "use_dpop_nonce"),
        (401, r#"{"response":{"errors":[{"code":"250002"}]}}"#, true, "status 401, code 250002"),
        (400, r#"{"errorCode":"BXNIM0415E"}"#, true, "status 400, code BXNIM0415E"),
        (
            401,
            r#"[{"message":"expired","errorCode":"INVALID_SESSION_ID"}]"#,
            true,
            "status 401, code INVALID_SESSION_ID",
        ),
        (500, r#"{"errors":[{"code":"601"}]}"#, false, "status 500, code 601"),
        (400, r#"{"error":"a","error":"b"}"#, true, "status 400"),
        (400, "error=invalid_scope&error_description=x", true, "invalid_scope"),
        (403, "{}", true, "status 403"),
        (404, "[]", true, "status 404"),
        (401, "", true, "status 401"),
        (403, HTML, false, "status 403"),
        (404, "no such page", false, "status 404"),
        (408, "", false, "status 408"),
        (429, "{}", false, "status 429"),
        (429, r#"{"error":"too_many"}"#, false, "too_many"),
        (500, "", false, "status 500"),
        (503, HTML, false, "status 503"),
        (400, r#"{"error":"temporarily_unavailable"}"#, false, "temporarily_unavailable"),
        (400, r#"{"error":"server_error"}"#, false, "server_error"),
        (200, r#"{"error":"server_error"}"#, false, "server_error"),
    ] {
        let error = judged(status, &[], body).map(|_| ()).unwrap_err();
        let expected = if permanent {
            (MintFailureKind::Refused, Pace::Permanent)
        } else {
            (MintFailureKind::Unavailable, Pace::Transient)
        };
        assert_eq!((error.kind, error.pace, error.cause.as_str()), (expected.0, expected.1, cause), "{status} {body}");
    }
}

#[test]
fn a_refused_scope_concerns_the_request_and_a_refused_client_the_client() {
    for (code, concerns) in [
        ("invalid_scope", Concerns::Request),
        ("invalid_target", Concerns::Request),
        ("invalid_client", Concerns::Client),
        ("invalid_grant", Concerns::Client),
    ] {
        let error = judged(400, &[], &format!(r#"{{"error":"{code}"}}"#)).map(|_| ()).unwrap_err();
        assert_eq!(error.concerns, concerns, "{code}");
    }
}

#[test]
fn retry_after_is_read_as_seconds_and_as_a_date() {
    let wait = |text: &str| judged(429, &[("retry-after", text)], "").map(|_| ()).unwrap_err().retry_after;
    assert_eq!(wait("60"), Some(Duration::from_secs(60)));
    assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    let later = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(100));
    assert!(wait(&later).is_some_and(|wait| (95..=100).contains(&wait.as_secs())));
    assert_eq!(wait("soon"), None);
    assert_eq!(wait("-1"), None);
}

#[test]
fn the_servers_own_words_are_kept_unless_they_repeat_a_secret() {
    let told = judged(400, &[], r#"{"error":"invalid_client","error_description":"bad\u001b[31m secret"}"#);
    assert_eq!(told.map(|_| ()).unwrap_err().detail(), Some("bad?[31m secret"));
    for body in [
        r#"{"error":"invalid_client","error_description":"got client-secret-canary"}"#,
        r#"{"error":"client-secret-canary","error_description":"-secret-canary"}"#,
        r#"{"error":"invalid_client","error_description":"token-canary","access_token":"token-canary"}"#,
        r#"{"error":"a canary with spaces","access_token":"x"}"#,
        r#"{"access_token":"token canary"}"#,
        r#"{"access_token":"token-canary","token_type":7}"#,
        r#"{"access_token":"token-canary","token_type":"token-canary"}"#,
    ] {
        let error = judged(200, &[], body).map(|_| ()).unwrap_err();
        let text = format!("{error} {error:?} {:?}", error.failure());
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn an_answer_is_read_with_any_content_type_and_after_a_byte_order_mark() {
    let body = "\u{feff}{\"access_token\":\"t\",\"expires_in\":60,\"refresh_token\":\"r\"}";
    for headers in [&[][..], &[("content-type", "text/html")], &[("content-type", "application/x-www-form-urlencoded")]]
    {
        for status in [200, 201, 202, 203] {
            let answer = judged(status, headers, body).unwrap();
            assert_eq!((answer.access_token.expose(), answer.expires_in), ("t", Some(60)));
            assert_eq!(answer.refresh_token.as_ref().map(Secret::expose), Some("r"));
        }
    }
    let utf_16: Vec<u8> = r#"{"access_token":"t"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(judged_by(&ResponseRules::default(), 200, &[], utf_16).is_err());
}

#[test]
fn pointers_lead_to_wrapped_tokens_lists_and_form_fields() {
    let rules = wrapped();
    let body =
        r#"{"code":0,"msg":"ok","data":{"token":"t","expires":60,"type":"Bearer","scope":"a","refresh_token":"r"}}"#;
    let answer = judged_by(&rules, 200, &[], body).unwrap();
    assert_eq!((answer.access_token.expose(), answer.expires_in), ("t", Some(60)));
    assert_eq!((answer.scope.as_deref(), answer.token_type.as_deref()), (Some("a"), Some("Bearer")));
    assert_eq!(answer.refresh_token.as_ref().map(Secret::expose), Some("r"));
    let rules = |token: &str| ResponseRules { token: token.to_owned(), ..ResponseRules::default() };
    for (token, body) in [
        ("/0/token", r#"[{"token":"t"}]"#),
        ("/id_token", r#"{"id_token":"t"}"#),
        ("/auth_token", "auth_token=t&expires=60"),
        ("", r#""t""#),
    ] {
        assert_eq!(judged_by(&rules(token), 200, &[], body).unwrap().access_token.expose(), "t", "{body}");
    }
}

#[test]
fn a_code_that_says_all_is_well_is_none_and_any_other_is_an_error_even_beside_a_token() {
    let rules = wrapped();
    let body = |code: &str| format!(r#"{{"code":{code},"data":{{"token":"token-canary"}},"msg":"token-canary"}}"#);
    for code in ["0", r#""0""#, "false", "null", r#""""#] {
        assert!(judged_by(&rules, 200, &[], body(code)).is_ok(), "{code}");
    }
    for (code, cause) in [
        ("40001", "40001"),
        ("true", "true"),
        (r#""ok""#, "ok"),
        (r#""invalid_client""#, "invalid_client"),
        (r#""token-canary""#, "status 200 with an error code that is not a word"),
    ] {
        let error = failed(&rules, 200, &body(code));
        assert_eq!((error.cause(), error.detail()), (cause, None), "{code}");
    }
    let error = failed(&rules, 200, r#"{"code":0,"data":null,"msg":"no such app"}"#);
    assert_eq!((error.kind, error.detail()), (MintFailureKind::Unusable, Some("no such app")));
}

#[test]
fn a_member_that_is_looked_at_must_be_there_once_on_every_level() {
    let rules = wrapped();
    for body in [
        r#"{"data":{"token":"a"},"data":{"token":"b"}}"#,
        r#"{"data":{"token":"a","token":"a"}}"#,
        r#"{"data":{"token":"a","\u0074oken":"b"}}"#,
        r#"{"data":{"token":"a","expires":1,"expires":2}}"#,
        r#"{"data":{"token":"a","type":"","type":""}}"#,
        r#"{"data":{"token":"a","scope":"","scope":""}}"#,
        r#"{"code":0,"code":0,"data":{"token":"a"}}"#,
    ] {
        let error = failed(&rules, 200, body);
        assert_eq!(error.cause(), "the answer holds a member more than once", "{body}");
        assert_eq!((error.kind, error.pace), (MintFailureKind::Unusable, Pace::Transient));
    }
    assert!(judged_by(&rules, 200, &[], r#"{"data":{"token":"a"},"other":1,"other":2}"#).is_ok());
}

#[test]
fn an_id_token_alone_is_pointed_out() {
    let error = failed(&ResponseRules::default(), 200, r#"{"id_token":"token-canary"}"#);
    assert_eq!(error.cause(), "the answer holds no access token");
    assert!(error.detail().is_some_and(|detail| detail.contains("response.token = \"/id_token\"")));
}

#[test]
fn a_server_that_puts_a_sentence_where_the_code_belongs_is_quoted() {
    let error = failed(&ResponseRules::default(), 401, r#"{"error":"HTTP 401 Unauthorized"}"#);
    assert_eq!(error.detail(), Some("HTTP 401 Unauthorized"));
    let error = failed(&ResponseRules::default(), 401, r#"{"fault":{"faultstring":"Invalid client"}}"#);
    assert_eq!((error.cause(), error.detail()), ("status 401", Some("Invalid client")));
}
