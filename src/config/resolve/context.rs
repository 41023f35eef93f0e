//! What the parts of the resolver share: names, callers, paths, durations.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Surroundings;
use crate::config::Secrets;
use crate::config::document::{CredentialDangers, Document};
use crate::config::field::{Entries, Field};
use crate::config::findings::Findings;
use crate::config::nearest::nearest;
use crate::config::quantity::Span;
use crate::config::tree::{NodeId, Place, Tree};
use crate::config::url::Url;
use crate::connect::{Addresses, HttpProxies};
use crate::name::Name;
use crate::tls;

/// What every part of the resolver needs.
pub(super) struct Context<'a> {
    pub(super) findings: &'a Findings<'a>,
    pub(super) secrets: Secrets,
    /// Looks an environment variable up.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// TLS profiles by their settings, so that equal tables share one; none: reading it failed and was reported.
    pub(super) profiles: RefCell<HashMap<tls::Settings, Option<Arc<tls::Profile>>>>,
    /// The profile of endpoints that are plain HTTP, once one was met.
    pub(super) nobody: OnceCell<Option<Arc<tls::Profile>>>,
    /// `limits.body`: what holds for every named credential that says nothing else.
    pub(super) longest_body: Option<usize>,
    /// `limits.token_answer`; what is wrong with it is said where `[limits]` is resolved.
    pub(super) longest_answer: usize,
    /// The proxies on the way out for credentials that say nothing about them.
    pub(super) http_proxies: HttpProxies,
    /// The files whose contents are part of the configuration.
    pub(super) files: RefCell<BTreeSet<PathBuf>>,
    folder: PathBuf,
    /// The names under `[callers]`; none: the table itself is wrong, so nothing can be said about names in it.
    callers: Option<Names<'a>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        document: &'a Document,
        findings: &'a Findings<'a>,
        Surroundings { folder, secrets, variable, .. }: &Surroundings<'a>,
    ) -> Self {
        let limits = document.limits.value();
        Self {
            findings,
            secrets: *secrets,
            variable: *variable,
            profiles: RefCell::default(),
            nobody: OnceCell::new(),
            longest_body: limits.and_then(|limits| limits.body.value()).map(|size| size.0),
            longest_answer: limits.and_then(|limits| limits.token_answer.value()).map_or(0, |size| size.0),
            http_proxies: HttpProxies::default(),
            files: RefCell::default(),
            folder: folder.clone(),
            callers: names(findings, &document.callers, "callers"),
        }
    }

    /// Whether someone wrote, or tried to write, who the callers are.
    pub(super) fn names_callers(&self) -> bool {
        self.callers.as_ref().is_none_or(|callers| !callers.is_empty())
    }

    /// A table's own name.
    pub(super) fn name(&self, node: NodeId, text: &str) -> Option<Name> {
        let name = Name::parse(text);
        if let Err(error) = &name {
            self.findings.key_error(node, "this name is not valid", error.to_string());
        }
        name.ok()
    }

    /// The elements of a list that are texts.
    pub(super) fn texts(list: &Field<Vec<Field<String>>>) -> impl Iterator<Item = (NodeId, &str)> {
        list.value().into_iter().flatten().filter_map(|item| item.get().map(|(node, text)| (node, text.as_str())))
    }

    /// A list of callers; none: everyone.
    pub(super) fn callers(&self, list: &Field<Vec<Field<String>>>) -> Option<Vec<Name>> {
        let (node, items) = list.get()?;
        if items.is_empty() {
            self.findings.error(
                node,
                "this list names nobody",
                "leave the key out to let every caller in, or name some",
            );
        }
        Some(Self::texts(list).filter_map(|(node, text)| self.caller(node, text)).collect())
    }

    fn caller(&self, node: NodeId, text: &str) -> Option<Name> {
        if let Some(known) = self.callers.as_ref().filter(|known| !known.contains(text)) {
            let help = suggestion(text, known, "callers");
            self.findings.error(node, "there is no caller of this name", help);
            return None;
        }
        Name::parse(text).ok()
    }

    /// A path; relative ones start at the folder of the file that names them.
    pub(super) fn path(&self, node: NodeId, text: &str) -> PathBuf {
        match self.findings.tree().place(node) {
            Place::File { .. } => self.folder.join(text),
            Place::Environment(_) | Place::Preset | Place::Default => Path::new(text).to_owned(),
        }
    }

    /// The path of a file whose contents are part of the configuration.
    pub(super) fn file(&self, node: NodeId, text: &str) -> PathBuf {
        let path = self.path(node, text);
        self.files.borrow_mut().insert(path.clone());
        path
    }

    /// A duration that must not be zero.
    pub(super) fn positive(&self, field: &Field<Span>) -> Option<Duration> {
        let (node, span) = field.get()?;
        if span.0.is_zero() {
            self.findings.error(node, "this duration must be longer than zero", "write a longer one, such as \"5s\"");
        }
        Some(span.0)
    }

    /// As [`Self::positive`], with a default in seconds.
    pub(super) fn positive_or(&self, field: &Field<Span>, seconds: u64) -> Option<Duration> {
        match field {
            Field::Missing => Some(Duration::from_secs(seconds)),
            Field::Wrong(_) | Field::Set(..) => self.positive(field),
        }
    }

    /// Whether the user wrote this: what is laid beneath the user's own configuration cannot be left out of it.
    pub(super) fn is_written(&self, node: NodeId) -> bool {
        matches!(self.findings.tree().place(node), Place::File { .. } | Place::Environment(_))
    }

    /// Says that a key has no effect, where the user wrote it.
    pub(super) fn has_no_effect(&self, node: Option<NodeId>, message: impl Into<String>, help: impl Into<String>) {
        if let Some(node) = node.filter(|node| self.is_written(*node)) {
            self.findings.key_error(node, message, help);
        }
    }

    /// A list of values where a repeated one is pointless.
    pub(super) fn unique<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
        let mut unique = Vec::new();
        for value in values {
            if !unique.contains(&value) {
                unique.push(value);
            }
        }
        unique
    }

    /// Whether a key under `dangerous` of `table` is true. A mistake there has been reported and counts as true, so
    /// that it is not followed by a second problem.
    pub(super) fn accepts<D>(
        &self,
        table: NodeId,
        dangerous: &Field<D>,
        key: &'static str,
        pick: fn(&D) -> &Field<bool>,
    ) -> bool {
        let Some((node, dangers)) = dangerous.get() else {
            return dangerous.is_wrong() || self.findings.is_misspelt(table, "dangerous");
        };
        match pick(dangers) {
            Field::Missing => self.findings.is_misspelt(node, key),
            Field::Wrong(_) => true,
            Field::Set(_, value) => **value,
        }
    }

    /// To which addresses a credential's connections may lead: `by_default`, and what its `dangerous` adds.
    pub(super) fn addresses(
        &self,
        table: NodeId,
        dangerous: &Field<CredentialDangers>,
        by_default: Addresses,
    ) -> Addresses {
        let link_local = self.accepts(table, dangerous, "link_local", |dangers| &dangers.link_local);
        let private = self.accepts(table, dangerous, "private", |dangers| &dangers.private);
        Addresses { link_local: by_default.link_local || link_local, private: by_default.private || private }
    }

    /// Says so where a URL names an address to which no connection will be made.
    pub(super) fn judge_address(&self, node: NodeId, url: Option<&Url>, addresses: Addresses) {
        let Some(address) = url.and_then(Url::address).filter(|address| !addresses.admits(*address)) else { return };
        let (message, help) = match (Addresses { link_local: true, private: true }).admits(address) {
            true => (
                "this address is link-local, or that of a cloud's metadata service, which gives out the machine's own \
                 credentials",
                "write another address; where this one is meant, accept it with dangerous = { link_local = true }",
            ),
            false => ("no server can be reached at this address", "write the address of one host"),
        };
        self.findings.error(node, message, help);
    }
}

/// The keys of a table at the root: there may be very many, and each reference is looked up among them.
pub(super) struct Names<'a>(HashSet<&'a str>);

impl<'a> Names<'a> {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In alphabetical order.
    fn sorted(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.0.iter().copied().collect();
        names.sort_unstable();
        names
    }
}

/// The keys of a table at the root; none when the table is wrong or seems to be there under a wrong name.
pub(super) fn names<'a, T>(findings: &Findings<'_>, field: &'a Field<Entries<T>>, key: &str) -> Option<Names<'a>> {
    match field {
        Field::Missing if findings.is_misspelt(Tree::ROOT, key) => None,
        Field::Missing => Some(Names(HashSet::new())),
        Field::Wrong(_) => None,
        Field::Set(_, entries) => Some(Names(entries.iter().map(|(name, _)| name).collect())),
    }
}

/// What to do about a name that is not in `known`, the names in the table `table`.
pub(super) fn suggestion(name: &str, known: &Names<'_>, table: &str) -> String {
    match nearest(name, known.sorted()) {
        Some(meant) => format!("did you mean \"{}\"?", meant.escape_debug()),
        None => format!("add a table [{table}.NAME] for it"),
    }
}
