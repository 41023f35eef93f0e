//! The configuration: as written (document), as meant (resolved), and every problem on the way.
//!
//! A text is parsed once into a tree that knows where everything stands; defaults and presets are laid under it, the
//! environment over it; the document's structs are read from the tree leniently, and resolved into the parts' own settings.
//! What the parts do with their settings is their own concern.

mod document;
mod field;
mod findings;
mod layers;
mod mask;
mod nearest;
mod preset;
mod problem;
mod quantity;
mod reader;
mod resolve;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod url;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::layers::ENVIRONMENT;
pub use self::preset::{PresetKey, PresetOrigin, PresetUse};
pub use self::problem::{Location, Problem, Problems, Severity};
pub use self::source::{Loaded, Secrets, Source, load, load_here};
use crate::limit::Rate;
use crate::name::Name;
use crate::{caller, proxy, server, token};

pub use crate::access_log::Target as AccessLogTarget;
pub use crate::telemetry::Format as LogFormat;

/// The whole configuration as meant. What is built is right: every reference leads somewhere, every file was read.
#[derive(Debug)]
pub struct Config {
    /// The file it came from; none when all is default or built in.
    pub file: Option<PathBuf>,
    /// The files whose contents became a part of it: secrets, certificates, keys. Not those of listeners, which are read
    /// again by themselves.
    pub files: Vec<PathBuf>,
    /// `[listeners.*]`; never empty.
    pub listeners: Vec<server::ListenerSettings>,
    /// `[admin]`
    pub admin: AdminSettings,
    /// `[callers.*]`
    pub callers: Vec<caller::Settings>,
    /// `rate` of those callers that have one.
    pub caller_rates: Vec<(Name, Rate)>,
    /// `[named_credentials.*]`
    pub named_credentials: Vec<Arc<proxy::settings::NamedCredential>>,
    /// `[external_credentials.*]`
    pub external_credentials: Vec<Arc<token::Settings>>,
    /// `[log]`
    pub log: LogSettings,
    /// `[limits]`
    pub limits: server::Limits,
    /// `[drain]`
    pub drain: server::DrainSettings,
    /// `workers`; none: one per core.
    pub workers: Option<NonZeroUsize>,
}

/// `[admin]` as resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Where it listens (default 127.0.0.1:9901).
    pub address: server::Address,
    /// Callers that may see more than health and metrics on a reachable address.
    pub callers: Option<Vec<crate::name::Name>>,
}

/// `[log]` as resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    /// A `tracing` filter, such as `info` or `keybearer=debug`.
    pub level: String,
    /// How diagnostics look on stderr.
    pub format: LogFormat,
    /// Where the access log goes.
    pub access: AccessLogTarget,
}
