//! Listeners, callers, settings of the process, the environment, and every default.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

use super::{MINIMAL, assert_problem, good, load, load_env, problem, problems, with};
use crate::caller::Proof;
use crate::config::{AccessLogTarget, ENVIRONMENT, LogFormat, Secrets, Source};
use crate::proxy::settings::{Forwarded, HostHeader, Replay, Timeouts};
use crate::server::{Address, Http2Limits, Limits};
use crate::tls::ClientCertificate;
use crate::token::{BasicEncoding, ClientAuthentication, RenewAhead};

fn tcp(address: &str) -> Address {
    Address::Tcp(address.parse().unwrap())
}

#[test]
fn the_reference_file_loads_without_a_word() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proxy.toml");
    let loaded =
        crate::config::load(&Source::File(file), Secrets::Read).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.config.named_credentials.len(), 7);
}

/// Every line of the reference that is commented out holds a known key with a good value, or needs a file.
#[test]
fn the_reference_file_knows_what_it_comments_out() {
    let text = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proxy.toml")).unwrap();
    let is_setting = |line: &str| {
        line.strip_prefix("# ")
            .and_then(|line| line.split_once(" = "))
            .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
    };
    let live: Vec<&str> = text
        .lines()
        .map(|line| if is_setting(line) && !line.starts_with("# tls") { line.trim_start_matches("# ") } else { line })
        .collect();
    good(&live.join("\n"));
}

#[test]
fn nothing_written_means_the_defaults() {
    let config = good("").config;
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].name.as_str(), "default");
    assert_eq!(config.listeners[0].address, tcp("127.0.0.1:8080"));
    assert!(config.listeners[0].allowed_origins.is_empty() && !config.listeners[0].dangerous_anonymous_callers);
    assert_eq!(config.admin.address, tcp("127.0.0.1:9901"));
    assert_eq!(config.admin.callers, None);
    assert_eq!(config.log.level, "info");
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.log.access, AccessLogTarget::Stdout);
    let limits = Limits {
        target: 8 * 1024,
        header: 32 * 1024,
        header_fields: 100,
        body: None,
        connections: 10_000,
        connections_per_caller: None,
        requests: 8192,
        tunnels: 1000,
        tunnel_idle_timeout: Duration::from_secs(3600),
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(90),
        body_timeout: Duration::from_secs(60),
        body_rate: 64,
        replay_memory: 64 * 1024 * 1024,
        token_answer: 64 * 1024,
        metric_credentials: 1000,
        http2: Http2Limits {
            streams: 100,
            resets: 200,
            pings: 100,
            settings: 20,
            priorities: 200,
            window_updates: 500,
            tiny_data: 2000,
            unknown: 100,
        },
    };
    assert_eq!(limits, Limits::default());
    assert_eq!(config.limits, limits);
    assert!(config.listeners[0].tls.is_none());
    assert_eq!((config.drain.delay, config.drain.deadline), (None, Duration::from_secs(25)));
    assert_eq!((config.workers, config.file), (None, None));
}

#[test]
fn a_credential_has_its_defaults() {
    let config = good(MINIMAL).config;
    let named = &config.named_credentials[0];
    assert_eq!((named.label.as_deref(), named.enabled, &named.callers), (None, true, &None));
    assert_eq!((named.matching.host.as_ref(), named.matching.path.as_str()), (None, "/orders"));
    assert_eq!((named.matching.methods.as_ref(), named.base_path.as_str()), (None, "/v1"));
    assert_eq!(
        (&named.host_header, named.forwarded, named.replay),
        (&HostHeader::Upstream, Forwarded::None, Replay::Unset)
    );
    assert_eq!(
        (named.generate_authorization_header, named.keep_cookies, named.replay_limit),
        (true, false, 256 * 1024)
    );
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        first_byte: Duration::from_secs(60),
        idle: Duration::from_secs(60),
        total: None,
        continue_: Duration::from_secs(1),
    };
    assert_eq!(named.timeouts, timeouts);
    assert_eq!((&*named.streams.upgrades, named.streams.idle), (&[HeaderValue::from_static("websocket")][..], None));
    let external = &config.external_credentials[0];
    let request = external.request().unwrap();
    assert!(matches!(
        request.client_authentication,
        Some(ClientAuthentication::ClientSecretBasic(BasicEncoding::Form))
    ));
    assert_eq!(request.endpoint.timeout, Duration::from_secs(10));
    assert_eq!((request.scope.is_none(), request.audience.len(), request.resource.len()), (true, 0, 0));
    assert_eq!(request.response.accept_token_types, ["bearer", "bearertoken", "application access token", "n_a", ""]);
    assert_eq!(external.lifetime.default, Duration::from_secs(900));
    assert_eq!(external.lifetime.max, Duration::from_secs(86_400));
    assert_eq!(external.lifetime.expiry_margin, Duration::from_secs(10));
    assert_eq!(external.lifetime.renew_ahead, RenewAhead::Share(0.2));
    assert!(!external.mint_at_start && !external.required_for_readiness);
    assert!(external.rejection.additional_status_codes.is_empty());
    assert_eq!((external.inject.header.as_str(), external.inject.scheme.as_deref()), ("authorization", Some("Bearer")));
    assert_eq!((external.principals[0].name.as_str(), &external.principals[0].callers), ("default", &None));
}

#[test]
fn the_environment_wins_over_the_file_and_only_by_its_fixed_names() {
    let text =
        "workers = 1\n[log]\nlevel = \"warn\"\naccess = { file = \"a.log\" }\n[admin]\naddress = \"127.0.0.1:1\"";
    let environment = [
        ("KEYBEARER_LISTEN", "127.0.0.1:2"),
        ("KEYBEARER_ADMIN", "unix:admin.sock"),
        ("KEYBEARER_LOG", "debug"),
        ("KEYBEARER_LOG_FORMAT", "json"),
        ("KEYBEARER_ACCESS_LOG", "off"),
        ("KEYBEARER_WORKERS", "3"),
        ("KEYBEARER_SERVICE_PORT", "tcp://10.0.0.1:80"),
    ];
    assert!(ENVIRONMENT.iter().all(|(name, _)| environment.iter().any(|(other, _)| other == name)));
    let config = load_env(text, &environment).unwrap().config;
    assert_eq!(config.listeners[0].address, tcp("127.0.0.1:2"));
    assert_eq!(config.admin.address, Address::Unix("admin.sock".into()));
    assert_eq!((config.log.level.as_str(), config.log.format), ("debug", LogFormat::Json));
    assert_eq!(config.log.access, AccessLogTarget::Off);
    assert_eq!(config.workers.map(std::num::NonZeroUsize::get), Some(3));
}

#[test]
fn an_empty_variable_is_none_and_a_wrong_one_is_named() {
    assert!(load_env("", &[("KEYBEARER_WORKERS", "")]).is_ok());
    let problems = load_env("", &[("KEYBEARER_WORKERS", "many"), ("KEYBEARER_LISTEN", "8080")]).unwrap_err();
    let text = problems.render(false);
    assert_eq!(problems.len(), 2, "{text}");
    assert!(text.contains("environment variable KEYBEARER_WORKERS") && text.contains("`workers`"), "{text}");
    assert!(text.contains("environment variable KEYBEARER_LISTEN"), "{text}");
    assert!(!text.contains("many"), "{text}");
    assert_eq!(problems.to_json()[0]["variable"], "KEYBEARER_WORKERS");
}

#[test]
fn relative_paths_start_from_the_folder_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(folder.path().join("secret"), "from-file\n").unwrap();
    let text = MINIMAL.replace("{ dangerous_literal = \"canary-5ec12e7\" }", "{ file = \"secret\" }")
        + "[listeners.x]\naddress = \"unix:./x.sock\"\n[log]\naccess = { file = \"logs/a\" }";
    std::fs::write(&file, text).unwrap();
    let config = crate::config::load(&Source::File(file.clone()), Secrets::Read).unwrap().config;
    assert_eq!(config.file, Some(file));
    assert_eq!(config.external_credentials[0].principals[0].client_secret.as_ref().unwrap().expose(), "from-file");
    assert_eq!(config.listeners[0].address, Address::Unix(folder.path().join("./x.sock")));
    assert_eq!(config.log.access, AccessLogTarget::File(folder.path().join("logs/a")));
}

#[test]
fn a_listener_that_others_can_reach_needs_callers() {
    let open = format!("{MINIMAL}[listeners.default]\naddress = \"0.0.0.0:8080\"\n");
    let found = problem(&open);
    assert!(found.contains("no callers are named") && found.contains("anonymous_callers = true"), "{found}");
    let caller = "[callers.a]\nnetworks = [\"10.0.0.0/8\"]\n";
    good(&format!("{open}{caller}"));
    let accepted = good(&format!("{open}dangerous = {{ anonymous_callers = true }}\n"));
    assert!(accepted.config.listeners[0].dangerous_anonymous_callers);
    // A mistake in what would allow it is the only problem.
    let found = problem(&format!("{open}dangerous = {{ anonymous_caller = true }}\n"));
    assert!(found.contains("unknown key `anonymous_caller`"), "{found}");
    let found = problem(&format!("{open}[caller.a]\nnetworks = [\"10.0.0.0/8\"]\n"));
    assert!(found.contains("unknown key `caller`"), "{found}");
}

#[test]
fn two_listeners_cannot_share_an_address() {
    let text = format!("{MINIMAL}[listeners.a]\naddress = \"127.0.0.1:1\"\n[listeners.b]\naddress = \"127.0.0.1:1\"\n");
    assert!(problem(&text).contains("same address"));
    let text = format!("{MINIMAL}[listeners.a]\naddress = \"127.0.0.1:9901\"\n");
    assert!(problem(&text).contains("same address"));
    good(&text.replace("9901", "0"));
}

#[test]
fn a_caller_has_exactly_one_proof() {
    let hash = "ab".repeat(32);
    for (lines, expected) in [
        (String::new(), "this caller has no proof"),
        (format!("api_key_sha256 = \"{hash}\"\nnetworks = [\"::1\"]"), "one proof, not two"),
        ("networks = [\"::1\"]\nheader = \"x-key\"".to_owned(), "`header` belongs to `api_key_sha256`"),
        ("networks = []".to_owned(), "holds no network"),
        ("networks = [\"10.0.0.0/33\"]".to_owned(), "not a network"),
        ("api_key_sha256 = \"my-key\"".to_owned(), "sha256sum"),
        (format!("api_key_sha256 = \"{hash}\"\nheader = \"x key\""), "not the name of a header field"),
        (format!("api_key_sha256 = \"{hash}\"\nheader = \"Host\""), "cannot be used here"),
        (format!("api_key_sha256 = \"{hash}\"\n[callers.b]\napi_key_sha256 = \"{hash}\""), "same API key"),
    ] {
        let found = problem(&format!("{MINIMAL}[callers.a]\n{lines}\n"));
        assert!(found.contains(expected), "{lines}: {found}");
    }
    let text = format!("{MINIMAL}[callers.a]\napi_key_sha256 = \"{hash}\"\nheader = \"X-Key\"\n");
    let proof = good(&text).config.callers.remove(0).proof;
    assert!(matches!(proof, Proof::ApiKey { sha256, header } if sha256 == [0xab; 32] && header == "x-key"));
}

#[test]
fn callers_that_are_named_must_exist() {
    let text = with("named_credentials.orders", "callers = [\"biling\"]");
    let found = problem(&format!("{text}[callers.billing]\nnetworks = [\"::1\"]\n"));
    assert!(found.contains("did you mean \"billing\"?"), "{found}");
    assert_problem("named_credentials.orders", "callers = [\"x\"]", "add a table [callers.NAME]");
    assert_problem("named_credentials.orders", "callers = []", "names nobody");
    assert!(problem(&format!("{MINIMAL}[admin]\ncallers = [\"x\"]")).contains("no caller of this name"));
}

#[test]
fn names_follow_the_rule() {
    for table in ["named_credentials", "external_credentials", "listeners", "callers"] {
        let rest = match table {
            "named_credentials" => "url = \"http://127.0.0.1\"\ngenerate_authorization_header = false",
            "external_credentials" => {
                "token_endpoint = \"http://127.0.0.1\"\nclient_id = \"a\"\nclient_secret = { dangerous_literal = \"b\" }"
            }
            "listeners" => "address = \"127.0.0.1:1\"",
            _ => "networks = [\"::1\"]",
        };
        let found = problem(&format!("{MINIMAL}[{table}.bad-name]\n{rest}\n"));
        assert!(found.contains("this name is not valid"), "{table}: {found}");
    }
}

#[test]
fn settings_of_the_process_are_checked() {
    for (lines, expected) in [
        ("workers = 0", "not a number of workers"),
        ("workers = -1", "this is not a whole number"),
        ("workers = 1.5", "found a number with a fraction"),
        ("workers = 99999999999999999999", "out of range"),
        ("[log]\nlevel = \"inof\"", "did you mean \"info\"?"),
        ("[log]\nlevel = \"info,x=loud\"", "not a level or filter"),
        ("[log]\nlevel = 1979-05-27", "found a date or time"),
        ("[log]\nformat = \"jsno\"", "did you mean \"json\"?"),
        ("[log]\naccess = \"stdot\"", "did you mean \"stdout\"?"),
        ("[log]\naccess = true", "stderr"),
        ("[log]\naccess = { }", "the key `file` is missing"),
        ("[limits]\ntarget = 8192", "256KiB"),
        ("[limits]\ntarget = \"0B\"", "greater than zero"),
        ("[limits]\nconnections = 0", "greater than zero"),
        ("[limits]\nconnections_per_caller = 0", "greater than zero"),
        ("[limits]\nconnections_per_caller = \"many\"", "expected a whole number"),
        ("[limits]\nrequests = 0", "greater than zero"),
        ("[limits]\ntunnels = 0", "leave it out for 1000"),
        ("[limits]\ntunnel_idle_timeout = \"0s\"", "longer than zero"),
        ("[limits]\ntunnel_idle_timeout = 60", "duration"),
        ("[limits]\nheader_fields = 0", "from 1 to 100"),
        ("[limits]\nheader_fields = 101", "from 1 to 100"),
        ("[limits]\nbody = \"0B\"", "greater than zero"),
        ("[limits]\nbody = 1000", "256KiB"),
        ("[limits]\ntoken_answer = \"0B\"", "greater than zero"),
        ("[limits]\nmetric_credentials = 0", "leave it out for 1000"),
        ("[limits]\nheader_timeout = \"0s\"", "longer than zero"),
        ("[limits]\nh2_streams = 0", "leave it out for 100"),
        ("[limits]\nh2_pings = 4294967296", "less than 4294967296"),
        ("[limits]\nh2_ping = 1", "did you mean `h2_pings`?"),
        ("[limits]\nidle_timeout = \"90\"", "this is not a duration with its unit"),
        ("[drain]\ndelay = \"30s\"", "longer than the deadline"),
        ("drain = 5", "expected a table"),
        ("[listeners]\ndefault = \"127.0.0.1:1\"", "expected a table"),
        ("[listeners.default]\nallowed_origins = [\"https://a/b\"]", "not an origin"),
        ("[listeners.default]\nallowed_origins = \"https://a\"", "expected a list"),
        ("[listeners.a]", "the key `address` is missing"),
        ("[listeners.a]\naddress = \"unix:\"", "not an address"),
    ] {
        let found = problem(&format!("{lines}\n{MINIMAL}"));
        assert!(found.contains(expected), "{lines}: {found}");
    }
    assert!(load("[listeners]").is_ok());
    assert_eq!(problems("listeners = 5\n").len(), 1);
}

/// A folder with a certificate, its key and a configuration whose one listener has this `tls` table.
fn tls_listener(tls: &str, secrets: Secrets) -> Result<crate::config::Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("server.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("server.key"), made.signing_key.serialize_pem()).unwrap();
    let file = folder.path().join("proxy.toml");
    let text = format!("[listeners.default]\ntls = {tls}\n{MINIMAL}");
    std::fs::write(&file, text).unwrap();
    crate::config::load(&Source::File(file), secrets).map_err(|problems| problems.render(false))
}

#[test]
fn a_listener_with_tls_reads_its_files_and_asks_callers_for_certificates_where_told() {
    let server = "certificate = \"server.pem\", key = \"server.key\"";
    for (rest, expected) in [
        ("", None),
        (", client_ca = \"server.pem\"", Some(ClientCertificate::Required)),
        (", client_ca = \"server.pem\", client_certificate = \"optional\"", Some(ClientCertificate::Optional)),
    ] {
        let config = tls_listener(&format!("{{ {server}{rest} }}"), Secrets::Read).unwrap().config;
        let settings = config.listeners[0].tls.as_ref().unwrap().settings();
        assert!(settings.certificate.ends_with("server.pem") && settings.key.ends_with("server.key"));
        assert_eq!(settings.clients.as_ref().map(|clients| clients.certificate), expected);
    }
}

#[test]
fn a_caller_known_by_its_certificate_is_pointed_out_where_no_listener_asks_for_one() {
    let server = "certificate = \"server.pem\", key = \"server.key\"";
    let caller = "\n[callers.billing]\nmtls = { dns = \"billing.internal\" }\n";
    for (rest, caller, is_told) in [
        ("", caller, true),
        (", client_ca = \"server.pem\"", caller, false),
        (", client_ca = \"server.pem\", client_certificate = \"optional\"", caller, false),
        ("", "\n[callers.billing]\nnetworks = [\"::1\"]\n", false),
    ] {
        let loaded = tls_listener(&format!("{{ {server}{rest} }}{caller}"), Secrets::Read).unwrap();
        let told: Vec<_> =
            loaded.warnings.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
        let expected = ["callers.billing.mtls: nobody can be this caller: no listener asks for certificates"];
        assert_eq!(told, &expected[..usize::from(is_told)], "{rest}{caller}");
    }
}

#[test]
fn mistakes_in_the_tls_of_a_listener_name_the_file_or_the_key() {
    for (tls, expected) in [
        ("{ certificate = \"server.pem\" }", "the key `key` is missing"),
        ("{ key = \"server.key\" }", "the key `certificate` is missing"),
        ("{ certificate = \"none.pem\", key = \"server.key\" }", "none.pem"),
        ("{ certificate = \"server.pem\", key = \"server.pem\" }", "holds no private key"),
        ("{ certificate = \"server.pem\", key = \"server.key\", client_ca = \"server.key\" }", "holds no certificate"),
        (
            "{ certificate = \"server.pem\", key = \"server.key\", client_certificate = \"optional\" }",
            "no effect without `client_ca`",
        ),
        (
            "{ certificate = \"server.pem\", key = \"server.key\", client_certificate = \"option\" }",
            "did you mean \"optional\"?",
        ),
        ("{ certificate = \"server.pem\", key = \"server.key\", ca = \"server.pem\" }", "unknown key `ca`"),
        ("\"server.pem\"", "expected a table"),
    ] {
        let found = tls_listener(tls, Secrets::Read).map(|_| ()).unwrap_err();
        assert!(found.contains(expected), "{tls}: {found}");
    }
    let missing = "{ certificate = \"none.pem\", key = \"none.key\" }";
    let config = tls_listener(missing, Secrets::Leave).unwrap().config;
    assert!(config.listeners[0].tls.is_some(), "it can be explained without its files");
}
