//! What is wrong with a configuration, where, and what to do about it; as text for people and as JSON for scripts.

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};
use serde_json::{Value, json};

/// Whether a configuration with the problem can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but is probably not what was meant.
    Warning,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Where a problem lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the configuration text, at these bytes.
    File(Range<usize>),
    /// In this environment variable.
    Environment(String),
    /// In no line of it.
    Nowhere,
}

/// One problem. No part of it holds a secret.
#[derive(Clone, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The way to the key, such as `named_credentials.orders.url`; empty where there is none.
    pub key: String,
    /// Where it lies.
    pub location: Location,
    /// Another place that has to do with it, and in which way.
    pub related: Option<(Location, String)>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// All problems of one configuration, in the order of its text, with what is needed to show them.
#[derive(Clone)]
pub struct Problems {
    name: String,
    /// The configuration with every value hidden that could be a secret; bytes and lines stay where they are.
    masked: String,
    /// Where each line of it begins.
    lines: Vec<usize>,
    list: Vec<Problem>,
}

impl Problems {
    /// `name` is the file's; `masked` the output of [`super::mask::mask`].
    pub(crate) fn new(name: String, masked: String, list: Vec<Problem>) -> Self {
        let lines = std::iter::once(0).chain(masked.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, masked, lines, list }
    }

    /// One problem of the configuration as a whole.
    pub(crate) fn whole(name: String, message: String, help: &str) -> Self {
        let problem = Problem {
            severity: Severity::Error,
            key: String::new(),
            location: Location::Nowhere,
            related: None,
            message,
            help: Some(help.to_owned()),
        };
        Self::new(name, String::new(), vec![problem])
    }

    /// How many there are, warnings included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Every problem, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// One problem in one line: where, what, and what to do.
    #[must_use]
    pub fn line(&self, problem: &Problem) -> String {
        let mut line = match (&problem.location, self.position(problem)) {
            (Location::Environment(variable), _) => format!("environment variable {variable}: "),
            (_, Some((line, column))) => format!("{}:{line}:{column}: ", self.name),
            (Location::File(_) | Location::Nowhere, None) => format!("{}: ", self.name),
        };
        if !problem.key.is_empty() {
            line.push_str(&format!("`{}`: ", problem.key));
        }
        line.push_str(&problem.message);
        if let Some(help) = &problem.help {
            line.push_str("; ");
            line.push_str(help);
        }
        line
    }

    /// Line and column of a problem, both from 1, columns in characters; none outside the text.
    #[must_use]
    pub fn position(&self, problem: &Problem) -> Option<(usize, usize)> {
        let Location::File(span) = &problem.location else { return None };
        let (line, start) = self.line_of(span.start);
        Some((line, self.masked.get(start..span.start)?.chars().count() + 1))
    }

    /// The number of the line that holds the byte `at`, from 1, and where that line begins.
    fn line_of(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at);
        (line, line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or(0))
    }

    /// All of them for a terminal, in the manner of rustc, each ending with a line end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for problem in &self.list {
            text.push_str(&renderer.render(&[self.group(problem)]));
            text.push_str("\n\n");
        }
        text
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let group = level.primary_title(normalize_untrusted_str(&problem.message)).elements(self.place(problem));
        let group = match &problem.location {
            Location::Environment(_) | Location::Nowhere if !problem.key.is_empty() => {
                group.element(Level::NOTE.message(format!("this is about the key `{}`", problem.key)))
            }
            Location::File(_) | Location::Environment(_) | Location::Nowhere => group,
        };
        match &problem.help {
            Some(help) => group.element(Level::HELP.message(normalize_untrusted_str(help))),
            None => group,
        }
    }

    fn place<'a>(&'a self, problem: &'a Problem) -> Vec<annotate_snippets::Element<'a>> {
        match &problem.location {
            Location::File(span) => vec![self.snippet(span, problem).into()],
            Location::Environment(variable) => vec![Origin::path(format!("environment variable {variable}")).into()],
            Location::Nowhere => vec![Origin::path(normalize_untrusted_str(&self.name)).into()],
        }
    }

    /// The lines a problem is about. Only they are handed over: the text may be long.
    fn snippet<'a>(
        &'a self,
        span: &Range<usize>,
        problem: &'a Problem,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let related = match &problem.related {
            Some((Location::File(other), label)) => Some((other, label)),
            Some(_) | None => None,
        };
        let first = related.map_or(span.start, |(other, _)| other.start.min(span.start));
        let last = related.map_or(span.end, |(other, _)| other.end.max(span.end)).min(self.masked.len());
        let (line, start) = self.line_of(first);
        let end = self.masked.get(last..).and_then(|text| text.find('\n')).map_or(self.masked.len(), |at| last + at);
        let lines = self.masked.get(start..end).unwrap_or_default();
        let within = |span: &Range<usize>| {
            span.start.saturating_sub(start).min(lines.len())..span.end.saturating_sub(start).min(lines.len())
        };
        let label = Some(problem.key.as_str()).filter(|key| !key.is_empty());
        let snippet = Snippet::source(lines)
            .line_start(line)
            .path(normalize_untrusted_str(&self.name))
            .annotation(AnnotationKind::Primary.span(within(span)).label(label));
        match related {
            Some((other, label)) => {
                snippet.annotation(AnnotationKind::Context.span(within(other)).label(label.as_str()))
            }
            None => snippet,
        }
    }

    /// All of them as a list of objects: `severity`, `file`, `line`, `column`, `variable`, `key`, `message`, `help`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.list.iter().map(|problem| self.object(problem)).collect()
    }

    fn object(&self, problem: &Problem) -> Value {
        let position = self.position(problem);
        let variable = match &problem.location {
            Location::Environment(variable) => Some(variable),
            Location::File(_) | Location::Nowhere => None,
        };
        json!({
            "severity": problem.severity.as_str(),
            "file": self.name,
            "line": position.map(|(line, _)| line),
            "column": position.map(|(_, column)| column),
            "variable": variable,
            "key": problem.key,
            "message": problem.message,
            "help": problem.help,
        })
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Problems").field("name", &self.name).field("list", &self.list).finish_non_exhaustive()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
