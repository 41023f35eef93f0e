//! `[limits]`, the `rate` of callers, and the `limits` of named credentials.

use std::num::NonZeroU32;
use std::time::Duration;

use super::context::Context;
use crate::config::document::{self, CredentialLimits as WrittenLimits, Document, Rate as WrittenRate, RateTable};
use crate::config::field::{Entries, Field};
use crate::config::quantity::{Count, Size};
use crate::config::tree::NodeId;
use crate::limit::Rate;
use crate::name::Name;
use crate::proxy::settings::CredentialLimits;
use crate::server::{Http2Limits, Limits, MOST_FIELDS};

/// `[limits]`
pub(super) fn resolve(context: &Context<'_>, document: &Document) -> Option<Limits> {
    let (_, limits) = document.limits.get()?;
    let target = size(context, &limits.target, "8KiB");
    let header = size(context, &limits.header, "8KiB");
    let header_fields = limits.header_fields.get().and_then(|(node, number)| {
        let number = usize::try_from(number.0).ok().filter(|number| (1..=MOST_FIELDS).contains(number));
        if number.is_none() {
            let help = format!("write a number from 1 to {MOST_FIELDS}, or leave it out for {MOST_FIELDS}");
            context.findings.error(node, "this is not a number of fields that can be read", help);
        }
        number
    });
    let connections = count(context, &limits.connections, "leave it out for 10000");
    let requests = count(context, &limits.requests, "leave it out for 8192");
    let tunnels = count(context, &limits.tunnels, "leave it out for 1000");
    let per_caller = optional(&limits.connections_per_caller, || {
        count(context, &limits.connections_per_caller, "leave it out for 1000, on addresses other than loopback")
    });
    let body = optional(&limits.body, || size(context, &limits.body, "10MiB"));
    let token_answer = size(context, &limits.token_answer, "64KiB");
    let metric_credentials = count(context, &limits.metric_credentials, "leave it out for 1000");
    let header_timeout = context.positive(&limits.header_timeout);
    let idle_timeout = context.positive(&limits.idle_timeout);
    let tunnel_idle_timeout = context.positive(&limits.tunnel_idle_timeout);
    let body_timeout = context.positive(&limits.body_timeout);
    let http2 = http2(context, limits);
    Some(Limits {
        target: target?,
        header: header?,
        header_fields: header_fields?,
        body: body?,
        connections: connections?,
        connections_per_caller: per_caller?,
        requests: requests?,
        tunnels: tunnels?,
        tunnel_idle_timeout: tunnel_idle_timeout?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        body_timeout: body_timeout?,
        body_rate: limits.body_rate.value()?.0,
        replay_memory: limits.replay_memory.value()?.0,
        token_answer: token_answer?,
        metric_credentials: metric_credentials?,
        http2: http2?,
    })
}

fn http2(context: &Context<'_>, limits: &document::Limits) -> Option<Http2Limits> {
    let default = Http2Limits::default();
    let count = |field: &Field<Count>, default: u32| {
        let Some((node, count)) = field.get() else {
            return (!field.is_wrong()).then_some(default);
        };
        let fit = u32::try_from(count.0).ok().filter(|count| *count > 0);
        if fit.is_none() {
            let help = format!("leave it out for {default}");
            context.findings.error(node, "this number must be greater than zero and less than 4294967296", help);
        }
        fit
    };
    let streams = count(&limits.h2_streams, default.streams);
    let resets = count(&limits.h2_resets, default.resets);
    let pings = count(&limits.h2_pings, default.pings);
    let settings = count(&limits.h2_settings, default.settings);
    let priorities = count(&limits.h2_priorities, default.priorities);
    let window_updates = count(&limits.h2_window_updates, default.window_updates);
    let tiny_data = count(&limits.h2_tiny_data, default.tiny_data);
    let unknown = count(&limits.h2_unknown, default.unknown);
    Some(Http2Limits {
        streams: streams?,
        resets: resets?,
        pings: pings?,
        settings: settings?,
        priorities: priorities?,
        window_updates: window_updates?,
        tiny_data: tiny_data?,
        unknown: unknown?,
    })
}

/// The callers that have a rate.
pub(super) fn caller_rates(context: &Context<'_>, document: &Document) -> Vec<(Name, Rate)> {
    let mut rates = Vec::new();
    for (name, field) in document.callers.value().into_iter().flat_map(Entries::iter) {
        let rate = field.value().and_then(|caller| rate(context, &caller.rate));
        rates.extend(Name::parse(name).ok().zip(rate));
    }
    rates
}

/// `limits` of a named credential; what it does not say of bodies, `[limits]` says.
pub(super) fn of_credential(context: &Context<'_>, field: &Field<WrittenLimits>) -> Option<CredentialLimits> {
    let missing = WrittenLimits::default();
    let written = match field {
        Field::Missing => &missing,
        Field::Wrong(_) => return None,
        Field::Set(_, written) => written,
    };
    let rate = optional(&written.rate, || rate(context, &written.rate));
    let requests = optional(&written.requests, || count(context, &written.requests, "leave it out for no limit"));
    let body = optional(&written.body, || size(context, &written.body, "10MiB"));
    Some(CredentialLimits { rate: rate?, requests: requests?, body: body?.or(context.longest_body) })
}

/// What `resolve` makes of a key that may be left out; none where something was reported.
#[expect(clippy::option_option, reason = "the outer one says that a problem was reported, as everywhere here")]
fn optional<T, R>(field: &Field<T>, resolve: impl FnOnce() -> Option<R>) -> Option<Option<R>> {
    match field {
        Field::Missing => Some(None),
        Field::Wrong(_) => None,
        Field::Set(..) => resolve().map(Some),
    }
}

fn rate(context: &Context<'_>, field: &Field<WrittenRate>) -> Option<Rate> {
    const HELP: &str = "write it like \"100/s\", \"600/m\" or \"10/h\", or { per_second = 100, burst = 200 }";
    let (node, written) = field.get()?;
    match written {
        WrittenRate::Text(text) => {
            let rate = Rate::parse(text);
            if rate.is_none() {
                context.findings.error(node, "this is not a rate", HELP);
            }
            rate
        }
        WrittenRate::Table(table) => rate_table(context, node, table),
    }
}

fn rate_table(context: &Context<'_>, node: NodeId, table: &RateTable) -> Option<Rate> {
    let findings = context.findings;
    let (number, period) = match (&table.per_second, &table.per_minute) {
        (Field::Missing, Field::Missing) => {
            if !["per_second", "per_minute"].iter().any(|key| findings.is_misspelt(node, key)) {
                findings.error(node, "this rate says no pace", "write { per_second = 100 } or { per_minute = 600 }");
            }
            return None;
        }
        (number, Field::Missing) => (number, 1),
        (Field::Missing, number) => (number, 60),
        (_, other) => {
            findings.key_error(other.node().unwrap_or(node), "a rate has one pace, not two", "leave one of them out");
            return None;
        }
    };
    let number = small(context, number);
    let burst = optional(&table.burst, || small(context, &table.burst));
    let rate = Rate::new(number?, Duration::from_secs(period), burst?);
    if rate.is_none() {
        findings.error(node, "this rate is beyond one in a nanosecond", "leave the rate out");
    }
    rate
}

/// A number from 1 that fits a bucket.
fn small(context: &Context<'_>, field: &Field<Count>) -> Option<NonZeroU32> {
    let (node, number) = field.get()?;
    let small = u32::try_from(number.0).ok().and_then(NonZeroU32::new);
    if small.is_none() {
        let message = "this number must be greater than zero and fit 32 bits";
        context.findings.error(node, message, "leave the rate out for no limit");
    }
    small
}

fn count(context: &Context<'_>, field: &Field<Count>, help: &str) -> Option<usize> {
    let (node, number) = field.get()?;
    let number = usize::try_from(number.0).ok().filter(|number| *number > 0);
    if number.is_none() {
        context.findings.error(node, "this number must be greater than zero", help);
    }
    number
}

fn size(context: &Context<'_>, field: &Field<Size>, example: &str) -> Option<usize> {
    let (node, size) = field.get()?;
    if size.0 == 0 {
        context.findings.error(node, "this size must be greater than zero", format!("write it like \"{example}\""));
    }
    Some(size.0)
}
