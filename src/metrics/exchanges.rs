//! Counters of exchanges, one set per named credential, fed from the record of each exchange.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::families::Families;
use super::handles::Lazy;
use super::histogram::Histogram;
use crate::access_log::{NotReplayed, Record};
use crate::name::Name;

/// Statuses with a counter of their own: those of the IANA registry that end an exchange, and 499, which proxies log.
/// All others are counted by class. The bound keeps an upstream that invents statuses from inventing series.
const STATUSES: [u16; 60] = [
    101, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403,
    404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429,
    431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];

/// Labels of what [`STATUSES`] does not list; the first is for exchanges whose caller got no answer.
const OTHER_STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

const RENEWALS: [&str; 3] = ["ok", "failed", "same_token"];

/// How many kinds of failure one named credential tells apart: twice what the table of failures and early ends of
/// bodies need. Words beyond that would not be counted.
const ERRORS: usize = 32;

/// Counts the exchanges of one named credential, in counters made with the first. Cloning costs one atomic increment.
#[derive(Clone, Debug)]
pub struct NamedCredentialMetrics(Arc<Own>);

#[derive(Debug)]
struct Own {
    name: Option<Name>,
    families: Arc<Families>,
    counts: Lazy<Counts>,
}

impl NamedCredentialMetrics {
    pub(super) fn new(name: Option<Name>, families: Arc<Families>) -> Self {
        Self(Arc::new(Own { name, families, counts: Lazy::default() }))
    }

    /// Counts one finished exchange; its duration ends now.
    pub fn observe(&self, record: &Record) {
        let own = &*self.0;
        own.counts.get(|| own.families.exchanges(own.name.clone())).observe(record);
    }
}

#[derive(Debug)]
pub(super) struct Counts {
    statuses: [AtomicU64; STATUSES.len()],
    other_statuses: [AtomicU64; OTHER_STATUSES.len()],
    rejections: AtomicU64,
    renewals: [AtomicU64; RENEWALS.len()],
    replayed: AtomicU64,
    /// Rejected all the same, by reason; the last is for no reason given.
    replayed_in_vain: [AtomicU64; NotReplayed::ALL.len() + 1],
    not_replayed: [AtomicU64; NotReplayed::ALL.len() + 1],
    errors: [(OnceLock<&'static str>, AtomicU64); ERRORS],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    pub(super) duration: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            // Arrays longer than 32 have no `Default`.
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
            other_statuses: Default::default(),
            rejections: AtomicU64::default(),
            renewals: Default::default(),
            replayed: AtomicU64::default(),
            replayed_in_vain: Default::default(),
            not_replayed: Default::default(),
            errors: Default::default(),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            duration: Histogram::default(),
        }
    }
}

impl Counts {
    fn observe(&self, record: &Record) {
        self.status(record.status);
        self.duration.observe(record.took);
        self.bytes_in.fetch_add(record.bytes_in, Relaxed);
        self.bytes_out.fetch_add(record.bytes_out, Relaxed);
        if record.rejected {
            self.rejection(record);
        }
        if let Some(error) = record.error {
            self.error(error);
        }
    }

    fn status(&self, status: u16) {
        let slot = match STATUSES.binary_search(&status) {
            Ok(index) => self.statuses.get(index),
            Err(_) => self.other_statuses.get(usize::from(status / 100)),
        };
        // HTTP ends at 599, and the type of statuses at 999.
        let [none, ..] = &self.other_statuses;
        slot.unwrap_or(none).fetch_add(1, Relaxed);
    }

    fn rejection(&self, record: &Record) {
        self.rejections.fetch_add(1, Relaxed);
        let [renewed, failed, same_token] = &self.renewals;
        let renewal = match record.not_replayed_reason {
            Some(NotReplayed::SameToken) => Some(same_token),
            Some(NotReplayed::MintFailed) => Some(failed),
            Some(_) | None => record.renewed.then_some(renewed),
        };
        if let Some(renewal) = renewal {
            renewal.fetch_add(1, Relaxed);
        }
        let replay = match (record.replayed, record.not_replayed_reason) {
            (true, None) => Some(&self.replayed),
            (true, Some(reason)) => self.replayed_in_vain.get(index(Some(reason))),
            (false, reason) => self.not_replayed.get(index(reason)),
        };
        if let Some(replay) = replay {
            replay.fetch_add(1, Relaxed);
        }
    }

    /// The first slot that holds the word or is free: words come from a fixed list, so a few comparisons find it.
    fn error(&self, word: &'static str) {
        for (slot, count) in &self.errors {
            if *slot.get_or_init(|| word) == word {
                count.fetch_add(1, Relaxed);
                return;
            }
        }
    }

    /// Exchanges by status, those that occurred.
    pub(super) fn requests(&self) -> impl Iterator<Item = (String, u64)> {
        let known = STATUSES.iter().map(ToString::to_string).zip(&self.statuses);
        let other = OTHER_STATUSES.iter().map(ToString::to_string).zip(&self.other_statuses);
        known.chain(other).map(|(status, count)| (status, count.load(Relaxed))).filter(|(_, count)| *count > 0)
    }

    pub(super) fn rejections(&self) -> u64 {
        self.rejections.load(Relaxed)
    }

    /// Renewals by outcome, zeroes too: an alert on their increase needs the series before the first failure.
    pub(super) fn renewals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RENEWALS.into_iter().zip(self.renewals.iter().map(|count| count.load(Relaxed)))
    }

    /// Replays by outcome and reason: `ok` always, the others when they occurred.
    pub(super) fn replays(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let reasons = || NotReplayed::ALL.into_iter().map(NotReplayed::as_str).chain([""]);
        let refused = reasons().zip(&self.replayed_in_vain).map(|(reason, count)| ("refused", reason, count));
        let none = reasons().zip(&self.not_replayed).map(|(reason, count)| ("none", reason, count));
        let seen = refused.chain(none).map(|(outcome, reason, count)| (outcome, reason, count.load(Relaxed)));
        std::iter::once(("ok", "", self.replayed.load(Relaxed))).chain(seen.filter(|(_, _, count)| *count > 0))
    }

    /// Failures of ours by their word.
    pub(super) fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.errors.iter().filter_map(|(slot, count)| Some((*slot.get()?, count.load(Relaxed))))
    }

    pub(super) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }
}

/// Where a reason is counted.
fn index(reason: Option<NotReplayed>) -> usize {
    reason.and_then(|reason| NotReplayed::ALL.iter().position(|each| *each == reason)).unwrap_or(NotReplayed::ALL.len())
}
