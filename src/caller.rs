//! Who is calling, by which proof: an API key's hash, a JWT, the certificate of the connection, its network range, or the
//! user at the other end of a Unix socket; and whether it is a web page ([`browser`]).
//!
//! This room says who it is; what each caller may use is decided where named credentials and principals are chosen.

use std::sync::Arc;

use aws_lc_rs::digest::SHA256;
use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};
use tokio::runtime::Handle;

use self::api_key::Keys;
pub use self::certificate::{CertificateRule, UriPattern};
pub use self::jwt::Pending;
use self::jwt::Tokens;
use crate::name::Name;
use crate::peer::{Certificate, Peer};

mod api_key;
pub mod browser;
mod certificate;
pub mod jwt;

/// `[callers.NAME]` as resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The caller's name.
    pub name: Name,
    /// The one proof that this caller gives.
    pub proof: Proof,
}

impl Settings {
    /// Whether the proof is in a file that is read with the callers.
    #[must_use]
    pub fn reads_file(&self) -> bool {
        match &self.proof {
            Proof::Jwt(settings) => matches!(settings.keys.origin, jwt::KeyOrigin::File(_)),
            Proof::ApiKey { .. } | Proof::Certificate(_) | Proof::Networks(_) | Proof::Unix { .. } => false,
        }
    }
}

/// How a caller proves who it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// The SHA-256 of a high-entropy API key that the caller sends in `header` (default `x-api-key`).
    ApiKey {
        /// SHA-256 of the key.
        sha256: [u8; 32],
        /// The field that carries the key; removed before the request goes on.
        header: HeaderName,
    },
    /// A JWT of an issuer we trust, with the right claims.
    Jwt(Box<jwt::Settings>),
    /// The certificate that the connection was opened with, verified by the listener, carries these names.
    Certificate(CertificateRule),
    /// The connection comes from one of these ranges.
    Networks(Vec<IpNet>),
    /// The process at the other end of a Unix socket runs as this user, or in this group; both where both are given.
    Unix {
        /// Effective user id.
        uid: Option<u32>,
        /// Effective group id; a process's further groups are not known.
        gid: Option<u32>,
    },
}

/// All callers by their proofs, ready to be asked. Clones share the keys that JWTs are verified with.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    headers: Vec<HeaderName>,
    /// API keys by the field that carries them.
    keys: Vec<(HeaderName, Keys)>,
    tokens: Option<Arc<Tokens>>,
    certificates: Vec<(CertificateRule, Name)>,
    networks: Vec<(Vec<IpNet>, Name)>,
    users: Vec<(Option<u32>, Option<u32>, Name)>,
}

/// Who a request comes from, as far as it can be said at once.
#[derive(Debug, Default)]
pub struct Identified {
    /// Every caller that gave its proof.
    pub names: Vec<Name>,
    /// A JWT whose key is not at hand: worth a wait, and to be asked about once more.
    pub pending: Option<Box<Pending>>,
}

impl Callers {
    /// Sorts the callers by kind of proof. Reads key sets from their files; asks nobody ([`Self::watch`]).
    #[must_use]
    pub fn new(settings: Vec<Settings>) -> Self {
        Self::with_tokens(settings, Tokens::default())
    }

    /// The same, with the keys of issuers that these callers have already fetched.
    #[must_use]
    pub fn succeeded_by(&self, settings: Vec<Settings>) -> Self {
        Self::with_tokens(settings, self.tokens.as_deref().map_or_else(Tokens::default, Tokens::successor))
    }

    fn with_tokens(settings: Vec<Settings>, mut tokens: Tokens) -> Self {
        let mut callers = Self::default();
        for Settings { name, proof } in settings {
            match proof {
                Proof::ApiKey { sha256, header } => {
                    callers.note_header(&header);
                    callers.keys_in(header).add(sha256, name);
                }
                Proof::Jwt(settings) => {
                    callers.note_header(&settings.header);
                    tokens.add(*settings, name);
                }
                Proof::Certificate(rule) => callers.certificates.push((rule, name)),
                Proof::Networks(ranges) => {
                    callers.networks.push((ranges.into_iter().map(canonical).collect(), name));
                }
                Proof::Unix { uid, gid } => callers.users.push((uid, gid, name)),
            }
        }
        tokens.complete();
        callers.tokens = (!tokens.is_empty()).then(|| Arc::new(tokens));
        callers
    }

    /// Fetches the keys of issuers, now and from time to time, by tasks on `control` that end with the last clone.
    pub fn watch(&self, control: &Handle) {
        if let Some(tokens) = &self.tokens {
            tokens.watch(control);
        }
    }

    /// Every caller that this request proves to be: by keys first, then by JWTs, certificate, networks and users, each
    /// in the order configured.
    ///
    /// `certificate`: the one that the other end proved to own, and that the listener has verified. A field that is
    /// repeated or empty proves nothing. Allocates only for what it finds; never waits.
    #[must_use]
    pub fn identify(&self, peer: &Peer, certificate: Option<&Certificate>, headers: &HeaderMap) -> Identified {
        let mut names = Vec::new();
        for (header, keys) in &self.keys {
            if let Some(value) = only_value(headers, header) {
                keys.prove(header, value, &mut names);
            }
        }
        let pending = self.tokens.as_ref().and_then(|tokens| tokens.prove(headers, &mut names));
        if let Some(certificate) = certificate {
            self.prove_by_certificate(certificate, &mut names);
        }
        self.prove_by_peer(peer, &mut names);
        Identified { names, pending }
    }

    /// Whether no caller is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.certificates.is_empty() && self.networks.is_empty() && self.users.is_empty()
    }

    /// The fields that carry callers' keys and tokens, each once: none of them may travel on.
    #[must_use]
    pub fn key_headers(&self) -> &[HeaderName] {
        &self.headers
    }

    fn prove_by_certificate(&self, certificate: &Certificate, names: &mut Vec<Name>) {
        let before = names.len();
        let fits = |(rule, _): &&(CertificateRule, Name)| rule.fits(certificate);
        names.extend(self.certificates.iter().filter(fits).map(|(_, name)| name.clone()));
        if names.len() == before && !self.certificates.is_empty() {
            tracing::debug!("the certificate of the connection is that of no caller");
        }
    }

    fn prove_by_peer(&self, peer: &Peer, names: &mut Vec<Name>) {
        match peer {
            Peer::Tcp(_) => {
                let Some(ip) = peer.ip() else { return };
                let contains_peer = |(ranges, _): &&(Vec<IpNet>, Name)| ranges.iter().any(|range| range.contains(&ip));
                names.extend(self.networks.iter().filter(contains_peer).map(|(_, name)| name.clone()));
            }
            Peer::Unix { uid, gid } => {
                // An id that the kernel did not tell is nobody's.
                let is = |wanted: Option<u32>, found: Option<u32>| wanted.is_none() || wanted == found;
                let fits = |(wanted_uid, wanted_gid, _): &&(Option<u32>, Option<u32>, Name)| {
                    is(*wanted_uid, *uid) && is(*wanted_gid, *gid) && (wanted_uid.is_some() || wanted_gid.is_some())
                };
                names.extend(self.users.iter().filter(fits).map(|(_, _, name)| name.clone()));
            }
        }
    }

    fn note_header(&mut self, header: &HeaderName) {
        if !self.headers.contains(header) {
            self.headers.push(header.clone());
        }
    }

    fn keys_in(&mut self, header: HeaderName) -> &mut Keys {
        let at = self.keys.iter().position(|(name, _)| *name == header).unwrap_or_else(|| {
            self.keys.push((header, Keys::default()));
            self.keys.len() - 1
        });
        match self.keys.get_mut(at) {
            Some((_, keys)) => keys,
            None => unreachable!("it was found or added"),
        }
    }
}

fn only_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    (!value.is_empty()).then(|| value.as_bytes())
}

/// The SHA-256 of several parts, which must not be mistaken for others: each goes with its length.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    array(context.finish().as_ref())
}

fn array(digest: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    bytes
}

/// What follows a scheme of RFC 9110 11.4 and its spaces; schemes have no case.
fn after_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (word, rest) = value.split_at_checked(scheme.len())?;
    let rest = word.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)?;
    let given = rest.trim_ascii_start();
    (given.len() < rest.len()).then(|| given.trim_ascii_end())
}

/// A range of IPv4-mapped IPv6 addresses (RFC 4291 2.5.5.2) as the IPv4 range it means: peers' addresses are unmapped
/// before they are compared. A wider IPv6 range, `::/0` too, means IPv6 peers only.
fn canonical(range: IpNet) -> IpNet {
    let IpNet::V6(v6) = range else { return range };
    let mapped = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(network, length)| Ipv4Net::new(network, length).ok()).map_or(range, IpNet::V4)
}

#[cfg(test)]
mod tests;
