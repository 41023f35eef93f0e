//! From the document as written to the configuration as meant.
//!
//! Every part reports what is wrong with it and goes on, so that all problems of independent parts come out at once.
//! A function here gives nothing back only where a problem has been reported.

mod caller;
mod context;
mod external;
mod formula;
mod header;
mod host;
mod http_proxy;
mod limit;
mod listener;
mod matching;
mod named;
mod process;
mod secret;
mod tls;
mod upstream;

use std::path::PathBuf;

use self::context::Context;
use self::external::Externals;
use self::named::NamedCredentials;
use super::document::Document;
use super::findings::Findings;
use super::tree::Tree;
use super::{Config, Secrets};

/// What the document is resolved against.
pub(crate) struct Surroundings<'a> {
    /// The file the document came from.
    pub(crate) file: Option<PathBuf>,
    /// The folder that relative paths in the file start from.
    pub(crate) folder: PathBuf,
    /// Whether secrets are read.
    pub(crate) secrets: Secrets,
    /// Looks an environment variable up.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Resolves the whole document; what is wrong goes to `findings`.
pub(crate) fn resolve(document: &Document, findings: &Findings<'_>, surroundings: Surroundings<'_>) -> Option<Config> {
    let mut context = Context::new(document, findings, &surroundings);
    context.http_proxies = http_proxy::global(&context, document);
    let callers = caller::resolve(&context, document);
    let caller_rates = limit::caller_rates(&context, document);
    let listeners = listener::resolve(&context, document);
    let admin = listener::admin(&context, document);
    let process = process::resolve(&context, document);
    let mut externals = Externals::resolve(&context, document);
    let named = NamedCredentials::resolve(&context, document, &externals);
    externals.keep_members(findings, &named);
    named.judge_forward_proxy(&context, document);
    if findings.has_errors() {
        return None;
    }
    advise(document, findings, &named, &externals);
    let (log, limits, drain, workers) = process?;
    Some(Config {
        file: surroundings.file,
        files: context.files.take().into_iter().collect(),
        listeners,
        admin: admin?,
        callers,
        caller_rates,
        named_credentials: named.into_settings(),
        external_credentials: externals.into_settings(),
        log,
        limits,
        drain,
        workers,
    })
}

/// What is allowed, but probably not what was meant.
fn advise(document: &Document, findings: &Findings<'_>, named: &NamedCredentials, externals: &Externals) {
    if document.named_credentials.value().is_none_or(|entries| entries.iter().next().is_none()) {
        findings.warning(
            Tree::ROOT,
            "no named credential is configured: every request will be answered with 404",
            "add a table [named_credentials.NAME] with a `url` and an `external_credential`",
        );
    }
    listener::advise(document, findings);
    caller::advise(document, findings);
    externals.advise(findings, named);
    named.advise(findings, externals);
}
