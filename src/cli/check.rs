//! `keybearer check`: reads and resolves the configuration and prints every problem; `--online` also mints.

mod external;
mod preset;
mod report;

use std::sync::Arc;

use clap::Args;

use super::{FAILURE, Format, Global, doctor, failed};
use crate::config::{self, Loaded, Secrets};
use crate::token::{Flow, Observed, RequestSettings, Settings, mint_observed};

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
    let with_tokens = |settings: &&Arc<Settings>| !matches!(settings.flow, Flow::None);
    for settings in loaded.config.external_credentials.iter().filter(with_tokens) {
        if settings.request().is_some_and(RequestSettings::depends_on_request) {
            anstream::eprintln!("{}: not tried, scope or audience depends on the caller's request", settings.name);
            continue;
        }
        for principal in &settings.principals {
            let Observed { sightings, outcome, .. } = runtime.block_on(mint_observed(settings, principal, &[]));
            match outcome {
                Ok(_) => anstream::eprintln!("{}/{}: got a token", settings.name, principal.name),
                Err(error) => {
                    let diagnosis = runtime.block_on(doctor::explain(settings, principal, &sightings, &error));
                    let told = doctor::told(&diagnosis);
                    anstream::eprintln!("{}/{}: {error}\n\n{told}\n", settings.name, principal.name);
                    status = FAILURE;
                }
            }
        }
    }
    status
}
