//! Who may still come in: connections in all, and from one address.
//!
//! Counted where connections are accepted, before a byte is read. An IPv6 network gives a machine at least a /64
//! (RFC 6177), so its addresses count as one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Limits;
use crate::limit::{Bucket, Limit, Rate};
use crate::metrics::Limited;

/// Connections from one address where nothing is configured: a tenth of all, so that it takes ten to shut the others
/// out, and enough for a proxy or a NAT with many callers behind it. On loopback everyone has the same address.
pub const CONNECTIONS_PER_ADDRESS: usize = 1000;

/// What connections are held against as they come.
#[derive(Clone, Debug)]
pub struct Crowd {
    total: usize,
    per_address: usize,
    spares_loopback: bool,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    limited: Limited,
    tells: Arc<Bucket>,
}

/// A connection that counts under its address until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Crowd {
    /// As `[limits]` says.
    #[must_use]
    pub fn new(limits: &Limits, limited: Limited) -> Self {
        Self {
            total: limits.connections,
            per_address: limits.connections_per_caller.unwrap_or(CONNECTIONS_PER_ADDRESS),
            spares_loopback: limits.connections_per_caller.is_none(),
            addresses: Arc::default(),
            limited,
            tells: Arc::new(Bucket::new(Rate::ONE_A_SECOND)),
        }
    }

    /// Whether the log should be told of one more that was kept out: once a second, since it is the metric that counts
    /// them, and nobody may fill a disk by knocking.
    pub(super) fn should_tell(&self) -> bool {
        self.tells.take().is_ok()
    }

    /// Lets one more in that comes from `address`, none for a Unix socket, while `present` are there.
    ///
    /// # Errors
    /// The limit that keeps it out; it has been counted.
    pub(super) fn enter(&self, present: usize, address: Option<IpAddr>) -> Result<Option<Seat>, Limit> {
        if present >= self.total {
            self.limited.count(Limit::Connections);
            return Err(Limit::Connections);
        }
        let Some(address) = address.map(counted).filter(|address| !(self.spares_loopback && address.is_loopback()))
        else {
            return Ok(None);
        };
        let mut addresses = self.addresses.lock();
        let count = addresses.entry(address).or_insert(0);
        if *count >= self.per_address {
            self.limited.count(Limit::ConnectionsPerCaller);
            return Err(Limit::ConnectionsPerCaller);
        }
        *count += 1;
        Ok(Some(Seat { addresses: Arc::clone(&self.addresses), address }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock();
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// What an address counts as.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(total: usize, per_caller: Option<usize>) -> Crowd {
        let limits = Limits { connections: total, connections_per_caller: per_caller, ..Limits::default() };
        Crowd::new(&limits, Limited::default())
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_total_holds_for_everyone() {
        let crowd = crowd(2, None);
        for from in [address("192.0.2.1"), address("127.0.0.1"), None] {
            assert!(crowd.enter(1, from).is_ok());
            assert_eq!(crowd.enter(2, from).unwrap_err(), Limit::Connections);
        }
    }

    #[test]
    fn one_address_has_its_share_and_others_have_theirs() {
        let crowd = crowd(100, Some(2));
        let seats: Vec<_> = (0..2).map(|_| crowd.enter(0, address("192.0.2.1")).unwrap()).collect();
        assert_eq!(crowd.enter(0, address("192.0.2.1")).unwrap_err(), Limit::ConnectionsPerCaller);
        assert_eq!(crowd.enter(0, address("::ffff:192.0.2.1")).unwrap_err(), Limit::ConnectionsPerCaller);
        assert!(crowd.enter(0, address("192.0.2.2")).is_ok());
        drop(seats);
        assert!(crowd.enter(0, address("192.0.2.1")).is_ok());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let crowd = crowd(100, Some(1));
        let _seat = crowd.enter(0, address("2001:db8:1:2::1")).unwrap();
        assert_eq!(crowd.enter(0, address("2001:db8:1:2:ffff::9")).unwrap_err(), Limit::ConnectionsPerCaller);
        assert!(crowd.enter(0, address("2001:db8:1:3::1")).is_ok());
    }

    #[test]
    fn loopback_is_spared_unless_a_number_is_configured_and_unix_sockets_always() {
        let default = crowd(10_000, None);
        let seats: Vec<_> = (0..2000).map(|_| default.enter(0, address("127.0.0.1")).unwrap()).collect();
        assert!(seats.iter().all(Option::is_none));
        let configured = crowd(10_000, Some(1));
        let _seat = configured.enter(0, address("::1")).unwrap();
        assert_eq!(configured.enter(0, address("::1")).unwrap_err(), Limit::ConnectionsPerCaller);
        assert!(configured.enter(0, None).unwrap().is_none());
    }

    #[test]
    fn nothing_is_kept_of_addresses_that_have_gone() {
        let crowd = crowd(10_000, Some(5));
        for last in 0..=255 {
            let _seat = crowd.enter(0, address(&format!("192.0.2.{last}"))).unwrap();
        }
        assert!(crowd.addresses.lock().is_empty());
    }
}
