use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::{Challenge, LONGEST_LINE, MOST_PARTS, challenge_errors, challenges};

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
    }
    headers
}

fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Challenge { scheme: scheme.to_owned(), token68: None, parameters }
}

fn with_token(scheme: &str, token68: &str) -> Challenge {
    Challenge { scheme: scheme.to_owned(), token68: Some(token68.to_owned()), parameters: Vec::new() }
}

#[test]
fn well_formed_lines_are_read_by_the_grammar() {
    for (lines, expected) in [
        (&[][..], vec![]),
        (&[""], vec![]),
        (&["Negotiate"], vec![challenge("Negotiate", &[])]),
        (&["Negotiate YII="], vec![with_token("Negotiate", "YII=")]),
        (&["Negotiate a-b._~+/4=="], vec![with_token("Negotiate", "a-b._~+/4==")]),
        (&["NTLM TlRM"], vec![with_token("NTLM", "TlRM")]),
        (
            &[r#"Bearer realm="a, b=c", error=invalid_token"#],
            vec![challenge("Bearer", &[("realm", "a, b=c"), ("error", "invalid_token")])],
        ),
        (&[r#"Bearer realm = "a" , error	=  "b""#], vec![challenge("Bearer", &[("realm", "a"), ("error", "b")])]),
        (&[r#"Bearer realm="\"q\" \\ ', x""#], vec![challenge("Bearer", &[("realm", r#""q" \ ', x"#)])]),
        (&[r#"Bearer realm="""#], vec![challenge("Bearer", &[("realm", "")])]),
        // RFC 9110 11.6.1
        (
            &[r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple""#],
            vec![
                challenge("Newauth", &[("realm", "apps"), ("type", "1"), ("title", r#"Login to "apps""#)]),
                challenge("Basic", &[("realm", "simple")]),
            ],
        ),
        (
            &["Negotiate, Basic realm=\"x\",, Digest nonce=\"a==\"", "DPoP algs=\"ES256 PS256\""],
            vec![
                challenge("Negotiate", &[]),
                challenge("Basic", &[("realm", "x")]),
                challenge("Digest", &[("nonce", "a==")]),
                challenge("DPoP", &[("algs", "ES256 PS256")]),
            ],
        ),
        (&["Negotiate YII=, Bearer"], vec![with_token("Negotiate", "YII="), challenge("Bearer", &[])]),
    ] {
        assert_eq!(challenges(&headers(lines)), expected, "{lines:?}");
    }
}

#[test]
fn what_is_broken_in_the_wild_is_read_too() {
    for (line, expected) in [
        // Quotes that do not match, as a patent office behind Apigee sends them.
        (
            r#"Bearer realm="null",error='invalid_token",error_description='keymanagement.service.access_token_expired: Access Token expired""#,
            challenge(
                "Bearer",
                &[
                    ("realm", "null"),
                    ("error", "invalid_token"),
                    ("error_description", "keymanagement.service.access_token_expired: Access Token expired"),
                ],
            ),
        ),
        // Spaces for commas, as Cognito sends them.
        (
            r#"Bearer scope="" error="invalid_token" error_description="the token has expired""#,
            challenge(
                "Bearer",
                &[("scope", ""), ("error", "invalid_token"), ("error_description", "the token has expired")],
            ),
        ),
        (
            "Bearer realm=My App, error=invalid_token, error_description=The token is over",
            challenge("Bearer", &[("realm", "My"), ("error", "invalid_token"), ("error_description", "The")]),
        ),
        (
            r#"Bearer error='invalid_token', error_description='Don't, says "x", ever'"#,
            challenge("Bearer", &[("error", "invalid_token"), ("error_description", r#"Don't, says "x"#)]),
        ),
        (
            r#"Bearer error="invalid_token, error_description="over""#,
            challenge("Bearer", &[("error", "invalid_token"), ("error_description", "over")]),
        ),
        (
            r#"Bearer error="invalid_token"error_description="over""#,
            challenge("Bearer", &[("error", "invalid_token"), ("error_description", "over")]),
        ),
        (r#"Bearer error="invalid_token"#, challenge("Bearer", &[("error", "invalid_token")])),
        (r#"Bearer error="invalid_token, x=y"#, challenge("Bearer", &[("error", "invalid_token"), ("x", "y")])),
        (r#"Bearer error="invalid_token'"#, challenge("Bearer", &[("error", "invalid_token")])),
        (r#"Bearer error=\"invalid_token\""#, challenge("Bearer", &[("error", "invalid_token")])),
        (r#"Bearer error=invalid_token""#, challenge("Bearer", &[("error", "invalid_token")])),
        ("Bearer scope= error=invalid_token", challenge("Bearer", &[("scope", ""), ("error", "invalid_token")])),
        // By the grammar this is a token68, which does not matter to what follows.
        (
            "Bearer scope=, error=invalid_token",
            Challenge { token68: Some("scope=".to_owned()), ..challenge("Bearer", &[("error", "invalid_token")]) },
        ),
        ("Bearer, error=invalid_token", challenge("Bearer", &[("error", "invalid_token")])),
        ("Bearer = , error=x", challenge("", &[("Bearer", ""), ("error", "x")])),
        (r#"error="invalid_token""#, challenge("", &[("error", "invalid_token")])),
        (r#""Bearer" error=x"#, challenge("", &[("error", "x")])),
    ] {
        let mut found = challenges(&headers(&[line]));
        // Stray words after a comma read as schemes; the challenge that was meant is the first.
        found.truncate(1);
        assert_eq!(found, [expected], "{line}");
    }
}

#[test]
fn a_parameter_does_not_belong_to_a_challenge_of_another_line() {
    let found = challenges(&headers(&["Bearer realm=a", "error=invalid_token"]));
    assert_eq!(found, [challenge("Bearer", &[("realm", "a")]), challenge("", &[("error", "invalid_token")])]);
}

#[test]
fn errors_are_those_of_the_schemes_asked_for() {
    let headers = headers(&[
        r#"Basic realm="error=\"insufficient_scope\"", error=no"#,
        r#"bearer ERROR=invalid_token, error_description="insufficient_scope""#,
        r#"dpop algs="ES256", error="use_dpop_nonce", DPoP algs="ES256""#,
    ]);
    assert_eq!(challenge_errors(&headers, &["Bearer", "DPoP"]), ["invalid_token", "use_dpop_nonce"]);
    assert_eq!(challenge_errors(&headers, &["DPoP"]), ["use_dpop_nonce"]);
    assert!(challenge_errors(&HeaderMap::new(), &["DPoP"]).is_empty());
}

#[test]
fn reading_ends_at_bounds() {
    let many = "Bearer, ".repeat(1000);
    assert_eq!(challenges(&headers(&[&many, &many])).len(), MOST_PARTS);
    let long = format!("Bearer realm=\"{}\", error=x", "a".repeat(LONGEST_LINE));
    assert_eq!(challenges(&headers(&[&long]))[0].parameter("error"), None);
    let lines = ["Bearer"; 100];
    assert_eq!(challenges(&headers(&lines)).len(), super::MOST_LINES);
    // Each quote sets out to find its end.
    let open = "a=\"b ".repeat(LONGEST_LINE / 5);
    assert!(challenges(&headers(&[open.as_str(); 16]))[0].parameters.len() <= MOST_PARTS);
}

/// A token (RFC 9110 5.6.2) that does not begin with what the wild uses as a quote.
fn token() -> impl Strategy<Value = String> {
    "[!#$%&*+.^_`|~0-9A-Za-z-][!#$%&'*+.^_`|~0-9A-Za-z-]{0,8}"
        .prop_filter("a stray quote", |token| !token.ends_with('\''))
}

fn token68() -> impl Strategy<Value = String> {
    "[0-9A-Za-z._~+/-]{1,12}={0,2}"
}

/// A value, and how it is written.
fn value() -> impl Strategy<Value = (String, String)> {
    let quoted = ("[ -~äß]{0,12}", any::<bool>()).prop_map(|(value, escape_all)| {
        let written = value.chars().fold(String::new(), |mut written, character| {
            if matches!(character, '"' | '\\') || (escape_all && character.is_ascii_punctuation()) {
                written.push('\\');
            }
            written.push(character);
            written
        });
        (value, format!("\"{written}\""))
    });
    prop_oneof![token().prop_map(|token| (token.clone(), token)), quoted]
}

/// A challenge, and how it is written.
fn written() -> impl Strategy<Value = (Challenge, String)> {
    let parameters = proptest::collection::vec((token(), value(), "[ \t]{0,2}", "[ \t]{0,2}"), 0..4);
    let with_parameters = (token(), parameters, " {0,1}, {0,2}").prop_map(|(scheme, parameters, comma)| {
        let mut challenge = Challenge { scheme: scheme.clone(), ..Challenge::default() };
        let mut texts = Vec::new();
        for (name, (value, written), before, after) in parameters {
            texts.push(format!("{name}{before}={after}{written}"));
            challenge.parameters.push((name, value));
        }
        (challenge, format!("{scheme} {}", texts.join(&comma)))
    });
    let with_token = (token(), token68()).prop_map(|(scheme, token68)| {
        let line = format!("{scheme} {token68}");
        (Challenge { scheme, token68: Some(token68), parameters: Vec::new() }, line)
    });
    prop_oneof![3 => with_parameters, 1 => with_token]
}

proptest! {
    #[test]
    fn well_formed_challenges_come_back(
        lines in proptest::collection::vec(proptest::collection::vec(written(), 1..4), 0..4),
    ) {
        let mut headers = HeaderMap::new();
        for line in &lines {
            let text: Vec<_> = line.iter().map(|(_, text)| text.as_str()).collect();
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(text.join(" , ").as_bytes()).unwrap());
        }
        let expected: Vec<_> = lines.into_iter().flatten().map(|(challenge, _)| challenge).collect();
        prop_assert_eq!(challenges(&headers), expected);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        read(&lines);
    }

    #[test]
    fn any_heap_of_separators_is_read_without_a_panic(lines in proptest::collection::vec("[a=\"', \t\\\\]{0,60}", 0..4)) {
        read(&lines);
    }
}

fn read(lines: &[impl AsRef<[u8]>]) {
    let mut headers = HeaderMap::new();
    for line in lines {
        if let Ok(value) = HeaderValue::from_bytes(line.as_ref()) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    assert!(challenges(&headers).len() <= MOST_PARTS);
}
