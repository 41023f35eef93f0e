//! Who is calling, by which proof: API-key hash or network range; and whether it is a web page ([`browser`]).
//!
//! This room says who it is; what each caller may use is decided where named credentials and principals are chosen.

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};
use subtle::ConstantTimeEq;

use crate::name::Name;
use crate::peer::Peer;

pub mod browser;

/// `[callers.NAME]` as resolved.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The caller's name.
    pub name: Name,
    /// The one proof that this caller gives.
    pub proof: Proof,
}

/// How a caller proves who it is.
#[derive(Clone, Debug)]
pub enum Proof {
    /// The SHA-256 of a high-entropy API key that the caller sends in `header` (default `x-api-key`).
    ApiKey {
        /// SHA-256 of the key.
        sha256: [u8; 32],
        /// The field that carries the key; removed before the request goes on.
        header: HeaderName,
    },
    /// The connection comes from one of these ranges.
    Networks(Vec<IpNet>),
}

/// All callers by their proofs, ready to be asked.
#[derive(Debug, Default)]
pub struct Callers {
    key_headers: Vec<HeaderName>,
    /// The keys of each of `key_headers`, in its order.
    keys: Vec<Vec<Key>>,
    networks: Vec<(Vec<IpNet>, Name)>,
}

struct Key {
    sha256: [u8; 32],
    caller: Name,
}

impl Callers {
    /// Sorts the callers by kind of proof.
    #[must_use]
    pub fn new(settings: Vec<Settings>) -> Self {
        let mut callers = Self::default();
        for Settings { name, proof } in settings {
            match proof {
                Proof::ApiKey { sha256, header } => callers.add_key(header, Key { sha256, caller: name }),
                Proof::Networks(ranges) => {
                    callers.networks.push((ranges.into_iter().map(canonical).collect(), name));
                }
            }
        }
        callers
    }

    /// Every caller that this request proves to be: by keys first, then by networks, each in the order configured.
    ///
    /// A key field that is repeated or empty proves nothing. Allocates only for what it finds.
    #[must_use]
    pub fn identify(&self, peer: &Peer, headers: &HeaderMap) -> Vec<Name> {
        let mut proven = Vec::new();
        for (header, keys) in self.key_headers.iter().zip(&self.keys) {
            if let Some(value) = only_value(headers, header) {
                let presented = digest(&SHA256, value);
                let fits = |key: &&Key| bool::from(key.sha256.as_slice().ct_eq(presented.as_ref()));
                proven.extend(keys.iter().filter(fits).map(|key| key.caller.clone()));
            }
        }
        if let Some(ip) = peer.ip() {
            let contains_peer = |(ranges, _): &&(Vec<IpNet>, Name)| ranges.iter().any(|range| range.contains(&ip));
            proven.extend(self.networks.iter().filter(contains_peer).map(|(_, name)| name.clone()));
        }
        proven
    }

    /// Whether no caller is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.networks.is_empty()
    }

    /// The fields that carry callers' keys, each once: none of them may travel on.
    #[must_use]
    pub fn key_headers(&self) -> &[HeaderName] {
        &self.key_headers
    }

    fn add_key(&mut self, header: HeaderName, key: Key) {
        let known = self.key_headers.iter().position(|name| *name == header);
        match known.and_then(|at| self.keys.get_mut(at)) {
            Some(keys) => keys.push(key),
            None => {
                self.key_headers.push(header);
                self.keys.push(vec![key]);
            }
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Key").field("caller", &self.caller).finish_non_exhaustive()
    }
}

fn only_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    (!value.is_empty()).then(|| value.as_bytes())
}

/// A range of IPv4-mapped IPv6 addresses (RFC 4291 2.5.5.2) as the IPv4 range it means: peers' addresses are unmapped
/// before they are compared. A wider IPv6 range, `::/0` too, means IPv6 peers only.
fn canonical(range: IpNet) -> IpNet {
    let IpNet::V6(v6) = range else { return range };
    let mapped = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(network, length)| Ipv4Net::new(network, length).ok()).map_or(range, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Callers, Proof, Settings};
    use crate::name::Name;
    use crate::peer::Peer;

    fn key(name: &str, header: &'static str, key: &str) -> Settings {
        let sha256 = digest(&SHA256, key.as_bytes()).as_ref().try_into().unwrap();
        let header = HeaderName::from_static(header);
        Settings { name: Name::parse(name).unwrap(), proof: Proof::ApiKey { sha256, header } }
    }

    fn networks(name: &str, ranges: &[&str]) -> Settings {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Settings { name: Name::parse(name).unwrap(), proof: Proof::Networks(ranges) }
    }

    fn proven(callers: &Callers, peer: &str, lines: &[(&'static str, &str)]) -> Vec<String> {
        let peer = match peer {
            "unix" => Peer::Unix { uid: Some(1), gid: None },
            ip => Peer::Tcp((ip.parse::<std::net::IpAddr>().unwrap(), 1).into()),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        callers.identify(&peer, &headers).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_caller_is_proven_by_the_key_whose_hash_is_configured() {
        let callers = Callers::new(vec![
            key("billing", "x-api-key", "k-billing"),
            key("crm", "x-crm-key", "k-crm"),
            key("reports", "x-api-key", "k-reports"),
            key("twin", "x-api-key", "k-billing"),
        ]);
        for (lines, expected) in [
            (vec![], vec![]),
            (vec![("x-api-key", "k-reports")], vec!["reports"]),
            (vec![("x-api-key", "k-billing")], vec!["billing", "twin"]),
            (vec![("x-api-key", "k-crm")], vec![]),
            (vec![("x-crm-key", "k-crm")], vec!["crm"]),
            (vec![("x-crm-key", "k-crm"), ("x-api-key", "k-reports")], vec!["reports", "crm"]),
            (vec![("x-api-key", "K-reports")], vec![]),
            (vec![("x-api-key", "")], vec![]),
            (vec![("x-api-key", "k-reports, k-reports")], vec![]),
            (vec![("x-api-key", "k-reports"), ("x-api-key", "k-reports")], vec![]),
            (vec![("x-api-key", "k-reports"), ("x-api-key", "other")], vec![]),
            (vec![("authorization", "k-reports")], vec![]),
        ] {
            assert_eq!(proven(&callers, "192.0.2.1", &lines), expected, "{lines:?}");
        }
        assert_eq!(callers.key_headers(), ["x-api-key", "x-crm-key"]);
    }

    #[test]
    fn a_caller_is_proven_by_the_network_it_connects_from() {
        let callers = Callers::new(vec![
            networks("pods", &["10.0.0.0/8", "2001:db8::/32"]),
            networks("mapped", &["::ffff:192.0.2.0/120"]),
            networks("local", &["127.0.0.1/32", "::1/128"]),
            networks("six", &["::/0"]),
        ]);
        for (peer, expected) in [
            ("10.1.2.3", vec!["pods"]),
            ("::ffff:10.1.2.3", vec!["pods"]),
            ("2001:db8::5", vec!["pods", "six"]),
            ("192.0.2.77", vec!["mapped"]),
            ("::ffff:192.0.2.77", vec!["mapped"]),
            ("192.0.3.1", vec![]),
            ("127.0.0.1", vec!["local"]),
            ("::1", vec!["local", "six"]),
            ("unix", vec![]),
        ] {
            assert_eq!(proven(&callers, peer, &[]), expected, "{peer}");
        }
    }

    #[test]
    fn keys_come_before_networks() {
        let callers = Callers::new(vec![networks("pods", &["10.0.0.0/8"]), key("billing", "x-api-key", "k")]);
        assert_eq!(proven(&callers, "10.0.0.1", &[("x-api-key", "k")]), ["billing", "pods"]);
    }

    #[test]
    fn nothing_configured_is_empty_and_proves_nobody() {
        let callers = Callers::new(vec![]);
        assert!(callers.is_empty() && callers.key_headers().is_empty());
        assert_eq!(proven(&callers, "127.0.0.1", &[("x-api-key", "k")]), Vec::<String>::new());
        assert!(!Callers::new(vec![networks("a", &["10.0.0.0/8"])]).is_empty());
        assert!(!Callers::new(vec![key("a", "x-api-key", "k")]).is_empty());
    }

    #[test]
    fn debug_shows_no_hash() {
        let shown = format!("{:?}", Callers::new(vec![key("billing", "x-api-key", "k")]));
        assert!(shown.contains("billing") && !shown.contains("sha256"), "{shown}");
    }
}
