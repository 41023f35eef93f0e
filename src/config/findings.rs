//! Where problems are gathered while the configuration is read and resolved.
//!
//! It also remembers which key an unknown key was probably meant to be, and which ones a preset asks for, so that one
//! misspelt or forgotten key is one problem and not a second one about the key that is then missing. A problem of a
//! value that a preset filled in points at the line that names the preset.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use super::field::Field;
use super::preset;
use super::problem::{Location, Problem, Severity};
use super::tree::{NodeId, Place, Tree};

/// Problems found so far.
pub(crate) struct Findings<'t> {
    tree: &'t Tree,
    problems: RefCell<Vec<Problem>>,
    /// Keys about whose absence nothing more is to be said.
    accounted: RefCell<Vec<(NodeId, Cow<'static, str>)>>,
}

/// Which part of an entry a problem points at.
#[derive(Clone, Copy)]
enum Part {
    Key,
    Value,
}

impl<'t> Findings<'t> {
    pub(crate) fn new(tree: &'t Tree) -> Self {
        Self { tree, problems: RefCell::default(), accounted: RefCell::default() }
    }

    /// An error that points at the value of `node`.
    pub(crate) fn error(&self, node: NodeId, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Error, (node, Part::Value), message.into(), help.into());
    }

    /// An error that points at the key of `node`.
    pub(crate) fn key_error(&self, node: NodeId, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Error, (node, Part::Key), message.into(), help.into());
    }

    /// A warning that points at the value of `node`.
    pub(crate) fn warning(&self, node: NodeId, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Warning, (node, Part::Value), message.into(), help.into());
    }

    /// A warning that points at the key of `node`.
    pub(crate) fn key_warning(&self, node: NodeId, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Warning, (node, Part::Key), message.into(), help.into());
    }

    /// An error at the value of `node` that also shows `other`, with a word about it.
    pub(crate) fn conflict(&self, node: NodeId, other: (NodeId, &str), message: String, help: &str) {
        self.push(Severity::Error, (node, Part::Value), message, help.to_owned());
        let related = self.location(other.0, Part::Value);
        if let Some(problem) = self.problems.borrow_mut().last_mut() {
            problem.related = Some((related, other.1.to_owned()));
        }
    }

    fn push(&self, severity: Severity, at: (NodeId, Part), mut message: String, mut help: String) {
        if let Some(preset) = preset::origin(self.tree, at.0) {
            message = format!("{message} (the preset `{}` sets this)", preset.name);
            let separator = if help.is_empty() { "" } else { "; " };
            help = format!("{help}{separator}what you write in its place wins over the preset");
        }
        self.problems.borrow_mut().push(Problem {
            severity,
            key: self.tree.path(at.0),
            location: self.location(at.0, at.1),
            related: None,
            message,
            help: Some(help).filter(|help| !help.is_empty()),
        });
    }

    fn location(&self, node: NodeId, part: Part) -> Location {
        match (self.tree.place(node), part) {
            (Place::File { key: Some(key), .. }, Part::Key) => Location::File(key.clone()),
            (Place::File { value, .. }, _) => Location::File(value.clone()),
            (Place::Environment(variable), _) => Location::Environment(variable.clone()),
            (Place::Preset, _) => preset::origin(self.tree, node)
                .map_or(Location::Nowhere, |preset| self.location(preset.line, Part::Value)),
            (Place::Default, _) => Location::Nowhere,
        }
    }

    /// The value of a key that must be there; `table` is the node of the table it belongs to.
    pub(crate) fn required<'a, T>(
        &self,
        field: &'a Field<T>,
        table: NodeId,
        key: &'static str,
        help: &str,
    ) -> Option<(NodeId, &'a T)> {
        if field.node().is_none() && !self.is_misspelt(table, key) {
            self.key_error(table, format!("the key `{key}` is missing"), help);
        }
        field.get()
    }

    /// Notes that an unknown key of `table` was probably meant to be `key`.
    pub(crate) fn misspelt(&self, table: NodeId, key: &'static str) {
        self.asked_for(table, key);
    }

    /// Notes that `key` was asked for in `table`, and that this is enough.
    pub(crate) fn asked_for(&self, table: NodeId, key: impl Into<Cow<'static, str>>) {
        self.accounted.borrow_mut().push((table, key.into()));
    }

    /// Whether `key` of `table` seems to be there under a wrong name, or was asked for already.
    pub(crate) fn is_misspelt(&self, table: NodeId, key: &str) -> bool {
        self.accounted.borrow().iter().any(|(at, meant)| *at == table && *meant == key)
    }

    /// Whether an error was found.
    pub(crate) fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The tree the problems point into.
    pub(crate) fn tree(&self) -> &'t Tree {
        self.tree
    }

    /// Every problem, in the order of the file.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| match &problem.location {
            Location::File(Range { start, .. }) => (0, *start),
            Location::Environment(_) => (1, 0),
            Location::Nowhere => (2, 0),
        });
        problems
    }
}
