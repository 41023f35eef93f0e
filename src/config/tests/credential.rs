//! Named and external credentials.

use std::time::Duration;

use http::{HeaderValue, Method};

use super::{MINIMAL, assert_problem, good, load, with};
use crate::config::{Secrets, Source};
use crate::proxy::settings::{Forwarded, HostHeader, NamedCredential, Replay};
use crate::route::HostPattern;
use crate::token::{self, BasicEncoding, ClientAuthentication, RenewAhead};

const NAMED: &str = "named_credentials.orders";
const EXTERNAL: &str = "external_credentials.apigee";

fn named(lines: &str) -> NamedCredential {
    good(&with(NAMED, lines)).config.named_credentials.remove(0).as_ref().clone()
}

fn external(lines: &str) -> token::Settings {
    good(&with(EXTERNAL, lines)).config.external_credentials.remove(0).as_ref().clone()
}

#[test]
fn a_match_fills_in_what_is_left_out() {
    for (lines, host, path) in [
        ("match = {}", None, "/orders"),
        ("match = { methods = [\"GET\"] }", None, "/orders"),
        ("match = { host = \"A.Internal\" }", Some(HostPattern::Exact("a.internal".to_owned())), "/"),
        ("match = { host = \"*.Example.com\" }", Some(HostPattern::Suffix(".example.com".to_owned())), "/"),
        ("match = { host = \"[::1]\" }", Some(HostPattern::Exact("[::1]".to_owned())), "/"),
        ("match = { path = \"/A/b/\" }", None, "/A/b"),
        ("match = { path = \"/\" }", None, "/"),
    ] {
        let matching = named(lines).matching;
        assert_eq!((matching.host, matching.path.as_str()), (host, path), "{lines}");
    }
    let matching = named("match = { methods = [\"GET\", \"POST\", \"GET\"] }").matching;
    assert_eq!(matching.methods, Some(vec![Method::GET, Method::POST]));
}

#[test]
fn a_match_is_checked() {
    for (lines, expected) in [
        ("match = { path = \"orders\" }", "begins with a slash"),
        ("match = { path = \"/a/../b\" }", "no dot segments"),
        ("match = { path = \"/a?b\" }", "percent-encoded"),
        ("match = { path = \"//a\" }", "two slashes"),
        ("match = { host = \"a:80\" }", "not a host to match"),
        ("match = { host = \"*\" }", "not a host to match"),
        ("match = { host = \"a.*.b\" }", "not a host to match"),
        ("match = { methods = [] }", "lets no method through"),
        ("match = { methods = [\"get\"] }", "write \"GET\""),
        ("match = { methods = [\"TRACE\"] }", "never forwarded"),
        ("match = { methods = \"GET\" }", "expected a list"),
        ("match = \"/orders\"", "expected a table"),
        ("match = { hosts = \"a\" }", "did you mean `host`?"),
    ] {
        assert_problem(NAMED, lines, expected);
    }
}

#[test]
fn methods_do_not_tell_two_matches_apart() {
    let other = "[named_credentials.other]\nurl = \"http://127.0.0.1\"\nexternal_credential = \"apigee\"\n";
    let text = with(NAMED, "match = { path = \"/x\", methods = [\"GET\"] }");
    let same = format!("{text}{other}match = {{ path = \"/x\", methods = [\"POST\"] }}\n");
    assert!(load(&same).unwrap_err().render(false).contains("methods do not tell them apart"));
    // Path case counts, and a host makes a difference.
    good(&format!("{text}{other}match = {{ path = \"/X\" }}\n"));
    good(&format!("{text}{other}match = {{ path = \"/x\", host = \"a\" }}\n"));
    // The default match is one like any other.
    let same = format!("{MINIMAL}{other}match = {{ path = \"/orders\" }}\n");
    assert_eq!(load(&same).unwrap_err().len(), 1);
}

#[test]
fn the_url_of_an_upstream_is_checked() {
    for (url, expected) in [
        ("api.example.com", "not an absolute URL"),
        ("ftp://api.example.com", "begins with `https://`"),
        ("https://api.example.com/?a=b", "no query"),
        ("https://api.example.com/#a", "no fragment"),
        ("https://me:canary@api.example.com", "no user name and password"),
        ("https://api.example.com/a/%2E%2e/b", "no dot segments"),
        ("https://api.example.com//a", "two slashes"),
        ("http://api.example.com", "plain_http = true"),
        ("http://10.0.0.1", "plain_http = true"),
    ] {
        assert_problem(NAMED, &format!("url = \"{url}\""), expected);
    }
    assert!(named("url = \"http://10.0.0.1\"\ndangerous = { plain_http = true }").endpoint.tls.is_none());
    assert_problem(NAMED, "url = \"http://10.0.0.1\"\ndangerous = { plain_htp = true }", "unknown key `plain_htp`");
    assert_problem(NAMED, "url = \"http://10.0.0.1\"\ndangerous = { plain_http = 1 }", "expected true or false");
}

#[test]
fn the_url_becomes_an_endpoint_and_a_base_path() {
    for (url, authority, base) in [
        ("http://localhost:80", "localhost", ""),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080", ""),
        ("http://[::1]:8080/v1/", "[::1]:8080", "/v1"),
    ] {
        let named = named(&format!("url = \"{url}\""));
        assert_eq!((named.endpoint.authority.as_str(), named.base_path.as_str()), (authority, base), "{url}");
    }
}

#[test]
fn callout_options_are_taken_over() {
    let named = named(
        "label = \"L\"\nenabled = false\nhost_header = \"caller\"\nkeep_cookies = true\nforwarded = \"rfc7239\"\n\
         replay = \"idempotent\"\nreplay_limit = \"1MiB\"\ntimeouts = { total = \"2m\", idle = \"1s\" }\n\
         headers = [{ name = \"X-A\", value = \"1\" }, { name = \"x-b\", value = { dangerous_literal = \"2\" } }]\n\
         remove_headers = [\"X-C\", \"x-c\"]\n\
         streams = { upgrades = [\"WebSocket\", \"x-proto/2\", \"websocket\"], idle = \"5m\" }",
    );
    assert_eq!((named.label.as_deref(), named.enabled, named.keep_cookies), (Some("L"), false, true));
    assert_eq!((named.host_header, named.forwarded), (HostHeader::Caller, Forwarded::Rfc7239));
    assert_eq!((named.replay, named.replay_limit), (Replay::Idempotent, 1 << 20));
    assert_eq!(named.timeouts.total, Some(Duration::from_secs(120)));
    assert_eq!((named.timeouts.idle, named.timeouts.connect), (Duration::from_secs(1), Duration::from_secs(5)));
    assert_eq!(
        (&*named.streams.upgrades, named.streams.idle),
        (
            &[HeaderValue::from_static("websocket"), HeaderValue::from_static("x-proto/2")][..],
            Some(Duration::from_secs(300))
        )
    );
    let headers: Vec<_> = named.headers.iter().map(|(name, value)| (name.as_str(), fixed(value))).collect();
    assert_eq!(headers, [("x-a", "1"), ("x-b", "2")]);
    assert_eq!(named.remove_headers, ["x-c"]);
}

#[test]
fn callout_options_are_checked() {
    for (lines, expected) in [
        ("host_header = \"a b\"", "not a host"),
        ("forwarded = \"xforwarded\"", "did you mean \"x-forwarded\"?"),
        ("replay = \"alway\"", "did you mean \"always\"?"),
        ("replay = true", "expected one of `always`"),
        ("replay_limit = 5", "expected a size"),
        ("timeouts = { connect = \"0s\" }", "longer than zero"),
        ("timeouts = { first = \"1s\" }", "unknown key `first`"),
        ("timeouts = { continue = \"0s\" }", "longer than zero"),
        ("streams = { upgrade = [] }", "unknown key `upgrade`"),
        ("streams = { idle = \"0s\" }", "longer than zero"),
        ("streams = { upgrades = [\"web socket\"] }", "not the name of a protocol"),
        ("streams = { upgrades = [\"\"] }", "not the name of a protocol"),
        ("streams = { upgrades = [\"H2C\"] }", "past keybearer's checks"),
        ("streams = { upgrades = [\"TLS/1.0\"] }", "past keybearer's checks"),
        ("streams = { upgrades = \"websocket\" }", "expected a list"),
        ("headers = [{ name = \"x-a\" }]", "the key `value` is missing"),
        ("headers = [{ name = \"x a\", value = \"1\" }]", "not the name of a header field"),
        ("headers = [{ name = \"x-a\", value = \"\\n\" }]", "cannot be the value"),
        ("headers = [{ name = \"Transfer-Encoding\", value = \"1\" }]", "cannot be used here"),
        ("headers = [{ name = \"Connection\", value = \"1\" }]", "cannot be used here"),
        ("headers = [{ name = \"Host\", value = \"1\" }]", "use `host_header`"),
        ("headers = [{ name = \"Authorization\", value = \"1\" }]", "carries the token"),
        ("headers = [{ name = \"x-a\", value = \"1\" }, { name = \"X-A\", value = \"2\" }]", "set twice"),
        ("headers = { x-a = \"1\" }", "expected a list"),
        ("remove_headers = [\"content-length\"]", "cannot be used here"),
        ("external_credential = \"apige\"", "did you mean \"apigee\"?"),
        ("tls = { certificate = \"c.pem\" }\nurl = \"https://a\"", "needs its key"),
        ("tls = { key = \"c.pem\" }\nurl = \"https://a\"", "needs its client certificate"),
        ("tls = { ca = \"ca.pem\" }", "no effect"),
        ("tls = { ca = \"/no/such/ca.pem\" }\nurl = \"https://a\"", "/no/such/ca.pem"),
        ("tls = true", "expected a table"),
        ("url = 5", "expected a URL, or where it comes from, found a number"),
    ] {
        assert_problem(NAMED, lines, expected);
    }
    named("headers = [{ name = \"Authorization\", value = \"1\" }]\ngenerate_authorization_header = false");
}

#[test]
fn an_external_credential_is_taken_over() {
    let external = external(
        "flow = \"client_credentials\"\ntoken_endpoint = \"HTTP://127.0.0.1:9/t?grant=x\"\ntimeout = \"3s\"\n\
         client_authentication = \"client_secret_basic\"\nbasic_encoding = \"raw\"\nscope = [\"a\", \"b\"]\n\
         audience = \"one two\"\nresource = [\"x\", \"y\"]\naccept_token_types = [\"MAC\", \"mac\"]\n\
         parameters = { body = { z = \"1\", a = { dangerous_literal = \"2\" } }, headers = { x-v = \"3\" } }\n\
         default_lifetime = \"1m\"\nmax_lifetime = \"1h\"\nrenew_ahead = \"30s\"\nexpiry_margin = \"0s\"\n\
         readiness = \"required\"\nmint = \"at_start\"\nadditional_refresh_status_codes = [403, 500, 403]\n\
         inject = { header = \"X-Token\" }\nclient_id = { dangerous_literal = \"id\" }",
    );
    let request = external.request().unwrap().clone();
    assert_eq!(request.endpoint.url.unwrap().to_string(), "http://127.0.0.1:9/t?grant=x");
    assert_eq!(request.endpoint.timeout, Duration::from_secs(3));
    assert!(matches!(request.client_authentication, Some(ClientAuthentication::ClientSecretBasic(BasicEncoding::Raw))));
    assert!(matches!(&request.scope, Some(token::Text::Literal(scope)) if scope == "a b"));
    assert_eq!(
        (literals(&request.audience), request.resource),
        (vec!["one two".to_owned()], vec!["x".to_owned(), "y".to_owned()])
    );
    let body: Vec<_> = request.parameters.body.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    assert_eq!(body, [("z", "1"), ("a", "2")]);
    assert_eq!(request.parameters.headers[0].0, "x-v");
    assert_eq!(request.response.accept_token_types, ["mac"]);
    assert_eq!(external.lifetime.renew_ahead, RenewAhead::Before(Duration::from_secs(30)));
    assert_eq!(external.lifetime.expiry_margin, Duration::ZERO);
    assert!(external.required_for_readiness && external.mint_at_start);
    assert_eq!(external.rejection.additional_status_codes, [403, 500]);
    assert_eq!((external.inject.header.as_str(), external.inject.scheme), ("x-token", None));
    assert_eq!(external.principals[0].client_id, "id");
}

#[test]
fn renew_ahead_and_the_scheme_have_more_than_one_form() {
    assert_eq!(external("renew_ahead = false").lifetime.renew_ahead, RenewAhead::Off);
    assert_eq!(external("renew_ahead = \"12.5%\"").lifetime.renew_ahead, RenewAhead::Share(0.125));
    assert_eq!(external("inject = {}").inject.scheme.as_deref(), Some("Bearer"));
    assert_eq!(external("inject = { scheme = \"\" }").inject.scheme, None);
    assert_eq!(external("inject = { scheme = \"token\" }").inject.scheme.as_deref(), Some("token"));
    let inject = external("inject = { header = \"x-a\", scheme = \"DPoP\" }").inject;
    assert_eq!(inject.scheme.as_deref(), Some("DPoP"));
}

#[test]
fn an_external_credential_is_checked() {
    for (lines, expected) in [
        ("flow = \"client_credential\"", "did you mean \"client_credentials\"?"),
        ("token_endpoint = \"http://login.example.com\"", "plain_http = true"),
        ("token_endpoint = \"https://u:p@login.example.com\"", "no user name"),
        ("timeout = \"0s\"", "longer than zero"),
        ("client_authentication = \"basic\"", "expected one of `client_secret_basic`"),
        ("client_authentication = \"client_secret_post\"\nbasic_encoding = \"raw\"", "belongs to client_secret_basic"),
        ("scope = \"\"", "empty"),
        ("scope = [\"a b\"]", "space"),
        ("scope = 5", "a text or a list of texts"),
        ("scope = [5]", "expected a text, found a number"),
        ("parameters = { body = { grant_type = \"x\" } }", "the flow sets `grant_type`"),
        ("parameters = { headers = { authorization = \"x\" } }", "itself"),
        ("parameters = { headers = { \"x y\" = \"x\" } }", "not the name of a header field"),
        ("parameters = { bdy = { a = \"x\" } }", "did you mean `body`?"),
        ("parameters = { body = { a = 5 } }", "a text or a reference to a secret"),
        ("default_lifetime = \"25h\"", "longer than the longest one believed"),
        ("renew_ahead = true", "not a time to renew"),
        ("renew_ahead = \"0%\"", "not a time to renew"),
        ("renew_ahead = \"100%\"", "not a time to renew"),
        ("renew_ahead = \"-1%\"", "not a time to renew"),
        ("renew_ahead = \"soon\"", "not a time to renew"),
        ("renew_ahead = 20", "expected a share, a duration or false"),
        ("readiness = \"yes\"", "expected one of `required`"),
        ("mint = \"at start\"", "did you mean \"at_start\"?"),
        ("additional_refresh_status_codes = [200]", "from 400 to 999"),
        ("additional_refresh_status_codes = [1000]", "from 400 to 999"),
        ("additional_refresh_status_codes = [401]", "401 always means"),
        ("inject = { header = \"host\" }", "cannot be used here"),
        ("inject = { scheme = \"a b\" }", "not an authentication scheme"),
        ("client_id = \"\"", "client id is empty"),
        ("client_secret = \"canary\"", "expected a reference to a secret, found a text"),
        ("client_secret = {}", "leads nowhere"),
        ("client_secret = { env = \"A\", file = \"b\" }", "one place, not several"),
        ("client_secret = { env = \"KEYBEARER_TEST_NO_SUCH_VARIABLE\" }", "is not set"),
        ("client_secret = { env = \"canary $\" }", "not the name of an environment variable"),
        ("client_secret = { file = \"/no/such/file\" }", "cannot read /no/such/file"),
        ("client_secret = { command = [] }", "the command is empty"),
        ("client_secret = { command = [\"false\"] }", "run it by hand"),
        ("client_secret = { command = \"op read\" }", "expected a list"),
        ("client_secret = { dangerous_literal = \"\" }", "the secret is empty"),
    ] {
        assert_problem(EXTERNAL, lines, expected);
    }
}

#[test]
fn what_is_missing_is_named() {
    for (line, expected) in [
        ("url = \"http://127.0.0.1:9/v1\"\n", "the key `url` is missing"),
        ("token_endpoint = \"http://127.0.0.1:9/token\"\n", "the key `token_endpoint` is missing"),
        ("client_id = \"me\"\n", "the key `client_id` is missing"),
        ("client_secret = { dangerous_literal = \"canary-5ec12e7\" }\n", "the key `client_secret` is missing"),
    ] {
        let found = super::problem(&MINIMAL.replace(line, ""));
        assert!(found.contains(expected), "{found}");
    }
    let neither = MINIMAL.split("client_id").next().unwrap();
    assert!(super::problem(neither).contains("the client is missing"));
}

#[test]
fn principals_come_in_order_of_their_sequence() {
    let text = MINIMAL.split("client_id").next().unwrap().to_owned();
    let principal = |name: &str, rest: &str| {
        format!(
            "[[external_credentials.apigee.principals]]\nname = \"{name}\"\nclient_id = \"{name}\"\n\
             client_secret = {{ dangerous_literal = \"s\" }}\n{rest}\n"
        )
    };
    let good_text = format!(
        "{text}{}{}{}",
        principal("c", "sequence = 9"),
        principal("a", ""),
        principal("b", "sequence = 1\ncallers = [\"x\"]")
    ) + "[callers.x]\nnetworks = [\"::1\"]\n";
    let principals = good(&good_text).config.external_credentials.remove(0).principals.clone();
    let names: Vec<_> = principals.iter().map(|principal| principal.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert_eq!(principals[0].callers.as_ref().map(Vec::len), Some(1));

    for (list, expected) in [
        (principal("a", "") + &principal("a", ""), "the same name"),
        (principal("a", "sequence = 1") + &principal("b", "sequence = 1"), "the same sequence number"),
        (principal("a_", ""), "this name is not valid"),
        (principal("a", "callers = [\"y\"]"), "no caller of this name"),
        ("principals = []\n".to_owned(), "holds no principal"),
        ("principals = [5]\n".to_owned(), "expected a table"),
        ("client_id = \"x\"\n".to_owned() + &principal("a", ""), "either `principals` or a client of its own"),
    ] {
        let found = super::problem(&format!("{text}{list}"));
        assert!(found.contains(expected), "{list}: {found}");
    }
}

#[test]
fn secrets_can_be_left_where_they_are() {
    let text = with(EXTERNAL, "client_secret = { file = \"/no/such/file\" }\nclient_id = { env = \"NO_SUCH\" }")
        .replace("http://127.0.0.1:9/v1", "https://a/v1")
        .replace(
            "external_credential =",
            "tls = { certificate = \"no.pem\", key = \"no.key\" }\nexternal_credential =",
        );
    let source = Source::Text { name: "x".to_owned(), text };
    let config = crate::config::load(&source, Secrets::Leave).unwrap_or_else(|problems| panic!("{problems}")).config;
    assert_eq!(config.external_credentials[0].principals[0].client_secret.as_ref().unwrap().expose(), "");
}

#[test]
fn equal_tls_tables_share_one_profile() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::new(["ca".to_owned()]).unwrap().self_signed(&key).unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, ca.pem()).unwrap();
    let tls = format!("url = \"https://a\"\ntls = {{ ca = {path:?} }}");
    let text = with(NAMED, &tls) + &format!("[named_credentials.b]\n{tls}\nexternal_credential = \"apigee\"\n");
    let named = good(&text).config.named_credentials;
    let profiles: Vec<_> = named.iter().filter_map(|named| named.endpoint.tls.as_ref()).collect();
    assert!(profiles.len() == 2 && std::sync::Arc::ptr_eq(profiles[0], profiles[1]));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let text = format!(
        "{MINIMAL}[external_credentials.idle]\ntoken_endpoint = \"http://127.0.0.1\"\nclient_id = \"a\"\nclient_secret = {{ dangerous_literal = \"s\" }}\n"
    );
    let warning = |text: &str| {
        let loaded = good(text);
        assert_eq!(loaded.warnings.len(), 1, "{}", loaded.warnings);
        loaded.warnings.iter().next().unwrap().message.clone()
    };
    assert_eq!(warning(&text), "no named credential uses this external credential");

    let codes = with(EXTERNAL, "additional_refresh_status_codes = [403]");
    assert!(good(&codes).warnings.is_empty());
    let always = codes.replace("external_credential =", "replay = \"always\"\nexternal_credential =");
    assert!(warning(&always).contains("may be carried out twice"));
    let reading = always.replace("replay =", "match = { methods = [\"GET\"] }\nreplay =");
    assert!(good(&reading).warnings.is_empty());

    let without = MINIMAL.replace("external_credential = \"apigee\"\n", "");
    let messages: Vec<_> = good(&without).warnings.iter().map(|problem| problem.message.clone()).collect();
    assert_eq!(
        messages,
        ["requests are forwarded without a credential", "no named credential uses this external credential"]
    );
}

fn literals(texts: &[token::Text]) -> Vec<String> {
    let literal = |text: &token::Text| match text {
        token::Text::Literal(text) => text.clone(),
        token::Text::Formula(formula) => formula.source().to_owned(),
    };
    texts.iter().map(literal).collect()
}

fn fixed(value: &token::HeaderValueSource) -> &str {
    match value {
        token::HeaderValueSource::Fixed(value) | token::HeaderValueSource::Secret(value) => value.to_str().unwrap(),
        token::HeaderValueSource::Formula(formula) => formula.source(),
    }
}
