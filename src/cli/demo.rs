//! `keybearer demo`: serves with a built-in identity provider and API, and says how to try it.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use super::{EX_CONFIG, failed, run};
use crate::config::{self, Secrets, Source};
use crate::demo::{Demo, Ports};
use crate::server::Address;

pub(super) fn run() -> u8 {
    // The identity provider and the API are servers of their own: they get a runtime of their own.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let demo = match runtime.block_on(Demo::start(Ports::default())) {
        Ok(demo) => demo,
        Err(error) => return failed(&error),
    };
    let source = Source::Text { name: "demo.toml".to_owned(), text: demo.configuration() };
    let loaded = match config::load(&source, Secrets::Read) {
        Ok(loaded) => loaded,
        Err(problems) => {
            anstream::eprint!("{}", problems.render(false));
            return EX_CONFIG;
        }
    };
    run::serve(loaded, |bound| {
        let mut addresses = bound.listeners().filter_map(|listener| match &listener.address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        });
        if let (Some(listener), Some(admin)) = (addresses.next(), addresses.next()) {
            // A closed stderr keeps nobody from using the demo.
            let _ = print_guide(&demo, listener, admin);
        }
    })
}

/// Prints the guide for a keybearer that listens at `listener` and `admin`.
///
/// To stderr, so that stdout holds access log lines and nothing else: `keybearer demo | jq` works. Styled only where
/// stderr is a terminal and `NO_COLOR` is not set.
///
/// # Errors
/// When stderr cannot be written to.
pub fn print_guide(demo: &Demo, listener: SocketAddr, admin: SocketAddr) -> io::Result<()> {
    anstream::stderr().write_all(demo.instructions(listener, admin).as_bytes())
}
