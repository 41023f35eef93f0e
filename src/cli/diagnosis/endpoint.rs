//! Answers that do not come from the token endpoint that was meant: another host, a login page, a firewall, a wrong
//! path; and one that asks for patience.

use http::Uri;

use super::heard::{Heard, title};
use super::{Finding, finding};

/// In the order in which they are tried.
pub(super) const RULES: [fn(&Heard<'_>) -> Option<Finding>; 8] =
    [domain, redirect, limited, tls_port, page, not_there, wrong_method, failing];

/// Salesforce wants the org's own host for client credentials.
fn domain(heard: &Heard<'_>) -> Option<Finding> {
    heard.says(&["not supported on this domain"]).then(|| Finding {
        meaning: "This grant works only at the org's own host, its My Domain, not at login.salesforce.com or \
                  test.salesforce.com."
            .to_owned(),
        change: format!(
            "Write token_endpoint = \"https://MYDOMAIN.my.salesforce.com/services/oauth2/token\" in {}; Setup, My \
             Domain shows the name.",
            heard.table()
        ),
    })
}

fn redirect(heard: &Heard<'_>) -> Option<Finding> {
    let (300..=399, Some(location)) = (heard.status?, heard.field("location")) else { return None };
    let host = location.parse::<Uri>().ok().and_then(|to| to.host().map(str::to_owned));
    let whom = host.map(|host| format!("to {host} ")).unwrap_or_default();
    let target = location.split('?').next().unwrap_or_default();
    finding(
        format!(
            "The token endpoint is elsewhere; the redirect is not followed, because the secret would go {whom}too."
        ),
        format!(
            "If that is the right place, write the final URL, token_endpoint = \"{target}\", in {}; if it is a login \
             page, the URL is not a token endpoint.",
            heard.table()
        ),
    )
}

fn limited(heard: &Heard<'_>) -> Option<Finding> {
    if heard.status? != 429 {
        return None;
    }
    let later = heard.field("retry-after").map_or_else(
        || "Wait some minutes".to_owned(),
        |later| {
            if later.parse::<u64>().is_ok() { format!("Wait {later} seconds") } else { format!("Wait until {later}") }
        },
    );
    finding(
        "The token endpoint limits how often this client may ask; nothing is wrong with the credentials.",
        format!(
            "{later}, then try again. If it comes back: see who else uses this client, run fewer replicas, or give \
             this one a client of its own."
        ),
    )
}

/// A web server that says in words that it wanted TLS.
fn tls_port(heard: &Heard<'_>) -> Option<Finding> {
    let answer = heard.answer()?;
    let text = answer.body.to_lowercase();
    let said = ["plain http request was sent to https port", "http request to an https server"];
    (answer.status == 400 && said.iter().any(|said| text.contains(said))).then(|| Finding {
        meaning: "The port speaks TLS, and the URL says plain HTTP.".to_owned(),
        change: format!("Write https:// in token_endpoint of {}.", heard.table()),
    })
}

fn page(heard: &Heard<'_>) -> Option<Finding> {
    if !heard.is_page() || matches!(heard.status?, 404 | 405 | 410 | 500..) {
        return None;
    }
    let page = title(&heard.answer()?.body).unwrap_or_default().to_lowercase();
    let meaning = if ["log in", "login", "sign in", "anmelden"].iter().any(|word| page.contains(word)) {
        "This is a login page for people and no token endpoint."
    } else {
        "This is a page for people: a login page, or a firewall or proxy on the way that keeps us out."
    };
    let change = if heard.is_discovered() { "issuer" } else { "token_endpoint" };
    finding(
        meaning,
        format!(
            "Check {change} in {}: the issuer's /.well-known/openid-configuration names the right URL. If it is \
             right, ask who runs the firewall to let this machine reach it, or name the proxy in http_proxy.",
            heard.table()
        ),
    )
}

fn not_there(heard: &Heard<'_>) -> Option<Finding> {
    if !matches!(heard.status?, 404 | 410) {
        return None;
    }
    finding(
        "The host answers, but there is no token endpoint at this path.",
        format!(
            "Correct the path of token_endpoint in {}; the issuer's /.well-known/openid-configuration names it. \
             Tenant, realm and authorization server are part of the path with most providers.",
            heard.table()
        ),
    )
}

fn wrong_method(heard: &Heard<'_>) -> Option<Finding> {
    match heard.status? {
        405 => finding(
            "The path exists and does not take this method, so it is another endpoint than the token endpoint.",
            format!(
                "Correct token_endpoint in {}; where the provider documents GET, write method = \"GET\".",
                heard.table()
            ),
        ),
        415 => finding(
            "The server does not take a form as the body.",
            format!("Write client_authentication = \"json\" in {}.", heard.table()),
        ),
        _ => None,
    }
}

fn failing(heard: &Heard<'_>) -> Option<Finding> {
    let status = heard.status?;
    let temporary = heard.is(&["temporarily_unavailable", "server_error"]);
    (temporary || status == 408 || (status >= 500 && heard.code.is_empty())).then(|| Finding {
        meaning: "The token endpoint itself is failing, or something before it; the credentials were not judged."
            .to_owned(),
        change: "Look at the provider's status page and try again later; nothing needs to change here.".to_owned(),
    })
}
