//! Why a host could not be reached: name, connection, proxy, TLS.

use super::{Diagnosis, Finding};
use crate::connect::ConnectError;
use crate::tls::Fault;

/// Whom we wanted to reach.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Scheme, host, port and path.
    pub url: &'a str,
    /// Its host.
    pub host: &'a str,
    /// The table that names it, as in `[external_credentials.issuer]`.
    pub table: &'a str,
    /// The key in that table.
    pub key: &'a str,
    /// The host and port of the proxy on the way, where there is one.
    pub http_proxy: Option<&'a str>,
    /// Whether a file of authorities is configured.
    pub has_ca: bool,
    /// Whether a client certificate is configured.
    pub has_certificate: bool,
}

/// What came in the way.
#[derive(Debug)]
pub enum Unreached<'a> {
    /// There is no connection.
    Connect(&'a ConnectError),
    /// The request was sent in the clear, and the port speaks TLS.
    SpeaksTls,
    /// The connection was made, and no answer came over it; the causes.
    Silent(&'a str),
}

/// Why `target` could not be reached.
#[must_use]
pub fn unreached(target: &Target<'_>, why: &Unreached<'_>) -> Diagnosis {
    let (received, found) = match why {
        Unreached::Connect(error) => connect(target, error),
        Unreached::SpeaksTls => (
            "What came back is no HTTP; the port speaks TLS.".to_owned(),
            Finding {
                meaning: "The URL says plain HTTP where the server wants TLS.".to_owned(),
                change: format!("Write {} = \"{}\" in {}.", target.key, swapped(target.url), target.table),
            },
        ),
        Unreached::Silent(causes) => (format!("No answer came back: {causes}."), silent(target, causes)),
    };
    let sent = match why {
        Unreached::Connect(_) => format!("Nothing was sent to {}.", target.url),
        Unreached::SpeaksTls | Unreached::Silent(_) => format!("A request was sent to {}.", target.url),
    };
    Diagnosis { sent, received, meaning: found.meaning, change: found.change }
}

fn silent(target: &Target<'_>, causes: &str) -> Finding {
    let Target { table, key, .. } = target;
    // With TLS 1.3 this comes only after the handshake, and nothing but its text tells.
    if causes.contains("CertificateRequired") {
        return Finding {
            meaning: "The server wants a client certificate (mutual TLS).".to_owned(),
            change: format!("Write tls = {{ certificate = \"client.pem\", key = \"client.key\" }} in {table}."),
        };
    }
    Finding {
        meaning: "The host took the connection and then broke it off or kept silent: another service listens on that \
                  port, or it is overloaded."
            .to_owned(),
        change: format!(
            "Check host and port of {key} in {table}; if the server only is slow, a longer timeout there helps."
        ),
    }
}

fn connect(target: &Target<'_>, error: &ConnectError) -> (String, Finding) {
    let Target { host, table, key, .. } = target;
    match error {
        ConnectError::Dns(_) => (
            format!("The name {host} does not resolve."),
            Finding {
                meaning: "There is no such host, or this machine's name servers do not know it: a typing error, or \
                          a name that only a company network or VPN knows."
                    .to_owned(),
                change: format!(
                    "Correct the host of {key} in {table}; if it is right, look at /etc/resolv.conf, or at the \
                     pod's DNS policy, and at the VPN. Behind a corporate proxy, name it with http_proxy there: \
                     it resolves names itself."
                ),
            },
        ),
        ConnectError::Forbidden => (
            format!("The name {host} leads to an address that is not allowed."),
            Finding {
                meaning: "It is link-local, or that of a cloud's metadata service: whoever can choose where the name \
                          leads could make keybearer ask there."
                    .to_owned(),
                change: format!(
                    "Correct the host of {key} in {table}; where this address is meant, write dangerous = \
                     {{ link_local = true }} there."
                ),
            },
        ),
        ConnectError::OtherProtocol => (
            "The host completed no TLS handshake with the version of HTTP that was offered.".to_owned(),
            Finding {
                meaning: "The server speaks HTTP/2 only, or HTTP/1.1 only.".to_owned(),
                change: format!(
                    "Write the version that the server speaks as `http` in {table}: \"2\" where HTTP/1.1 was offered. \
                     Without `http`, the proxy finds that out by itself."
                ),
            },
        ),
        ConnectError::Refused(cause) => (
            format!("The host cannot be reached: {}.", innermost(&**cause)),
            Finding {
                meaning: "Nothing listens on that port of that host, or the way there is barred.".to_owned(),
                change: format!(
                    "Check host and port of {key} in {table}; see that the server runs, and that no network policy or \
                 firewall is in the way."
                ),
            },
        ),
        ConnectError::Timeout => (
            "Nothing came back before the time was up.".to_owned(),
            Finding {
                meaning: "Packets to that host disappear: mostly a firewall, a network policy, or a route that is \
                      missing."
                    .to_owned(),
                change: format!(
                    "Open the way from this machine to {host}; if the only way out is a corporate proxy, write http_proxy \
                 = {{ url = \"http://proxy:3128\" }} in {table}."
                ),
            },
        ),
        ConnectError::Tls(error) => tls(target, &Fault::of(error)),
        ConnectError::ProxyUnreached(_)
        | ConnectError::Proxy { .. }
        | ConnectError::ProxyAnswer(_)
        | ConnectError::ProxySpoke => proxy(target, error),
    }
}

fn proxy(target: &Target<'_>, error: &ConnectError) -> (String, Finding) {
    let Target { host, table, .. } = target;
    let proxy = target.http_proxy.unwrap_or("the proxy");
    let (received, meaning, change) = match error {
        ConnectError::ProxyUnreached(cause) => (
            format!("The proxy {proxy} cannot be reached: {cause}."),
            "The proxy on the way out is not where http_proxy says, or this machine may not reach it.".to_owned(),
            format!("Correct http_proxy.url in {table}; or add \"{host}\" to http_proxy.no_proxy to go directly."),
        ),
        ConnectError::Proxy { status: 407 } => (
            format!("The proxy {proxy} answered 407, Proxy Authentication Required."),
            "The proxy lets nobody through without credentials, or not with these.".to_owned(),
            format!("Write http_proxy = {{ url = \"…\", username = \"…\", password = {{ env = \"…\" }} }} in {table}."),
        ),
        ConnectError::Proxy { status } => (
            format!("The proxy {proxy} answered {status} when asked for a tunnel."),
            "The proxy does not let anybody through to this host or port, or cannot reach it itself.".to_owned(),
            format!("Ask who runs the proxy to allow {host}; or add it to http_proxy.no_proxy in {table}."),
        ),
        ConnectError::ProxyAnswer(_)
        | ConnectError::ProxySpoke
        | ConnectError::Dns(_)
        | ConnectError::Forbidden
        | ConnectError::Refused(_)
        | ConnectError::Tls(_)
        | ConnectError::OtherProtocol
        | ConnectError::Timeout => (
            format!("What {proxy} answered is not what a proxy answers."),
            "There is no HTTP proxy at that address.".to_owned(),
            format!("Correct http_proxy.url in {table}."),
        ),
    };
    (received, Finding { meaning, change })
}

fn tls(target: &Target<'_>, fault: &Fault) -> (String, Finding) {
    let Target { host, table, key, .. } = target;
    let (received, meaning, change) = match fault {
        Fault::UnknownIssuer if target.has_ca => (
            "The server showed a certificate that no authority in tls.ca has signed.".to_owned(),
            "The file holds another authority than the one that signed the certificate; or the server leaves out \
             the certificates between; or something on the way breaks TLS open."
                .to_owned(),
            format!("Put the authority that signed the certificate of {host} into the file of tls.ca in {table}."),
        ),
        Fault::UnknownIssuer => (
            "The server showed a certificate that no authority known to this machine has signed.".to_owned(),
            "It is signed by a private authority, or by itself; or a corporate proxy breaks TLS open.".to_owned(),
            format!(
                "Get that authority's certificate as PEM and write tls = {{ ca = \"ca.pem\" }} in {table}; or install \
                 it on this machine."
            ),
        ),
        Fault::OtherName(names) => (
            match names.as_slice() {
                [] => "The server showed a certificate for another name.".to_owned(),
                names => format!("The server showed a certificate for {}, and not for {host}.", names.join(", ")),
            },
            "The URL names the host in a way that its certificate does not know, or leads to another server."
                .to_owned(),
            format!("Write {key} in {table} with a name that is in the certificate."),
        ),
        Fault::Expired | Fault::NotYetValid => (
            format!(
                "The server showed a certificate that {}.",
                if *fault == Fault::Expired { "has expired" } else { "is not valid yet" }
            ),
            "Whoever runs the server has to renew its certificate; or the clock of this machine is wrong.".to_owned(),
            "Compare this machine's clock (date -u); if it is right, tell who runs the server. Nothing needs to \
             change in the configuration."
                .to_owned(),
        ),
        Fault::NotTls => (
            "What came back is no TLS.".to_owned(),
            "The port speaks plain HTTP, and the URL says https.".to_owned(),
            format!(
                "Write the port that speaks TLS in {key} of {table}; or, if it really is plain HTTP, {key} = \"{}\"{}.",
                swapped(target.url),
                if is_loopback(host) { "" } else { " and dangerous = { plain_http = true }" }
            ),
        ),
        Fault::ClientCertificate => (
            "The server refused the handshake for want of a client certificate that it knows.".to_owned(),
            if target.has_certificate {
                "The certificate in tls.certificate is none that it trusts.".to_owned()
            } else {
                "It wants a client certificate (mutual TLS), and none is configured.".to_owned()
            },
            format!("Write tls = {{ certificate = \"client.pem\", key = \"client.key\" }} in {table}."),
        ),
        Fault::NothingInCommon => (
            "The server speaks neither TLS 1.2 nor TLS 1.3 with a cipher suite of ours.".to_owned(),
            "It is too old to be spoken to safely, or something on the way is.".to_owned(),
            "Have it updated, or reach it by way of a gateway that it can talk to.".to_owned(),
        ),
        Fault::Closed => (
            "The connection was closed in the middle of the TLS handshake.".to_owned(),
            "A firewall that looks into connections, a server that does not know this host name, or a port that does \
             not speak TLS."
                .to_owned(),
            format!("Check host and port of {key} in {table}; ask who runs the firewall to let {host} through."),
        ),
        Fault::Other(text) => (
            format!("The TLS handshake failed: {text}."),
            "Certificate or protocol of the server are not acceptable.".to_owned(),
            format!("Check {key} and tls in {table}, and the server's certificate."),
        ),
    };
    (received, Finding { meaning, change })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The URL with the other scheme.
fn swapped(url: &str) -> String {
    match url.split_once("://") {
        Some(("https", rest)) => format!("http://{rest}"),
        Some((_, rest)) => format!("https://{rest}"),
        None => url.to_owned(),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
