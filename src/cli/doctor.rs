//! `keybearer doctor NAME`: walks the whole way a request of a caller takes, says of each step what was found, and
//! explains the first failure in one paragraph with the next step.
//!
//! Nothing here decides what a failure means; that is `diagnosis`. `reach` is DNS, TCP and TLS, `obtain` the way to a
//! token, `probe` the trial request, `report` how steps are printed, `veil` what of an answer must not be.

mod obtain;
mod probe;
mod reach;
mod report;
mod subject;
mod veil;

use clap::Args;

use self::report::Report;
use self::subject::Subject;
use super::diagnosis::Diagnosis;
use super::{FAILURE, Global, failed};
use crate::config::Secrets;

pub(super) use self::obtain::explain;
pub(super) use self::report::width;

/// Arguments of `keybearer doctor`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A named credential; or an external credential, whose way ends with the token
    name: String,
    /// The principal to act as; the first in sequence otherwise
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// The caller to act for: decides the principal, and what formulas see
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// What is asked for below the URL of the named credential, as in /42?x=1; only ever by GET or HEAD
    #[arg(long, value_name = "PATH", default_value = "")]
    path: String,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> u8 {
    let config = match global.load(Secrets::Read) {
        Ok(loaded) => loaded.config,
        Err(status) => return status,
    };
    let subject = match Subject::find(&config, arguments) {
        Ok(subject) => subject,
        Err(reason) => {
            anstream::eprintln!("keybearer: {reason}");
            return FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let mut report = Report::new(global.format, subject.steps());
    let walked = runtime.block_on(walk(&subject, &mut report));
    report.end(&arguments.name, walked.as_ref().err());
    if walked.is_ok() { 0 } else { FAILURE }
}

async fn walk(subject: &Subject<'_>, report: &mut Report) -> Result<(), Diagnosis> {
    report.ok("configuration", subject.told());
    let obtained = match subject.external {
        Some((settings, principal)) => Some(obtain::obtain(settings, principal, &subject.callers, report).await?),
        None => None,
    };
    match subject.named {
        Some(named) => probe::probe(subject, named, obtained.as_ref(), report).await,
        None => Ok(()),
    }
}

/// A diagnosis as the commands print it that are not the doctor: after the line that says what failed.
pub(super) fn told(diagnosis: &Diagnosis) -> String {
    diagnosis.paragraph(width(&std::io::stderr()))
}
