//! Where named credentials lead, which paths may lead there, and what callers may ask their proxy for.

use super::{MINIMAL, assert_problem, good, problem, problems, with};
use crate::proxy::settings::{FromToken, NamedCredential};
use crate::target::{Allowance, HostPattern, HostRule, PathRules};

const NAMED: &str = "named_credentials.orders";
const EXTERNAL: &str = "external_credentials.apigee";

fn named(lines: &str) -> NamedCredential {
    good(&with(NAMED, lines)).config.named_credentials.remove(0).as_ref().clone()
}

fn suffix(text: &str, port: Option<u16>) -> HostRule {
    HostRule { host: HostPattern::Suffix(text.to_owned()), port }
}

#[test]
fn a_url_may_come_with_the_token() {
    let lines = "url = { from_token = \"/instance_url\", path = \"/services/data/\", allow = [\"*.my.salesforce.com\", \
                 \"*.example.com:8443\"] }";
    let loaded = good(&with(NAMED, lines)).config;
    let (named, external) = (&loaded.named_credentials[0], &loaded.external_credentials[0]);
    let allow = vec![suffix(".my.salesforce.com", None), suffix(".example.com", Some(8443))];
    let expected = FromToken { pointer: "/instance_url".to_owned(), allow, dangerous_plain_http: false };
    assert_eq!((named.from_token.as_deref(), named.base_path.as_str()), (Some(&expected), "/services/data"));
    assert!(named.endpoint.tls.is_some() && !named.endpoint.addresses.private && !named.endpoint.addresses.link_local);
    assert_eq!(external.request().unwrap().response.members, ["/instance_url"], "it is kept beside the token");

    let dangerous = format!("{lines}\ndangerous = {{ plain_http = true, private = true, link_local = true }}");
    let dangerous = self::named(&dangerous);
    assert!(dangerous.endpoint.addresses.private && dangerous.endpoint.addresses.link_local);
    assert!(dangerous.from_token.unwrap().dangerous_plain_http);
    assert!(good(MINIMAL).config.external_credentials[0].request().unwrap().response.members.is_empty());
}

#[test]
fn a_url_that_comes_with_the_token_is_checked() {
    let with_allow = |rest: &str| format!("url = {{ {rest}, allow = [\"*.example.com\"] }}");
    for (lines, expected) in [
        ("url = { from_token = \"/instance_url\" }", "the key `allow` is missing"),
        ("url = { from_token = \"/instance_url\", allow = [] }", "allows no host"),
        ("url = { from_token = \"/instance_url\", allow = \"*.example.com\" }", "expected a list"),
        ("url = { from_token = \"/instance_url\", allow = [\"https://a.example.com\"] }", "this is not a host"),
        ("url = { from_token = \"/instance_url\", allow = [\"*\"] }", "this is not a host"),
        ("url = { from_token = \"/instance_url\", allow = [\"a.example.com:0\"] }", "this is not a host"),
        ("url = { from_token = \"/instance_url\", allow = [\"*.com\"] }", "every host of a top-level domain"),
        ("url = { allow = [\"*.example.com\"] }", "the key `from_token` is missing"),
        (&with_allow("from_token = \"instance_url\""), "not a JSON pointer"),
        (&with_allow("from_token = \"/access_token\""), "a token is no URL"),
        (&with_allow("from_token = \"/data/refresh_token\""), "a token is no URL"),
        (&with_allow("from_token = \"\""), "a token is no URL"),
        (&with_allow("from_token = \"/u\", path = \"x\""), "begins with a slash"),
        (&with_allow("from_token = \"/u\", path = \"/a/../b\""), "no dot segments"),
        (&with_allow("from_token = \"/u\", pathe = \"/a\""), "did you mean `path`?"),
        ("url = 5", "expected a URL"),
        (
            "url = { from_token = \"/u\", allow = [\"a.example\"] }\ngenerate_authorization_header = false",
            "without the token nothing says where to call",
        ),
    ] {
        assert_problem(NAMED, lines, expected);
    }
    let lines = "flow = \"static\"\ntoken = { dangerous_literal = \"x\" }\n";
    let text = format!(
        "[named_credentials.orders]\nurl = {{ from_token = \"/u\", allow = [\"a.example\"] }}\nexternal_credential = \
         \"apigee\"\n[{EXTERNAL}]\n{lines}"
    );
    assert!(problem(&text).contains("asks no token endpoint"), "{:?}", problems(&text));
    let text = "[named_credentials.orders]\nurl = { from_token = \"/u\", allow = [\"a.example\"] }\n";
    assert!(problem(text).contains("there is no token"), "{:?}", problems(text));
}

#[test]
fn no_more_than_sixteen_places_of_an_answer_are_kept() {
    let named = |number: usize| {
        format!(
            "[named_credentials.n{number}]\nurl = {{ from_token = \"/u{number}\", allow = [\"a.example\"] }}\n\
             external_credential = \"apigee\"\n"
        )
    };
    let text = |count: usize| format!("{MINIMAL}{}", (0..count).map(named).collect::<String>());
    assert_eq!(good(&text(16)).config.external_credentials[0].request().unwrap().response.members.len(), 16);
    assert!(problem(&text(17)).contains("more than 16 places"));
}

#[test]
fn what_a_path_may_hold_is_said_key_by_key() {
    assert_eq!(named("").path, PathRules::default());
    let path = named("path = { encoded_slash = \"pass\", semicolon = \"refuse\", double_slash = \"refuse\" }").path;
    let (pass, refuse) = (Allowance::Pass, Allowance::Refuse);
    assert_eq!(path, PathRules { encoded_slash: pass, semicolon: refuse, double_slash: refuse });
    let path = named("path = { encoded_slash = \"refuse\" }").path;
    assert_eq!(path, PathRules { encoded_slash: refuse, semicolon: pass, double_slash: pass });
    for (lines, expected) in [
        ("path = { encoded_slash = true }", "expected"),
        ("path = { encoded_slash = \"decode\" }", "expected"),
        ("path = { encoded_slashes = \"pass\" }", "did you mean `encoded_slash`?"),
        ("path = \"pass\"", "expected a table"),
    ] {
        assert_problem(NAMED, lines, expected);
    }
}

fn listener(lines: &str) -> String {
    format!("{MINIMAL}[listeners.default]\naddress = \"127.0.0.1:0\"\n{lines}\n")
}

#[test]
fn a_listener_may_be_its_callers_proxy() {
    let listener = |lines: &str| good(&listener(lines)).config.listeners.remove(0).forward_proxy;
    assert!(listener("").is_none() && listener("forward_proxy = false").is_none());
    let proxy = listener("forward_proxy = true").unwrap();
    assert!(proxy.passthrough.is_empty() && proxy.tunnel.is_empty());
    assert!(!proxy.addresses.private && !proxy.addresses.link_local);
    let lines = "forward_proxy = { passthrough = [\"*.Example.com\", \"*.example.com\"], tunnel = \
                 [\"registry.example.com:8443\"] }\ndangerous = { private = true }";
    let proxy = listener(lines).unwrap();
    assert_eq!(proxy.passthrough, [suffix(".example.com", None)]);
    let host = HostPattern::Exact("registry.example.com".to_owned());
    assert_eq!(proxy.tunnel, [HostRule { host, port: Some(8443) }]);
    assert!(proxy.addresses.private && !proxy.addresses.link_local);
}

#[test]
fn what_callers_may_ask_their_proxy_for_is_checked() {
    for (lines, expected) in [
        ("forward_proxy = \"yes\"", "expected true or false"),
        ("forward_proxy = { passthrough = \"a.example\" }", "expected a list"),
        ("forward_proxy = { passthrough = [\"http://a.example\"] }", "this is not a host"),
        ("forward_proxy = { tunnel = [\"*\"] }", "this is not a host"),
        ("forward_proxy = { tunnel = [\"*.org\"] }", "every host of a top-level domain"),
        ("dangerous = { private = true }", "no effect without forward_proxy"),
        ("forward_proxy = false\ndangerous = { link_local = true }", "no effect without forward_proxy"),
        ("forward_proxy = { pass_through = [] }", "did you mean `passthrough`?"),
        (
            "forward_proxy = true\n[named_credentials.second]\nurl = \"http://127.0.0.1:8/v1\"\nexternal_credential = \
             \"apigee\"",
            "could mean two named credentials",
        ),
        (
            "forward_proxy = {}\n[named_credentials.second]\nurl = \"https://other.example\"\nexternal_credential = \
             \"apigee\"\nmatch = { host = \"127.0.0.1\", path = \"/v1\" }",
            "could mean two named credentials",
        ),
    ] {
        let found = problem(&listener(lines));
        assert!(found.contains(expected), "{lines}\nexpected: {expected}\nfound:    {found}");
    }
    let second = "[named_credentials.second]\nurl = \"http://127.0.0.1:9/v1\"\nexternal_credential = \"apigee\"\n";
    good(&listener(&format!("forward_proxy = false\n{second}")));
    good(&listener(&format!("forward_proxy = true\n{second}match = {{ host = \"second.internal\" }}")));
}

#[test]
fn a_proxy_that_others_can_reach_is_worth_a_warning() {
    let open = MINIMAL.to_owned()
        + "[listeners.default]\naddress = \"0.0.0.0:8080\"\nforward_proxy = true\n[callers.a]\nnetworks = [\"10.0.0.0/8\"]\n";
    assert!(problem(&open).contains("use it as their proxy"), "{:?}", problems(&open));
}
