//! The newest nonce of each origin (RFC 9449 8.2). Workers read and seldom write, so reading takes no lock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};

/// Origins remembered. A cell serves a token endpoint and a few APIs; more would be a server that plays with names.
const MOST: usize = 64;

/// Longest nonce taken: it travels in every proof.
const LONGEST: usize = 512;

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Nonces by origin, the one changed last at the end. Shows nothing in `Debug`: a nonce of a server is for it alone.
#[derive(Default)]
pub(super) struct Nonces(ArcSwap<Vec<Entry>>);

#[derive(Clone)]
struct Entry {
    origin: Arc<str>,
    nonce: Arc<str>,
}

impl Nonces {
    pub(super) fn newest(&self, origin: &str) -> Option<Arc<str>> {
        let entries = self.0.load();
        entries.iter().find(|entry| &*entry.origin == origin).map(|entry| Arc::clone(&entry.nonce))
    }

    /// Whether `nonce` is another than the one kept before. Beyond [`MOST`] the oldest is forgotten, which costs its
    /// server one more `use_dpop_nonce`.
    pub(super) fn keep(&self, origin: &str, nonce: &str) -> bool {
        if self.newest(origin).is_some_and(|kept| &*kept == nonce) {
            return false;
        }
        let entry = Entry { origin: origin.into(), nonce: nonce.into() };
        self.0.rcu(|entries| {
            let others: Vec<&Entry> = entries.iter().filter(|other| other.origin != entry.origin).collect();
            let forgotten = others.len().saturating_sub(MOST - 1);
            others.into_iter().skip(forgotten).chain([&entry]).cloned().collect::<Vec<_>>()
        });
        true
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Nonces")
    }
}

/// The nonce that an answer offers: one field, in the form of RFC 9449 8.1. Anything else is ignored, because it would
/// come back in a claim.
pub(super) fn offered(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(DPOP_NONCE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let nonce = field.to_str().ok()?;
    let is_nqchar = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (!nonce.is_empty() && nonce.len() <= LONGEST && nonce.bytes().all(is_nqchar)).then_some(nonce)
}
