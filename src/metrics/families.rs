//! The labelled families, written at each scrape from the counters that handles share: names, help texts, labels.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::exchanges::Counts;
use super::floods::Floods;
use super::handles::{Collected, Handles, Key};
use super::histogram::Histogram;
use super::limited::Limited;
use super::tokens::Tokens;
use super::upstream::Connections;
use crate::name::Name;

/// Everything that has labels.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) exchanges: Handles<Name, Counts>,
    /// Of exchanges that belong to no named credential.
    pub(super) unmatched: OnceLock<Arc<Counts>>,
    pub(super) tokens: Handles<(Name, Name), Tokens>,
    pub(super) upstreams: Handles<String, Connections>,
    pub(super) limited: Limited,
    pub(super) floods: Floods,
}

/// The label of all for which there was no room. No name begins with an underscore.
const OTHER: &str = "_other";

impl Families {
    /// The counters of a named credential, or those of exchanges that belong to none.
    pub(super) fn exchanges(&self, name: Option<Name>) -> Arc<Counts> {
        match name {
            Some(name) => self.exchanges.resolve(name),
            None => Arc::clone(self.unmatched.get_or_init(Arc::default)),
        }
    }
}

impl Collector for Families {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut writer = Writer(encoder);
        exchanges(&mut writer, self.unmatched.get(), &self.exchanges.collect())?;
        tokens(&mut writer, &self.tokens.collect())?;
        upstreams(&mut writer, &self.upstreams.collect())?;
        writer.counters(
            "keybearer_limited",
            "Requests and connections refused or cut off by a limit",
            self.limited.counts().map(|(limit, count)| ([("limit", limit.as_str())], count)),
        )?;
        writer.counters(
            "keybearer_http2_floods",
            "HTTP/2 connections of callers ended because of too many frames of one kind",
            self.floods.counts().map(|(kind, count)| ([("kind", kind)], count)),
        )
    }
}

fn exchanges(
    writer: &mut Writer<'_>,
    unmatched: Option<&Arc<Counts>>,
    all: &Collected<Name, Counts>,
) -> Result<(), fmt::Error> {
    let unmatched = || unmatched.into_iter().map(|counts| ("", counts.as_ref()));
    let used =
        || unmatched().chain(all.iter().map(move |(key, counts)| (key.label(Name::as_str, OTHER), counts.as_ref())));
    let label = |name| ("named_credential", name);
    writer.counters(
        "keybearer_requests",
        "Exchanges by the status sent to the caller",
        used().flat_map(|(name, counts)| {
            counts
                .requests()
                .map(move |(status, count)| ([("named_credential", name.to_owned()), ("status", status)], count))
        }),
    )?;
    writer.counters(
        "keybearer_rejections",
        "Upstream answers that say the token is no longer good",
        used().map(|(name, counts)| ([label(name)], counts.rejections())),
    )?;
    writer.counters(
        "keybearer_renewals",
        "Rejected tokens that were renewed, or should have been",
        used().flat_map(|(name, counts)| {
            counts.renewals().map(move |(outcome, count)| ([label(name), ("outcome", outcome)], count))
        }),
    )?;
    writer.counters(
        "keybearer_replays",
        "Rejected requests sent again, and why others were not or in vain",
        used().flat_map(|(name, counts)| {
            let labels = move |outcome, reason| [label(name), ("outcome", outcome), ("reason", reason)];
            counts.replays().map(move |(outcome, reason, count)| (labels(outcome, reason), count))
        }),
    )?;
    writer.counters(
        "keybearer_errors",
        "Exchanges that failed on our side or ended early, by the word in the access log",
        used().flat_map(|(name, counts)| {
            counts.errors().map(move |(error, count)| ([label(name), ("error", error)], count))
        }),
    )?;
    let bytes = |count: fn(&Counts) -> u64| used().map(move |(name, counts)| ([label(name)], count(counts)));
    writer.counters("keybearer_bytes_in", "Request body bytes read from callers", bytes(Counts::bytes_in))?;
    writer.counters("keybearer_bytes_out", "Answer body bytes handed to callers", bytes(Counts::bytes_out))?;
    writer.histograms(
        "keybearer_request_duration_seconds",
        "Time from a request's head to the last byte of its answer",
        used().map(|(name, counts)| ([label(name)], &counts.duration)),
    )
}

fn tokens(writer: &mut Writer<'_>, all: &Collected<(Name, Name), Tokens>) -> Result<(), fmt::Error> {
    let labels = |key: &Key<(Name, Name)>| {
        let (external, principal) = match key {
            Key::Own((external, principal)) => (external.to_string(), principal.to_string()),
            Key::Other => (OTHER.to_owned(), OTHER.to_owned()),
        };
        [("external_credential", external), ("principal", principal)]
    };
    writer.counters(
        "keybearer_mints",
        "Calls of the token endpoint",
        all.iter().flat_map(|(key, tokens)| {
            tokens.mints().map(move |(outcome, count)| ((labels(key), [("outcome", outcome)]), count))
        }),
    )?;
    writer.histograms(
        "keybearer_mint_duration_seconds",
        "Time a call of the token endpoint took",
        all.iter().map(|(key, tokens)| (labels(key), &tokens.duration)),
    )?;
    writer.counters(
        "keybearer_renewals_withheld",
        "Rejected tokens not renewed because the renewal allowance is used up",
        all.iter().map(|(key, tokens)| (labels(key), tokens.exhausted())),
    )?;
    let now = Instant::now();
    // Of many tokens together there is no age.
    let own = || all.iter().filter(|(key, _)| *key != Key::Other);
    let lives = || own().filter_map(|(key, tokens)| Some((labels(key), tokens.age_and_rest(now)?)));
    writer.gauges(
        "keybearer_token_age_seconds",
        "Time since the current token came",
        lives().map(|(labels, (age, _))| (labels, age)),
    )?;
    writer.gauges(
        "keybearer_token_expires_seconds",
        "Time left to the current token, 0 once it is over",
        lives().map(|(labels, (_, rest))| (labels, rest)),
    )
}

fn upstreams(writer: &mut Writer<'_>, all: &Collected<String, Connections>) -> Result<(), fmt::Error> {
    let labelled =
        || all.iter().map(move |(key, connections)| ([("upstream", key.label(String::as_str, OTHER))], connections));
    writer.gauges(
        "keybearer_upstream_connections",
        "Open connections to upstreams",
        labelled().map(|(labels, connections)| (labels, connections.open.get())),
    )?;
    let counted = |count: fn(&Connections) -> u64| labelled().map(move |(labels, each)| (labels, count(each)));
    writer.counters(
        "keybearer_upstream_connections_opened",
        "Connections opened to upstreams",
        counted(|each| each.opened.get()),
    )?;
    writer.counters(
        "keybearer_upstream_connections_reused",
        "Requests that found a pooled connection",
        counted(|each| each.reused.get()),
    )?;
    writer.counters(
        "keybearer_upstream_stale_retries",
        "Requests sent again because a pooled connection had been closed",
        counted(|each| each.retried.get()),
    )
}

/// Writes families: a descriptor, then one series per row. A family without rows is left out.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counters<L, R>(&mut self, name: &str, help: &str, rows: R) -> Result<(), fmt::Error>
    where
        L: EncodeLabelSet,
        R: Iterator<Item = (L, u64)>,
    {
        let rows = rows.map(|(labels, count)| (labels, ConstCounter::new(count)));
        self.family(name, help, MetricType::Counter, rows)
    }

    fn gauges<L, N, R>(&mut self, name: &str, help: &str, rows: R) -> Result<(), fmt::Error>
    where
        L: EncodeLabelSet,
        ConstGauge<N>: EncodeMetric,
        R: Iterator<Item = (L, N)>,
    {
        let rows = rows.map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, rows)
    }

    fn histograms<'h, L, R>(&mut self, name: &str, help: &str, rows: R) -> Result<(), fmt::Error>
    where
        L: EncodeLabelSet,
        R: Iterator<Item = (L, &'h Histogram)>,
    {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        rows.try_for_each(|(labels, histogram)| histogram.encode(family.encode_family(&labels)?))
    }

    fn family<L, M, R>(&mut self, name: &str, help: &str, of: MetricType, rows: R) -> Result<(), fmt::Error>
    where
        L: EncodeLabelSet,
        M: EncodeMetric,
        R: Iterator<Item = (L, M)>,
    {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, of)?;
        rows.try_for_each(|(labels, metric)| metric.encode(family.encode_family(&labels)?))
    }
}
