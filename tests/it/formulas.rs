//! Values that are computed for each exchange: what formulas see and what they do not, the tokens that depend on them,
//! and what becomes of an exchange when one gives nothing.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::canary::Scanner;
use crate::support::http::{Connection, request};
use crate::support::metrics::Scrape;
use crate::support::proxy::{Setup, head, path};
use crate::support::recorder::Reply;
use crate::support::scene::{Scene, hex, sha256};
use crate::support::scripted::answer;

/// What formulas sign and log in with.
const KEY: &str = "c4n4ry/F0rmu1a+Kd8=Wm3 %uYs6&Lb2:Hv5";
/// What callers prove themselves with.
const BILLING: (&str, &str) = ("X-Api-Key", "c4n4ry-Bi11ing-Gt4Nq9Zx2Rf7");
const AUDIT: (&str, &str) = ("X-Api-Key", "c4n4ry-Aud1t-Pw6Jc1Vk8Ed3");

/// Two callers, and an external credential with a secret for formulas and these further lines.
fn tables(external: &str) -> String {
    format!(
        "[callers.billing]\napi_key_sha256 = \"{}\"\n[callers.audit]\napi_key_sha256 = \"{}\"\n\
         [external_credentials.issuer]\ntoken_endpoint = \"http://{{endpoint}}/token\"\nclient_id = \"the-client\"\n\
         client_secret = {{ env = \"CLIENT_SECRET\" }}\nsecrets = {{ KEY = {{ env = \"KEY\" }} }}\n{external}\n",
        sha256(BILLING.1),
        sha256(AUDIT.1),
    )
}

/// A named credential with these fields.
fn named(name: &str, headers: &str) -> String {
    format!(
        "[named_credentials.{name}]\nurl = \"http://{{upstream}}/v1\"\nexternal_credential = \"issuer\"\n\
         headers = [{headers}]\n"
    )
}

async fn scene(tables: &str) -> Scene {
    Scene::start(tables, |setup| setup.env("CLIENT_SECRET", "the-client-secret-0123456789").env("KEY", KEY)).await
}

/// Fields of the named credential.
const NAMED: &str = r#"
    { name = "x-who", value = { formula = 'caller.name + "/" + principal.name + "/" + principal.client_id' } },
    { name = "x-line", value = { formula = 'request.method + " " + request.host + request.path + "?" + request.query' } },
    { name = "x-asked", value = { formula = '"for " + request.headers["x-asked"]' } },
    { name = "x-both", value = { formula = '"the named credential, " + caller.name' } },
    { name = "x-nothing", value = { formula = 'caller.name == "audit" ? "something" : ""' } },
    { name = "x-fixed", value = "as it is" }
"#;

/// Fields of the external credential.
const EXTERNAL: &str = r#"headers = [
    { name = "x-both", value = { formula = '"the external credential"' } },
    { name = "x-login", value = { formula = '"Basic " + base64_encode(principal.client_id + ":" + secrets.KEY)' } },
    { name = "x-signature", value = { formula = 'hex(hmac("SHA-256", request.method + request.path, secrets.KEY))' } },
    { name = "x-hash", value = { formula = 'hex(hash("SHA-256", blob(request.query)))' } },
    { name = "x-seen", value = { formula = '["authorization", "proxy-authorization", "cookie", "dpop", "x-api-key", "x-login"].filter(name, name in request.headers).map(name, name + request.headers[name]).size()' } },
    { name = "x-decoded", value = { formula = 'string(base64_decode("aGVsbG8="))' } },
]"#;

#[tokio::test]
async fn fields_are_computed_from_caller_principal_request_and_secrets() {
    let scene = scene(&(named("orders", NAMED) + &tables(EXTERNAL))).await;
    let mut caller = Connection::open(scene.proxy.address).await.unwrap();
    let own = [
        BILLING,
        ("X-Asked", "one"),
        ("X-Asked", "two"),
        ("X-Nothing", "the caller's"),
        ("X-Fixed", "the caller's"),
        ("Authorization", "Bearer the-caller's-own"),
        ("Proxy-Authorization", "Basic dGhlOmNhbGxlcg=="),
        ("Cookie", "session=the-caller's-own"),
        ("DPoP", "the-caller's-own"),
    ];
    for (method, body) in [("GET", &b""[..]), ("POST", b"an order")] {
        let sent = request(method, "/orders/a%20b;c?x=1&y=%7E", &own, body);
        let answer = caller.exchange(&sent).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = scene.upstream.last();
        let signed = format!("{method}/orders/a%20b;c");
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()), signed.as_bytes());
        for (name, value) in [
            ("x-who", "billing/default/the-client".to_owned()),
            ("x-line", format!("{method} localhost/orders/a%20b;c?x=1&y=%7E")),
            ("x-asked", "for one, two".to_owned()),
            ("x-both", "the named credential, billing".to_owned()),
            ("x-fixed", "as it is".to_owned()),
            ("x-login", format!("Basic {}", STANDARD.encode(format!("the-client:{KEY}")))),
            ("x-signature", hex(signature.as_ref())),
            ("x-hash", sha256("x=1&y=%7E")),
            ("x-seen", "0".to_owned()),
            ("x-decoded", "hello".to_owned()),
            ("authorization", "Bearer token-1".to_owned()),
        ] {
            assert_eq!(seen.fields(name), [value], "{name} in:\n{}", seen.head);
        }
        assert!(seen.fields("x-nothing").is_empty(), "an empty value leaves the field out:\n{}", seen.head);
        assert!(!seen.head.contains("the-caller's-own"), "{}", seen.head);
    }
    let seen = scene.pass("/orders/x", &[AUDIT, ("X-Asked", "once")]).await;
    assert_eq!(seen.fields("x-nothing"), ["something"]);
    assert_eq!(seen.fields("x-who"), ["audit/default/the-client"]);
    let seen = scene.pass("/orders/x", &[("X-Asked", "once")]).await;
    assert_eq!(seen.fields("x-who"), ["/default/the-client"], "nobody in particular");
}

/// A replay is the same exchange: nothing is computed anew, and nothing gets lost.
#[tokio::test]
async fn a_replay_carries_the_same_computed_fields() {
    let scene = scene(&(named("orders", NAMED) + &tables(EXTERNAL))).await;
    scene.upstream.next(Reply::new(answer(401, &[], b"")));
    scene.pass("/orders/x?y=1", &[BILLING, ("X-Asked", "one")]).await;
    let seen = scene.upstream.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].bearer(), seen[1].bearer()), ("token-1", "token-2"));
    assert_eq!(seen[0].head.replace("token-1", "token-2"), seen[1].head);
}

/// C29: a formula that gives nothing ends the exchange before anything is sent.
#[tokio::test]
async fn a_formula_that_gives_nothing_ends_the_exchange_before_anything_is_sent() {
    const FORMULAS: [(&str, &str); 7] = [
        ("missing", "request.headers[\"x-missing\"]"),
        ("number", "string(int(request.headers[\"x-number\"]))"),
        ("of_secret", "string(int(secrets.KEY))"),
        ("two_lines", "secrets.KEY + \"\\r\\nx-injected: 1\""),
        ("no_text", "base64_decode(\"/w==\")"),
        ("no_base64", "string(base64_decode(secrets.KEY))"),
        ("no_key", "base64_encode(sign(\"RS256\", request.path, secrets.KEY))"),
    ];
    const CALLERS: &str = "c4n4ry-Numb3r-Hs5Xd0Qm7Ty2";
    let fields = FORMULAS
        .map(|(name, text)| named(name, &format!("{{ name = \"x-computed\", value = {{ formula = '{text}' }} }}")));
    let scene = scene(&(fields.concat() + &tables(""))).await;
    let mut scanner = Scanner::default();
    scanner.add("the key", KEY);
    scanner.add("the caller's field", CALLERS);
    for (name, _) in FORMULAS {
        let answer = scene.get(&format!("/{name}/x"), &[("X-Number", CALLERS)]).await;
        answer.assert_problem(500, name);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with("field `x-computed`: "), "it says which: {detail}");
        assert!(scanner.find(&answer.text()).is_empty(), "{}", answer.text());
        assert!(!answer.text().contains("KEY"), "nor the secret's name: {}", answer.text());
    }
    scene.assert_untouched();
    let log = scene.proxy.exchanges(FORMULAS.len()).await;
    assert!(log.iter().all(|line| line["status"] == 500 && line["error"] == "proxy_configuration_error"), "{log:#?}");
    let printed = scene.proxy.process.stdout.text() + &scene.proxy.process.stderr.text();
    assert!(scanner.find(&printed).is_empty(), "{printed}");
}

const BY_CALLER: &str = r#"
scope = { formula = 'caller.name == "audit" ? "orders.read" : caller.name == "billing" ? "orders.write" : ""' }
audience = { formula = '"https://" + request.headers["x-tenant"] + ".example"' }
"#;

/// C10: each scope and audience has one token of its own.
#[tokio::test]
async fn each_scope_and_audience_has_one_token_of_its_own() {
    let config = named("orders", "") + &named("ledger", "") + &tables(BY_CALLER);
    let scene = scene(&config).await;
    let (north, south) = (("X-Tenant", "north"), ("X-Tenant", "south"));
    let exchanges = [
        ([BILLING, north], "token-1"),
        ([AUDIT, north], "token-2"),
        ([BILLING, south], "token-3"),
        ([("X-Other", "1"), south], "token-4"),
    ];
    for _ in 0..3 {
        for (fields, token) in &exchanges {
            for target in ["/orders/x", "/ledger/x"] {
                assert_eq!(scene.pass(target, fields).await.bearer(), *token, "{fields:?}");
            }
        }
    }
    let asked = scene.endpoint.parameters();
    let asked: Vec<_> = asked.iter().map(|sent| (sent.get("scope").map(String::as_str), &*sent["audience"])).collect();
    let (north, south) = ("https://north.example", "https://south.example");
    let (read, write) = (Some("orders.read"), Some("orders.write"));
    assert_eq!(asked, [(write, north), (read, north), (write, south), (None, south)], "one mint each");

    // A refused token is renewed, and none of the others.
    scene.upstream.next(Reply::new(answer(401, &[], b"")));
    assert_eq!(scene.pass("/orders/x", &exchanges[1].0).await.bearer(), "token-5");
    for ((fields, _), token) in exchanges.iter().zip(["token-1", "token-5", "token-3", "token-4"]) {
        assert_eq!(scene.pass("/ledger/x", fields).await.bearer(), token);
    }
    assert_eq!(scene.endpoint.asked().len(), 5);
    assert_eq!(scene.endpoint.parameters()[4]["scope"], "orders.read");
}

/// C16: callers at once with the same scope cost one mint.
#[tokio::test]
async fn callers_at_once_with_the_same_scope_cost_one_mint() {
    let scene = scene(&(named("orders", "") + &tables(BY_CALLER))).await;
    let callers = (0..32).map(|number| {
        let tenant = ["north", "south"][number % 2];
        let scene = &scene;
        async move { scene.get("/orders/x", &[BILLING, ("X-Tenant", tenant)]).await.status }
    });
    let answers: BTreeSet<u16> = futures_util::future::join_all(callers).await.into_iter().collect();
    assert_eq!(answers, BTreeSet::from([200]));
    assert_eq!(scene.endpoint.asked().len(), 2);
}

#[tokio::test]
async fn a_scope_that_cannot_be_computed_asks_for_no_token() {
    let scene = scene(&(named("orders", "") + &tables(BY_CALLER))).await;
    let answer = scene.get("/orders/x", &[BILLING]).await;
    answer.assert_problem(500, "no tenant");
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("scope or audience: "), "{}", answer.text());
    scene.assert_untouched();
}

#[tokio::test]
async fn a_secret_that_a_formula_uses_is_shown_nowhere() {
    let keys = "scope = { formula = '\"s-\" + hex(hash(\"SHA-256\", secrets.KEY))' }\n";
    let broken = "{ name = \"x-broken\", value = { formula = 'string(int(secrets.KEY))' } }";
    let config = named("orders", NAMED) + &named("broken", broken) + &tables(&format!("{keys}{EXTERNAL}"));
    let mut scene = scene(&config).await;
    let mut scanner = Scanner::default();
    scanner.add("the key", KEY);
    scanner.add("the caller's key", BILLING.1);
    let mut shown = Vec::new();
    for target in ["/orders/x", "/broken/x"] {
        shown.push(scene.get(target, &[BILLING, ("X-Asked", "one")]).await.text());
    }
    scene.upstream.next(Reply::new(answer(401, &[], b"")));
    shown.push(scene.get("/orders/x", &[BILLING, ("X-Asked", "one")]).await.text());
    let signature = scene.upstream.last().fields("x-signature")[0].to_owned();
    scanner.add("what was made of it", &signature);
    let config = scene.proxy.setup.config();
    let key = format!("x-api-key: {}", BILLING.1);
    let explain = ["explain", "GET", "http://localhost/orders/x", "-H", "x-asked: one", "-H", &key];
    let commands: [&[&str]; 6] = [
        &["check"],
        &["check", "--format", "json"],
        &explain,
        &[&explain[..], &["--format", "json"]].concat(),
        &["explain", "GET", "http://localhost/broken/x"],
        &["token", "orders"],
    ];
    for arguments in commands {
        let output = scene.proxy.setup.output(&[arguments, &["-c", path(&config)]].concat()).await;
        shown.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
    }
    let _ = Scrape::of(&scene.proxy).await;
    for target in ["/metrics", "/status", "/"] {
        shown.push(scene.proxy.admin(target).await.unwrap().text());
    }
    scene.proxy.process.terminate();
    scene.proxy.process.exit().await;
    shown.extend([scene.proxy.process.stdout.text(), scene.proxy.process.stderr.text()]);
    for text in shown {
        assert!(!text.is_empty());
        assert!(scanner.find(&text).is_empty(), "{:?} in:\n{text}", scanner.find(&text));
    }
}

#[tokio::test]
async fn explain_says_which_fields_are_computed_and_masks_what_they_hold() {
    let scene = scene(&(named("orders", NAMED) + &tables(&format!("{EXTERNAL}\n{BY_CALLER}")))).await;
    let config = scene.proxy.setup.config();
    let key = format!("x-api-key: {}", AUDIT.1);
    let mut arguments = vec!["explain", "GET", "http://localhost/orders/x", "-H", "x-asked: one", "-H", &key];
    arguments.extend(["-H", "x-tenant: north", "--format", "json", "-c", path(&config)]);
    // As it is run on a machine that has none of the secrets, and on one that has all.
    for command in [
        scene.proxy.setup.command(&arguments).env_remove("KEY").env_remove("CLIENT_SECRET"),
        &mut scene.proxy.setup.command(&arguments),
    ] {
        let output = command.output().await.unwrap();
        let text = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        let explained: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&explained["callers"][0], &explained["principal"]), (&"audit".into(), &"default".into()));
        let headers = explained["request"]["headers"].as_array().unwrap();
        for name in ["x-who", "x-line", "x-asked", "x-both", "x-nothing", "x-fixed", "x-login", "x-signature"] {
            let values: Vec<_> = headers.iter().filter(|field| field[0] == name).map(|field| &field[1]).collect();
            assert_eq!(values, [&serde_json::Value::from("********")], "{name}: {text}");
        }
    }
    scene.assert_untouched();
}

/// Nothing is known about a secret that was not read, least of all that a formula could not use it.
#[tokio::test]
async fn explain_evaluates_no_formula_over_secrets_that_it_has_not_read() {
    let signed = "{ name = \"x-signed\", value = { formula = 'hex(sign(\"ES256\", request.path, secrets.PEM))' } },\
                  { name = \"x-number\", value = { formula = 'string(int(secrets.KEY))' } }";
    let scope = "scope = { formula = 'string(int(secrets.KEY)) + request.headers[\"x-tenant\"]' }";
    let tables =
        (named("orders", signed) + &tables(scope)).replace("KEY = {", "PEM = { file = \"no-such.pem\" }, KEY = {");
    let config = head("info") + &tables.replace("{endpoint}", "127.0.0.1:1").replace("{upstream}", "127.0.0.1:1");
    let setup = Setup::new(&config);
    let output = setup.output(&["explain", "GET", "http://localhost/orders/x"]).await;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in ["x-signed: ********", "x-number: ********", "authorization: Bearer ********"] {
        assert!(text.contains(line), "{line} in:\n{text}");
    }
}

/// Without a caller there is no such scope, which is nobody's mistake.
#[tokio::test]
async fn commands_that_mint_say_that_a_scope_depends_on_the_request() {
    let alone = "[external_credentials.alone]\ntoken_endpoint = \"http://{endpoint}/token\"\nclient_id = \"alone\"\n\
                 client_secret = { env = \"CLIENT_SECRET\" }\n\
                 scope = { formula = 'caller.name + principal.client_id' }\n";
    let second = "[named_credentials.alone]\nurl = \"http://{upstream}\"\nexternal_credential = \"alone\"\n";
    let scene = scene(&(named("orders", "") + second + &tables(BY_CALLER) + alone)).await;
    let run = async |arguments: &[&str]| {
        let output = scene.proxy.setup.output(arguments).await;
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (status, text) = run(&["check", "--online"]).await;
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("issuer: not tried, scope or audience depends on the caller's request"), "{text}");
    assert!(text.contains("alone/default: got a token"), "{text}");
    assert_eq!(scene.endpoint.parameters().len(), 1);
    assert_eq!(scene.endpoint.parameters()[0]["scope"], "alone", "as for a caller who is not known");
    let (status, text) = run(&["token", "orders"]).await;
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("scope or audience of `issuer` depends on the caller's request"), "{text}");
    assert_eq!(scene.endpoint.parameters().len(), 1);
}
