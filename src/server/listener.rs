//! Listening sockets, and who accepts for all workers.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use super::crowd::Crowd;
use super::drain::{Drain, Phase};
use super::socket::{Accepted, UNSENT};
use super::turned_away::TurnedAway;
use super::worker::Worker;
use super::{Address, ListenerSettings};

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;

/// A connection on which nothing was heard for this long is asked whether it is still one, and so often.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener `{listener}` cannot listen on {address}")]
pub struct BindError {
    listener: String,
    address: String,
    #[source]
    source: io::Error,
}

/// Bound listeners that do not accept yet.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<Listener>,
}

#[derive(Debug)]
struct Listener {
    settings: Arc<ListenerSettings>,
    socket: ListeningSocket,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(std::net::TcpListener),
    Unix { listener: std::os::unix::net::UnixListener, _file: SocketFile },
}

/// Removes the socket's file when the listener goes.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Binds every listener, or none.
    ///
    /// # Errors
    /// The first that cannot be bound.
    pub fn bind(settings: impl IntoIterator<Item = ListenerSettings>) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        for mut settings in settings {
            let bound = match &settings.address {
                Address::Tcp(address) => bind_tcp(*address),
                Address::Unix(path) => bind_unix(path),
            };
            let socket = bound.map_err(|source| BindError {
                listener: settings.name.to_string(),
                address: settings.address.to_string(),
                source,
            })?;
            if let ListeningSocket::Tcp(listener) = &socket
                && let Ok(address) = listener.local_addr()
            {
                // Port 0 asked for any free port: from here on the settings say which.
                settings.address = Address::Tcp(address);
            }
            listeners.push(Listener { settings: Arc::new(settings), socket });
        }
        Ok(Self { listeners })
    }

    /// The listeners as bound, with the ports they really have.
    pub fn settings(&self) -> impl Iterator<Item = &Arc<ListenerSettings>> {
        self.listeners.iter().map(|listener| &listener.settings)
    }

    /// Accepts until the drain closes the listeners; each socket goes to the worker with the fewest connections. The
    /// first worker accepts for all: what it keeps itself, and with one worker that is everything, wakes no other
    /// thread. What is returned ends with the drain, and ends the accepting when it is dropped.
    ///
    /// # Errors
    /// When a listening socket cannot be registered with the worker's runtime.
    pub fn accept(self, workers: Vec<Worker>, crowd: Crowd, drain: Drain) -> io::Result<JoinSet<()>> {
        let mut accepting = JoinSet::new();
        let Some(runtime) = workers.first().map(|first| first.runtime().clone()) else { return Ok(accepting) };
        let workers: Arc<[Worker]> = workers.into();
        let _entered = runtime.enter();
        for Listener { settings, socket } in self.listeners {
            let ready = readiness(&socket)?;
            let (workers, crowd, drain) = (Arc::clone(&workers), crowd.clone(), drain.clone());
            accepting.spawn_on(Accepting { settings, socket, ready, workers, crowd, drain }.run(), &runtime);
        }
        Ok(accepting)
    }
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<ListeningSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit what follows. A tunnel may idle for as long as it pleases, so nothing else would tell that
    // its caller has vanished.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL))?;
    socket.set_tcp_nodelay(true)?;
    // Otherwise the kernel takes whole answers for callers that do not read, and nobody notices that they do not. Not
    // every system has this option.
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(ListeningSocket::Tcp(socket.into()))
}

/// A file left behind by a process that died is replaced; one that somebody still listens on is not.
fn bind_unix(path: &Path) -> io::Result<ListeningSocket> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket"));
    }
    if std::fs::symlink_metadata(path).is_ok_and(|file| std::os::unix::fs::FileTypeExt::is_socket(&file.file_type())) {
        std::fs::remove_file(path)?;
    }
    let socket = std::os::unix::net::UnixListener::bind(path)?;
    socket.set_nonblocking(true)?;
    Ok(ListeningSocket::Unix { listener: socket, _file: SocketFile(path.to_owned()) })
}

struct Accepting {
    settings: Arc<ListenerSettings>,
    socket: ListeningSocket,
    ready: AsyncFd<OwnedFd>,
    workers: Arc<[Worker]>,
    crowd: Crowd,
    drain: Drain,
}

impl Accepting {
    async fn run(self) {
        let Self { settings, socket, ready, workers, crowd, mut drain } = self;
        let mut turned_away = TurnedAway::default();
        loop {
            let readable = tokio::select! {
                biased;
                () = drain.reached(Phase::Closing) => return,
                readable = ready.readable() => readable,
            };
            // It fails only when the runtime ends.
            let Ok(mut readable) = readable else { return };
            match socket.accept() {
                Ok(accepted) => {
                    if let Some(accepted) = hand(accepted, &workers, &crowd, &settings) {
                        turned_away.answer(accepted);
                    }
                    // The callers that are there have their turn; who is not accepted waits in the kernel.
                    tokio::task::yield_now().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors, most likely: accepting again at once would only burn the processor.
                    tracing::warn!(listener = %settings.name, %error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Tells when a connection waits, without registering the accepted socket here: that is done once, by its worker.
#[expect(deprecated, reason = "unsound only for types that lie about their descriptor; an `OwnedFd` does not")]
fn readiness(socket: &ListeningSocket) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = match socket {
        ListeningSocket::Tcp(listener) => listener.as_fd(),
        ListeningSocket::Unix { listener, .. } => listener.as_fd(),
    };
    AsyncFd::with_interest(descriptor.try_clone_to_owned()?, Interest::READABLE)
}

impl ListeningSocket {
    fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, peer)| Accepted::Tcp(stream, peer)),
            Self::Unix { listener, .. } => listener.accept().map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

/// Hands the socket to the worker with the fewest connections; gives it back when there are too many.
fn hand(accepted: Accepted, workers: &[Worker], crowd: &Crowd, settings: &Arc<ListenerSettings>) -> Option<Accepted> {
    let mut total = 0;
    let mut least: Option<(usize, &Worker)> = None;
    for worker in workers {
        let connections = worker.connections();
        total += connections;
        if least.is_none_or(|(fewest, _)| connections < fewest) {
            least = Some((connections, worker));
        }
    }
    let (_, worker) = least?;
    match crowd.enter(total, accepted.ip()) {
        Ok(seat) => {
            worker.hand(accepted, Arc::clone(settings), seat);
            None
        }
        Err(limit) => {
            if crowd.should_tell() {
                let (caller, limit) = (accepted.ip().map(tracing::field::display), limit.as_str());
                tracing::warn!(listener = %settings.name, caller, connections = total, limit, "over the connection limit");
            }
            // Within TLS nothing can be said before the handshake, which is what there is no room for.
            settings.tls.is_none().then_some(accepted)
        }
    }
}

/// Errors that accept(2) reports for the connection and not for the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::{ListeningSocket, UNSENT, bind_tcp};

    #[test]
    fn an_accepted_socket_is_set_up_by_its_listener() {
        let ListeningSocket::Tcp(listener) = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap() else { panic!() };
        let _caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = loop {
            match listener.accept() {
                Ok((accepted, _)) => break accepted,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        };
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        assert!(accepted.tcp_nodelay().unwrap(), "an answer is not held back");
        #[cfg(target_os = "linux")]
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), UNSENT);
    }
}
