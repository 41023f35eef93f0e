//! Keys that have no effect, and keys that do not go together.

use super::{CLIENT, ENDPOINT, assert_fault, quiet, usual};

#[test]
fn what_has_no_effect_with_the_flow_is_a_mistake() {
    let token = "flow = \"static\"\ntoken = { dangerous_literal = \"t\" }\n";
    for lines in [
        "grant_type = \"x\"",
        "token_endpoint = \"http://127.0.0.1\"",
        "issuer = \"http://127.0.0.1\"",
        "method = \"GET\"",
        "tls = { ca = \"ca.pem\" }",
        "timeout = \"1s\"",
        "http_proxy = { url = \"http://p:1\" }",
        "scope = \"a\"",
        "audience = \"a\"",
        "resource = \"a\"",
        "parameters = { body = { a = \"b\" } }",
        "client_authentication = \"none\"",
        "dpop = true",
        "response = { token = \"/a\" }",
        "expires_unit = \"ms\"",
        "error = \"/a\"",
        "accept_token_types = [\"a\"]",
        "dangerous = { plain_http = true }",
        "default_lifetime = \"1m\"",
        "max_lifetime = \"1h\"",
        "renew_ahead = false",
        "expiry_margin = \"1s\"",
        "readiness = \"required\"",
        "mint = \"at_start\"",
        "additional_refresh_status_codes = [403]",
        "refresh_when = [{ status = [500] }]",
        "refresh_unless = [{ status = [500] }]",
        "refresh_token_store = \"a\"",
    ] {
        let key = lines.split(' ').next().unwrap();
        assert_fault(&format!("{token}{lines}"), &format!("`{key}` has no effect with flow = \"static\""));
    }
}

#[test]
fn what_has_no_effect_on_the_client_or_its_principal_is_a_mistake() {
    let secret = "{ dangerous_literal = \"s\" }";
    for (lines, expected) in [
        (usual(&format!("token = {secret}")), "`token` has no effect"),
        (usual(&format!("refresh_token = {secret}")), "`refresh_token` has no effect"),
        (usual("username = \"u\""), "`username` has no effect"),
        (usual(&format!("password = {secret}")), "`password` has no effect"),
        (usual("refresh_token_store = \"a\""), "choose flow = \"refresh_token\""),
        (usual(&format!("subject_token = {secret}")), "choose flow = \"token_exchange\""),
        (usual(&format!("actor_token = {secret}")), "choose flow = \"token_exchange\""),
        (usual("subject_token_type = \"a\""), "choose flow = \"token_exchange\""),
        (usual("actor_token_type = \"a\""), "choose flow = \"token_exchange\""),
        (usual("requested_token_type = \"a\""), "choose flow = \"token_exchange\""),
        (
            format!("{ENDPOINT}flow = \"token_exchange\"\nsubject_token = {secret}\nactor_token_type = \"a\""),
            "without an `actor_token`",
        ),
        (
            usual("client_authentication = \"client_secret_basic\"\nsigning = { algorithm = \"HS256\" }"),
            "nothing is signed",
        ),
        (usual("assertion = { issuer = \"a\" }"), "`assertion` has no effect"),
        (usual("client_authentication = \"json\"\nbasic_encoding = \"raw\""), "belongs to client_secret_basic"),
        (
            usual(&format!("client_authentication = \"client_secret_jwt\"\nsigning = {{ key = {secret} }}")),
            "the client secret is the key",
        ),
        (usual("client_authentication = \"none\""), "`client_secret` has no effect"),
        (usual("assertion = { file = \"t\" }"), "with private_key_jwt the signed assertion"),
        (
            format!("{ENDPOINT}client_id = \"a\"\nassertion = {{ file = \"t\", subject = \"s\" }}"),
            "on an assertion that comes from a file",
        ),
        (
            usual("client_authentication = \"client_secret_jwt\"\nassertion = { file = \"t\" }"),
            "the assertion is signed here",
        ),
        (
            format!("{ENDPOINT}client_id = \"a\"\nassertion = {{ file = \"t\" }}\nsigning = {{ key = {secret} }}"),
            "nothing is signed",
        ),
        ("flow = \"none\"\ninject = { scheme = \"x\" }".to_owned(), "`headers` are what is attached"),
        (
            format!("flow = \"signed_jwt\"\n{CLIENT}signing = {{ algorithm = \"HS256\" }}\nmax_lifetime = \"1h\""),
            "assertion.lifetime",
        ),
        (format!("flow = \"static\"\ntoken = {secret}\nclient_secret = {secret}"), "`client_secret` has no effect"),
    ] {
        assert_fault(&lines, expected);
    }
}

#[test]
fn what_cannot_go_together_is_said() {
    for (lines, expected) in [
        (usual("method = \"GET\"\nclient_authentication = \"client_secret_post\""), "a GET has no body"),
        (usual("method = \"GET\"\nclient_authentication = \"json\""), "a GET has no body"),
        (usual("method = \"get\""), "did you mean \"GET\"?"),
        (
            usual("client_authentication = \"private_key_jwt\"\nsigning = { algorithm = \"HS256\" }")
                .replace("client_secret = { dangerous_literal = \"s\" }\n", ""),
            "does not sign with a secret",
        ),
        (
            usual("client_authentication = \"client_secret_jwt\"\nsigning = { algorithm = \"RS256\" }"),
            "signs with the client secret",
        ),
        (usual("scope = \"a\"\nparameters = { body = { scope = \"b\" } }"), "`scope` is sent already"),
        (
            usual("client_authentication = \"client_secret_post\"\nparameters = { body = { client_id = \"b\" } }"),
            "`client_id` is sent already",
        ),
        (usual("parameters = { headers = { X-A = \"1\", x-a = \"2\" } }"), "is set twice"),
        (usual("dpop = true\nparameters = { headers = { dpop = \"1\" } }"), "sets `dpop` itself"),
        (usual("client_authentication = \"query\""), "travels in a URL"),
        (usual("issuer = \"http://127.0.0.1\""), "beside `token_endpoint`"),
        (usual("headers = [{ name = \"Authorization\", value = \"a\" }]"), "carries the token"),
        (usual("headers = [{ name = \"x-a\", value = { formula = \"'a'\", env = \"A\" } }]"), "not both"),
        (usual("headers = [{ name = \"x-a\", value = { formla = \"'a'\" } }]"), "did you mean `formula`?"),
        (usual("secrets = { \"a b\" = { dangerous_literal = \"s\" } }"), "not a name for a secret"),
        (usual("grant_type = \"a\\n\""), "control character"),
    ] {
        assert_fault(&lines, expected);
    }
    // Basic leaves the body to whoever wants the id there too, and without it the field is free.
    quiet(&usual("parameters = { body = { client_id = \"b\" } }"));
    quiet(&format!(
        "{ENDPOINT}client_authentication = \"none\"\nparameters = {{ headers = {{ authorization = \"a\" }} }}"
    ));
}
