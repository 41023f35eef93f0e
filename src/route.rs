//! Which named credential a request belongs to: host, then the longest path prefix of whole segments, then method.
//!
//! Only listener, host, path and method decide; no other field does (`X-Original-URL`, `X-Forwarded-Host` and the like
//! are never read). The path is compared byte for byte; whether it is safe to forward is the target's judgement.

use std::borrow::Cow;
use std::collections::HashMap;

use http::{HeaderValue, Method};

pub use crate::target::HostPattern;

use crate::header;

mod prefixes;
#[cfg(test)]
mod tests;

use prefixes::Prefixes;

/// A match rule. Built by the configuration, where defaults are already filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Host to match; none matches every host.
    pub host: Option<HostPattern>,
    /// Path prefix of whole segments: begins with `/`, does not end with one, except `/` itself.
    pub path: String,
    /// Methods let through; none lets all through.
    pub methods: Option<Vec<Method>>,
}

/// What [`Router::route`] found.
#[derive(Debug)]
pub enum Route<'a, T> {
    /// A value, and how many bytes of the path its prefix takes (0 for `/`).
    Found {
        /// What was registered with the match.
        value: &'a T,
        /// Length of the matched prefix, to be cut off.
        prefix: usize,
    },
    /// Host and path match, the method does not; `allow` is the value of the `Allow` field (RFC 9110 10.2.1).
    MethodNotAllowed {
        /// What was registered with the match.
        value: &'a T,
        /// Value of the `Allow` field.
        allow: &'a HeaderValue,
    },
    /// Nothing matches.
    NotFound,
}

/// Two matches with the same host and the same path: no request could tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("two matches have the same host and the same path")]
pub struct Conflict {
    /// Index of the first of the two in what was given to [`Router::build`].
    pub first: usize,
    /// Index of the second.
    pub second: usize,
}

/// All matches, ready to be asked. A look-up costs one hash for each host candidate and for each path segment that
/// some match shares, whatever the number of matches and the length of the path.
#[derive(Debug)]
pub struct Router<T> {
    entries: Vec<Entry<T>>,
    exact: HashMap<Box<str>, Prefixes>,
    suffixes: HashMap<Box<str>, Prefixes>,
    longest_suffix: usize,
    any_host: Prefixes,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    methods: Option<Box<Methods>>,
}

#[derive(Debug)]
struct Methods {
    allowed: Vec<Method>,
    allow: HeaderValue,
}

impl<T> Router<T> {
    /// Prepares the matches.
    ///
    /// # Errors
    /// [`Conflict`] for the first two that are equal in host and path; methods do not tell matches apart.
    pub fn build(matches: Vec<(Match, T)>) -> Result<Self, Conflict> {
        let mut router = Self {
            entries: Vec::with_capacity(matches.len()),
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            longest_suffix: 0,
            any_host: Prefixes::default(),
        };
        for (place, (rule, value)) in (0..).zip(matches) {
            let prefixes = router.prefixes_of(rule.host.as_ref());
            prefixes.insert(&rule.path, place).map_err(|first| conflict(first, place))?;
            router.entries.push(Entry { value, methods: rule.methods.map(Methods::new).map(Box::new) });
        }
        Ok(router)
    }

    /// The value whose match fits best: exact host, then the longest wildcard, then no host; within that the longest
    /// path. `host` may carry a port, brackets, capitals and a trailing dot; `path` is raw and without its query.
    ///
    /// A host whose own matches do not cover the path goes on to the less specific ones: a match without a host says
    /// "every host", and naming a host in one match takes nothing away from the others. Methods are looked at last and
    /// never go on, so that a longer match with fewer methods cannot leak requests to a shorter one.
    pub fn route<'a>(&'a self, host: Option<&str>, path: &str, method: &Method) -> Route<'a, T> {
        let under_host = host.and_then(|host| self.find_under_host(host, path));
        let Some((entry, prefix)) = under_host.or_else(|| self.any_host.find(path)) else { return Route::NotFound };
        match self.entries.get(index(entry)) {
            Some(Entry { value, methods: Some(methods) }) if !methods.allowed.contains(method) => {
                Route::MethodNotAllowed { value, allow: &methods.allow }
            }
            Some(Entry { value, .. }) => Route::Found { value, prefix },
            None => Route::NotFound,
        }
    }

    /// Whether any match names a host: otherwise that of a request need not be looked for.
    pub fn tells_hosts_apart(&self) -> bool {
        !self.exact.is_empty() || !self.suffixes.is_empty()
    }

    /// Whether any match names this host, exactly or by a wildcard; a listener on loopback takes no others.
    pub fn names_host(&self, host: &str) -> bool {
        self.comparable(host).is_some_and(|host| self.tables(&host).next().is_some())
    }

    /// Everything that was registered, in no order that matters.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|entry| &entry.value)
    }

    fn prefixes_of(&mut self, host: Option<&HostPattern>) -> &mut Prefixes {
        match host {
            None => &mut self.any_host,
            Some(HostPattern::Exact(name)) => {
                let name = header::host_without_port(name).to_ascii_lowercase();
                self.exact.entry(name.into_boxed_str()).or_default()
            }
            Some(HostPattern::Suffix(suffix)) => {
                let suffix = suffix.trim_end_matches('.').to_ascii_lowercase();
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.suffixes.entry(suffix.into_boxed_str()).or_default()
            }
        }
    }

    fn find_under_host(&self, host: &str, path: &str) -> Option<(u32, usize)> {
        let host = self.comparable(host)?;
        self.tables(&host).find_map(|prefixes| prefixes.find(path))
    }

    /// The host as the tables spell it; none when no table can hold it.
    fn comparable<'h>(&self, host: &'h str) -> Option<Cow<'h, str>> {
        if !self.tells_hosts_apart() {
            return None;
        }
        let host = header::host_without_port(host);
        // No name is longer (RFC 1035 2.3.4), and with this bound no field full of dots makes the look-up slow.
        if host.len() > 253 {
            return None;
        }
        let has_capitals = host.bytes().any(|byte| byte.is_ascii_uppercase());
        Some(if has_capitals { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
    }

    /// The tables of a host, the most specific first.
    fn tables<'t>(&'t self, host: &'t str) -> impl Iterator<Item = &'t Prefixes> {
        let dots = host.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
        let suffixes = dots.filter_map(|at| host.get(at..)).filter(|suffix| suffix.len() <= self.longest_suffix);
        self.exact.get(host).into_iter().chain(suffixes.filter_map(|suffix| self.suffixes.get(suffix)))
    }
}

fn conflict(first: u32, second: u32) -> Conflict {
    Conflict { first: index(first), second: index(second) }
}

/// Four bytes for each prefix are enough for all that fits into memory.
fn index(entry: u32) -> usize {
    usize::try_from(entry).unwrap_or(usize::MAX)
}

impl Methods {
    fn new(allowed: Vec<Method>) -> Self {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        // Methods are tokens, so the joined text always is a field value.
        let allow = HeaderValue::try_from(names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { allowed, allow }
    }
}
