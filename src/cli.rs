//! The command line: one file per command, and what they share.

pub mod check;
pub mod demo;
pub mod diagnosis;
mod doctor;
mod explain;
pub mod health;
mod import;
mod run;
pub mod token;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Loaded, Secrets, Source};
use crate::process;
use crate::telemetry;

/// Invalid configuration, `EX_CONFIG` of sysexits.h.
const EX_CONFIG: u8 = 78;

/// A run-time failure.
const FAILURE: u8 = 1;

/// An authenticating egress proxy: plain HTTP in, live OAuth 2.0 access tokens out.
///
/// A caller sends plain HTTP. Keybearer matches the request to a named credential, attaches a live access token,
/// forwards it, and when the API refuses the token it gets a new one and sends the request again.
#[derive(Debug, Parser)]
#[command(name = "keybearer", version, after_help = "Start with `keybearer demo`: it needs no configuration.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// Configuration file; otherwise $KEYBEARER_CONFIG, otherwise proxy.toml in the working directory
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// How results are printed, where a script would want to read them
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    format: Format,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what the configuration says
    Run,
    /// Serve with a built-in identity provider and API on loopback; nothing to configure
    Demo,
    /// Read the configuration and print every problem, with its place and what to do
    Check(check::Arguments),
    /// Show what would become of a request: listener, named credential, caller, principal, outgoing head
    Explain(explain::Arguments),
    /// Get a token for a named or external credential and describe it
    Token(token::Arguments),
    /// Turn the metadata of another product into a configuration, with a list of the secrets to set
    Import(import::Arguments),
    /// Walk the whole way, from DNS to a trial request, and explain what is wrong
    Doctor(doctor::Arguments),
    /// Ask the running process whether it is ready; exit status 0 or 1
    Health,
}

/// Reads the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    telemetry::tell_panics_by_place();
    if let Err(error) = process::keep_memory_private() {
        anstream::eprintln!("keybearer: core dumps and debuggers could not be shut out: {error}");
    }
    // Before anything else is done: a library that looks for the process-wide provider must find this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Cli { global, command } = Cli::parse();
    let status = match command {
        Command::Run => run::run(&global),
        Command::Demo => demo::run(),
        Command::Check(arguments) => check::run(&global, &arguments),
        Command::Explain(arguments) => explain::run(&global, &arguments),
        Command::Token(arguments) => token::run(&global, &arguments),
        Command::Import(arguments) => import::run(&global, &arguments),
        Command::Doctor(arguments) => doctor::run(&global, &arguments),
        Command::Health => health::run(&global),
    };
    ExitCode::from(status)
}

impl Global {
    /// The file the configuration is read from.
    fn source(&self) -> Source {
        let named = self.config.clone().or_else(|| std::env::var_os("KEYBEARER_CONFIG").map(|os: OsString| os.into()));
        Source::File(named.unwrap_or_else(|| PathBuf::from("proxy.toml")))
    }

    /// The configuration, or the exit status after its problems were printed.
    fn load(&self, secrets: Secrets) -> Result<Loaded, u8> {
        match config::load(&self.source(), secrets) {
            Ok(loaded) => Ok(loaded),
            Err(problems) => {
                anstream::eprint!("{}", problems.render(colour_on_stderr()));
                Err(EX_CONFIG)
            }
        }
    }
}

/// Whether diagnostics may be coloured. `anstream` strips what a pipe or `NO_COLOR` does not want; this only saves
/// making it.
fn colour_on_stderr() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints an error with all its causes and gives the status for a run-time failure.
fn failed(error: &dyn std::error::Error) -> u8 {
    anstream::eprintln!("keybearer: {}", with_causes(error));
    FAILURE
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
