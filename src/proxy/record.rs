//! The open record of an exchange: filled on the way, written when the last byte has gone or the exchange is dropped.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use tokio::time::Instant;

use super::Shared;
use super::decide::{self, Found};
use super::limits;
use super::plan::NamedCredential;
use super::replay::CallerBody;
use super::stop::Stop;
use crate::access_log::{Asked, Record, RequestId};
use crate::answer::Failure;
use crate::limit::{Limit, Place};
use crate::server::Connection;

/// A record that is written when it is dropped: every exchange leaves exactly one line, however it ends.
pub(super) struct OpenRecord {
    pub(super) record: Record,
    /// When the request's head was read.
    begun: Instant,
    /// When the exchange ended, where that is known before the record is written.
    pub(super) ended: Option<Instant>,
    pub(super) named: Option<Arc<NamedCredential>>,
    pub(super) body: Option<CallerBody>,
    /// The limit that was reached.
    pub(super) limit: Option<Limit>,
    /// What the exchange takes of its named credential's limits.
    place: Option<Place>,
    /// Whether more were being served than may be when it came.
    is_crowded: bool,
    /// Whether it counts as a tunnel and no longer as a request that is being served.
    is_tunnel: bool,
    shared: Arc<Shared>,
}

impl OpenRecord {
    /// Opens the record of a request whose head was read.
    pub(super) fn new(shared: &Arc<Shared>, connection: &Connection, parts: Option<&Parts>, id: RequestId) -> Self {
        let record = Record {
            took: Duration::ZERO,
            id,
            asked: shared.access_log.is_on().then(|| Box::new(asked(connection, parts))),
            status: 0,
            upstream_status: None,
            rejected: false,
            renewed: false,
            replayed: false,
            not_replayed_reason: None,
            bytes_in: 0,
            bytes_out: 0,
            error: None,
        };
        let is_crowded = shared.in_flight.inc() >= shared.most_in_flight;
        let shared = Arc::clone(shared);
        Self {
            record,
            begun: Instant::now(),
            ended: None,
            named: None,
            body: None,
            limit: None,
            place: None,
            is_crowded,
            is_tunnel: false,
            shared,
        }
    }

    /// Holds the exchange against `limits.requests`; those that are refused count for as long as that takes.
    pub(super) fn admit(&mut self) -> Result<(), Stop> {
        if self.is_crowded {
            self.limit = Some(Limit::Requests);
            return Err(limits::crowded("as many requests are being served as may be"));
        }
        Ok(())
    }

    /// Holds the exchange against `limits.tunnels`. From then on it takes no place of those who are served in a moment.
    pub(super) fn enter_tunnel(&mut self) -> Result<(), Stop> {
        if self.shared.tunnels.inc() >= self.shared.most_tunnels {
            self.shared.tunnels.dec();
            self.limit = Some(Limit::Tunnels);
            return Err(limits::crowded("as many tunnels are open as may be"));
        }
        self.shared.in_flight.dec();
        self.is_tunnel = true;
        Ok(())
    }

    /// Notes who called and what matched, and takes what was taken for it.
    pub(super) fn note(&mut self, found: &mut Found) {
        self.limit = found.limit;
        self.place = found.place.take();
        self.named.clone_from(&found.named);
        let Some(asked) = &mut self.record.asked else { return };
        asked.caller = found.callers.first().cloned();
        if let Some(origin) = &found.asked {
            asked.path.insert_str(0, origin);
        }
        if let Some(named) = &found.named {
            asked.named_credential = Some(named.settings.name.clone());
            asked.external_credential = named.external.as_ref().map(|external| external.name().clone());
            asked.principal = decide::principal(named, &found.callers).map(|principal| principal.name().clone());
        }
    }

    /// Notes a failure of ours.
    pub(super) fn fail(&mut self, failure: Failure) {
        let (status, error, _) = failure.row();
        self.record.status = status.as_u16();
        self.record.error = Some(error);
        if self.limit.is_none() {
            self.limit = limits::limit_of(failure, self.named.is_some());
        }
    }
}

/// What the head alone tells.
fn asked(connection: &Connection, parts: Option<&Parts>) -> Asked {
    Asked {
        time: SystemTime::now(),
        listener: connection.listener.name.clone(),
        caller: None,
        named_credential: None,
        external_credential: None,
        principal: None,
        method: parts.map(|parts| parts.method.clone()).unwrap_or_default(),
        path: parts.map(|parts| parts.uri.path().to_owned()).unwrap_or_default(),
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        if let Some(body) = &self.body {
            let (bytes_read, used_up) = body.summary();
            self.record.bytes_in = bytes_read;
            self.limit = self.limit.or(used_up);
        }
        if self.record.status == 0 {
            self.record.error = Some("caller_gone");
        }
        self.record.took = self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.begun);
        let counted = if self.is_tunnel { &self.shared.tunnels } else { &self.shared.in_flight };
        counted.dec();
        if let Some(limit) = self.limit {
            self.shared.limited.count(limit);
        }
        match &self.named {
            Some(named) => named.metrics.observe(&self.record),
            None => self.shared.unmatched.observe(&self.record),
        }
        self.shared.access_log.write(&self.record);
    }
}
