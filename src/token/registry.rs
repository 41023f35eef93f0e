//! Which token requests are equal and share a cell, and which clients share a back-off.
//!
//! Cells for formulas are made by the workers that meet a new value, so this is behind a lock. A worker takes it for
//! such a new value only; a cell that is there is read without it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::backoff::Backoff;
use super::cell::{Cell, Outcome, Shared};
use super::discovery::Discoveries;
use super::dpop::Dpop;
use super::key::{self, Digest};
use super::mint::TokenRequest;
use super::minter::{self, Start};
use super::own;
use super::refresh::Grants;
use super::source::{Kind, Source};
use super::varying::Varying;
use super::watchers::Watchers;
use super::{PrincipalSettings, RequestSettings, Settings, Values};
use crate::metrics::Metrics;
use crate::name::Name;

/// Starts and finds minters. Dropping it ends them all.
pub(super) struct Registry {
    common: Common,
    metrics: Metrics,
    state: Mutex<State>,
}

/// What token requests share beyond their cells.
struct Common {
    control: Handle,
    grants: Grants,
    discoveries: Mutex<Discoveries>,
}

#[derive(Default)]
struct State {
    cells: HashMap<Digest, Weak<Cell>>,
    /// What the cells of one client share.
    clients: HashMap<Digest, Weak<Mutex<Backoff>>>,
    /// By external credential and principal.
    varying: HashMap<(Name, Name), Weak<Varying>>,
    tasks: JoinSet<()>,
    /// With more entries than this, those that nobody holds any more are looked for.
    crowded: usize,
}

/// Everything of a principal's token requests but the values that vary. Nobody outside of these rooms sees into it.
#[derive(Clone)]
pub(super) struct Recipe {
    settings: Arc<Settings>,
    request: Arc<RequestSettings>,
    principal: PrincipalSettings,
}

impl Recipe {
    pub(super) fn new(settings: Arc<Settings>, request: Arc<RequestSettings>, principal: PrincipalSettings) -> Self {
        Self { settings, request, principal }
    }

    pub(super) fn request(&self) -> &RequestSettings {
        &self.request
    }

    fn key(&self, values: &Values) -> Digest {
        key::token_request(&self.request, &self.principal, values)
    }

    fn source(&self, values: &Values, dpop: Option<Arc<Dpop>>, common: &Common) -> Source {
        let mut request = TokenRequest::new(&self.settings, &self.request, &self.principal, values.clone(), dpop);
        request.share_refresh_tokens(&common.grants);
        request.share_discovery(|endpoint| common.discoveries.lock().get(endpoint, &common.control));
        Source {
            external_credential: self.settings.name.clone(),
            principal: self.principal.name.clone(),
            mint: Box::new(Arc::new(request)),
            kind: Kind::Minted,
            lifetime: self.settings.lifetime.clone(),
            patience: self.request.endpoint.timeout,
        }
    }

    /// With a new key, where tokens are bound to one.
    fn fresh_source(&self, values: &Values, common: &Common) -> (Source, Option<Arc<Dpop>>) {
        if !self.request.dpop {
            return (self.source(values, None, common), None);
        }
        if let Ok(dpop) = Dpop::generate().map(Arc::new) {
            return (self.source(values, Some(Arc::clone(&dpop)), common), Some(dpop));
        }
        // Without a key there must be no token either: one that is not bound would be worth something to a thief.
        let source = Source { mint: own::failing("no key for DPoP can be made"), ..self.source(values, None, common) };
        (source, None)
    }
}

impl Registry {
    pub(super) fn new(control: Handle, metrics: Metrics) -> Self {
        let common = Common { control, grants: Grants::default(), discoveries: Mutex::default() };
        Self { common, metrics, state: Mutex::default() }
    }

    /// The cell of a token request: one that is there, or a new one.
    pub(super) fn cell(&self, recipe: &Recipe, values: &Values, start: Start) -> Arc<Cell> {
        let mut state = self.state.lock();
        state.forget_the_gone();
        let backoff = state.client_backoff(recipe);
        if let Some(known) = self.find(&state, recipe, values) {
            return known;
        }
        let (source, dpop) = recipe.fresh_source(values, &self.common);
        let cell = self.start(&mut state, Shared::new(source, backoff, dpop, Watchers::default()), start);
        self.watch(&cell, recipe);
        state.cells.insert(recipe.key(values), Arc::downgrade(&cell));
        cell
    }

    /// The cell of a token request, if there is one.
    pub(super) fn known(&self, recipe: &Recipe, values: &Values) -> Option<Arc<Cell>> {
        self.find(&self.state.lock(), recipe, values)
    }

    /// A cell for tokens that no server is asked for. They cost nothing, so nothing would be won by sharing.
    pub(super) fn own(&self, source: Source, start: Start) -> Arc<Cell> {
        let mut state = self.state.lock();
        state.forget_the_gone();
        let metrics = self.metrics.external_credential(&source.external_credential, &source.principal);
        let watchers = Watchers::default();
        watchers.add(&source.external_credential, &source.principal, metrics);
        self.start(&mut state, Shared::new(source, Arc::default(), None, watchers), start)
    }

    /// Keeps what varies for a principal, so that the next configuration can inherit from it.
    pub(super) fn remember(&self, recipe: &Recipe, varying: &Arc<Varying>) -> Option<Arc<Varying>> {
        let names = (recipe.settings.name.clone(), recipe.principal.name.clone());
        self.state.lock().varying.insert(names, Arc::downgrade(varying)).and_then(|before| before.upgrade())
    }

    /// A live cell of the same request, perhaps with other rules for the lifetime: those of the newest configuration
    /// count. It keeps its key for DPoP, to which its live token is bound; one that has none, or has one without
    /// need, is another matter.
    fn find(&self, state: &State, recipe: &Recipe, values: &Values) -> Option<Arc<Cell>> {
        let cell = state.cells.get(&recipe.key(values)).and_then(Weak::upgrade)?;
        if cell.dpop().is_some() != recipe.request.dpop {
            return None;
        }
        cell.shared().replace_source(recipe.source(values, cell.dpop().cloned(), &self.common));
        self.watch(&cell, recipe);
        Some(cell)
    }

    fn watch(&self, cell: &Cell, recipe: &Recipe) {
        let (external_credential, principal) = (&recipe.settings.name, &recipe.principal.name);
        let metrics = self.metrics.external_credential(external_credential, principal);
        cell.shared().watchers.add(external_credential, principal, metrics);
    }

    fn start(&self, state: &mut State, shared: Shared, start: Start) -> Arc<Cell> {
        let shared = Arc::new(shared);
        let (asks, asked) = mpsc::channel(1);
        let (outcomes, outcome) = watch::channel(Outcome::None);
        state.tasks.spawn_on(minter::run(Arc::clone(&shared), asked, outcomes, start), &self.common.control);
        Arc::new(Cell::new(shared, asks, outcome))
    }

    pub(super) fn cells(&self) -> usize {
        self.state.lock().cells.len()
    }
}

impl State {
    /// One back-off per client, so that a wrong secret under two scopes is not tried twice as often.
    fn client_backoff(&mut self, recipe: &Recipe) -> Arc<Mutex<Backoff>> {
        let client = key::client(&recipe.request, &recipe.principal);
        if let Some(backoff) = self.clients.get(&client).and_then(Weak::upgrade) {
            return backoff;
        }
        let backoff = Arc::new(Mutex::new(Backoff::default()));
        self.clients.insert(client, Arc::downgrade(&backoff));
        backoff
    }

    fn forget_the_gone(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        // Twice what was left the last time: the search costs each new cell a few steps, however many there are.
        if self.cells.len() + self.clients.len() + self.varying.len() <= self.crowded {
            return;
        }
        self.cells.retain(|_, cell| cell.strong_count() > 0);
        self.clients.retain(|_, backoff| backoff.strong_count() > 0);
        self.varying.retain(|_, varying| varying.strong_count() > 0);
        self.crowded = 64.max(2 * (self.cells.len() + self.clients.len() + self.varying.len()));
    }
}
