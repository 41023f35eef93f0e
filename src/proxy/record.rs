//! The open record of an exchange: filled on the way, written when the last byte has gone or the exchange is dropped.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::request::Parts;

use super::Shared;
use super::decide::{self, Found};
use super::plan::NamedCredential;
use super::replay::CallerBody;
use crate::access_log::Record;
use crate::answer::Failure;
use crate::server::Connection;

/// A record that is written when it is dropped: every exchange leaves exactly one line, however it ends.
pub(super) struct OpenRecord {
    pub(super) record: Record,
    pub(super) named: Option<Arc<NamedCredential>>,
    pub(super) body: Option<CallerBody>,
    shared: Arc<Shared>,
}

impl OpenRecord {
    /// Opens the record of a request whose head was read.
    pub(super) fn new(shared: &Arc<Shared>, connection: &Connection, parts: Option<&Parts>, id: String) -> Self {
        let record = Record {
            time: SystemTime::now(),
            started: Instant::now(),
            id,
            listener: connection.listener.name.clone(),
            caller: None,
            named_credential: None,
            external_credential: None,
            principal: None,
            method: parts.map(|parts| parts.method.clone()).unwrap_or_default(),
            path: parts.map(|parts| parts.uri.path().to_owned()).unwrap_or_default(),
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
        Self { record, named: None, body: None, shared: Arc::clone(shared) }
    }

    /// Notes who called and what matched.
    pub(super) fn note(&mut self, found: &Found) {
        self.record.caller = found.callers.first().cloned();
        self.named.clone_from(&found.named);
        if let Some(named) = &found.named {
            self.record.named_credential = Some(named.settings.name.clone());
            self.record.external_credential = named.external.as_ref().map(|external| external.name().clone());
            self.record.principal = decide::principal(named, &found.callers).map(|principal| principal.name().clone());
        }
    }

    /// Notes a failure of ours.
    pub(super) fn fail(&mut self, failure: Failure) {
        let (status, error, _) = failure.row();
        self.record.status = status.as_u16();
        self.record.error = Some(error);
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        if let Some(body) = &self.body {
            self.record.bytes_in = body.bytes_read();
        }
        if self.record.status == 0 {
            self.record.error = Some("caller_gone");
        }
        match &self.named {
            Some(named) => named.metrics.observe(&self.record),
            None => self.shared.unmatched.observe(&self.record),
        }
        self.shared.access_log.write(&self.record);
    }
}
