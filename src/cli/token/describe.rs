//! `keybearer token NAME`: describes a freshly minted token, for a person or as JSON.
//!
//! The token itself is masked whole unless asked for: its first characters would be enough to find it elsewhere. The
//! claims of a JWT are shown either way, because without the signature they open nothing; nothing is verified here,
//! since the token is not for us, and the text says so.

use serde_json::{Value, json};

use super::jwt::Jwt;
use crate::token::{Minted, Origin};

/// Whether the token is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Only what it is like.
    Masked,
    /// All of it: `--show`.
    Token,
}

/// The description for a person.
#[must_use]
pub fn describe(minted: &Minted, show: Show) -> String {
    let token = minted.value().expose();
    let mut lines = vec![
        ("token", shown(token, show)),
        ("length", format!("{} characters", token.len())),
        ("type", minted.token_type().map_or_else(|| "not said; sent as configured".to_owned(), safe)),
        ("lifetime", lifetime(minted)),
        ("scope", minted.scope().map_or_else(|| "not said, so it is what was asked for".to_owned(), safe)),
    ];
    let missing = minted.missing_scopes();
    if !missing.is_empty() {
        lines.push(("missing", safe(missing.join(" "))));
    }
    let mut text = String::new();
    let jwt = Jwt::read(token);
    if jwt.is_none() {
        lines.push(("format", "opaque".to_owned()));
    }
    for (name, value) in lines {
        text.push_str(&format!("{name:<9} {value}\n"));
    }
    if let Some(jwt) = jwt {
        text.push_str("format    JWT, decoded and not verified\n");
        for (name, part) in [("header", &jwt.header), ("claims", &jwt.claims)] {
            let pretty = serde_json::to_string_pretty(part).unwrap_or_default();
            let pretty: Vec<String> = pretty.lines().map(|line| format!("  {}", safe(line))).collect();
            text.push_str(&format!("{name}\n{}\n", pretty.join("\n")));
        }
    }
    text
}

/// The same as JSON, for scripts.
#[must_use]
pub fn describe_json(minted: &Minted, show: Show) -> Value {
    let token = minted.value().expose();
    let lifetime = minted.lifetime();
    json!({
        "access_token": (show == Show::Token).then_some(token),
        "length": token.len(),
        "token_type": minted.token_type(),
        "lifetime_seconds": lifetime.span.as_secs(),
        "lifetime_from": match lifetime.origin {
            Origin::Endpoint => "expires_in",
            Origin::Default => "default_lifetime",
            Origin::Maximum => "max_lifetime",
        },
        "scope": minted.scope(),
        "missing_scopes": minted.missing_scopes(),
        "jwt": Jwt::read(token).map(|jwt| json!({
            "verified": false,
            "header": jwt.header,
            "claims": jwt.claims,
        })),
    })
}

fn shown(token: &str, show: Show) -> String {
    match show {
        Show::Masked => "masked (--show prints it)".to_owned(),
        Show::Token => token.to_owned(),
    }
}

fn lifetime(minted: &Minted) -> String {
    let lifetime = minted.lifetime();
    if lifetime.is_endless() {
        return "does not end by itself".to_owned();
    }
    let span = humantime::format_duration(lifetime.span);
    match lifetime.origin {
        Origin::Endpoint => span.to_string(),
        Origin::Default => format!("{span} (default_lifetime: the endpoint names no usable one)"),
        Origin::Maximum => format!("{span} (max_lifetime: the endpoint names a longer one)"),
    }
}

/// Foreign text without what a terminal would obey or what would reorder it.
fn safe(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if invisible(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Show, describe, describe_json};
    use crate::token::Minted;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    fn jwt() -> String {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.canary-signature", part(json!({"alg": "RS256"})), part(json!({"iss": "https://i\u{1b}[31m"})))
    }

    #[test]
    fn a_token_is_masked_unless_shown() {
        let minted = Minted::sample("opaque-canary", Some("Bearer"), Some("a"));
        let text = describe(&minted, Show::Masked);
        assert!(text.contains("13 characters") && text.contains("Bearer") && text.contains("opaque"), "{text}");
        assert!(text.contains("lifetime  1h\n"), "{text}");
        let json = describe_json(&minted, Show::Masked).to_string();
        for masked in [text, json] {
            assert!(!masked.contains("canary") && !masked.contains("opaque-"), "{masked}");
        }
        assert!(describe(&minted, Show::Token).contains("opaque-canary"));
        assert_eq!(describe_json(&minted, Show::Token)["access_token"], "opaque-canary");
    }

    #[test]
    fn a_jwt_is_decoded_and_said_to_be_unverified() {
        let minted = Minted::sample(&jwt(), None, None);
        let text = describe(&minted, Show::Masked);
        assert!(text.contains("not verified") && text.contains("RS256") && text.contains("https://i"), "{text}");
        assert!(!text.contains("canary") && !text.contains('\u{1b}'), "{text}");
        let json = describe_json(&minted, Show::Masked);
        assert_eq!((&json["jwt"]["verified"], &json["jwt"]["header"]["alg"]), (&json!(false), &json!("RS256")));
    }

    #[test]
    fn what_only_looks_like_a_jwt_is_opaque() {
        for token in ["a.b.c", "..", "a.b", "e30.e30.x.y", "WzFd.WzFd.x"] {
            let text = describe(&Minted::sample(token, None, None), Show::Masked);
            assert!(text.contains("opaque"), "{token}: {text}");
        }
    }

    #[test]
    fn scope_that_was_not_granted_is_named() {
        let mut minted = Minted::sample("t", None, Some("a\u{1b}"));
        minted.set_asked_scope("a b");
        let text = describe(&minted, Show::Masked);
        assert!(text.contains("missing   a b") && !text.contains('\u{1b}'), "{text}");
    }
}
