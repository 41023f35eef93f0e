//! A real nginx before the resource server: a second upstream, with TLS as its operators set it up.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use tempfile::TempDir;
use tokio::process::Command;

use super::certificates::{Authority, Identity};
use super::process::Process;
use super::{eventually, unavailable};

/// A running nginx; killed when dropped.
pub(crate) struct Nginx {
    _process: Process,
    _directory: TempDir,
    pub(crate) address: SocketAddr,
}

/// How nginx speaks TLS.
pub(crate) struct Tls<'a> {
    pub(crate) identity: &'a Identity,
    /// As in `ssl_protocols`.
    pub(crate) protocols: &'a str,
    /// Whose certificates callers must show; none: no certificate is asked for.
    pub(crate) client_authority: Option<&'a Authority>,
}

impl Nginx {
    /// Passes everything on to `backend` and says in `X-Tls-Protocol` and `X-Tls-Client` what it saw.
    pub(crate) async fn start(backend: SocketAddr, tls: Option<Tls<'_>>) -> Option<Self> {
        let Some(program) = program() else { return unavailable("nginx is not installed") };
        // The port is free when we look and may be taken when nginx does: then another one.
        for _ in 0..20 {
            let address = free_address();
            let directory = tempfile::tempdir().unwrap();
            write_configuration(directory.path(), address, backend, tls.as_ref());
            let mut command = Command::new(&program);
            command.arg("-e").arg("stderr").arg("-p").arg(directory.path()).arg("-c").arg("nginx.conf");
            let mut process = Process::start(&mut command).unwrap();
            // nginx writes this file once its sockets are bound.
            let pid = directory.path().join("nginx.pid");
            let outcome = async || match process.has_ended() {
                true => Some(false),
                false => pid.exists().then_some(true),
            };
            if eventually("nginx starts", outcome).await {
                return Some(Self { _process: process, _directory: directory, address });
            }
            process.stderr.ended().await;
            let said = process.stderr.text();
            assert!(said.contains("Address already in use"), "nginx does not start:\n{said}");
        }
        panic!("no free port for nginx");
    }
}

/// Debian installs it where the path of an ordinary user does not lead.
fn program() -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    folders.find_map(|folder| {
        let program = Path::new(folder).join("nginx");
        program.is_file().then(|| program.to_str().unwrap().to_owned())
    })
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn write_configuration(directory: &Path, address: SocketAddr, backend: SocketAddr, tls: Option<&Tls<'_>>) {
    let mut server = format!("listen {address}{};\n", if tls.is_some() { " ssl" } else { "" });
    if let Some(tls) = tls {
        std::fs::write(directory.join("server.pem"), &tls.identity.certificate).unwrap();
        std::fs::write(directory.join("server.key"), &tls.identity.key).unwrap();
        writeln!(server, "ssl_certificate server.pem; ssl_certificate_key server.key;").unwrap();
        writeln!(server, "ssl_protocols {};", tls.protocols).unwrap();
        if let Some(authority) = tls.client_authority {
            std::fs::write(directory.join("clients.pem"), &authority.certificate).unwrap();
            writeln!(server, "ssl_client_certificate clients.pem; ssl_verify_client on;").unwrap();
        }
    }
    let text = format!(
        r#"daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    client_max_body_size 0;
    server {{
        {server}
        location / {{
            proxy_pass http://{backend};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
            add_header X-Tls-Protocol $ssl_protocol always;
            add_header X-Tls-Client $ssl_client_s_dn always;
        }}
    }}
}}
"#
    );
    std::fs::write(directory.join("nginx.conf"), text).unwrap();
}
