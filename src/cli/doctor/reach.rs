//! The way to a host, step by step: name, connection, TLS; through the proxy on the way out where there is one.

use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

use super::report::Report;
use crate::cli::diagnosis::{self, Diagnosis, Target, Unreached};
use crate::connect::{self, Addresses, ConnectError, Destination, HttpProxy, NamedBy, Route, Stream};
use crate::fetch::Way;
use crate::tls::{Alpn, Fault, Profile};

/// Names of the steps.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub(super) dns: &'static str,
    pub(super) connection: &'static str,
    pub(super) tls: &'static str,
}

/// A host, and the way there.
pub(super) struct Leg<'a> {
    steps: Steps,
    /// Scheme, host, port and path, no query.
    url: String,
    host: String,
    port: u16,
    /// None: plain HTTP.
    tls: Option<&'a Profile>,
    http_proxy: Option<&'a HttpProxy>,
    addresses: Addresses,
    /// What is offered within TLS.
    alpn: Alpn,
    /// Bound on each step.
    within: Duration,
    /// The table that names it, and the key there.
    table: String,
    key: &'static str,
}

impl<'a> Leg<'a> {
    /// The way to `url`; none where it names no host.
    pub(super) fn new(
        url: &Uri,
        way: Way<'a>,
        within: Duration,
        (table, key): (String, &'static str),
        steps: Steps,
    ) -> Option<Self> {
        let secure = url.scheme() == Some(&Scheme::HTTPS);
        let host = url.host()?.to_owned();
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = secure.then_some(way.tls);
        let destination = destination((&host, port), tls, way.addresses);
        let http_proxy = match Route::to(&destination, way.http_proxy) {
            Route::Direct => None,
            Route::Tunnel(proxy) | Route::InTheOpen(proxy) => Some(proxy),
        };
        Some(Self {
            steps,
            url: url.to_string().split('?').next().unwrap_or_default().to_owned(),
            http_proxy,
            addresses: way.addresses,
            alpn: Alpn::Http1,
            host,
            port,
            tls,
            within,
            table,
            key,
        })
    }

    /// As it is, but offering this within TLS.
    pub(super) fn offering(self, alpn: Alpn) -> Self {
        Self { alpn, ..self }
    }

    /// Goes the way, step by step.
    ///
    /// # Errors
    /// The diagnosis of the first step that failed.
    pub(super) async fn walk(&self, report: &mut Report) -> Result<(), Diagnosis> {
        self.resolve(report).await.map_err(|error| self.connect_failed(report, self.steps.dns, &error))?;
        let connected = match self.http_proxy {
            Some(proxy) => connect::dial_proxy(proxy, &self.destination(None), self.within).await,
            None => connect::dial(&self.destination(None), self.within).await,
        };
        connected.map_err(|error| self.connect_failed(report, self.steps.connection, &error))?;
        report.ok(
            self.steps.connection,
            match self.http_proxy {
                Some(proxy) => format!("connected to the proxy {}:{}", proxy.host, proxy.port),
                None => format!("connected to port {}", self.port),
            },
        );
        let Some(tls) = self.tls else {
            report.skipped(self.steps.tls, "plain HTTP");
            return Ok(());
        };
        let stream = self.dial(tls).await.map_err(|error| self.connect_failed(report, self.steps.tls, &error))?;
        let version = stream.tls_version().unwrap_or("TLS").replace("TLSv", "TLS ").replace('_', ".");
        report.ok(self.steps.tls, format!("{version}, certificate trusted by {}", trusted_by(tls)));
        Ok(())
    }

    async fn resolve(&self, report: &mut Report) -> Result<(), ConnectError> {
        let asked = self.http_proxy.map_or(self.host.as_str(), |proxy| proxy.host.as_str());
        if asked.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
            report.ok(self.steps.dns, format!("{asked} is an address"));
            return Ok(());
        }
        let addresses = connect::resolve(asked, self.within).await;
        let addresses = addresses.map_err(|error| match self.http_proxy {
            Some(_) => ConnectError::ProxyUnreached(Box::new(error)),
            None => error,
        })?;
        let told: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        report.ok(self.steps.dns, format!("{asked} is {}", told.join(", ")));
        Ok(())
    }

    async fn dial(&self, tls: &Profile) -> Result<Stream, ConnectError> {
        match self.http_proxy {
            Some(proxy) => connect::dial_through(proxy, &self.destination(Some(tls)), self.within).await,
            None => connect::dial(&self.destination(Some(tls)), self.within).await,
        }
    }

    fn destination<'d>(&'d self, tls: Option<&'d Profile>) -> Destination<'d> {
        let tls = tls.map(|profile| (profile, self.alpn));
        Destination { tls, ..destination((&self.host, self.port), None, self.addresses) }
    }

    fn connect_failed(&self, report: &mut Report, step: &'static str, error: &ConnectError) -> Diagnosis {
        let told = if let ConnectError::Tls(cause) = error {
            format!("{error}: {}", Fault::of(cause))
        } else {
            crate::cli::with_causes(error)
        };
        report.failed(step, told);
        self.diagnosis(&Unreached::Connect(error))
    }

    /// Why no answer came, although the way can be gone; `causes` are those of the exchange.
    pub(super) async fn silent(&self, causes: &str) -> Diagnosis {
        if self.http_proxy.is_some() && causes.contains("status 407") {
            return self.diagnosis(&Unreached::Connect(&ConnectError::Proxy { status: 407 }));
        }
        if self.speaks_tls().await {
            self.diagnosis(&Unreached::SpeaksTls)
        } else {
            self.diagnosis(&Unreached::Silent(causes))
        }
    }

    /// Whether a port that was asked in the clear answers a TLS handshake, be it with a certificate that nobody trusts.
    async fn speaks_tls(&self) -> bool {
        let (None, None, Ok(nobody)) = (self.tls, self.http_proxy, Profile::trusting_nobody()) else { return false };
        match connect::dial(&self.destination(Some(&nobody)), self.within).await {
            Ok(_) => true,
            Err(ConnectError::Tls(error)) => {
                matches!(Fault::of(&error), Fault::UnknownIssuer | Fault::OtherName(_) | Fault::Expired)
            }
            Err(_) => false,
        }
    }

    fn diagnosis(&self, why: &Unreached<'_>) -> Diagnosis {
        let proxy = self.http_proxy.map(|proxy| format!("{}:{}", proxy.host, proxy.port));
        let settings = self.tls.map(Profile::settings);
        let target = Target {
            url: &self.url,
            host: &self.host,
            table: &self.table,
            key: self.key,
            http_proxy: proxy.as_deref(),
            has_ca: settings.is_some_and(|settings| settings.ca.is_some()),
            has_certificate: settings.is_some_and(|settings| settings.identity.is_some()),
        };
        diagnosis::unreached(&target, why)
    }
}

fn destination<'a>((host, port): (&'a str, u16), tls: Option<&'a Profile>, addresses: Addresses) -> Destination<'a> {
    Destination {
        host,
        port,
        tls: tls.map(|profile| (profile, Alpn::Http1)),
        addresses,
        named_by: NamedBy::Configuration,
        dead_after: None,
        held_at_most: None,
    }
}

fn trusted_by(profile: &Profile) -> String {
    match &profile.settings().ca {
        Some(file) => file.file_name().map_or_else(|| "tls.ca".to_owned(), |name| name.to_string_lossy().into_owned()),
        None => "the system's roots".to_owned(),
    }
}
