//! `keybearer check`: reads and resolves the configuration and prints every problem; `--online` also mints.

mod external;
mod preset;
mod report;

use clap::Args;

use super::{FAILURE, Format, Global, failed, with_causes};
use crate::config::{self, Loaded, Secrets};
use crate::token::mint_once;

pub use self::report::report;

/// Arguments of `keybearer check`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Also get a token for every principal
    #[arg(long)]
    online: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> u8 {
    let result = config::load(&global.source(), Secrets::Read);
    let (text, status) = report(&result, global.format, super::colour_on_stderr());
    // Problems are diagnostics; what a script reads goes to standard output.
    match (&result, global.format) {
        (Err(_), Format::Text) => anstream::eprint!("{text}"),
        (Err(_), Format::Json) | (Ok(_), _) => anstream::println!("{}", text.trim_end()),
    }
    match result {
        Ok(loaded) if arguments.online => online(&loaded),
        Ok(_) | Err(_) => status,
    }
}

/// Mints for one principal after the other; a failure does not keep the next from being tried.
fn online(loaded: &Loaded) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let mut status = 0;
    for settings in &loaded.config.external_credentials {
        for principal in &settings.principals {
            match runtime.block_on(mint_once(settings, principal, &[])) {
                Ok(_) => anstream::eprintln!("{}/{}: got a token", settings.name, principal.name),
                Err(error) => {
                    anstream::eprintln!("{}/{}: {}", settings.name, principal.name, with_causes(&error));
                    status = FAILURE;
                }
            }
        }
    }
    status
}
