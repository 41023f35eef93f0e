//! Workers: each a thread with a runtime that serves the connections it was handed.

use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::crowd::Seat;
use super::drain::{Drain, Phase};
use super::guard::Guard;
use super::opening::{self, Opened};
use super::socket::{Accepted, Socket};
use super::{Connection, Limits, ListenerSettings, Protocol, Service, http1, http2};
use crate::metrics::{Floods, Gauge};
use crate::peer::Peer;

/// The shape of the runtime; ARCHITECTURE.md has the measurement that decided between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One current-thread runtime per worker; a connection stays with the worker that was given it.
    PerCore,
    /// One multi-thread runtime that all workers share.
    Shared,
}

/// Connections of a worker from which on a new one has to show that its caller reads: what few may hold is too much
/// where thousands do.
const CROWD: usize = 64;

/// Bytes of answers that show it: more than the kernel takes for a caller that does not read.
const PROOF: usize = 256 * 1024;

/// While connections come, the runtime has a time to wake at that is at most so far away.
const TICK: Duration = Duration::from_secs(1);

/// How long connections that are cut off have to end.
const FORCED: Duration = Duration::from_millis(500);

/// What a worker is told: a socket, the listener it came from, and its place among those of its address.
type Handed = (Accepted, Arc<ListenerSettings>, Option<Seat>);

/// What serving a connection takes, whatever the service.
#[derive(Clone, Debug)]
pub struct Serving {
    /// What one connection may cost.
    pub limits: Limits,
    /// When to end.
    pub drain: Drain,
    /// Counts open connections.
    pub connections: Gauge,
    /// Counts HTTP/2 connections that were ended for flooding us.
    pub floods: Floods,
}

/// One worker, as whoever accepts sees it.
#[derive(Clone, Debug)]
pub struct Worker {
    sockets: mpsc::UnboundedSender<Handed>,
    connections: Arc<AtomicUsize>,
    runtime: Handle,
}

/// All workers of a server.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` workers of `shape`; `service` makes each worker's service inside its thread's runtime.
    ///
    /// # Errors
    /// When a thread or runtime cannot be made.
    pub fn start<S: Service>(
        shape: Shape,
        count: NonZeroUsize,
        serving: Serving,
        service: impl Fn(usize) -> Arc<S>,
    ) -> io::Result<Self> {
        let runtimes = match shape {
            Shape::PerCore => count.get(),
            Shape::Shared => 1,
        };
        let mut all = Self { workers: Vec::new(), threads: Vec::new() };
        for index in 0..runtimes {
            let mut builder = match shape {
                Shape::PerCore => tokio::runtime::Builder::new_current_thread(),
                Shape::Shared => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = builder.worker_threads(count.get()).thread_name("keybearer-worker").enable_all().build()?;
            let (worker, sockets) = Worker::new(runtime.handle().clone());
            let serve = Serve {
                service: service(index),
                serving: serving.clone(),
                connections: Arc::clone(&worker.connections),
                tasks: TaskTracker::new(),
            };
            // A task: to wake what a thread blocks on takes a system call, even from that thread.
            let served = runtime.spawn(serve.run(sockets));
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                if let Err(error) = runtime.block_on(served)
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            })?;
            all.workers.push(worker);
            all.threads.push(thread);
        }
        Ok(all)
    }

    /// A worker on the runtime at hand, for services that are not the data path.
    pub fn on_current_runtime<S: Service>(serving: Serving, service: Arc<S>) -> Self {
        let (worker, sockets) = Worker::new(Handle::current());
        let connections = Arc::clone(&worker.connections);
        tokio::spawn(Serve { service, serving, connections, tasks: TaskTracker::new() }.run(sockets));
        Self { workers: vec![worker], threads: Vec::new() }
    }

    /// Their handles, for whoever accepts.
    #[must_use]
    pub fn handles(&self) -> Vec<Worker> {
        self.workers.clone()
    }

    /// Waits until every worker thread has ended.
    pub fn join(self) {
        drop(self.workers);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

impl Worker {
    fn new(runtime: Handle) -> (Self, mpsc::UnboundedReceiver<Handed>) {
        let (sockets, received) = mpsc::unbounded_channel();
        (Self { sockets, connections: Arc::new(AtomicUsize::new(0)), runtime }, received)
    }

    /// Where it runs.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Connections handed over and not yet ended.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn hand(&self, socket: Accepted, listener: Arc<ListenerSettings>, seat: Option<Seat>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if self.sockets.send((socket, listener, seat)).is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What a worker's tasks share.
struct Serve<S> {
    service: Arc<S>,
    serving: Serving,
    connections: Arc<AtomicUsize>,
    tasks: TaskTracker,
}

impl<S: Service> Serve<S> {
    /// Serves until the drain is through and every connection has ended.
    async fn run(self, mut sockets: mpsc::UnboundedReceiver<Handed>) {
        let mut closing = self.serving.drain.clone();
        let tasks = self.tasks.clone();
        let worker = Arc::new(self);
        // A timer that is due before all others costs two system calls and a turn of the runtime, and a connection
        // begins with some that are. While this one is due earlier, none of them is.
        let mut tick = pin!(tokio::time::sleep(TICK));
        let mut is_ticking = true;
        loop {
            let (accepted, listener, seat) = tokio::select! {
                biased;
                handed = sockets.recv() => match handed {
                    Some(handed) => handed,
                    None => break,
                },
                () = closing.reached(Phase::Closing) => break,
                () = &mut tick, if is_ticking => {
                    is_ticking = false;
                    continue;
                }
            };
            if !is_ticking {
                tick.as_mut().reset(Instant::now() + TICK);
                is_ticking = true;
            }
            let counted = Counted::new(&worker.connections, &worker.serving.connections, (worker.tasks.token(), seat));
            let (mut socket, peer) = match accepted.register() {
                Ok(registered) => registered,
                Err(error) => {
                    tracing::debug!(%error, "a caller's socket was lost on the way to its worker");
                    continue;
                }
            };
            if worker.is_crowded() {
                socket.distrust(PROOF);
            }
            tasks.spawn(Arc::clone(&worker).open(socket, peer, listener, counted));
            // Thousands may come at once, and none of them should keep an older one waiting for all.
            tokio::task::yield_now().await;
        }
        drop(worker);
        // Sockets that were on their way when the listeners closed are dropped with the channel: nothing was read.
        sockets.close();
        tasks.close();
        tokio::select! {
            biased;
            () = tasks.wait() => {}
            // HTTP ends by itself then; what speaks another protocol ends with the runtime.
            () = closing.reached(Phase::Forced) => {
                let _ = tokio::time::timeout(FORCED, tasks.wait()).await;
            }
        }
    }

    /// Opens a connection within the time for a head, and serves it in a task of its own: one that waits for its first
    /// bytes costs little, and one in HTTP/1 does not pay for what TLS and HTTP/2 need.
    async fn open(self: Arc<Self>, socket: Socket, peer: Peer, listener: Arc<ListenerSettings>, counted: Counted) {
        let deadline = Instant::now() + self.serving.limits.header_timeout;
        let mut drain = self.serving.drain.clone();
        let opening = async {
            match &listener.tls {
                None => opening::plain(socket).await,
                Some(terminator) => Box::pin(opening::secure(socket, terminator)).await,
            }
        };
        let opened = tokio::select! {
            biased;
            opened = tokio::time::timeout_at(deadline, opening) => opened,
            () = drain.reached(Phase::Closing) => return,
        };
        if let Ok(Ok(Opened { socket, protocol, secured, trust })) = opened {
            let mut connection = Connection::new(peer, listener);
            connection.secured = secured;
            connection.protocol = protocol;
            if self.is_crowded() {
                connection.unproven = AtomicUsize::new(PROOF);
            }
            let drain = drain.trusting(trust);
            connection.distrust = drain.distrust();
            self.serve(socket, connection, drain, counted);
        }
    }

    /// Whether so many are there that a new caller has to show that it reads.
    fn is_crowded(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > CROWD
    }

    /// Serves a connection to its end.
    fn serve(&self, socket: Socket, connection: Connection, drain: Drain, counted: Counted) {
        let (service, limits) = (Arc::clone(&self.service), self.serving.limits);
        match connection.protocol {
            Protocol::Http1 => {
                let connection = Arc::new(connection);
                let guard = Guard::new(socket, Arc::clone(&connection), limits).counting(counted);
                self.tasks.spawn(http1::serve(TokioIo::new(guard), service, connection, drain));
            }
            Protocol::Http2 => {
                let floods = self.serving.floods.clone();
                let around = http2::Surroundings { limits, drain, floods, tasks: self.tasks.clone() };
                let served = http2::serve(socket, service, connection, around);
                self.tasks.spawn(async move {
                    served.await;
                    drop(counted);
                });
            }
        }
    }
}

/// Counts a connection of a worker, and keeps the worker, until it is dropped.
pub(super) struct Counted {
    handed: Arc<AtomicUsize>,
    gauge: Gauge,
    _held: (TaskTrackerToken, Option<Seat>),
}

impl Counted {
    /// `handed` was raised when the socket was handed over.
    fn new(handed: &Arc<AtomicUsize>, gauge: &Gauge, held: (TaskTrackerToken, Option<Seat>)) -> Self {
        gauge.inc();
        Self { handed: Arc::clone(handed), gauge: gauge.clone(), _held: held }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.handed.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use parking_lot::Mutex;

    use super::*;
    use crate::body;
    use crate::name::Name;
    use crate::server::{Address, Arrival, DrainHandle};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Remembers from whom requests came; with the first, the older caller sends another.
    struct Noting {
        came: Mutex<Vec<Peer>>,
        older: TcpStream,
    }

    impl Service for Noting {
        fn call(
            self: Arc<Self>,
            _: Arrival,
            connection: Arc<Connection>,
        ) -> std::pin::Pin<Box<dyn Future<Output = http::Response<body::AnswerBody>> + Send>> {
            let mut came = self.came.lock();
            came.push(connection.peer);
            // The very first is the older caller's own.
            if came.len() == 2 {
                (&self.older).write_all(REQUEST).unwrap();
            }
            Box::pin(async { http::Response::new(body::empty()) })
        }
    }

    /// Hundreds of callers that come at once do not keep an older one waiting for all of them.
    #[tokio::test]
    async fn a_crowd_does_not_keep_an_older_caller_waiting() {
        const CROWDED: usize = 300;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Arc::new(ListenerSettings::new(Name::parse("test").unwrap(), Address::Tcp(address)));
        let call = || {
            let mut caller = TcpStream::connect(address).unwrap();
            caller.write_all(REQUEST).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            (caller, Accepted::Tcp(stream, peer))
        };
        let (older, accepted) = call();
        let peer = Peer::Tcp(older.local_addr().unwrap());
        let service = Arc::new(Noting { came: Mutex::default(), older });
        let (handle, drain) = DrainHandle::new();
        let serving =
            Serving { limits: Limits::default(), drain, connections: Gauge::default(), floods: Floods::default() };
        let workers = Workers::on_current_runtime(serving, Arc::clone(&service));
        workers.workers[0].hand(accepted, Arc::clone(&settings), None);
        let came = async |count| {
            while service.came.lock().len() < count {
                tokio::task::yield_now().await;
            }
        };
        came(1).await;
        let callers = std::iter::repeat_with(call).take(CROWDED).map(|(caller, accepted)| {
            workers.workers[0].hand(accepted, Arc::clone(&settings), None);
            caller
        });
        let callers: Vec<_> = callers.collect();
        came(2 + callers.len()).await;
        let before = service.came.lock().iter().skip(1).position(|came| *came == peer).unwrap();
        assert!(before < 50, "{before} of {CROWDED} were served first");
        drop(handle);
    }
}
