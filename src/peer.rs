//! Who is at the other end of a caller's connection, as the kernel tells it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The address of a caller's end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection from this address.
    Tcp(SocketAddr),
    /// A Unix socket connection; the ids are those the kernel recorded at connect time.
    Unix {
        /// Effective user id of the peer, when the kernel told it.
        uid: Option<u32>,
        /// Effective group id of the peer, when the kernel told it.
        gid: Option<u32>,
    },
}

impl Peer {
    /// The peer's IP address, IPv4-mapped IPv6 addresses as IPv4; none for a Unix socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix { .. } => None,
        }
    }
}

/// The names in a certificate that a caller proved to own, as far as callers are known by them (RFC 5280 4.1.2.6,
/// 4.2.1.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The subject as a text, RFC 4514: `CN=billing,O=Example`.
    pub subject: String,
    /// DNS names among the subject's alternative names, as they stand there.
    pub dns: Vec<String>,
    /// URIs, a SPIFFE id among them.
    pub uris: Vec<String>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix { uid: Some(uid), .. } => write!(formatter, "unix:uid={uid}"),
            Self::Unix { uid: None, .. } => formatter.write_str("unix"),
        }
    }
}
