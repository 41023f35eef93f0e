//! Settings of the process as a whole: `[log]`, `[limits]`, `[drain]`, `workers`.

use std::num::NonZeroUsize;

use super::context::Context;
use super::limit;
use crate::config::document::{AccessLog, AccessLogWord, Document, Log, LogFormat as Format};
use crate::config::field::Field;
use crate::config::nearest::nearest;
use crate::config::quantity::Count;
use crate::config::tree::NodeId;
use crate::config::{AccessLogTarget, LogFormat, LogSettings};
use crate::server::{DrainSettings, Limits};
use crate::telemetry;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// More workers than this are a slip of the finger.
const MOST_WORKERS: u64 = 1024;

/// All of them.
pub(super) fn resolve(
    context: &Context<'_>,
    document: &Document,
) -> Option<(LogSettings, Limits, DrainSettings, Option<NonZeroUsize>)> {
    let log = document.log.value().and_then(|log| self::log(context, log));
    let limits = limit::resolve(context, document);
    let drain = drain(context, document);
    let workers = document.workers.get().and_then(|(node, count)| workers(context, node, *count));
    Some((log?, limits?, drain?, workers))
}

fn log(context: &Context<'_>, log: &Log) -> Option<LogSettings> {
    let level = log.level.get().and_then(|(node, text)| level(context, node, text));
    let format = log.format.value().map(|format| match format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    });
    let access = access(context, &log.access);
    Some(LogSettings { level: level?, format: format?, access: access? })
}

fn level(context: &Context<'_>, node: NodeId, text: &str) -> Option<String> {
    const HELP: &str =
        "write a level (off, error, warn, info, debug, trace), or a filter such as \"info,keybearer=debug\"";
    // The filter takes any word for the name of a module, a misspelt level too.
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    if is_word && !is_level {
        let help = nearest(text, LEVELS).map_or_else(|| HELP.to_owned(), |level| format!("did you mean \"{level}\"?"));
        context.findings.error(node, "this is not a level", help);
        return None;
    }
    if telemetry::check(text).is_err() {
        context.findings.error(node, "this is not a level or filter", HELP);
        return None;
    }
    Some(text.to_owned())
}

fn access(context: &Context<'_>, field: &Field<AccessLog>) -> Option<AccessLogTarget> {
    let (node, access) = field.get()?;
    Some(match access {
        AccessLog::Text(AccessLogWord::Stdout) => AccessLogTarget::Stdout,
        AccessLog::Text(AccessLogWord::Stderr) => AccessLogTarget::Stderr,
        AccessLog::Text(AccessLogWord::Off) => AccessLogTarget::Off,
        AccessLog::Table(table) => {
            let help = "write access = { file = \"access.log\" }";
            let (node, path) = context.findings.required(&table.file, node, "file", help)?;
            AccessLogTarget::File(context.path(node, path))
        }
    })
}

fn drain(context: &Context<'_>, document: &Document) -> Option<DrainSettings> {
    let (_, drain) = document.drain.get()?;
    let deadline = drain.deadline.value()?.0;
    if let Some((node, delay)) = drain.delay.get().filter(|(_, delay)| delay.0 > deadline) {
        let message = "listeners cannot go on longer than the deadline of the whole drain";
        let help = format!("write less than {}", humantime::format_duration(deadline));
        context.findings.error(node, message, help);
        return Some(DrainSettings { delay: Some(delay.0), deadline });
    }
    if drain.delay.is_wrong() {
        return None;
    }
    Some(DrainSettings { delay: drain.delay.value().map(|delay| delay.0), deadline })
}

fn workers(context: &Context<'_>, node: NodeId, count: Count) -> Option<NonZeroUsize> {
    let workers = usize::try_from(count.0).ok().filter(|_| count.0 <= MOST_WORKERS).and_then(NonZeroUsize::new);
    if workers.is_none() {
        let help = "write a number from 1 to 1024, or leave it out for one worker per core";
        context.findings.error(node, "this is not a number of workers", help);
    }
    workers
}
