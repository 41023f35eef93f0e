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
use super::cell::{Cell, Made, Outcome, Shared};
use super::discovery::Discoveries;
use super::dpop::Dpop;
use super::key::{self, Digest};
use super::mint::TokenRequest;
use super::minter::{self, Start};
use super::own;
use super::refresh::Grants;
use super::seed::Seed;
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
    /// Taken after the locks of `state` and of a cell, never before.
    asked: Mutex<Asked>,
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
    /// By external credential and principal.
    varying: HashMap<(Name, Name), Weak<Varying>>,
    /// With more entries than this, those that nobody holds any more are looked for.
    crowded: usize,
}

/// What cells have that were asked.
#[derive(Default)]
struct Asked {
    /// What the cells of one client share.
    clients: HashMap<Digest, Weak<Mutex<Backoff>>>,
    tasks: JoinSet<()>,
    /// As in [`State`].
    crowded: usize,
}

/// Everything of a principal's token requests but the values that vary. Nobody outside of these rooms sees into it.
#[derive(Clone)]
pub(super) struct Recipe {
    settings: Arc<Settings>,
    /// Which of the settings' principals.
    principal: usize,
}

impl Recipe {
    /// None where there is no such principal.
    pub(super) fn new(settings: &Arc<Settings>, principal: usize) -> Option<Self> {
        (principal < settings.principals.len()).then(|| Self { settings: Arc::clone(settings), principal })
    }

    /// The token request, where a token endpoint is asked.
    pub(super) fn request(&self) -> Option<&RequestSettings> {
        self.settings.request()
    }

    /// Whether both are of the same principal by name.
    pub(super) fn has_names_of(&self, other: &Self) -> bool {
        self.names() == other.names()
    }

    fn names(&self) -> Option<(&Name, &Name)> {
        Some((&self.settings.name, &self.principal()?.name))
    }

    fn principal(&self) -> Option<&PrincipalSettings> {
        self.settings.principals.get(self.principal)
    }

    fn parts(&self) -> Option<(&RequestSettings, &PrincipalSettings)> {
        Some((self.request()?, self.principal()?))
    }

    fn wants_dpop(&self) -> bool {
        self.request().is_some_and(|request| request.dpop)
    }

    fn key(&self, values: &Values) -> Option<Digest> {
        let (request, principal) = self.parts()?;
        Some(key::token_request(request, principal, values))
    }

    fn source(&self, values: &Values, dpop: Option<Arc<Dpop>>, common: &Common) -> Option<Source> {
        let (request, principal) = self.parts()?;
        let mut minting = TokenRequest::new(&self.settings, request, principal, values.clone(), dpop);
        minting.share_refresh_tokens(&common.grants);
        minting.share_discovery(|endpoint| common.discoveries.lock().get(endpoint, &common.control));
        Some(Source {
            external_credential: self.settings.name.clone(),
            principal: principal.name.clone(),
            mint: Box::new(Arc::new(minting)),
            kind: Kind::Minted,
            lifetime: self.settings.lifetime.clone(),
            patience: request.endpoint.timeout,
        })
    }

    /// With a new key, where tokens are bound to one.
    fn fresh_source(&self, values: &Values, common: &Common) -> Option<(Source, Option<Arc<Dpop>>)> {
        if !self.wants_dpop() {
            return Some((self.source(values, None, common)?, None));
        }
        if let Ok(dpop) = Dpop::generate().map(Arc::new) {
            return Some((self.source(values, Some(Arc::clone(&dpop)), common)?, Some(dpop)));
        }
        // Without a key there must be no token either: one that is not bound would be worth something to a thief.
        let source = self.source(values, None, common)?;
        Some((Source { mint: own::failing("no key for DPoP can be made"), ..source }, None))
    }
}

impl Registry {
    pub(super) fn new(control: Handle, metrics: Metrics) -> Self {
        let common = Common { control, grants: Grants::default(), discoveries: Mutex::default() };
        Self { common, metrics, state: Mutex::default(), asked: Mutex::default() }
    }

    /// The cell of a token request that is the same for every exchange: one that is there, or a new one that is idle
    /// until it is asked, unless it has something to do before.
    pub(super) fn fixed(self: &Arc<Self>, recipe: &Recipe, values: &Values, start: Start) -> Option<Arc<Cell>> {
        let key = recipe.key(values)?;
        let mut state = self.state.lock();
        state.forget_the_gone();
        if let Some(known) = self.find(&state, key, recipe, values) {
            return Some(known);
        }
        let cell = Arc::new(Cell::idle(Seed::new(Arc::downgrade(self), recipe.clone())));
        state.cells.insert(key, Arc::downgrade(&cell));
        drop(state);
        // What an issuer's metadata say is asked for ahead of the first caller.
        let is_discovered = recipe.request().is_some_and(|request| request.endpoint.url.is_none());
        if start == Start::Soon || is_discovered {
            cell.start(start);
        }
        Some(cell)
    }

    /// The cell of a token request that somebody makes for an exchange: one that is there, or a new one.
    pub(super) fn cell(&self, recipe: &Recipe, values: &Values) -> Option<Arc<Cell>> {
        let key = recipe.key(values)?;
        let mut state = self.state.lock();
        state.forget_the_gone();
        if let Some(known) = self.find(&state, key, recipe, values) {
            return Some(known);
        }
        let made = self.asked_for(std::slice::from_ref(recipe), values, Start::OnDemand)?;
        let cell = Arc::new(Cell::from(made));
        state.cells.insert(key, Arc::downgrade(&cell));
        Some(cell)
    }

    /// The cell of a token request, if there is one.
    pub(super) fn known(&self, recipe: &Recipe, values: &Values) -> Option<Arc<Cell>> {
        self.find(&self.state.lock(), recipe.key(values)?, recipe, values)
    }

    /// A cell for tokens that no server is asked for. They cost nothing, so nothing would be won by sharing.
    pub(super) fn own(self: &Arc<Self>, recipe: &Recipe, start: Start) -> Arc<Cell> {
        let cell = Arc::new(Cell::idle(Seed::new(Arc::downgrade(self), recipe.clone())));
        if start == Start::Soon {
            cell.start(start);
        }
        cell
    }

    /// What an idle cell lacks; the last of `recipes` says how tokens are asked for.
    pub(super) fn make(&self, recipes: &[Recipe], start: Start) -> Option<Made> {
        let recipe = recipes.last()?;
        if let Some(request) = recipe.request() {
            return self.asked_for(recipes, &Values::fixed(request)?, start);
        }
        let source = own::source(&recipe.settings, recipe.principal()?)?;
        let watchers = self.watchers(recipes);
        Some(self.start(Shared::new(source, Arc::default(), None, watchers), start))
    }

    fn asked_for(&self, recipes: &[Recipe], values: &Values, start: Start) -> Option<Made> {
        let recipe = recipes.last()?;
        let (source, dpop) = recipe.fresh_source(values, &self.common)?;
        let backoff = self.asked.lock().client_backoff(recipe)?;
        let watchers = self.watchers(recipes);
        Some(self.start(Shared::new(source, backoff, dpop, watchers), start))
    }

    /// Keeps what varies for a principal, so that the next configuration can inherit from it.
    pub(super) fn remember(&self, recipe: &Recipe, varying: &Arc<Varying>) -> Option<Arc<Varying>> {
        let (external, principal) = recipe.names()?;
        let names = (external.clone(), principal.clone());
        self.state.lock().varying.insert(names, Arc::downgrade(varying)).and_then(|before| before.upgrade())
    }

    /// A live cell of the same request, perhaps with other rules for the lifetime: those of the newest configuration
    /// count. It keeps its key for DPoP, to which its live token is bound; one that has none, or has one without
    /// need, is another matter.
    fn find(&self, state: &State, key: Digest, recipe: &Recipe, values: &Values) -> Option<Arc<Cell>> {
        let cell = state.cells.get(&key).and_then(Weak::upgrade)?;
        let mut is_same = true;
        cell.change(
            |seed| seed.add(recipe),
            |shared| {
                is_same = shared.dpop().is_some() == recipe.wants_dpop();
                let source = is_same.then(|| recipe.source(values, shared.dpop().cloned(), &self.common)).flatten();
                if let Some(source) = source {
                    shared.replace_source(source);
                    self.watch(&shared.watchers, recipe);
                }
            },
        );
        is_same.then_some(cell)
    }

    fn watchers(&self, recipes: &[Recipe]) -> Watchers {
        let watchers = Watchers::default();
        recipes.iter().for_each(|recipe| self.watch(&watchers, recipe));
        watchers
    }

    fn watch(&self, watchers: &Watchers, recipe: &Recipe) {
        let Some((external_credential, principal)) = recipe.names() else { return };
        let metrics = self.metrics.external_credential(external_credential, principal);
        watchers.add(external_credential, principal, metrics);
    }

    fn start(&self, shared: Shared, start: Start) -> Made {
        let shared = Arc::new(shared);
        let (asks, asked) = mpsc::channel(1);
        let (outcomes, outcome) = watch::channel(Outcome::None);
        let minter = minter::run(Arc::clone(&shared), asked, outcomes, start);
        let mut all = self.asked.lock();
        while all.tasks.try_join_next().is_some() {}
        all.tasks.spawn_on(minter, &self.common.control);
        Made::new(shared, asks, outcome)
    }

    pub(super) fn cells(&self) -> usize {
        self.state.lock().cells.len()
    }
}

impl Asked {
    /// One back-off per client, so that a wrong secret under two scopes is not tried twice as often.
    fn client_backoff(&mut self, recipe: &Recipe) -> Option<Arc<Mutex<Backoff>>> {
        if self.clients.len() > self.crowded {
            self.clients.retain(|_, backoff| backoff.strong_count() > 0);
            self.crowded = room(self.clients.len());
        }
        let (request, principal) = recipe.parts()?;
        let client = key::client(request, principal);
        if let Some(backoff) = self.clients.get(&client).and_then(Weak::upgrade) {
            return Some(backoff);
        }
        let backoff = Arc::new(Mutex::new(Backoff::default()));
        self.clients.insert(client, Arc::downgrade(&backoff));
        Some(backoff)
    }
}

impl State {
    fn forget_the_gone(&mut self) {
        if self.cells.len() + self.varying.len() <= self.crowded {
            return;
        }
        self.cells.retain(|_, cell| cell.strong_count() > 0);
        self.varying.retain(|_, varying| varying.strong_count() > 0);
        self.crowded = room(self.cells.len() + self.varying.len());
    }
}

/// Twice what was left the last time: looking for the gone costs each new entry a few steps, however many there are.
fn room(left: usize) -> usize {
    64.max(2 * left)
}
