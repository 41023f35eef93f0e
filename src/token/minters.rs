//! All minters of the process: which token requests are equal and share a cell, which clients share a back-off.
//!
//! Lives on the control side. A cell that no plan holds any more ends its minter; a cell that a new plan asks for
//! again keeps its live token.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::backoff::Backoff;
use super::cell::{Cell, Outcome, Shared};
use super::credential::ExternalCredential;
use super::key::{self, Digest};
use super::mint::TokenRequest;
use super::minter::{self, Start};
use super::source::Source;
use super::watchers::Watchers;
use super::{PrincipalSettings, Settings};
use crate::metrics::Metrics;

/// Starts and finds minters. Dropping it ends them all.
pub struct Minters {
    control: Handle,
    metrics: Metrics,
    cells: HashMap<Digest, Weak<Cell>>,
    clients: HashMap<Digest, Client>,
    tasks: JoinSet<()>,
}

/// What the cells of one client share: (token endpoint, client id).
struct Client {
    backoff: Weak<Mutex<Backoff>>,
    secret: Digest,
}

impl Minters {
    /// Minters that run on `control`.
    #[must_use]
    pub fn new(control: Handle, metrics: Metrics) -> Self {
        Self { control, metrics, cells: HashMap::new(), clients: HashMap::new(), tasks: JoinSet::new() }
    }

    /// The data plane's view of an external credential, with a minter for each of its principals. Principals whose
    /// token requests are equal to ones already known share their cells.
    pub fn external_credential(&mut self, settings: &Settings) -> Arc<ExternalCredential> {
        self.forget_the_gone();
        let cells = settings.principals.iter().map(|principal| self.cell(settings, principal)).collect();
        Arc::new(ExternalCredential::new(settings, cells))
    }

    fn cell(&mut self, settings: &Settings, principal: &PrincipalSettings) -> Arc<Cell> {
        let backoff = self.client_backoff(settings, principal);
        let source = Source {
            external_credential: settings.name.clone(),
            principal: principal.name.clone(),
            mint: Box::new(Arc::new(TokenRequest::new(settings, principal))),
            lifetime: settings.lifetime.clone(),
            patience: settings.endpoint.timeout,
        };
        let metrics = self.metrics.external_credential(&settings.name, &principal.name);
        let key = key::token_request(settings, principal);
        if let Some(cell) = self.cells.get(&key).and_then(Weak::upgrade) {
            // The same request, perhaps with other rules for the lifetime: those of the newest configuration count.
            cell.shared().replace_source(source);
            cell.shared().watchers.add(&settings.name, &principal.name, metrics);
            return cell;
        }
        let watchers = Watchers::default();
        watchers.add(&settings.name, &principal.name, metrics);
        let start = if settings.mint_at_start { Start::Soon } else { Start::OnDemand };
        let cell = self.start(Arc::new(Shared::new(source, backoff, watchers)), start);
        self.cells.insert(key, Arc::downgrade(&cell));
        cell
    }

    fn start(&mut self, shared: Arc<Shared>, start: Start) -> Arc<Cell> {
        let (asks, asked) = mpsc::channel(1);
        let (outcomes, outcome) = watch::channel(Outcome::None);
        self.tasks.spawn_on(minter::run(Arc::clone(&shared), asked, outcomes, start), &self.control);
        Arc::new(Cell::new(shared, asks, outcome))
    }

    /// One back-off per client, so that a wrong secret under two scopes is not tried twice as often. A changed secret
    /// begins afresh: the operator who corrected it must not wait for the old one's penalty to end.
    fn client_backoff(&mut self, settings: &Settings, principal: &PrincipalSettings) -> Arc<Mutex<Backoff>> {
        let client = key::client(settings, principal);
        let secret = key::secret(principal);
        if let Some(known) = self.clients.get_mut(&client)
            && let Some(backoff) = known.backoff.upgrade()
        {
            if known.secret != secret {
                known.secret = secret;
                backoff.lock().clear();
            }
            return backoff;
        }
        let backoff = Arc::new(Mutex::new(Backoff::default()));
        self.clients.insert(client, Client { backoff: Arc::downgrade(&backoff), secret });
        backoff
    }

    fn forget_the_gone(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.cells.retain(|_, cell| cell.strong_count() > 0);
        self.clients.retain(|_, client| client.backoff.strong_count() > 0);
    }
}

impl std::fmt::Debug for Minters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Minters").field("cells", &self.cells.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
