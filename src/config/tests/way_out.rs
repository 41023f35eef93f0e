//! `http`, `http_proxy` and `dangerous`: how, through whom, and how far connections go.

use super::{assert_problem, good, load_env, problem, with};
use crate::config::Config;
use crate::connect::Addresses;
use crate::upstream::Http;

const NAMED: &str = "named_credentials.orders";
const EXTERNAL: &str = "external_credentials.apigee";

/// The ways to the upstream and to the token endpoint: the proxies' hosts and ports.
fn proxies(config: &Config) -> (Option<String>, Option<String>) {
    let named = config.named_credentials[0].endpoint.http_proxy.as_ref();
    let external = config.external_credentials[0].request().unwrap().endpoint.http_proxy.as_ref();
    (
        named.map(|proxy| format!("{}:{}", proxy.host, proxy.port)),
        external.map(|proxy| format!("{}:{}", proxy.host, proxy.port)),
    )
}

fn pair(named: Option<&str>, external: Option<&str>) -> (Option<String>, Option<String>) {
    (named.map(str::to_owned), external.map(str::to_owned))
}

#[test]
fn the_version_of_http_can_be_chosen() {
    for (lines, expected) in [
        ("", Http::Auto),
        ("http = \"auto\"", Http::Auto),
        ("http = \"1.1\"", Http::Http1),
        ("http = \"2\"", Http::Http2),
    ] {
        assert_eq!(good(&with(NAMED, lines)).config.named_credentials[0].endpoint.http, expected, "{lines}");
    }
    assert_problem(NAMED, "http = \"3\"", "named_credentials.orders.http");
    assert_problem(NAMED, "http = 2", "named_credentials.orders.http");
    let lines = "url = \"http://api.test\"\ndangerous = { plain_http = true }\nhttp = \"2\"\nhttp_proxy = { url = \"http://p\" }";
    assert_problem(NAMED, lines, "does not go through an HTTP proxy");
    good(&with(NAMED, &lines.replace("url = \"http://p\"", "url = \"http://p\", no_proxy = [\"api.test\"]")));
}

#[test]
fn one_proxy_for_all_can_be_replaced_and_switched_off() {
    let global = "http_proxy = { url = \"http://all.test:1\" }\n";
    for (table, lines, expected) in [
        (NAMED, "", pair(Some("all.test:1"), Some("all.test:1"))),
        (NAMED, "http_proxy = { url = \"http://own.test\" }", pair(Some("own.test:80"), Some("all.test:1"))),
        (NAMED, "http_proxy = false", pair(None, Some("all.test:1"))),
        (EXTERNAL, "http_proxy = { url = \"http://own.test\" }", pair(Some("all.test:1"), Some("own.test:80"))),
        (EXTERNAL, "http_proxy = false", pair(Some("all.test:1"), None)),
        (EXTERNAL, "http_proxy = \"environment\"", pair(Some("all.test:1"), None)),
    ] {
        let config = good(&format!("{global}{}", with(table, lines))).config;
        assert_eq!(proxies(&config), expected, "{table}: {lines}");
    }
    assert_eq!(proxies(&good(&format!("http_proxy = false\n{}", with(NAMED, ""))).config), (None, None));
}

#[test]
fn the_environment_names_a_proxy_only_where_it_is_asked() {
    let environment = [
        ("HTTPS_PROXY", "http://user:canary@secure.test:2"),
        ("http_proxy", "plain.test:3"),
        ("HTTP_PROXY", "http://never.test"),
        ("NO_PROXY", "direct.test"),
    ];
    let config = |text: &str| load_env(text, &environment).unwrap_or_else(|problems| panic!("{problems}")).config;
    assert_eq!(proxies(&config(&with(NAMED, ""))), (None, None));
    let asked = with(NAMED, "url = \"https://api.test\"\nhttp_proxy = \"environment\"");
    let found = config(&asked);
    assert_eq!(proxies(&found), pair(Some("secure.test:2"), None));
    let endpoint = &found.named_credentials[0].endpoint;
    assert!(!endpoint.http_proxy.as_ref().unwrap().serves("x.direct.test", 443));
    assert!(!format!("{endpoint:?}").contains("canary"));
    let all = format!("http_proxy = \"environment\"\n{}", with(NAMED, "url = \"https://api.test\""));
    assert_eq!(proxies(&config(&all)), pair(Some("secure.test:2"), Some("plain.test:3")));

    let problems = load_env(&asked, &[("HTTPS_PROXY", "socks5://u:canary@p")]).unwrap_err();
    let text = problems.render(false);
    assert!(text.contains("the environment variable HTTPS_PROXY") && !text.contains("canary"), "{text}");
}

#[test]
fn a_proxy_is_a_table_the_word_environment_or_false() {
    for table in [NAMED, EXTERNAL] {
        assert_problem(table, "http_proxy = true", "does not say which proxy");
        assert_problem(table, "http_proxy = \"enviroment\"", "http_proxy");
        assert_problem(table, "http_proxy = { }", "the key `url` is missing");
        assert_problem(table, "http_proxy = { url = \"https://p\" }", "over plain HTTP");
        assert_problem(table, "http_proxy = 3128", "http_proxy");
    }
    let found = problem(&format!("http_proxy = {{ url = \"http://p/x\" }}\n{}", with(NAMED, "")));
    assert!(found.contains("a host and a port"), "{found}");
}

/// C25: link-local addresses and those of metadata services are reached only where the configuration says so.
#[test]
fn an_address_that_will_be_refused_is_a_problem_at_once() {
    let plain = "dangerous = { plain_http = true }";
    for (table, key) in [(NAMED, "url"), (EXTERNAL, "token_endpoint")] {
        for host in ["169.254.169.254", "[fe80::1]:81", "100.100.100.200", "[::ffff:169.254.1.1]"] {
            assert_problem(
                table,
                &format!("{key} = \"http://{host}/x\"\n{plain}"),
                "dangerous = { link_local = true }",
            );
            let accepted = "dangerous = { plain_http = true, link_local = true }";
            good(&with(table, &format!("{key} = \"http://{host}/x\"\n{accepted}")));
        }
        assert_problem(table, &format!("{key} = \"http://224.0.0.1/x\"\n{plain}"), "no server can be reached");
        good(&with(table, &format!("{key} = \"http://10.0.0.1/x\"\n{plain}")));
    }
    assert_problem(NAMED, "dangerous = { link_locl = true }", "did you mean `link_local`?");
}

#[test]
fn what_dangerous_accepts_reaches_the_way() {
    let dangerous = "dangerous = { link_local = true, private = true }";
    let named = |lines: &str| good(&with(NAMED, lines)).config.named_credentials[0].endpoint.addresses;
    let external =
        |lines: &str| good(&with(EXTERNAL, lines)).config.external_credentials[0].request().unwrap().endpoint.addresses;
    assert_eq!((named(""), external("")), (Addresses::CONFIGURED, Addresses::CONFIGURED));
    let all = Addresses { link_local: true, private: true };
    assert_eq!((named(dangerous), external(dangerous)), (all, all));
}

/// The preset asks the machine's metadata service at its own address, and neither elsewhere nor through a proxy.
#[test]
fn the_metadata_service_is_asked_at_its_own_address_only() {
    let config = |lines: &str| {
        format!(
            "http_proxy = {{ url = \"http://all.test:1\" }}\n{}{lines}",
            with(EXTERNAL, "").split("token_endpoint").next().unwrap().to_owned()
                + "preset = \"azure_imds\"\nresource = \"r\"\n"
        )
    };
    let loaded = good(&config("")).config;
    let endpoint = &loaded.external_credentials[0].request().unwrap().endpoint;
    assert!(endpoint.addresses.link_local && endpoint.http_proxy.is_none());
    let problems = load_env(&config("token_endpoint = \"http://169.254.169.253/x\"\n"), &[]).unwrap_err();
    assert!(problems.render(false).contains("link_local = true"), "{problems}");
    let elsewhere = good(&config("token_endpoint = \"https://login.test/x\"\n")).config;
    let endpoint = &elsewhere.external_credentials[0].request().unwrap().endpoint;
    assert!(!endpoint.addresses.link_local && endpoint.http_proxy.is_some());
}
