//! Answers as found in the wild, and hostile ones.

use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::{Answer, judge, repeats};
use crate::secret::Secret;
use crate::token::backoff::Pace;
use crate::token::failure::{Concerns, MintError, MintFailureKind};

const HTML: &str = "<html><body>Access denied by the firewall</body></html>";

fn judged(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Answer, MintError> {
    let builder = headers.iter().fold(Response::builder().status(status), |b, (name, value)| b.header(*name, *value));
    let accepted = ["bearer", "bearertoken", "application access token", "n_a", ""].map(str::to_owned);
    judge(
        &builder.body(Bytes::copy_from_slice(body.as_bytes())).unwrap(),
        &accepted,
        &[Secret::new("client-secret-canary".to_owned())],
    )
}

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
        (400, r#"{"error":{"status":400,"message":"x"}}"#, true, "an error object"),
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
        let cause = if cause == "an error object" { "status 400 with an error code that is not a word" } else { cause };
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
    ] {
        let error = judged(200, &[], body).map(|_| ()).unwrap_err();
        let text = format!("{error} {error:?} {:?}", error.failure());
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn eight_characters_of_a_secret_are_a_repetition() {
    let secret = |text: &str| Secret::new(text.to_owned());
    assert!(repeats("xx cret-can yy", &secret("secret-canary")));
    assert!(!repeats("xx secret yy", &secret("secret-canary")));
    assert!(repeats("the abc", &secret("abc")) && !repeats("the ab", &secret("abc")));
    assert!(!repeats("anything", &secret("")));
}
