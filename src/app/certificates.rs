//! Certificates of our listeners, read again on SIGHUP and every half minute.
//!
//! Their contents decide, not their times or a notice of the file system: what Kubernetes mounts is a link that is
//! swapped, of which a watcher sees one event at best.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::name::Name;
use crate::server::{Hangups, ListenerSettings};
use crate::tls::{Reloaded, Terminator, TlsError};

const PERIOD: Duration = Duration::from_secs(30);

/// The listeners that have certificates.
pub(super) struct Certificates {
    listeners: Vec<Watched>,
}

struct Watched {
    name: Name,
    terminator: Arc<Terminator>,
    /// What was said last, so that it is said once.
    complaint: Option<String>,
}

impl Certificates {
    /// Those of these listeners.
    pub(super) fn of<'a>(listeners: impl Iterator<Item = &'a Arc<ListenerSettings>>) -> Self {
        let watched = listeners.filter_map(|listener| {
            let terminator = Arc::clone(listener.tls.as_ref()?);
            Some(Watched { name: listener.name.clone(), terminator, complaint: None })
        });
        Self { listeners: watched.collect() }
    }

    /// Reads them again and again. Never ends.
    pub(super) async fn run(mut self, mut hangups: Hangups) {
        let mut ticks = tokio::time::interval_at(Instant::now() + PERIOD, PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick(), if !self.listeners.is_empty() => {}
                () = hangups.next() => tracing::info!("SIGHUP: reading certificates again"),
            }
            // Files block, and the control runtime has one thread.
            let reading = tokio::task::spawn_blocking(move || {
                self.listeners.iter_mut().for_each(Watched::read);
                self
            });
            match reading.await {
                Ok(read) => self = read,
                Err(error) => {
                    tracing::error!(%error, "certificates are no longer read again");
                    return std::future::pending().await;
                }
            }
        }
    }
}

impl Watched {
    fn read(&mut self) {
        let listener = &self.name;
        match self.terminator.reload() {
            Ok(Reloaded::Unchanged) => {}
            Ok(Reloaded::Certificate) => tracing::info!(%listener, "a new certificate is in use"),
            Ok(Reloaded::Authorities) => {
                tracing::info!(%listener, "other authorities vouch for callers; connections under the old ones end");
            }
            Err(error) => return self.complain(&error),
        }
        self.complaint = None;
    }

    fn complain(&mut self, error: &TlsError) {
        let text = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        if self.complaint.as_ref() != Some(&text) {
            tracing::error!(listener = %self.name, error = text, "the new certificate is no good; the last one stays");
            self.complaint = Some(text);
        }
    }
}
