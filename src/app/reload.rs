//! The configuration, read again on SIGHUP and when one of its files changes: checked first, swapped whole, the last
//! good one kept.
//!
//! What is equal to what is running stays the same object, with its live tokens, limits and what was learnt of its
//! upstream; requests under way finish with the plan they began with. `fixed` knows what takes a restart.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::Instant;

use super::assembly::Assembly;
use super::rotation::{self, Rotation};
use super::watched::Watched;
use super::{AppError, fixed};
use crate::caller::{self, Callers};
use crate::config::{self, Config, Loaded, Problems, Secrets, Severity, Source};
use crate::metrics::{Metrics, Reloaded};
use crate::name::Name;
use crate::process;
use crate::proxy::Shared;
use crate::proxy::plan::Plan;
use crate::server::Hangups;
use crate::token::{ExternalCredential, Minters};

/// Files are being written for as long as they look another way after this.
const SETTLING: Duration = Duration::from_secs(1);
/// A file that is written all the time is waited for this often.
const MOST_ROUNDS: usize = 10;
/// A configuration that was no good is read again after this, without being asked: what was missing may be there now.
const RETRY: Duration = Duration::from_secs(30);
/// So many problems are told one by one.
const TOLD: usize = 5;

/// What a reload works on.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    /// Those of the plan, for the admin listener.
    pub(super) callers: Arc<ArcSwap<Callers>>,
    pub(super) minters: Arc<Mutex<Minters>>,
    pub(super) metrics: Metrics,
    pub(super) control: Handle,
}

/// The configuration in use. Of what takes a restart it holds what was there at the start.
pub(super) struct Running {
    pub(super) config: Config,
    pub(super) externals: Vec<Arc<ExternalCredential>>,
}

/// Reads again, and swaps.
pub(super) struct Reload {
    file: PathBuf,
    parts: Parts,
    running: Arc<Running>,
    watched: Watched,
    /// External credentials that go on as they were because the new secret gets no token yet.
    held: HashMap<Name, Held>,
    /// Ends for each of them when it need not wait any longer; with what it waits for.
    waiting: JoinSet<(Name, Arc<ExternalCredential>)>,
    /// Plans that exchanges may still hold: dropping one with many routes takes too long for a worker.
    retired: Vec<Arc<Plan>>,
    /// What was said last about a configuration that is no good, and when it is read again.
    complaint: Option<(Vec<String>, Instant)>,
}

/// An external credential that goes on as it was.
struct Held {
    serving: Arc<ExternalCredential>,
    waiting: AbortHandle,
}

/// Why the configuration is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Signal,
    Change,
    Retry,
}

/// A configuration that was read and can be used.
struct Prepared {
    running: Running,
    callers: Callers,
    rotations: Vec<Rotation>,
    changes: Changes,
    restart: Vec<String>,
    warnings: Vec<String>,
}

/// How many are new, other than before, and gone.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Changes {
    named: [usize; 3],
    external: [usize; 3],
    callers: bool,
}

impl Reload {
    pub(super) fn new(file: PathBuf, parts: Parts, running: Running) -> Self {
        Self {
            watched: watched(&file, &running.config),
            file,
            parts,
            running: Arc::new(running),
            held: HashMap::new(),
            waiting: JoinSet::new(),
            retired: Vec::new(),
            complaint: None,
        }
    }

    /// Reloads again and again. Never ends.
    pub(super) async fn run(mut self, mut hangups: Hangups) {
        loop {
            tokio::select! {
                () = hangups.next() => {
                    tracing::info!("SIGHUP: reading the configuration again");
                    self.reload(Cause::Signal).await;
                }
                Some(done) = self.waiting.join_next() => {
                    if let Ok((name, wanted)) = done {
                        self.promote(&name, &wanted).await;
                    }
                }
                () = tokio::time::sleep(self.watched.pause()) => {
                    if self.has_settled_differently().await {
                        self.reload(Cause::Change).await;
                    } else if self.complaint.as_ref().is_some_and(|(_, at)| *at <= Instant::now()) {
                        self.reload(Cause::Retry).await;
                    }
                }
            }
            self.drop_retired();
        }
    }

    /// Whether a file has changed; returns when it no longer does.
    async fn has_settled_differently(&mut self) -> bool {
        for round in 0..MOST_ROUNDS {
            if !self.look().await {
                return round > 0;
            }
            tokio::time::sleep(SETTLING).await;
        }
        true
    }

    async fn look(&mut self) -> bool {
        let mut watched = std::mem::take(&mut self.watched);
        let looking = spawn_blocking(move || {
            let has_changed = watched.look();
            (watched, has_changed)
        });
        let Ok((watched, has_changed)) = looking.await else { return false };
        self.watched = watched;
        has_changed
    }

    async fn reload(&mut self, cause: Cause) {
        let (file, running, parts) = (self.file.clone(), Arc::clone(&self.running), self.parts.clone());
        let held = self.serving();
        // What changes while it is being read is a change for the next look.
        self.look().await;
        let preparing = spawn_blocking(move || process::apart(|| prepare(file.clone(), &running, &held, &parts)));
        let Ok(prepared) = preparing.await else {
            tracing::error!("the configuration cannot be read again because of a defect in keybearer");
            self.parts.metrics.reloads().count(Reloaded::Failed);
            return;
        };
        match prepared {
            Ok(prepared) => {
                self.complaint = None;
                self.take_over(*prepared, cause).await;
            }
            Err(lines) => self.complain(lines, cause),
        }
    }

    async fn take_over(&mut self, prepared: Prepared, cause: Cause) {
        let Prepared { running, callers, rotations, changes, restart, warnings } = prepared;
        let reloads = self.parts.metrics.reloads();
        // Also where nothing has changed: the same secret may come from another file.
        self.watch(files(&self.file, &running.config)).await;
        if changes == Changes::default() {
            if cause == Cause::Signal {
                tracing::info!("the configuration has not changed");
            }
            reloads.count(Reloaded::Unchanged);
        } else {
            let rotating: HashSet<Name> = rotations.iter().map(|rotation| rotation.name.clone()).collect();
            let (running, before) = (Arc::new(running), Arc::clone(&self.running));
            let wanted = |running: &Running, name: &Name| {
                running.externals.iter().find(|external| external.name() == name).map(Arc::clone)
            };
            let is_same = |name: &Name| match (wanted(&before, name), wanted(&running, name)) {
                (Some(one), Some(other)) => Arc::ptr_eq(&one, &other),
                (Some(_) | None, _) => false,
            };
            let mut held = std::mem::take(&mut self.held);
            let failed = rotation::mint_first(rotations).await;
            held.retain(|name, held| {
                let stays = !rotating.contains(name) && is_same(name);
                if !stays {
                    held.waiting.abort();
                }
                stays
            });
            for rotation in failed {
                let (name, serving) = (rotation.name.clone(), Arc::clone(&rotation.serving));
                held.insert(name, Held { serving, waiting: self.waiting.spawn(rotation.settled()) });
            }
            self.held = held;
            if self.install(Arc::clone(&running), callers).await {
                self.running = running;
                changes.tell();
                reloads.count(Reloaded::Applied);
            } else {
                reloads.count(Reloaded::Failed);
            }
        }
        for key in restart {
            tracing::warn!(key, "this key has changed and takes a restart; until then it stays as it was");
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }

    /// An external credential need not go on as it was.
    async fn promote(&mut self, name: &Name, wanted: &Arc<ExternalCredential>) {
        let is_wanted = self.running.externals.iter().any(|external| Arc::ptr_eq(external, wanted));
        if is_wanted && self.held.remove(name).is_some() {
            let callers = self.parts.shared.plan.load().callers.clone();
            if self.install(Arc::clone(&self.running), callers).await {
                tracing::info!(external_credential = %name, "the new secret is in use");
            }
        }
    }

    /// Makes a plan and swaps it in; whether that could be done.
    async fn install(&mut self, running: Arc<Running>, callers: Callers) -> bool {
        let (parts, held) = (self.parts.clone(), self.serving());
        let making = spawn_blocking(move || {
            let mut externals: HashMap<_, _> =
                running.externals.iter().map(|external| (external.name(), external)).collect();
            externals.extend(&held);
            let metrics = &parts.metrics;
            let assembly = Assembly { config: &running.config, externals, callers, metrics };
            let plan = assembly.plan(Some(&parts.shared.plan.load_full()))?;
            plan.callers.watch(&parts.control);
            parts.callers.store(Arc::new(plan.callers.clone()));
            Ok::<_, AppError>(parts.shared.plan.swap(Arc::new(plan)))
        });
        match making.await {
            Ok(Ok(before)) => {
                self.retired.push(before);
                true
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the configuration is no good beside what takes a restart; the last one stays");
                false
            }
            Err(_) => {
                tracing::error!("the configuration cannot be taken over because of a defect in keybearer");
                false
            }
        }
    }

    /// Those that go on as they were.
    fn serving(&self) -> HashMap<Name, Arc<ExternalCredential>> {
        self.held.iter().map(|(name, held)| (name.clone(), Arc::clone(&held.serving))).collect()
    }

    async fn watch(&mut self, files: Vec<PathBuf>) {
        let mut watched = std::mem::take(&mut self.watched);
        let replacing = spawn_blocking(move || {
            watched.replace(files);
            watched
        });
        if let Ok(watched) = replacing.await {
            self.watched = watched;
        }
    }

    fn complain(&mut self, lines: Vec<String>, cause: Cause) {
        let again = Instant::now() + RETRY;
        let is_known = self.complaint.as_ref().is_some_and(|(known, _)| *known == lines);
        if !is_known || cause == Cause::Signal {
            tracing::error!("the configuration is no good; the last good one stays in use");
            for line in &lines {
                tracing::error!("{line}");
            }
        }
        if !is_known || cause != Cause::Retry {
            self.parts.metrics.reloads().count(Reloaded::Failed);
        }
        self.complaint = Some((lines, again));
    }

    fn drop_retired(&mut self) {
        let (over, held): (Vec<_>, _) =
            std::mem::take(&mut self.retired).into_iter().partition(|plan| Arc::strong_count(plan) == 1);
        self.retired = held;
        if !over.is_empty() {
            // Nobody waits for it: it ends by itself.
            drop(spawn_blocking(move || drop(over)));
        }
    }
}

/// Reads and checks the configuration, and holds it against what is running. What is no good comes back as lines to log.
fn prepare(
    file: PathBuf,
    running: &Running,
    held: &HashMap<Name, Arc<ExternalCredential>>,
    parts: &Parts,
) -> Result<Box<Prepared>, Vec<String>> {
    let Loaded { mut config, warnings, .. } =
        config::load_here(&Source::File(file), Secrets::Read).map_err(|problems| lines(&problems, Severity::Error))?;
    let restart = fixed::keys(&running.config, &config).into_iter().collect();
    parts.metrics.limit(config.limits.metric_credentials);
    fixed::keep(&running.config, &mut config);
    let named = share(&running.config.named_credentials, &mut config.named_credentials, |settings| &settings.name);
    let external =
        share(&running.config.external_credentials, &mut config.external_credentials, |settings| &settings.name);
    let before = running.config.external_credentials.iter().zip(&running.externals);
    let before: HashMap<&Name, _> = before.map(|known| (&known.0.name, known)).collect();
    let mut minters = parts.minters.lock();
    let (mut externals, mut rotations) = (Vec::with_capacity(config.external_credentials.len()), Vec::new());
    for settings in &config.external_credentials {
        let known = before.get(&settings.name).copied();
        if let Some((_, external)) = known.filter(|(before, _)| Arc::ptr_eq(before, settings)) {
            externals.push(Arc::clone(external));
            continue;
        }
        let external = minters.shared(settings);
        if let Some((before, external_before)) = known.filter(|(before, _)| before.is_same_client(settings)) {
            // What is rotated once more, before the last new secret got a token, is served by one still older.
            let serving = held.get(&settings.name).unwrap_or(external_before);
            rotations.extend(Rotation::new(&before.name, serving, &external));
        }
        externals.push(external);
    }
    drop(minters);
    let are_same = config.callers == running.config.callers && !config.callers.iter().any(caller::Settings::reads_file);
    let changes = Changes { named, external, callers: !are_same || config.caller_rates != running.config.caller_rates };
    let callers = parts.shared.plan.load().callers.clone();
    let callers = if are_same { callers } else { callers.succeeded_by(config.callers.clone()) };
    let warnings = lines(&warnings, Severity::Warning);
    Ok(Box::new(Prepared { running: Running { config, externals }, callers, rotations, changes, restart, warnings }))
}

/// Puts the settings that are running in the place of equal new ones; how many are new, other than before, and gone.
fn share<T: PartialEq>(running: &[Arc<T>], new: &mut [Arc<T>], name: fn(&T) -> &Name) -> [usize; 3] {
    let mut known: HashMap<&Name, &Arc<T>> = running.iter().map(|settings| (name(settings), settings)).collect();
    let (mut added, mut changed) = (0, 0);
    for settings in new {
        match known.remove(name(settings)) {
            None => added += 1,
            Some(before) if before == settings => *settings = Arc::clone(before),
            Some(_) => changed += 1,
        }
    }
    [added, changed, known.len()]
}

/// The first problems of one severity, as `check` words them.
fn lines(problems: &Problems, severity: Severity) -> Vec<String> {
    let all: Vec<_> = problems.iter().filter(|problem| problem.severity == severity).collect();
    let mut lines: Vec<String> = all.iter().take(TOLD).map(|problem| problems.line(problem)).collect();
    if let Some(more) = all.len().checked_sub(TOLD).filter(|more| *more > 0) {
        lines.push(format!("and {more} more; `keybearer check` tells all of them"));
    }
    lines
}

fn files(file: &PathBuf, config: &Config) -> Vec<PathBuf> {
    std::iter::once(file).chain(&config.files).cloned().collect()
}

fn watched(file: &PathBuf, config: &Config) -> Watched {
    Watched::new(files(file, config))
}

impl Changes {
    fn tell(self) {
        let [named_added, named_changed, named_removed] = self.named;
        let [external_added, external_changed, external_removed] = self.external;
        tracing::info!(
            named_added,
            named_changed,
            named_removed,
            external_added,
            external_changed,
            external_removed,
            callers_changed = self.callers,
            "the new configuration is in use"
        );
    }
}
