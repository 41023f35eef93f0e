//! Listeners, workers, the guard, drain: generic over the service it runs.
//!
//! One worker accepts and hands sockets to that with the fewest connections; workers serve them. What a request
//! means is the [`Service`]'s part.

mod connection;
mod crowd;
mod drain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod guard;
mod http1;
mod http2;
mod interim;
mod listener;
mod opening;
mod pace;
mod signals;
mod socket;
mod turned_away;
mod watch;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::answer::Failure;
use crate::body::AnswerBody;
use crate::connect::{Addresses, HttpProxies};
use crate::name::Name;
use crate::target::HostRule;
use crate::tls::{self, Terminator};

pub use self::connection::{Connection, Protocol, Secured};
pub use self::crowd::{CONNECTIONS_PER_ADDRESS, Crowd};
pub use self::drain::{Distrust, Drain, DrainHandle};
pub use self::listener::{BindError, Bound};
pub use self::pace::{LeastPace, Pace};
pub use self::signals::{Hangups, Signals};
pub use self::watch::{Alarm, Watch};
pub use self::worker::{Serving, Shape, Worker, Workers};

/// What a listener serves: one answer for every arrival.
///
/// The future is boxed so that an idle connection holds none.
pub trait Service: Send + Sync + 'static {
    /// Answers one arrival on `connection`.
    fn call(
        self: Arc<Self>,
        arrival: Arrival,
        connection: Arc<Connection>,
    ) -> Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;
}

/// What came over a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once per exchange; a box would cost an allocation each")]
pub enum Arrival {
    /// A request whose head passed the guard.
    Request(Request<Incoming>),
    /// A head that did not; the connection closes after the answer.
    Refused(Failure),
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine can reach it: a loopback address or a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// `[listeners.NAME]` as resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSettings {
    /// Its name.
    pub name: Name,
    /// Where it listens.
    pub address: Address,
    /// Serialised origins (`https://app.example`) whose pages may call; lower case.
    pub allowed_origins: Vec<String>,
    /// `dangerous = { anonymous_callers = true }`
    pub dangerous_anonymous_callers: bool,
    /// The only callers that may use it; none: everyone it admits.
    pub callers: Option<Vec<Name>>,
    /// Ends TLS; none: callers speak without it.
    pub tls: Option<Arc<Terminator>>,
    /// Whether callers may use it as their proxy, and for what.
    pub forward_proxy: Option<Arc<ForwardProxy>>,
}

/// `forward_proxy` of a listener: what its callers may reach without a named credential.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardProxy {
    /// Hosts to which requests in absolute-form are forwarded as they are; a port that is not listed is the scheme's.
    pub passthrough: Vec<HostRule>,
    /// Hosts to which `CONNECT` opens a tunnel; a port that is not listed is 443.
    pub tunnel: Vec<HostRule>,
    /// For what is forwarded as it is, over `https`.
    pub tls: Arc<tls::Profile>,
    /// To which addresses both may lead.
    pub addresses: Addresses,
    /// The proxies on the way out to both.
    pub http_proxies: HttpProxies,
}

impl ListenerSettings {
    /// A listener with nothing but a name and an address.
    #[must_use]
    pub fn new(name: Name, address: Address) -> Self {
        Self {
            name,
            address,
            allowed_origins: Vec::new(),
            dangerous_anonymous_callers: false,
            callers: None,
            tls: None,
            forward_proxy: None,
        }
    }
}

/// `[drain]` as resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long listeners go on accepting after the first signal; none: 5 s, or 0 where all listeners are local and
    /// the process does not run in Kubernetes.
    pub delay: Option<Duration>,
    /// When what is left is cut off, counted from the signal (default 25 s).
    pub deadline: Duration,
}

/// `[limits]` as resolved: what one connection and the whole process may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request target in bytes (default 8 KiB): 414.
    pub target: usize,
    /// Longest header section in bytes (default 32 KiB): 431.
    pub header: usize,
    /// Most fields in a header section (default and most [`MOST_FIELDS`]): 431.
    pub header_fields: usize,
    /// Longest request body in bytes (default none): 413. A named credential may have its own.
    pub body: Option<usize>,
    /// Connections in all (default 10,000): 503.
    pub connections: usize,
    /// Connections from one IPv4 address or IPv6 /64: 503. None: 1,000, and no limit for loopback addresses. Unix
    /// sockets have none.
    pub connections_per_caller: Option<usize>,
    /// Requests being served in all (default 8,192): 503.
    pub requests: usize,
    /// Tunnels that callers asked for (`CONNECT`) in all (default 1,000): 503. They are no requests being served.
    pub tunnels: usize,
    /// Longest pause of such a tunnel (default 1 h).
    pub tunnel_idle_timeout: Duration,
    /// A request's head must be complete this long after its first byte, or after the connection opened (default 10 s): 408.
    pub header_timeout: Duration,
    /// A connection without a request is closed after this long (default 90 s).
    pub idle_timeout: Duration,
    /// Longest pause of a caller within a request body or while reading an answer (default 60 s): 408.
    pub body_timeout: Duration,
    /// Fewest bytes a second of a body that is waited for, or of an answer that waits for its caller, over waits that
    /// add up to `body_timeout` (default 64): 408.
    pub body_rate: usize,
    /// Bytes of request bodies kept for replays, in all (default 64 MiB).
    pub replay_memory: usize,
    /// Longest answer of a token endpoint in bytes (default 64 KiB): 502.
    pub token_answer: usize,
    /// Named credentials, principals and upstreams that metrics tell apart, each kind for itself (default 1,000); those
    /// beyond are counted together.
    pub metric_credentials: usize,
    /// What an HTTP/2 connection may cost besides.
    pub http2: Http2Limits,
}

/// The `h2_…` keys of `[limits]` as resolved. All but `streams` are frames of one connection in one second; honest
/// callers stay far below, however fast they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Requests at a time (default 100).
    pub streams: u32,
    /// RST_STREAM, and as many errors that make us reset a stream (default 200).
    pub resets: u32,
    /// PING, beyond one for every frame of answers (default 100).
    pub pings: u32,
    /// SETTINGS (default 20).
    pub settings: u32,
    /// PRIORITY, beyond two for every request (default 200).
    pub priorities: u32,
    /// WINDOW_UPDATE, beyond four for every frame of answers and of requests (default 500).
    pub window_updates: u32,
    /// DATA of fewer than 5 bytes that ends no request, the length of what precedes every message of gRPC; a hundred
    /// times as many of fewer than 64 bytes (default 2,000).
    pub tiny_data: u32,
    /// Frames of types that nobody has defined yet (default 100).
    pub unknown: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams: 100,
            resets: 200,
            pings: 100,
            settings: 20,
            priorities: 200,
            window_updates: 500,
            tiny_data: 2_000,
            unknown: 100,
        }
    }
}

/// hyper keeps room for this many fields; more would be refused by its parser, which neither logs nor explains.
pub const MOST_FIELDS: usize = 100;

impl Limits {
    /// How fast a caller has to send a body and to read an answer.
    #[must_use]
    pub fn body_pace(&self) -> LeastPace {
        LeastPace { over: self.body_timeout, rate: self.body_rate }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target: 8 * 1024,
            header: 32 * 1024,
            header_fields: MOST_FIELDS,
            body: None,
            connections: 10_000,
            connections_per_caller: None,
            requests: 8192,
            tunnels: 1000,
            tunnel_idle_timeout: Duration::from_secs(60 * 60),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
            body_timeout: Duration::from_secs(60),
            body_rate: 64,
            replay_memory: 64 * 1024 * 1024,
            token_answer: 64 * 1024,
            metric_credentials: 1000,
            http2: Http2Limits::default(),
        }
    }
}
