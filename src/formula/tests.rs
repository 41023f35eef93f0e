//! Formulas as operators write them: what is accepted, what comes out, and what never does.

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::{Activation, Formula, PrincipalView, RequestView, Uses};
use crate::name::Name;
use crate::secret::Secret;

const CANARY: &str = "canary-7f3a";

/// Everything that a formula can see.
struct World {
    callers: Vec<Name>,
    principal: Name,
    headers: HeaderMap,
    secrets: Vec<(String, Secret)>,
}

impl World {
    fn new() -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-tenant", "blue"), ("accept", "a/b"), ("accept", "c/d")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.insert("x-latin", HeaderValue::from_bytes(b"\xe4").unwrap());
        let secret = |name: &str, value: &str| (name.to_owned(), Secret::new(value.to_owned()));
        Self {
            callers: vec![Name::parse("billing").unwrap(), Name::parse("sales").unwrap()],
            principal: Name::parse("default").unwrap(),
            headers,
            secrets: vec![secret("KEY", CANARY), secret("Jefe", "Jefe"), secret("a.b", "dotted")],
        }
    }

    fn activation(&self) -> Activation<'_> {
        Activation {
            callers: &self.callers,
            principal: Some(PrincipalView { name: &self.principal, client_id: "id-1", username: Some("ann") }),
            request: Some(RequestView {
                method: &Method::PUT,
                host: "api.internal:8080",
                path: "/a%20b/c",
                query: "x=1&y",
                headers: &self.headers,
            }),
            secrets: &self.secrets,
        }
    }
}

fn text(formula: &str) -> String {
    let world = World::new();
    Formula::compile(formula)
        .unwrap_or_else(|error| panic!("{formula}: {error}"))
        .text(&world.activation())
        .unwrap_or_else(|error| panic!("{formula}: {error}"))
}

fn fails(formula: &str) -> String {
    let compiled = Formula::compile(formula).unwrap_or_else(|error| panic!("{formula}: {error}"));
    compiled.text(&World::new().activation()).unwrap_err().0
}

fn refused(formula: &str) -> (String, usize) {
    let error = Formula::compile(formula).unwrap_err();
    (error.message, error.offset)
}

#[test]
fn every_variable_has_its_value() {
    for (formula, expected) in [
        ("caller.name", "billing"),
        ("caller.names[1]", "sales"),
        (r#""sales" in caller.names"#, "true"),
        (r#"caller.names.exists(n, n == "x")"#, "false"),
        ("principal.name + principal.client_id + principal.username", "defaultid-1ann"),
        ("request.method", "PUT"),
        ("request.host", "api.internal:8080"),
        ("request.path + '?' + request.query", "/a%20b/c?x=1&y"),
        (r#"request.headers["x-tenant"]"#, "blue"),
        (r#"request.headers["accept"]"#, "a/b, c/d"),
        ("request.headers.accept", "a/b, c/d"),
        (r#"has(request.headers.nope) ? "a" : "b""#, "b"),
        (r#""x-tenant" in request.headers"#, "true"),
        (r#""x-latin" in request.headers"#, "false"),
        (r#"request.headers[?"nope"].orValue("none")"#, "none"),
        (r#"request.headers[request.headers["x-tenant"] == "blue" ? "accept" : "x"]"#, "a/b, c/d"),
        ("secrets.KEY", CANARY),
        (r#"secrets["KEY"]"#, CANARY),
        (r#"secrets["a.b"]"#, "dotted"),
        ("secrets[principal.name == 'default' ? 'KEY' : 'x']", CANARY),
        (r#"has(secrets.NOPE) ? "a" : "b""#, "b"),
        ("now > 1700000000 && now < 9000000000", "true"),
        ("string(now - now + 180)", "180"),
        ("string(size(request.headers.map(h, h)) > 1)", "true"),
        ("1 + 1", "2"),
        ("1.5", "1.5"),
        ("2.0", "2"),
        ("7u", "7"),
        ("b'abc'", "abc"),
        (r#""a".matches("^[a-c]$")"#, "true"),
        ("type(caller.name) == string", "true"),
        ("\"\u{e9}\" + 'b'", "\u{e9}b"),
    ] {
        assert_eq!(text(formula), expected, "{formula}");
    }
}

#[test]
fn what_is_not_there_is_an_empty_text_or_an_error() {
    let nobody = Activation::default();
    let evaluate = |text: &str| Formula::compile(text).unwrap().text(&nobody);
    assert_eq!(evaluate("caller.name").unwrap(), "");
    assert_eq!(evaluate("string(size(caller.names))").unwrap(), "0");
    for (formula, clause) in [
        ("request.path", "there is no request here"),
        (r#"request.headers["x"]"#, "there is no request here"),
        ("principal.name", "there is no principal here"),
        ("secrets.KEY", "the principal has no secret of the name that it asks for"),
    ] {
        assert_eq!(evaluate(formula).unwrap_err().0, clause, "{formula}");
    }
}

/// FIPS 180-4, RFC 4231 and RFC 4648's own examples.
#[test]
fn every_function_gives_what_its_standard_says() {
    for (formula, expected) in [
        (r#"base64_encode("foob")"#, "Zm9vYg=="),
        (r#"base64_encode(b"\xff\xfe")"#, "//4="),
        (r#"base64_decode("Zm9vYg==")"#, "foob"),
        (r#"base64_decode("Zm9vYg")"#, "foob"),
        (r#"hex(base64_decode("__4"))"#, "fffe"),
        (r#"hex(base64_decode("//4="))"#, "fffe"),
        (r#"hex(blob("\u00e9"))"#, "c3a9"),
        (r#"hex("A")"#, "41"),
        (r#"hex(hash("SHA-1", "abc"))"#, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (r#"hex(hash("SHA-256", "abc"))"#, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (r#"hex(hash("sha256", blob("abc")))"#, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            r#"hex(hash("SHA-384", "abc"))"#,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            r#"hex(hmac("SHA-256", "what do ya want for nothing?", secrets.Jefe))"#,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            r#"hex(hmac("hmacSHA1", blob("what do ya want for nothing?"), blob("Jefe")))"#,
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
    ] {
        assert_eq!(text(formula), expected, "{formula}");
    }
    assert!(text(r#"hex(hash("SHA-512", "abc"))"#).starts_with("ddaf35a193617aba"));
}

#[test]
fn what_fails_says_what_and_holds_no_value() {
    for (formula, clause) in [
        ("int(secrets.KEY)", "`int` refuses its argument"),
        ("secrets.KEY + 1", "a value is of the wrong type"),
        ("secrets.KEY < 1", "a value is of the wrong type"),
        ("{secrets.KEY: 1}[secrets.KEY + 'x']", "there is no such key"),
        ("[1][5]", "a list is too short"),
        ("1 / 0", "it divides by zero"),
        ("9223372036854775807 + 1", "a number is too large"),
        ("secrets.NOPE", "the principal has no secret of the name that it asks for"),
        (r#"request.headers["nope"]"#, "there is no `nope`"),
        (r#"request.headers["x-latin"]"#, "there is no `x-latin`"),
        ("base64_decode(secrets.KEY)", "`base64_decode`: its argument is not base64"),
        (
            "hash(secrets.KEY, 'a')",
            "`hash`: the algorithm is not known; write `SHA-256`, `SHA-384`, `SHA-512` or `SHA-1`",
        ),
        ("hash('SHA-256', 1)", "`hash`: argument 2 is neither bytes nor a text"),
        ("blob(1)", "`blob`: argument 1 is not a text"),
        ("b'\\xff'", "its value is bytes that are no text; encode them"),
        ("[1]", "its value is a list or a map"),
        ("null", "its value is null"),
        ("0.0 / 0.0", "its value is not a finite number"),
    ] {
        assert_eq!(fails(formula), clause, "{formula}");
    }
    let key = fails("sign('RS256', 'a', secrets.KEY)");
    assert!(key.starts_with("`sign`: ") && !key.contains(CANARY), "{key}");
    let key = fails("sign_with_certificate('RSA-SHA256', 'a', 'KEY')");
    assert!(key.starts_with("`sign`: ") && !key.contains(CANARY), "{key}");
}

#[test]
fn unknown_names_are_refused_where_they_stand() {
    for (formula, message, offset) in [
        ("'a' + nope", "there is no variable `nope`", 6),
        ("caller.nam", "`caller` has no member `nam`; there are `caller.name`, `caller.names`", 6),
        ("principal.secret", "`principal` has no member `secret`; there are `principal.name`", 9),
        ("request.body", "`request` has no member `body`", 7),
        ("string(request)", "`request` is not a value; write `request.method`", 7),
        ("caller['name']", "`caller` is not a value", 0),
        ("has(caller.name)", "`caller.name` is always there", 3),
        ("caller.?name", "`caller` is not a value", 0),
        ("sha256('a')", "there is no function `sha256`; beside those of CEL there are `base64_decode`", 6),
        ("'a'.hex()", "there is no function `hex`", 7),
        ("hash('MD5', 'a')", "`hash` does not know `MD5`; write `SHA-256`", 5),
        ("hash('a')", "`hash` takes 2 arguments", 4),
        ("hex('a', 'b')", "`hex` takes 1 argument", 3),
        ("sign('RSA-SHA1', 'a', 'b')", "`sign` does not know `RSA-SHA1`", 5),
        ("sign_with_certificate('RS256', 'a', 'b' + 'c')", "the last argument of `sign_with_certificate`", 40),
        ("request.headers['X-A']", "the names in `request.headers` are in lower case: `x-a`", 15),
        ("'X-A' in request.headers", "the names in `request.headers` are in lower case: `x-a`", 0),
        ("[1].map(secrets, secrets)", "`secrets` is a variable already", 0),
        ("[1].map(a, [2].map(b, b))", "a macro such as `map` or `exists` cannot stand within another", 0),
        ("timestamp('2020-01-01T00:00:00Z')", "there is no function `timestamp`", 9),
        ("Type{a: 1}", "messages cannot be used here", 4),
        ("", "the formula is empty", 0),
        (" ", "the formula is empty", 0),
        ("'a' +", "this is not a CEL expression: unexpected end", 5),
        ("a b", "this is not a CEL expression: unexpected 'b'", 2),
        ("'\u{e9}' + + 'b'", "this is not a CEL expression: unexpected '+'", 7),
        ("{!$Credential.a.b}", "this is not a CEL expression: unexpected '$'", 2),
    ] {
        let (said, at) = refused(formula);
        assert!(said.starts_with(message), "{formula}: {said}");
        // Those of macros stand near the place.
        if !message.contains("macro") && !message.contains("already") {
            assert_eq!(at, offset, "{formula}: {said}");
        }
        assert!(at <= formula.len());
    }
    assert_eq!(refused("'\u{e9}\u{e9}' + nope").1, 9);
}

#[test]
fn what_a_formula_uses_is_known() {
    let uses = |text: &str| Formula::compile(text).unwrap().uses();
    let nothing = Uses { secrets: Some(Vec::new()), ..Uses::default() };
    assert_eq!(uses("'a' + string(now)"), nothing);
    assert_eq!(uses("caller.name"), Uses { caller: true, ..nothing.clone() });
    assert_eq!(uses("request.headers['a'] + request.path"), Uses { request: true, ..nothing.clone() });
    let named =
        |names: &[&str]| Uses { secrets: Some(names.iter().map(|n| (*n).to_owned()).collect()), ..nothing.clone() };
    assert_eq!(uses("secrets.B + secrets['A'] + secrets.B"), named(&["B", "A"]));
    assert_eq!(uses("sign_with_certificate('RS256', 'a', 'my key')"), named(&["my key"]));
    assert_eq!(uses("secrets[principal.name]"), Uses { principal: true, secrets: None, ..nothing.clone() });
    for (text, expected) in [("'a'", false), ("secrets.A", true), ("secrets[caller.name]", true)] {
        assert_eq!(Formula::compile(text).unwrap().uses_secrets(), expected, "{text}");
    }
}

#[test]
fn claims_are_json() {
    let world = World::new();
    let json = |text: &str| Formula::compile(text).unwrap().json(&world.activation());
    for (formula, expected) in [
        ("now - now + 180", serde_json::json!(180)),
        ("caller.names", serde_json::json!(["billing", "sales"])),
        ("{'a': [1, 2.5, true, null, b'x'], 'b': {}}", serde_json::json!({"a": [1, 2.5, true, null, "x"], "b": {}})),
        ("18446744073709551615u", serde_json::json!(u64::MAX)),
    ] {
        assert_eq!(json(formula).unwrap(), expected, "{formula}");
    }
    for formula in ["{1: 2}", "0.0 / 0.0", "b'\\xff'", "optional.none()"] {
        assert!(json(formula).is_err(), "{formula}");
    }
}

#[test]
fn a_result_is_bounded() {
    let world = World::new();
    let long = "x".repeat(40_000);
    let secrets = [("L".to_owned(), Secret::new(long.clone()))];
    let activation = Activation { secrets: &secrets, ..world.activation() };
    let compile = |text: &str| Formula::compile(text).unwrap();
    assert_eq!(compile("secrets.L").text(&activation).unwrap(), long);
    assert_eq!(compile("secrets.L + secrets.L").text(&activation).unwrap_err().0, "its value is longer than 64 KiB");
    assert!(compile("[secrets.L, secrets.L]").json(&activation).is_err());
    let nested = format!("{}secrets.L{}", "hex(".repeat(40), ")".repeat(40));
    assert_eq!(compile(&nested).text(&activation).unwrap_err().0, "`hex`: an argument is longer than 1 MiB");
}

#[test]
fn long_and_deep_texts_are_refused() {
    assert!(Formula::compile(&format!("'{}'", "\u{e9}".repeat(3_898))).is_ok());
    let (message, offset) = refused(&format!("'{}'", "\u{e9}".repeat(3_899)));
    assert_eq!((message.as_str(), offset), ("the formula is longer than 3900 characters", 1 + 2 * 3_899));
    let deep = [
        format!("1{}", "+1".repeat(1_949)),
        format!("request{}", ".a".repeat(1_940)),
        format!("caller.names{}", "[0]".repeat(1_200)),
        format!("{}true", "!".repeat(3_800)),
        format!("{}1", "-".repeat(3_800)),
        format!("{}1", "-(".repeat(1_900)),
        format!("{}1{}", "(".repeat(1_900), ")".repeat(1_900)),
        format!("{}1{}", "[".repeat(1_900), "]".repeat(1_900)),
        format!("{}1{}", "{1:".repeat(900), "}".repeat(900)),
        "[".repeat(3_900),
        "(".repeat(3_900),
        format!("{}1", "true?1:".repeat(500)),
        format!("{}1", "true?".repeat(700)),
        format!("1{}", " in 1".repeat(700)),
        format!("'a'{}", ".size()".repeat(500)),
        format!("1{}", "&&1".repeat(1_200)),
        format!("1{}", "==1".repeat(1_200)),
        "hex(".repeat(900),
        "a.map(a,".repeat(400),
        "\"".repeat(3_899),
        "\\(".repeat(1_900),
    ];
    for text in deep {
        let start = text.get(..20).unwrap_or(&text).to_owned();
        match Formula::compile(&text) {
            Ok(formula) => assert!(["!!", "--", "1&&"].iter().any(|shallow| start.starts_with(shallow)), "{formula:?}"),
            Err(error) => assert!(error.offset <= text.len(), "{start}"),
        }
    }
}

#[test]
fn the_deepest_formula_needs_a_small_part_of_a_stack() {
    let evaluate = || {
        for deepest in [
            format!("1{}", "+1".repeat(62)),
            format!("{}'a'{}", "hex(".repeat(3), ")".repeat(3)),
            format!("{}1{}", "[".repeat(60), "]".repeat(60)),
        ] {
            let formula = Formula::compile(&deepest).unwrap();
            let _ = formula.json(&Activation::default());
        }
    };
    let thread = std::thread::Builder::new().stack_size(768 * 1024).spawn(evaluate).unwrap();
    thread.join().unwrap();
}

#[test]
fn debug_and_source_are_the_text() {
    let formula = Formula::compile("secrets.KEY").unwrap();
    assert_eq!(formula.source(), "secrets.KEY");
    assert_eq!(format!("{formula:?}"), "Formula(\"secrets.KEY\")");
}

/// Pieces of formulas in any order: most are nonsense, some are not.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "caller",
        "caller.name",
        "principal",
        "request.headers",
        "secrets",
        ".KEY",
        ".",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "'a'",
        "\"",
        "'",
        "\\",
        "1",
        "0",
        "1u",
        "1.5",
        "-",
        "+",
        "*",
        "/",
        "%",
        "!",
        "==",
        "<",
        "in",
        "&&",
        "||",
        "?",
        ":",
        ",",
        "hex(",
        "hash('SHA-256',",
        "sign(",
        "map(x,",
        "has(",
        "now",
        "null",
        "true",
        "b'\\xff'",
        "r'",
        "//",
        "\n",
        "é",
        "size(",
        "optional.of(",
        ".matches('",
        "matches('a','[')",
        "int(",
        "x",
        "type(",
        "@",
        "`",
        "\u{0}",
        "{'a':1}",
        ".value()",
        ".orValue(",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic_or_tell_a_secret(text in prop_oneof![pieces(), any::<String>()]) {
        let world = World::new();
        match Formula::compile(&text) {
            Err(error) => prop_assert!(error.offset <= text.len() && text.is_char_boundary(error.offset)),
            Ok(formula) => {
                for activation in [world.activation(), Activation::default()] {
                    for error in [formula.text(&activation).err(), formula.json(&activation).err()].into_iter().flatten() {
                        prop_assert!(!error.to_string().contains(CANARY), "{}", error);
                    }
                }
            }
        }
    }
}
