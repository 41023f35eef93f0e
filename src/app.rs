//! Config → Bound → run: the only place where all parts meet.

mod assembly;
mod certificates;
mod fixed;
mod reload;
mod rotation;
mod watched;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use self::assembly::Assembly;
use self::certificates::Certificates;
use self::reload::{Parts, Reload, Running};
use crate::access_log::{self, AccessLog};
use crate::admin::{Admin, Scrapes};
use crate::caller::Callers;
use crate::config::Config;
use crate::header::Pseudonym;
use crate::metrics::{Floods, Gauge, Limited, Metrics};
use crate::name::Name;
use crate::process;
use crate::proxy::plan::Plan;
use crate::proxy::{Proxy, ReplayMemory, Shared};
use crate::readiness::{Readiness, Task};
use crate::route::Conflict;
use crate::server::{
    self, BindError, Crowd, DrainHandle, Hangups, Limits, ListenerSettings, Serving, Shape, Signals, Workers,
};
use crate::token::{self, ExternalCredential, Minters};

/// What keeps the program from starting or ends it.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The access log cannot be opened.
    #[error("the access log cannot be opened")]
    AccessLog(#[from] access_log::OpenError),
    /// Two named credentials match the same requests; the configuration refuses that before.
    #[error("two named credentials match the same requests")]
    Conflict(Conflict),
    /// A named credential refers to an external credential that does not exist; likewise.
    #[error("named credential `{0}` refers to an external credential that does not exist")]
    Dangling(Name),
    /// The operating system refused a thread, a runtime, a signal handler or randomness.
    #[error("the operating system refused {0}")]
    System(&'static str, #[source] io::Error),
}

/// Everything bound and open, nothing served yet.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    listeners: server::Bound,
    admin: server::Bound,
    access_log: AccessLog,
    /// Writes what is left of the access log when it is dropped, last of all.
    writer: access_log::Writer,
    metrics: Metrics,
}

impl Bound {
    /// Binds every listener and opens the access log.
    ///
    /// # Errors
    /// See [`AppError`].
    pub fn bind(config: Config) -> Result<Self, AppError> {
        let listeners = server::Bound::bind(config.listeners.iter().cloned())?;
        let admin = server::Bound::bind([ListenerSettings::new(admin_name(), config.admin.address.clone())])?;
        let metrics = Metrics::new();
        metrics.limit(config.limits.metric_credentials);
        let (access_log, writer) = AccessLog::open(&config.log.access, metrics.access_log_dropped())?;
        Ok(Self { config, listeners, admin, access_log, writer, metrics })
    }

    /// The listeners with the ports they really have, the admin listener last.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<ListenerSettings>> {
        self.listeners.settings().chain(self.admin.settings())
    }

    /// Serves until a signal ends it and the drain is through.
    ///
    /// # Errors
    /// See [`AppError`].
    pub fn run(self) -> Result<(), AppError> {
        self.run_with_shape(Shape::PerCore)
    }

    /// The same with another shape of runtime, for the benchmark that compares them.
    ///
    /// # Errors
    /// See [`AppError`].
    pub fn run_with_shape(self, shape: Shape) -> Result<(), AppError> {
        let control = runtime()?;
        let readiness = Readiness::new();
        let started = readiness.task("start");
        let mut minters = Minters::new(control.handle().clone(), self.metrics.clone());
        let (shared, externals) = shared(&self, &control, &mut minters, &readiness)?;
        let (shared, minters) = (Arc::new(shared), Arc::new(Mutex::new(minters)));
        let callers = Arc::new(ArcSwap::from_pointee(shared.plan.load().callers.clone()));

        let (drain_handle, drain) = DrainHandle::new();
        let drain = drain.lasting(self.config.drain.deadline);
        let count = self.config.workers.unwrap_or_else(cores);
        let limits = fitting(self.config.limits, process::raise_open_files());
        let (connections, floods) = (self.metrics.connections(), self.metrics.floods());
        let serving = Serving { limits, drain: drain.clone(), connections, floods };
        let workers =
            Workers::start(shape, count, serving, |_| Arc::new(Proxy::new(Arc::clone(&shared), self.metrics.clone())))
                .map_err(|error| AppError::System("a worker thread", error))?;
        for listener in self.listeners.settings().chain(self.admin.settings()) {
            tracing::info!(listener = %listener.name, address = %listener.address, "listening");
        }

        let delay = drain_delay(&self.config, &self.listeners);
        let local = self.config.admin.address.is_local();
        let admin = Admin {
            metrics: self.metrics.clone(),
            readiness: readiness.clone(),
            local,
            callers: Arc::clone(&callers),
            admitted: self.config.admin.callers.clone().unwrap_or_default(),
            scrapes: Scrapes::default(),
        };
        let certificates = Certificates::of(self.listeners.settings());
        let settings = self.config.drain;
        let parts = Parts {
            shared: Arc::clone(&shared),
            callers,
            minters: Arc::clone(&minters),
            metrics: self.metrics.clone(),
            control: control.handle().clone(),
        };
        // What is built in or given as a text has no file that could change.
        let running = Running { config: self.config, externals };
        let reload = running.config.file.clone().map(|file| Reload::new(file, parts, running));
        let parts =
            Control { admin, listener: self.admin, certificates, reload, settings, delay, readiness, drain_handle };
        let crowd = Crowd::new(&limits, self.metrics.limited());
        let accepting = self
            .listeners
            .accept(workers.handles(), crowd, drain)
            .map_err(|error| AppError::System("an event for a listening socket", error))?;
        let control = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || control.block_on(parts.run(started)))
            .map_err(|error| AppError::System("the control thread", error))?;

        workers.join();
        let ended = control.join().unwrap_or_else(|_| {
            tracing::error!("the control thread panicked");
            Ok(())
        });
        drop((accepting, shared, minters));
        drop((self.access_log, self.writer));
        ended
    }
}

/// The parts that live on the control thread.
struct Control {
    admin: Admin,
    listener: server::Bound,
    certificates: Certificates,
    reload: Option<Reload>,
    settings: server::DrainSettings,
    delay: Duration,
    readiness: Readiness,
    drain_handle: DrainHandle,
}

impl Control {
    /// Serves admin until the drain of the data plane is through, so that `/readyz` can be asked to the end.
    async fn run(self, started: Task) -> Result<(), AppError> {
        let mut signals = Signals::catch().map_err(|error| AppError::System("a signal handler", error))?;
        let hangups = Hangups::catch().map_err(|error| AppError::System("a signal handler", error))?;
        let reading = tokio::spawn(self.certificates.run(hangups));
        let hangups = Hangups::catch().map_err(|error| AppError::System("a signal handler", error))?;
        let reloading = self.reload.map(|reload| tokio::spawn(reload.run(hangups)));
        let (admin_handle, admin_drain) = DrainHandle::new();
        let serving = Serving {
            limits: Limits::default(),
            drain: admin_drain.clone(),
            connections: Gauge::default(),
            floods: Floods::default(),
        };
        let workers = Workers::on_current_runtime(serving, Arc::new(self.admin));
        let crowd = Crowd::new(&Limits { connections: 1024, ..Limits::default() }, Limited::default());
        let accepting = self
            .listener
            .accept(workers.handles(), crowd, admin_drain)
            .map_err(|error| AppError::System("an event for the admin listener", error))?;
        drop(started);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tracing::info!("ready");

        let signal = signals.next().await;
        tracing::info!(signal, "draining");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.readiness.drain();
        let force = async {
            let signal = signals.next().await;
            tracing::warn!(signal, "a second signal: not waiting any longer");
        };
        // What is going away takes nothing new over.
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        self.drain_handle.run(&self.settings, self.delay, force).await;
        let at_once = server::DrainSettings { delay: None, deadline: Duration::from_secs(1) };
        admin_handle.run(&at_once, Duration::ZERO, std::future::pending()).await;
        accepting.join_all().await;
        reading.abort();
        tracing::info!("stopped");
        Ok(())
    }
}

/// A plan for the configuration, its token cells on the control runtime.
fn shared(
    bound: &Bound,
    control: &Runtime,
    minters: &mut Minters,
    readiness: &Readiness,
) -> Result<(Shared, Vec<Arc<ExternalCredential>>), AppError> {
    let externals: Vec<Arc<ExternalCredential>> =
        bound.config.external_credentials.iter().map(|settings| minters.shared(settings)).collect();
    for (settings, external) in bound.config.external_credentials.iter().zip(&externals) {
        wait_for_tokens(settings, external, control, readiness);
    }
    let mut suffix = [0_u8; 4];
    SystemRandom::new()
        .fill(&mut suffix)
        .map_err(|_| AppError::System("random bytes", io::Error::other("the random source failed")))?;
    let plan = plan(&bound.config, &externals, &bound.metrics)?;
    plan.callers.watch(control.handle());
    let shared = Shared {
        plan: ArcSwap::from_pointee(plan),
        access_log: bound.access_log.clone(),
        unmatched: bound.metrics.unmatched(),
        caller_decisions: bound.metrics.caller_decisions(),
        in_flight: bound.metrics.in_flight(),
        most_in_flight: i64::try_from(bound.config.limits.requests).unwrap_or(i64::MAX),
        tunnels: bound.metrics.tunnels(),
        most_tunnels: i64::try_from(bound.config.limits.tunnels).unwrap_or(i64::MAX),
        tunnel_idle: bound.config.limits.tunnel_idle_timeout,
        limited: bound.metrics.limited(),
        replay_memory: Arc::new(ReplayMemory::new(bound.config.limits.replay_memory, bound.metrics.replay_memory())),
        pseudonym: Pseudonym::parse(&format!("keybearer-{:08x}", u32::from_be_bytes(suffix))).unwrap_or_default(),
        next_id: AtomicU64::new(1),
    };
    Ok((shared, externals))
}

/// Resolved settings put together into what a worker holds.
///
/// # Errors
/// Only what the configuration should have refused.
pub fn plan(config: &Config, externals: &[Arc<ExternalCredential>], metrics: &Metrics) -> Result<Plan, AppError> {
    let callers = Callers::new(config.callers.clone());
    let externals = externals.iter().map(|external| (external.name(), external)).collect();
    Assembly { config, externals, callers, metrics }.plan(None)
}

/// Keeps `/readyz` waiting for a first token of every principal, where the configuration asks for that.
fn wait_for_tokens(
    settings: &token::Settings,
    external: &ExternalCredential,
    control: &Runtime,
    readiness: &Readiness,
) {
    if !settings.required_for_readiness {
        return;
    }
    for principal in external.principals() {
        // What the formulas of an exchange will ask for cannot be known before it comes.
        let Some(cell) = principal.fixed_cell().map(Arc::clone) else { continue };
        let waiting = readiness.task(format!("a token of {}/{}", settings.name, principal.name()));
        control.spawn(async move {
            // A failure is logged by the minter; what is left here is to ask again when its back-off is over.
            while let Err(failure) = cell.token().await {
                tokio::time::sleep(failure.retry_after.max(Duration::from_millis(500))).await;
            }
            drop(waiting);
        });
    }
}

/// Open files that belong to no caller's connection: listeners, runtimes, the admin listener, token requests, logs.
const OTHER_FILES: u64 = 256;

/// The limits, with no more connections than `files` open ones allow for: two each, the caller's and the upstream's.
///
/// The default gives way, since nobody asked for it; a number that somebody wrote stays, and is warned of.
fn fitting(limits: Limits, files: Option<u64>) -> Limits {
    let wanted = limits.connections as u64 * 2 + OTHER_FILES;
    let Some(files) = files.filter(|files| *files < wanted) else { return limits };
    if limits.connections != Limits::default().connections {
        tracing::warn!(
            files,
            wanted,
            "this process may not open as many files as limits.connections needs: raise the limit (LimitNOFILE= of \
             systemd, --ulimit nofile= of Docker, ulimit -n), or lower limits.connections"
        );
        return limits;
    }
    let connections = usize::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX).max(1);
    tracing::info!(files, connections, "as many connections as this process may open files for");
    Limits { connections, ..limits }
}

/// `drain.delay`, or the default: 5 s where anything but this machine could still be sending us callers.
fn drain_delay(config: &Config, listeners: &server::Bound) -> Duration {
    let local = listeners.settings().all(|listener| listener.address.is_local());
    let kubernetes = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let default = if local && !kubernetes { Duration::ZERO } else { Duration::from_secs(5) };
    config.drain.delay.unwrap_or(default)
}

fn runtime() -> Result<Runtime, AppError> {
    Builder::new_current_thread().enable_all().build().map_err(|error| AppError::System("a runtime", error))
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn admin_name() -> Name {
    Name::parse("admin").unwrap_or_else(|_| unreachable!("`admin` is a name"))
}

#[cfg(test)]
mod tests {
    use super::{Limits, fitting};

    #[test]
    fn there_are_two_open_files_for_every_connection() {
        let default = Limits::default();
        for (files, connections) in
            [(None, 10_000), (Some(20_256), 10_000), (Some(20_255), 9_999), (Some(1024), 384), (Some(10), 1)]
        {
            assert_eq!(fitting(default, files).connections, connections, "{files:?}");
        }
        let written = Limits { connections: 5000, ..default };
        assert_eq!(fitting(written, Some(1024)), written, "what somebody wrote stays");
    }
}
