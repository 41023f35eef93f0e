//! What each form of a formula becomes, and that no literal is changed on the way.

use proptest::prelude::*;

use super::{MergeFields, Translated, Untranslatable, literal, translate};

/// `$Credential.Mine.X` is `secrets.X`; other external credentials are unknown.
struct Mine;

impl MergeFields for Mine {
    fn credential(&mut self, external: Option<&str>, parameter: &str) -> Result<String, Untranslatable> {
        match external {
            None | Some("Mine") => Ok(format!("secrets.{parameter}")),
            Some(other) => Err(Untranslatable::NoCounterpart(other.to_owned())),
        }
    }

    fn certificate(&mut self, name: &str) -> Result<String, Untranslatable> {
        Ok(format!("{name}_key"))
    }
}

#[test]
fn formulas_become_cel() {
    for (text, cel) in [
        ("{!$Credential.Mine.Key}", "secrets.Key"),
        ("{! 'Bearer ' & $Credential.Mine.Key }", "\"Bearer \" + secrets.Key"),
        ("Bearer {!$Credential.Mine.Key}", "\"Bearer \" + secrets.Key"),
        ("a{!'b' + \"c\" & $credential.Key}d", "\"abc\" + secrets.Key + \"d\""),
        ("{!$Credential.A}:{!$Credential.B}", "secrets.A + \":\" + secrets.B"),
        ("{!('x' & ($Credential.A)) & '}'}", "\"x\" + secrets.A + \"}\""),
        (
            "Basic {!BASE64ENCODE(BLOB($Credential.Mine.User & ':' & $Credential.Mine.Pass))}",
            "\"Basic \" + base64_encode(blob(secrets.User + \":\" + secrets.Pass))",
        ),
        ("{!HEX(HASH('SHA-256', BLOB($Credential.A)))}", "hex(hash(\"SHA-256\", blob(secrets.A)))"),
        ("{!hex(hmac('hmacSHA512', 'x', $Credential.K))}", "hex(hmac(\"SHA-512\", \"x\", secrets.K))"),
        ("{!BASE64ENCODE(BASE64DECODE($Credential.A))}", "base64_encode(base64_decode(secrets.A))"),
        ("{!BASE64ENCODE(SIGN('RSA-SHA256', 'x', $Credential.K))}", "base64_encode(sign(\"RS256\", \"x\", secrets.K))"),
        (
            "{!BASE64ENCODE(SIGN_WITH_CERTIFICATE('RSA-SHA512', BLOB('x'), 'Cert'))}",
            "base64_encode(sign_with_certificate(\"RS512\", blob(\"x\"), \"Cert_key\"))",
        ),
        (
            "t={!Text(FLOOR((NOW() - DATETIMEVALUE( \"1970-01-01 00:00:00\" )) * 86400 + 180))}",
            "\"t=\" + string(now + 180)",
        ),
        ("{!/* why */ $Credential.A}", "secrets.A"),
    ] {
        assert_eq!(translate(text, &mut Mine), Ok(Translated::Formula(cel.to_owned())), "{text}");
    }
}

#[test]
fn what_needs_no_formula_stays_a_text() {
    for (text, plain) in [
        ("application/json", "application/json"),
        ("", ""),
        ("{!'a' & \"b\"}", "ab"),
        ("{!''}", ""),
        ("{ not a formula }", "{ not a formula }"),
        (r"{!'it\'s \\ here'}", r"it's \ here"),
    ] {
        assert_eq!(translate(text, &mut Mine), Ok(Translated::Text(plain.to_owned())), "{text}");
    }
    let exp = "{!TEXT(FLOOR((NOW()-DATETIMEVALUE('1970-01-01 00:00:00'))*86400))}";
    assert_eq!(translate(exp, &mut Mine), Ok(Translated::Clock(0)));
}

#[test]
fn what_has_no_counterpart_is_named() {
    for (text, part) in [
        ("{!$User.Department}", "`$User.Department`"),
        ("{!'a' & $Organization.Id}", "`$Organization.Id`"),
        ("{!HTMLENCODE($Credential.A)}", "`HTMLENCODE`"),
        ("{!$Credential.Other.A}", "Other"),
        ("{!HEX(HASH('MD5', 'x'))}", "`MD5`"),
        ("{!HEX(SIGN('ECDSA-SHA256', 'x', $Credential.K))}", "`ECDSA-SHA256`"),
        ("{!TEXT(TODAY())}", "TEXT"),
        ("{!$Credential.A * 2}", "operator `*`"),
        ("{!1 + 1}", "numbers"),
        ("{!Id}", "`Id`"),
        ("{!HEX(HMAC('SHA-256', 'x', 's3cret'))}", "clear text"),
    ] {
        let error = translate(text, &mut Mine).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("s3cret"), "{text}: {error}");
    }
}

#[test]
fn malformed_formulas_are_told() {
    let deep = format!("{{!{}'x'{}}}", "(".repeat(100_000), ")".repeat(100_000));
    for text in [
        "{!",
        "{!}",
        "{!'a",
        "{!'a'",
        "{!'a' 'b'}",
        "{!'a' &}",
        "{!(}",
        "{!('a'}",
        "{!)}",
        "{!$}",
        "{!$Credential.}",
        "{!HEX()}",
        "{!HEX('a','b')}",
        "{!HEX('a'}",
        "{!HASH($Credential.A, 'x')}",
        "{!BLOB('a')}",
        "{!/* }",
        "{!,}",
        "{!BLOB('a') & 'b'}",
        &deep,
    ] {
        assert!(translate(text, &mut Mine).is_err(), "{text}");
    }
}

/// Reads a CEL literal back by its own rules.
fn unquoted(cel: &str) -> String {
    let inner = cel.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.push(match (character, if character == '\\' { characters.next() } else { None }) {
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('t')) => '\t',
            ('\\', Some('u')) => {
                let digits: String = characters.by_ref().take(4).collect();
                char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
            }
            ('\\', escaped) => escaped.unwrap(),
            ('"', _) => panic!("an unescaped quote in {cel}"),
            (other, _) => other,
        });
    }
    text
}

proptest! {
    #[test]
    fn a_literal_survives(text in any::<String>()) {
        prop_assert_eq!(unquoted(&literal(&text)), text.clone());
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        prop_assert_eq!(translate(&format!("{{!\"{quoted}\"}}"), &mut Mine), Ok(Translated::Text(text)));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[{!}$'\"a-zA-Z.()&+,0-9/* \\\\]{0,60}") {
        let _ = translate(&text, &mut Mine);
        let _ = translate(&format!("{{!{text}}}"), &mut Mine);
    }
}
