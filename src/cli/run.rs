//! `keybearer run`: serves what the configuration says.

use super::{FAILURE, Global, failed};
use crate::app::Bound;
use crate::config::{Loaded, Secrets};
use crate::telemetry;

pub(super) fn run(global: &Global) -> u8 {
    match global.load(Secrets::Read) {
        Ok(loaded) => serve(loaded, |_| ()),
        Err(status) => status,
    }
}

/// Serves until a signal; `bound` is told the real addresses before the first request is taken.
pub(super) fn serve(loaded: Loaded, bound: impl FnOnce(&Bound)) -> u8 {
    let Loaded { config, warnings, .. } = loaded;
    if let Err(error) = telemetry::install(&config.log.level, config.log.format) {
        anstream::eprintln!("keybearer: {error}");
        return FAILURE;
    }
    if !warnings.is_empty() {
        anstream::eprint!("{}", warnings.render(super::colour_on_stderr()));
    }
    match Bound::bind(config) {
        Ok(parts) => {
            bound(&parts);
            parts.run().map_or_else(|error| failed(&error), |()| 0)
        }
        Err(error) => failed(&error),
    }
}
