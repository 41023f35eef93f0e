//! What goes out beside the token: whose field counts, what formulas see, and what a caller cannot slip in.

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use tokio::runtime::Handle;

use super::super::decide::{self, Decision, Found};
use super::super::explain::{self, Explanation};
use super::super::plan::{NamedCredential, Plan};
use super::super::prepare::{Context, Prepared, TrailerRule};
use super::super::settings::{
    CredentialLimits, Forwarded, HostHeader, NamedCredential as Settings, Replay, Streams, Timeouts,
};
use super::super::stop::Stop;
use crate::access_log::RequestId;
use crate::answer::Failure;
use crate::caller::Callers;
use crate::formula::Formula;
use crate::header::Pseudonym;
use crate::metrics::Metrics;
use crate::name::Name;
use crate::peer::Peer;
use crate::route::{Match, Route};
use crate::secret::Secret;
use crate::server::{Address, Connection, ListenerSettings};
use crate::target::PathRules;
use crate::token::{self, ExternalCredential, Flow, HeaderValueSource, Minters, Text};
use crate::upstream::Endpoint;

type Field = (HeaderName, HeaderValueSource);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn fixed(name: &'static str, value: &'static str) -> Field {
    (HeaderName::from_static(name), HeaderValueSource::Fixed(HeaderValue::from_static(value)))
}

fn formula(name: &'static str, text: &str) -> Field {
    (HeaderName::from_static(name), HeaderValueSource::Formula(Arc::new(Formula::compile(text).unwrap())))
}

fn settings(headers: Vec<Field>) -> Settings {
    Settings {
        name: name("orders"),
        label: None,
        enabled: true,
        matching: Match { host: None, path: "/orders".to_owned(), methods: None },
        callers: None,
        endpoint: Endpoint::new(None, "api.example.com".parse().unwrap()),
        from_token: None,
        base_path: "/v1".to_owned(),
        path: PathRules::default(),
        host_header: HostHeader::Upstream,
        external_credential: Some(name("apigee")),
        generate_authorization_header: true,
        headers,
        remove_headers: vec![HeaderName::from_static("x-tenant")],
        keep_cookies: false,
        forwarded: Forwarded::None,
        replay: Replay::Unset,
        replay_limit: 0,
        limits: CredentialLimits::default(),
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(1),
            idle: Duration::from_secs(1),
            total: None,
            continue_: Duration::from_secs(1),
        },
        streams: Streams::default(),
    }
}

fn external(change: impl FnOnce(&mut token::Settings)) -> Arc<ExternalCredential> {
    let mut settings = token::Settings::sample("http://127.0.0.1:1/token".parse().unwrap());
    settings.principals[0].secrets = vec![("KEY".to_owned(), Secret::new("canary-1".to_owned()))];
    change(&mut settings);
    Minters::new(Handle::current(), Metrics::default()).external_credential(&settings)
}

fn plan(settings: Settings, external: Arc<ExternalCredential>) -> Plan {
    let metrics = Metrics::default().named_credential(&settings.name);
    Plan::new([NamedCredential::new(settings, Some(external), metrics)], Callers::default()).unwrap()
}

fn request(fields: &[(&'static str, &'static str)]) -> Parts {
    let mut request = Request::builder().method("POST").uri("/orders/42?x=1").header(HOST, "127.0.0.1:8080");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn connection() -> Connection {
    let listener = ListenerSettings::new(name("default"), Address::Tcp("127.0.0.1:8080".parse().unwrap()));
    Connection::new(Peer::Tcp("127.0.0.1:5000".parse().unwrap()), Arc::new(listener))
}

fn prepared(plan: &Plan, fields: &[(&'static str, &'static str)]) -> Result<Prepared, Stop> {
    let (connection, pseudonym) = (connection(), Pseudonym::default());
    let id = RequestId::fixed("1");
    let context = Context { connection: &connection, pseudonym: &pseudonym, id: &id, has_secrets: true };
    match decide::decide(request(fields), plan, &context, &mut Found::default())? {
        Decision::Forward(prepared) => Ok(*prepared),
        Decision::PassThrough(..) | Decision::Tunnel(_) | Decision::Answer(_) => panic!("to be forwarded"),
    }
}

fn explained(plan: &Plan, fields: &[(&'static str, &'static str)]) -> Explanation {
    explain::explain(request(fields), plan, &connection())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn the_named_credentials_field_replaces_the_external_credentials() {
    let external = external(|external| {
        external.headers = vec![fixed("x-a", "external"), formula("x-b", "'external'"), fixed("x-c", "external")];
    });
    let plan = plan(settings(vec![formula("x-a", "'named'"), fixed("x-b", "named"), fixed("x-d", "named")]), external);
    let sent = prepared(&plan, &[("x-c", "caller"), ("x-d", "caller")]).unwrap();
    for (name, value) in [("x-a", "named"), ("x-b", "named"), ("x-c", "external"), ("x-d", "named")] {
        assert_eq!(text(&sent.headers, name), Some(value), "{name}");
        assert_eq!(sent.headers.get_all(name).iter().count(), 1);
    }
}

#[tokio::test]
async fn a_formula_sees_the_callers_request_without_its_credentials() {
    let seen = "request.method + ' ' + request.host + ' ' + request.path + ' ' + request.query + ' ' + principal.name \
                + ' ' + request.headers['x-tenant'] + ' ' + string(has(request.headers.authorization)) \
                + string('x-key' in request.headers) + string(has(request.headers.cookie))";
    let external = external(|external| external.headers = vec![fixed("x-key", "k")]);
    let plan = plan(settings(vec![formula("x-seen", seen)]), external);
    let sent = prepared(&plan, &[("x-tenant", "blue"), ("authorization", "a"), ("x-key", "b"), ("cookie", "c")]);
    let headers = sent.unwrap().headers;
    let expected = "POST 127.0.0.1:8080 /orders/42 x=1 default blue falsefalsefalse";
    assert_eq!(text(&headers, "x-seen"), Some(expected));
    assert_eq!(text(&headers, "x-tenant"), None, "removed after it was read");
}

#[tokio::test]
async fn values_made_with_secrets_are_sensitive_and_an_empty_value_sends_no_field() {
    let external = external(|external| {
        external.headers = vec![formula("x-api-key", "secrets.KEY"), formula("x-plain", "'a'"), formula("x-no", "''")];
    });
    let plan = plan(settings(vec![formula("x-signed", "hex(hmac('SHA-256', request.path, secrets.KEY))")]), external);
    let headers = prepared(&plan, &[("x-no", "caller")]).unwrap().headers;
    assert_eq!(text(&headers, "x-api-key"), Some("canary-1"));
    for (name, sensitive) in [("x-api-key", true), ("x-plain", false), ("x-signed", true)] {
        assert_eq!(headers[name].is_sensitive(), sensitive, "{name}");
    }
    assert!(!headers.contains_key("x-no"));
}

#[tokio::test]
async fn a_caller_cannot_put_a_field_of_the_credential_anywhere() {
    let plan_of =
        |headers| plan(settings(vec![fixed("x-version", "2")]), external(|external| external.headers = headers));
    let plan = plan_of(vec![fixed("x-signature", "ours")]);
    assert_eq!(prepared(&plan, &[("x_signature", "caller")]).err().unwrap().failure, Failure::BadRequest);
    // A server that folds names would see two of what tells it who calls, and may take the caller's.
    assert_eq!(prepared(&plan, &[("x_version", "caller")]).err().unwrap().failure, Failure::BadRequest);
    let plan = Arc::new(plan);
    let Route::Found { value, .. } = plan.routes.route(None, "/orders", &Method::GET) else { panic!("it matches") };
    let named = Arc::clone(value);
    let mut trailers = HeaderMap::new();
    for field in ["x-signature", "x_signature", "x-version", "x_version", "x-checksum"] {
        trailers.insert(field, HeaderValue::from_static("caller"));
    }
    TrailerRule { named, plan: Arc::clone(&plan) }.apply(&mut trailers);
    assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-checksum"]);
}

#[tokio::test]
async fn a_formula_that_fails_stops_the_exchange_and_tells_no_value() {
    for (formula_text, clause) in [
        ("request.headers['x-gone']", "field `x-f`: the formula gives no value: there is no `x-gone`"),
        ("int(secrets.KEY)", "field `x-f`: the formula gives no value: `int` refuses its argument"),
        ("secrets.KEY + '\\n'", "field `x-f`: the formula's value is not one line of visible characters"),
        (
            "secrets.GONE",
            "field `x-f`: the formula gives no value: the principal has no secret of the name that it asks for",
        ),
    ] {
        let plan = plan(settings(vec![formula("x-f", formula_text)]), external(|_| {}));
        let stop = prepared(&plan, &[]).err().unwrap();
        assert_eq!(stop.failure, Failure::FormulaFailed, "{formula_text}");
        assert_eq!(stop.detail.text.as_deref(), Some(clause));
        // What a secret would do to a formula is not known to a command that reads none.
        match explained(&plan, &[]).outcome {
            Ok(shown) => assert!(formula_text.contains("secrets.") && text(&shown.headers, "x-f") == Some("********")),
            Err(refused) => {
                assert!(!formula_text.contains("secrets."), "{formula_text}");
                assert_eq!(refused.failure, Some(Failure::FormulaFailed));
            }
        }
    }
}

#[tokio::test]
async fn a_flow_without_tokens_still_sends_its_fields() {
    let external = external(|external| {
        external.flow = Flow::None;
        external.headers = vec![formula("x-api-key", "secrets.KEY")];
    });
    let plan = plan(settings(Vec::new()), external);
    let sent = prepared(&plan, &[("x-api-key", "caller")]).unwrap();
    assert!(sent.cell.is_none());
    assert_eq!(text(&sent.headers, "x-api-key"), Some("canary-1"));
    let Ok(shown) = explained(&plan, &[]).outcome else { panic!("it is sent") };
    assert!(!shown.headers.contains_key("authorization"));
}

#[tokio::test]
async fn without_the_generated_header_fields_go_out_and_no_token() {
    let mut settings = settings(vec![formula("authorization", "'Key ' + secrets.KEY")]);
    settings.generate_authorization_header = false;
    let plan = plan(settings, external(|external| external.headers = vec![fixed("x-a", "1")]));
    let sent = prepared(&plan, &[("authorization", "caller")]).unwrap();
    assert!(sent.cell.is_none());
    assert_eq!(text(&sent.headers, "authorization"), Some("Key canary-1"));
    assert_eq!(text(&sent.headers, "x-a"), Some("1"));
}

#[tokio::test]
async fn a_scope_by_formula_leads_to_a_cell_of_its_own() {
    let scope = "request.headers['x-scope']";
    let external = external(|external| {
        external.request_mut().unwrap().scope = Some(Text::Formula(Arc::new(Formula::compile(scope).unwrap())));
    });
    let minters_are_gone = plan(settings(Vec::new()), external);
    let stop = prepared(&minters_are_gone, &[("x-scope", "a")]).err().unwrap();
    assert_eq!(stop.failure, Failure::OverCapacity);
    let stop = prepared(&minters_are_gone, &[]).err().unwrap();
    assert_eq!(stop.failure, Failure::FormulaFailed);
    assert!(stop.detail.text.unwrap().starts_with("scope or audience: "));
}

#[tokio::test]
async fn explain_shows_which_fields_go_out_and_none_of_their_values() {
    let external = external(|external| {
        external.headers =
            vec![formula("x-api-key", "secrets.KEY"), fixed("x-fixed", "canary-2"), formula("x-no", "''")];
    });
    let plan = plan(settings(vec![formula("x-path", "request.path")]), external);
    let Ok(shown) = explained(&plan, &[("accept", "a/b")]).outcome else { panic!("it is sent") };
    for name in ["x-api-key", "x-fixed", "x-path"] {
        assert_eq!(text(&shown.headers, name), Some("********"), "{name}");
    }
    assert_eq!(text(&shown.headers, "authorization"), Some("Bearer ********"));
    assert_eq!(text(&shown.headers, "accept"), Some("a/b"));
    assert!(!shown.headers.contains_key("x-no"));
    assert!(!format!("{shown:?}").contains("canary"));
}

#[tokio::test]
async fn nobody_is_served_whom_no_principal_admits() {
    let external = external(|external| external.principals[0].callers = Some(vec![name("billing")]));
    let plan = plan(settings(Vec::new()), external);
    let stop = prepared(&plan, &[]).err().unwrap();
    assert_eq!(stop.failure, Failure::CallerNotAllowed);
    let detail = stop.detail.text.unwrap();
    assert_eq!(detail, "no principal of the external credential apigee admits this caller");
}

/// Whoever explains has read no secret: what depends on one is neither left out nor a failure.
#[tokio::test]
async fn an_explanation_masks_what_depends_on_a_secret_without_evaluating_it() {
    let plan = plan(
        settings(vec![
            formula("x-key", "secrets.absent"),
            formula("x-signature", "base64_encode(sign('ES256', request.path, secrets.absent))"),
        ]),
        external(|_| {}),
    );
    let outgoing = explained(&plan, &[]).outcome.unwrap();
    for name in ["x-key", "x-signature"] {
        assert_eq!(text(&outgoing.headers, name), Some("********"));
    }
    assert!(prepared(&plan, &[]).is_err());
}
