//! To which addresses a connection may lead: a name that others control must not open the way to this machine, to its
//! network or to a cloud's metadata service (server-side request forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is admitted beyond public addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// Link-local addresses, and those at which clouds serve metadata (`dangerous = { link_local = true }`).
    pub link_local: bool,
    /// Private and loopback addresses (`dangerous = { private = true }`).
    pub private: bool,
}

impl Addresses {
    /// For a destination that is written in the configuration: all but link-local ones.
    pub const CONFIGURED: Self = Self { link_local: false, private: true };

    /// For a destination that someone else names: public addresses only.
    pub const FOREIGN: Self = Self { link_local: false, private: false };

    /// Whether a connection may lead there.
    #[must_use]
    pub fn admits(self, address: IpAddr) -> bool {
        match Reach::of(address) {
            Reach::Public => true,
            Reach::Private => self.private,
            Reach::LinkLocal => self.link_local,
            Reach::Nowhere => false,
        }
    }
}

/// Who can be met at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Public,
    Private,
    LinkLocal,
    /// Multicast and broadcast.
    Nowhere,
}

impl Reach {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::v4(address),
            IpAddr::V6(address) => Self::v6(address),
        }
    }

    fn v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            _ if address.is_multicast() || address.is_broadcast() => Self::Nowhere,
            // Metadata services beside 169.254.169.254: Alibaba's, and Azure's wire server.
            _ if address.is_link_local() => Self::LinkLocal,
            [100, 100, 100, 200] | [168, 63, 129, 16] => Self::LinkLocal,
            // 0.0.0.0/8 is this machine to most systems; 100.64.0.0/10 is the carrier's and the pod's network.
            [0 | 10 | 127, ..] | [192, 168, ..] | [100, 64..=127, ..] | [172, 16..=31, ..] | [198, 18 | 19, ..] => {
                Self::Private
            }
            _ => Self::Public,
        }
    }

    fn v6(address: Ipv6Addr) -> Self {
        // An IPv4 address in another coat: 6to4, NAT64 and its local form, IPv4-compatible.
        let embedded = match address.segments() {
            [0x2002, high, low, ..] => Some((high, low)),
            [0x64, 0xff9b, 0 | 1, .., high, low] => Some((high, low)),
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some((high, low)),
            _ => None,
        };
        if let Some((high, low)) = embedded {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            return Self::v4(Ipv4Addr::new(a, b, c, d));
        }
        match address.segments() {
            // Amazon's metadata service over IPv6.
            [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Self::LinkLocal,
            [0xff00..=0xffff, ..] => Self::Nowhere,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Self::Private,
            _ => Self::Public,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Addresses;

    /// C25: who names the destination decides where it may be.
    #[test]
    fn who_names_the_destination_decides_where_it_may_be() {
        let both = Addresses { link_local: true, private: true };
        for (address, configured, foreign, dangerous) in [
            ("93.184.216.34", true, true, true),
            ("2606:2800:220:1::1", true, true, true),
            ("127.0.0.1", true, false, true),
            ("127.9.9.9", true, false, true),
            ("::1", true, false, true),
            ("::", true, false, true),
            ("0.0.0.0", true, false, true),
            ("0.1.2.3", true, false, true),
            ("10.1.2.3", true, false, true),
            ("172.16.0.1", true, false, true),
            ("172.32.0.1", true, true, true),
            ("192.168.1.1", true, false, true),
            ("100.64.0.1", true, false, true),
            ("100.128.0.1", true, true, true),
            ("198.18.0.1", true, false, true),
            ("fd12::1", true, false, true),
            ("fec0::1", true, false, true),
            ("169.254.169.254", false, false, true),
            ("169.254.0.1", false, false, true),
            ("100.100.100.200", false, false, true),
            ("168.63.129.16", false, false, true),
            ("fe80::1", false, false, true),
            ("fd00:ec2::254", false, false, true),
            ("::ffff:169.254.169.254", false, false, true),
            ("::ffff:10.0.0.1", true, false, true),
            ("::127.0.0.1", true, false, true),
            ("64:ff9b::a9fe:a9fe", false, false, true),
            ("2002:7f00:1::", true, false, true),
            ("224.0.0.1", false, false, false),
            ("255.255.255.255", false, false, false),
            ("ff02::1", false, false, false),
        ] {
            let ip = address.parse().unwrap();
            let found = (Addresses::CONFIGURED.admits(ip), Addresses::FOREIGN.admits(ip), both.admits(ip));
            assert_eq!(found, (configured, foreign, dangerous), "{address}");
        }
    }
}
