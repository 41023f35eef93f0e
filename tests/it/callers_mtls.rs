//! Callers that are known by their certificate, X.509-SVIDs among them, on a listener with TLS.

use std::net::Ipv4Addr;
use std::time::Duration;

use keybearer::connect::{self, Addresses, Destination, NamedBy};
use keybearer::tls::{Alpn, Profile, Settings};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::certificates::Authority;
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, eventually, within};

const SPIFFE: &str = "spiffe://example.org/ns/prod/sa/billing";

const HEAD: &str = r#"
[listeners.default]
address = "0.0.0.0:0"
tls = { certificate = "server.pem", key = "server.key", client_ca = "callers-ca.pem" }

[admin]
address = "127.0.0.1:0"

[log]
format = "json"
access = "stdout"
"#;

const CALLERS: &str = r#"
[callers.billing]
mtls = { subject = "CN=billing,O=Example" }
[callers.crm]
mtls = { dns = "CRM.internal" }
[callers.prod]
mtls = { uri = "spiffe://example.org/ns/prod/*" }
[callers.both]
mtls = { dns = "crm.internal", email = "crm@example.org" }
"#;

/// An authority that vouches for callers.
struct CallersAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl CallersAuthority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "callers");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A client's certificate and key.
    fn client(&self, name: &str, names: Vec<SanType>) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // As they stand in the certificate: the least specific first.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

struct Secured {
    stage: Stage,
    server: Authority,
}

impl Secured {
    async fn start(authority: &CallersAuthority, tables: &str) -> Self {
        let server = Authority::new("the proxy's");
        let identity = server.server();
        let (setup, issuer, upstream) = Stage::set_up(HEAD, &(tables.to_owned() + CALLERS)).await;
        let setup = setup
            .file("server.pem", &identity.certificate)
            .file("server.key", &identity.key)
            .file("callers-ca.pem", &authority.certificate);
        Self { stage: Stage { issuer, upstream, proxy: setup.run().await }, server }
    }

    /// The status of `GET /NAME/x`, with this certificate; none when the connection is refused.
    async fn status(&self, name: &str, client: Option<&(String, String)>) -> Option<u16> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let identity = client.map(|(certificate, key)| (file("client.pem", certificate), file("client.key", key)));
        let settings = Settings { ca: Some(file("ca.pem", &self.server.certificate)), identity };
        let profile = Profile::load(&settings).unwrap();
        let (host, port) = (Ipv4Addr::LOCALHOST.to_string(), self.stage.proxy.address.port());
        let tls = Some((&profile, Alpn::Http1));
        let addresses = Addresses::CONFIGURED;
        let named_by = NamedBy::Configuration;
        let destination =
            Destination { host: &host, port, tls, addresses, named_by, dead_after: None, held_at_most: None };
        let mut caller = connect::dial(&destination, Duration::from_secs(20)).await.ok()?;
        let request = format!("GET /{name}/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        caller.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // TLS 1.3 tells of a refused certificate only with the first read.
        within("an answer", PATIENCE, caller.read_to_end(&mut answer)).await.ok()?;
        String::from_utf8_lossy(&answer).get(9..12)?.parse().ok()
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

fn email(address: &str) -> SanType {
    SanType::Rfc822Name(address.try_into().unwrap())
}

#[tokio::test]
async fn a_caller_is_known_by_the_names_in_its_certificate() {
    let authority = CallersAuthority::new();
    let secured = Secured::start(&authority, &named("orders", "", "")).await;
    let cases = [
        (authority.client("billing", vec![]), Some("billing")),
        (authority.client("x", vec![dns("crm.internal")]), Some("crm")),
        (authority.client("x", vec![dns("crm.internal"), email("crm@example.org")]), Some("crm")),
        (authority.client("x", vec![uri(SPIFFE)]), Some("prod")),
        (authority.client("Billing", vec![]), None),
        (authority.client("x", vec![dns("crm.internal.evil")]), None),
        (authority.client("x", vec![email("crm@example.org")]), None),
        (authority.client("x", vec![uri("spiffe://example.org/ns/production/sa/billing")]), None),
        (authority.client("x", vec![uri(SPIFFE), uri("https://example.org")]), None),
    ];
    for (client, _) in cases.iter().filter(|(_, expected)| expected.is_none()) {
        assert_eq!(secured.status("orders", Some(client)).await, Some(403));
    }
    assert!(matches!(secured.status("orders", None).await, None | Some(403)), "no certificate");
    let stranger = CallersAuthority::new().client("billing", vec![]);
    assert_eq!(secured.status("orders", Some(&stranger)).await, None, "of an authority that nobody here trusts");
    secured.stage.assert_untouched();
    let mut passed = Vec::new();
    for (client, expected) in &cases {
        let Some(expected) = expected else { continue };
        assert_eq!(secured.status("orders", Some(client)).await, Some(200), "{expected}");
        passed.push(Value::from(*expected));
        let known = async || {
            let log = secured.stage.proxy.access_log();
            let callers = log.iter().filter(|line| line["status"] == 200).map(|line| line["caller"].clone());
            (callers.collect::<Vec<_>>() == passed).then_some(())
        };
        eventually(&format!("it is known as {expected}"), known).await;
    }
}

#[tokio::test]
async fn a_named_credential_admits_its_own_certificates_only() {
    let authority = CallersAuthority::new();
    let tables = named("orders", "", "") + &named("own", "", "callers = [\"crm\"]");
    let secured = Secured::start(&authority, &tables).await;
    let billing = authority.client("billing", vec![]);
    assert_eq!(secured.status("own", Some(&billing)).await, Some(403));
    secured.stage.assert_untouched();
    assert_eq!(secured.status("own", Some(&authority.client("x", vec![dns("crm.internal")]))).await, Some(200));
    assert_eq!(secured.status("orders", Some(&billing)).await, Some(200));
}
