//! The proxy with the runtime shape as an argument: `shapes per-core|shared FILE`.
//!
//! `benches/compare/shapes.py` builds it, runs both shapes beside each other and prints the table that decided between
//! them. It measures nothing itself.

use std::error::Error;
use std::process::ExitCode;

use keybearer::app::Bound;
use keybearer::config::{self, Secrets, Source};
use keybearer::server::Shape;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, file] = arguments.as_slice() else {
        eprintln!("shapes: expected per-core or shared, and a configuration; benches/compare/shapes.py runs it");
        return ExitCode::FAILURE;
    };
    match run(shape, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shapes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(shape: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let shape = match shape {
        "per-core" => Shape::PerCore,
        "shared" => Shape::Shared,
        _ => return Err(format!("{shape} is no shape").into()),
    };
    let source = Source::File(file.into());
    let loaded = config::load(&source, Secrets::Read).map_err(|problems| problems.render(false))?;
    Ok(Bound::bind(loaded.config)?.run_with_shape(shape)?)
}
