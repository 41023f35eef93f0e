//! A real squid as the proxy on the way out: on loopback, with a login, and nothing cached.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::process::Process;
use super::{eventually, unavailable};

/// Where it is kept.
const PLACES: [&str; 3] = ["/usr/sbin/squid", "/usr/bin/squid", "/usr/local/sbin/squid"];

/// Who may use it.
pub(crate) const LOGIN: (&str, &str) = ("egress-gateway", "canary-squid-5ecret");

/// A running squid; ends when dropped.
pub(crate) struct Squid {
    pub(crate) address: SocketAddr,
    folder: TempDir,
    _process: Process,
}

impl Squid {
    /// Starts one that lets `LOGIN` reach loopback; none when squid is not there.
    pub(crate) async fn start() -> Option<Self> {
        let found = |places: &[&'static str]| places.iter().copied().find(|place| Path::new(place).exists());
        let Some(program) = found(&PLACES) else {
            return unavailable("squid is not installed");
        };
        let folder = tempfile::tempdir().unwrap();
        // Squid gives root up for a user of its own, which has to read and write here.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let address = free_port().await;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let helper = format!(
            "#!/bin/sh
while read -r login; do [ \"$login\" = '{} {}' ] && echo OK || echo ERR; done
",
            LOGIN.0, LOGIN.1
        );
        std::fs::write(path("helper"), helper).unwrap();
        std::fs::set_permissions(path("helper"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "http_port {address}\npid_filename none\naccess_log stdio:{access}\ncache_log {cache}\ncache deny all\n\
             coredump_dir {folder}\nshutdown_lifetime 0 seconds\nvisible_hostname squid.test\n\
             auth_param basic program {helper}\nauth_param basic realm way out\n\
             acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\nvia on\n",
            access = path("access.log"),
            cache = path("cache.log"),
            helper = path("helper"),
            folder = folder.path().display(),
        );
        std::fs::write(path("squid.conf"), config).unwrap();
        let mut command = Command::new(program);
        let process = Process::start(command.args(["-N", "-f"]).arg(path("squid.conf"))).unwrap();
        eventually("squid listens", async || TcpStream::connect(address).await.ok()).await;
        Some(Self { address, folder, _process: process })
    }

    /// The lines of its access log so far, once there are `count`.
    pub(crate) async fn log(&self, count: usize) -> Vec<String> {
        eventually("squid writes its log", async || {
            let text = std::fs::read_to_string(self.folder.path().join("access.log")).ok()?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
        .await
    }
}

/// Squid cannot be told to take any port, so one is taken and given back.
async fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}
