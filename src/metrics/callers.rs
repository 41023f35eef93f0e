//! What was decided about callers before anything else was looked at.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What was decided about one request's caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerDecision {
    /// It may go on, whatever becomes of it.
    Allowed,
    /// It gave no proof where one is needed.
    Unknown,
    /// It is known, and not for this listener, named credential or principal.
    NotAllowed,
    /// A web page is behind it.
    Browser,
}

/// The counters of all decisions; counting takes no lock.
#[derive(Clone, Debug)]
pub struct CallerDecisions {
    allowed: Counter,
    unknown: Counter,
    not_allowed: Counter,
    browser: Counter,
}

impl CallerDecisions {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let counter = |decision| family.get_or_create_owned(&[("decision", decision)]);
        let decisions = Self {
            allowed: counter("allowed"),
            unknown: counter("unknown"),
            not_allowed: counter("not_allowed"),
            browser: counter("browser"),
        };
        registry.register("keybearer_caller_decisions", "Requests by what was decided about their caller", family);
        decisions
    }

    /// Counts one request.
    pub fn count(&self, decision: CallerDecision) {
        let counter = match decision {
            CallerDecision::Allowed => &self.allowed,
            CallerDecision::Unknown => &self.unknown,
            CallerDecision::NotAllowed => &self.not_allowed,
            CallerDecision::Browser => &self.browser,
        };
        counter.inc();
    }
}
