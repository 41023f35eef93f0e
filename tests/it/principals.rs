//! Who acts for whom: several principals under one external credential, each with secrets and tokens of its own.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::canary::Scanner;
use crate::support::proxy::{Setup, path};
use crate::support::recorder::Reply;
use crate::support::scene::{Scene, TokenEndpoint, basic, sha256, token};
use crate::support::scripted::answer;

const BILLING: (&str, &str) = ("X-Api-Key", "the-key-of-billing");
const AUDIT: (&str, &str) = ("X-Audit-Key", "the-key-of-audit");
const OTHER: (&str, &str) = ("X-Other-Key", "the-key-of-nobody-in-particular");

const SECRETS: [(&str, &str); 3] = [
    ("BOOKS_SECRET", "c4n4ry-B00ks-Yk2Lw7Rd5Vn1"),
    ("DESK_SECRET", "c4n4ry-De5k-Jf8Sx3Qc6Bm9"),
    ("NIGHT_SECRET", "c4n4ry-N1ght-Ao4Tg0Hz7Pe2"),
];

/// Two named credentials over one external credential; its principals are not written in their order.
const TABLES: &str = r#"
[named_credentials.ledger]
url = "http://{upstream}/ledger"
external_credential = "several"

[named_credentials.journal]
url = "http://{upstream}/journal"
external_credential = "several"

[external_credentials.several]
token_endpoint = "http://{endpoint}/token"
headers = [{ name = "x-pin", value = { formula = "secrets.PIN" } }]
secrets = { PIN = { dangerous_literal = "the-pin-of-all" } }

[[external_credentials.several.principals]]
name = "night"
sequence = 30
client_id = "client-of-night"
client_secret = { env = "NIGHT_SECRET" }
{night}

[[external_credentials.several.principals]]
name = "books"
sequence = 10
client_id = "client-of-books"
client_secret = { env = "BOOKS_SECRET" }
secrets = { PIN = { dangerous_literal = "the-pin-of-books" } }
callers = ["audit"]

[[external_credentials.several.principals]]
name = "desk"
sequence = 20
client_id = "client-of-desk"
client_secret = { env = "DESK_SECRET" }
callers = ["billing", "audit"]
"#;

/// The tables, with the callers of the last principal.
fn tables(night: &str) -> String {
    let callers = [("billing", BILLING), ("audit", AUDIT), ("other", OTHER)].map(|(name, (field, key))| {
        format!("[callers.{name}]\napi_key_sha256 = \"{}\"\nheader = \"{}\"\n", sha256(key), field.to_lowercase())
    });
    callers.concat() + &TABLES.replace("{night}", night)
}

fn secrets(setup: Setup) -> Setup {
    SECRETS.into_iter().fold(setup, |setup, (name, value)| setup.env(name, value))
}

/// A token endpoint that names the client in its tokens: `client-1`, `client-2` and so on.
async fn naming() -> TokenEndpoint {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    TokenEndpoint::answering(move |request| {
        let client = basic(request.authorization()).split(':').next().unwrap().to_owned();
        let count = counts.entry(client.clone()).and_modify(|count| *count += 1).or_insert(1);
        token(&format!("{client}-{count}"))
    })
    .await
}

#[tokio::test]
async fn the_first_by_sequence_that_admits_the_caller_acts() {
    let scene = Scene::before(naming().await, &tables(""), secrets).await;
    let cases = [
        (&[AUDIT][..], "books", "the-pin-of-books"),
        (&[BILLING], "desk", "the-pin-of-all"),
        (&[BILLING, AUDIT], "books", "the-pin-of-books"),
        (&[OTHER], "night", "the-pin-of-all"),
        (&[], "night", "the-pin-of-all"),
    ];
    for (fields, principal, pin) in cases {
        let seen = scene.pass("/ledger/x", fields).await;
        assert_eq!(seen.bearer(), format!("client-of-{principal}-1"), "{fields:?}");
        assert_eq!(seen.fields("x-pin"), [pin]);
    }
    let log = scene.proxy.exchanges(cases.len()).await;
    let logged: Vec<&Value> = log.iter().map(|line| &line["principal"]).collect();
    assert_eq!(logged, ["books", "desk", "books", "night", "night"]);

    let proofs: Vec<String> = scene.endpoint.asked().iter().map(|asked| basic(asked.authorization())).collect();
    let expected = [("books", SECRETS[0].1), ("desk", SECRETS[1].1), ("night", SECRETS[2].1)];
    assert_eq!(proofs, expected.map(|(name, secret)| format!("client-of-{name}:{secret}")), "each with its own secret");
}

#[tokio::test]
async fn a_caller_whom_no_principal_admits_is_told_so_and_no_token_is_asked_for() {
    let scene = Scene::before(naming().await, &tables("callers = [\"billing\"]"), secrets).await;
    let mut scanner = Scanner::default();
    for (name, secret) in SECRETS {
        scanner.add(name, secret);
    }
    for fields in [&[][..], &[OTHER]] {
        let answer = scene.get("/ledger/x", fields).await;
        answer.assert_problem(403, &format!("{fields:?}"));
        let problem = answer.json();
        assert_eq!(problem["detail"], "no principal of the external credential several admits this caller");
        assert!(scanner.find(&answer.text()).is_empty() && !answer.text().contains("the-key"), "{}", answer.text());
        for hidden in ["books", "desk", "night", "client-of", "_SECRET", "PIN"] {
            assert!(!answer.text().contains(hidden), "{hidden} in {}", answer.text());
        }
    }
    scene.assert_untouched();
    scene.pass("/ledger/x", &[AUDIT]).await;
    scene.get("/journal/x", &[OTHER]).await.assert_problem(403, "not even with live tokens");
    assert_eq!(scene.endpoint.asked().len(), 1);
}

/// C10: named credentials with the same principal share its token.
#[tokio::test]
async fn named_credentials_with_the_same_principal_share_its_token() {
    let scene = Scene::before(naming().await, &tables(""), secrets).await;
    let calls = (0..32).map(|number| {
        let scene = &scene;
        async move { scene.get(["/ledger/x", "/journal/x"][number % 2], &[AUDIT]).await.status }
    });
    assert!(futures_util::future::join_all(calls).await.into_iter().all(|status| status == 200));
    assert_eq!(scene.endpoint.asked().len(), 1, "one mint");
    assert!(scene.upstream.requests().iter().all(|seen| seen.bearer() == "client-of-books-1"));

    // Renewed by one of them, it is new for both; and the other principals keep theirs.
    scene.pass("/ledger/x", &[BILLING]).await;
    scene.upstream.next(Reply::new(answer(401, &[], b"")));
    assert_eq!(scene.pass("/journal/x", &[AUDIT]).await.bearer(), "client-of-books-2");
    assert_eq!(scene.pass("/ledger/x", &[AUDIT]).await.bearer(), "client-of-books-2");
    assert_eq!(scene.pass("/journal/x", &[BILLING]).await.bearer(), "client-of-desk-1");
    assert_eq!(scene.endpoint.asked().len(), 3);
}

#[tokio::test]
async fn a_principal_that_the_token_endpoint_refuses_is_nobody_elses_trouble() {
    let endpoint = TokenEndpoint::answering(|request| {
        if basic(request.authorization()).starts_with("client-of-books:") {
            return answer(401, &[("content-type", "application/json")], br#"{"error":"invalid_client"}"#);
        }
        token("good")
    })
    .await;
    let scene = Scene::before(endpoint, &tables(""), secrets).await;
    for _ in 0..10 {
        scene.get("/ledger/x", &[AUDIT]).await.assert_problem(502, "books");
        assert_eq!(scene.pass("/ledger/x", &[BILLING]).await.bearer(), "good");
    }
    let asked = scene.endpoint.asked();
    let books = asked.iter().filter(|asked| basic(asked.authorization()).starts_with("client-of-books:")).count();
    assert!((1..=3).contains(&books) && asked.len() == books + 1, "{books} of {}", asked.len());
}

#[tokio::test]
async fn explain_names_the_principal_without_asking_anyone() {
    let scene = Scene::before(naming().await, &tables("callers = [\"billing\"]"), secrets).await;
    let config = scene.proxy.setup.config();
    for (field, principal, status) in [(AUDIT, "books", 0), (BILLING, "desk", 0), (OTHER, "none", 1)] {
        let field = format!("{}: {}", field.0, field.1);
        let arguments = ["explain", "GET", "http://localhost/ledger/x", "-H", &field, "-c", path(&config)];
        let output = scene.proxy.setup.output(&arguments).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(text.contains(&format!("principal            {principal}\n")), "{text}");
        assert!(!text.contains("c4n4ry") && !text.contains("the-key-of") && !text.contains("the-pin"), "{text}");
    }
    scene.assert_untouched();
}
