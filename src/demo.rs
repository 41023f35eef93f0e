//! The built-in identity provider and protected API: what `keybearer demo` serves, and what the tests run against.
//!
//! Both listen on loopback only. They are real, small servers: the issuer is an OAuth 2.0 authorization server for the
//! client credentials grant, the API checks every token with it.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::secret::Secret;

pub mod api;
mod form;
pub mod gate;
pub mod issuer;
mod serving;

#[cfg(test)]
mod ask;

use api::Api;
use issuer::{Client, Issuer};

/// The ports to prefer; where one is taken, or 0, a free one is used.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Keybearer's listener.
    pub listener: u16,
    /// Keybearer's admin listener.
    pub admin: u16,
    /// The identity provider.
    pub issuer: u16,
    /// The protected API.
    pub api: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { listener: 8080, admin: 9901, issuer: 9911, api: 9912 }
    }
}

/// A running identity provider and API, and the configuration that leads to them. Both end when it is dropped.
#[derive(Debug)]
pub struct Demo {
    /// The identity provider.
    pub issuer: Issuer,
    /// The protected API.
    pub api: Api,
    listener: SocketAddr,
    admin: SocketAddr,
    secrets: [Secret; 2],
}

impl Demo {
    /// Starts both.
    ///
    /// # Errors
    /// When not even a free port can be listened on.
    pub async fn start(ports: Ports) -> io::Result<Self> {
        let secrets = [issuer::random_secret()?, issuer::random_secret()?];
        let [long, short] = &secrets;
        let clients = vec![
            Client { id: "demo".to_owned(), secret: long.clone(), lifetime: Duration::from_secs(600) },
            Client { id: "short".to_owned(), secret: short.clone(), lifetime: Duration::from_secs(5) },
        ];
        let issuer = match Issuer::start(loopback(ports.issuer), clients.clone()).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Issuer::start(loopback(0), clients).await?,
            started => started?,
        };
        let api = match Api::start(loopback(ports.api), issuer.tokens()).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Api::start(loopback(0), issuer.tokens()).await?,
            started => started?,
        };
        let (listener, admin) = (free_or_any(ports.listener).await, free_or_any(ports.admin).await);
        Ok(Self { issuer, api, listener, admin, secrets })
    }

    /// The demo's `proxy.toml`. The addresses of listeners hold port 0 where the preferred one is taken.
    ///
    /// It holds the client secrets, which are good for this demo only and end with it.
    #[must_use]
    pub fn configuration(&self) -> String {
        let Self { listener, admin, issuer, api, secrets: [long, short] } = self;
        let (token_endpoint, url) = (issuer.token_endpoint(), format!("http://{}", api.address()));
        let (long, short) = (long.expose(), short.expose());
        format!(
            r#"[listeners.default]
address = "{listener}"

[admin]
address = "{admin}"

[log]
access = "stdout"

[named_credentials.demo]
label = "Demo API, tokens of ten minutes"
url = "{url}"
external_credential = "demo_client"

[named_credentials.short]
label = "Demo API, tokens of five seconds"
url = "{url}"
external_credential = "short_client"

[external_credentials.demo_client]
token_endpoint = "{token_endpoint}"
client_authentication = "client_secret_basic"
scope = "demo.read"
client_id = "demo"
client_secret = {{ dangerous_literal = "{long}" }}

[external_credentials.short_client]
token_endpoint = "{token_endpoint}"
client_authentication = "client_secret_post"
client_id = "short"
client_secret = {{ dangerous_literal = "{short}" }}
"#
        )
    }

    /// A guide for the terminal, with `curl` lines to copy, for a keybearer that listens at `listener` and `admin`.
    ///
    /// It is styled with escape sequences: print it through `anstream`, which removes them where there is no terminal.
    #[must_use]
    pub fn instructions(&self, listener: SocketAddr, admin: SocketAddr) -> String {
        let issuer = self.issuer.address();
        let mut text = format!(
            "\n{TITLE}keybearer demo{TITLE:#}\n\n\
             \x20 you  ──▶  keybearer            ──▶  protected API\n\
             \x20 curl      {listener:<20}      {}\n\
             \x20                │ tokens\n\
             \x20                ▼\n\
             \x20           identity provider {issuer}\n\n",
            self.api.address(),
        );
        let steps: [(&str, &[String]); 5] = [
            (
                "Call the API. No token in your request; the API got a good one.",
                &[format!("curl -s 'http://{listener}/demo/hello?name=you'")],
            ),
            ("Revoke every token behind keybearer's back.", &[format!("curl -s -X POST http://{issuer}/demo/revoke")]),
            (
                "Call again: still 200. The access log line says \"renewed\":true,\"replayed\":true.",
                &[format!("curl -s http://{listener}/demo/hello -d 'a body is sent again, too'")],
            ),
            (
                "Tokens of this route live 5 seconds. Call it for a while: nothing ever expires on you.",
                &[format!(
                    "while sleep 1; do curl -s -o /dev/null -w '%{{http_code}}\\n' http://{listener}/short/; done"
                )],
            ),
            (
                "See what was counted, and whether it is ready.",
                &[
                    format!("curl -s http://{admin}/metrics | grep -E '^keybearer_(requests|mints|replays)_total'"),
                    format!("curl -s http://{admin}/readyz"),
                ],
            ),
        ];
        for (number, (what, commands)) in (1..).zip(steps) {
            // Writing to a `String` does not fail.
            let _ = writeln!(text, "{STEP}{number}{STEP:#}  {what}");
            for command in commands {
                let _ = writeln!(text, "   {COMMAND}{command}{COMMAND:#}");
            }
            text.push('\n');
        }
        let _ =
            writeln!(text, "{FAINT}Access log lines follow, one for each request. Ctrl-C ends the demo.{FAINT:#}\n");
        text
    }
}

const TITLE: Style = Style::new().bold();
const STEP: Style = AnsiColor::Green.on_default().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default();
const FAINT: Style = Style::new().dimmed();

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// `port` where it is free at this moment, else 0, which lets the listener take any.
async fn free_or_any(port: u16) -> SocketAddr {
    match tokio::net::TcpListener::bind(loopback(port)).await {
        Ok(_) => loopback(port),
        Err(_) => loopback(0),
    }
}

#[cfg(test)]
mod tests {
    use super::{Demo, Ports, loopback};

    const ANY: Ports = Ports { listener: 0, admin: 0, issuer: 0, api: 0 };

    #[tokio::test]
    async fn the_configuration_is_toml_that_leads_to_the_servers() {
        let demo = Demo::start(ANY).await.unwrap();
        let document: toml::Table = demo.configuration().parse().unwrap();
        assert_eq!(document["listeners"]["default"]["address"].as_str(), Some("127.0.0.1:0"));
        for (named, external, client) in [("demo", "demo_client", "demo"), ("short", "short_client", "short")] {
            let named = &document["named_credentials"][named];
            assert_eq!(named["url"].as_str(), Some(format!("http://{}", demo.api.address()).as_str()));
            assert_eq!(named["external_credential"].as_str(), Some(external));
            let external = &document["external_credentials"][external];
            assert_eq!(external["token_endpoint"].as_str(), Some(demo.issuer.token_endpoint().as_str()));
            assert_eq!(external["client_id"].as_str(), Some(client));
            assert_eq!(external["client_secret"]["dangerous_literal"].as_str().map(str::len), Some(43));
        }
    }

    #[tokio::test]
    async fn taken_ports_give_way_to_free_ones() {
        let first = Demo::start(ANY).await.unwrap();
        let taken = Ports {
            listener: first.api.address().port(),
            admin: first.issuer.address().port(),
            issuer: first.issuer.address().port(),
            api: first.api.address().port(),
        };
        let second = Demo::start(taken).await.unwrap();
        assert_ne!(second.api.address(), first.api.address());
        assert_ne!(second.issuer.address(), first.issuer.address());
        let document: toml::Table = second.configuration().parse().unwrap();
        assert_eq!(document["listeners"]["default"]["address"].as_str(), Some("127.0.0.1:0"));
        assert_eq!(document["admin"]["address"].as_str(), Some("127.0.0.1:0"));
    }

    #[tokio::test]
    async fn secrets_are_in_the_configuration_only() {
        let demo = Demo::start(ANY).await.unwrap();
        let shown = format!("{demo:?}{}", demo.instructions(loopback(8080), loopback(9901)));
        for secret in &demo.secrets {
            assert!(demo.configuration().contains(secret.expose()));
            assert!(!shown.contains(secret.expose()));
        }
    }

    #[tokio::test]
    async fn the_guide_fits_a_terminal_of_100_columns() {
        let demo = Demo::start(ANY).await.unwrap();
        let guide = demo.instructions(loopback(65535), loopback(65534));
        let plain = anstream::adapter::strip_str(&guide).to_string();
        for line in plain.lines() {
            assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        }
        for part in ["127.0.0.1:65535/demo/", "/demo/revoke", "\"replayed\":true", "/short/", "127.0.0.1:65534/metrics"]
        {
            assert!(plain.contains(part), "{part} in {plain}");
        }
    }
}
