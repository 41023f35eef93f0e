//! From a file or text to the configuration: reading, parsing, and the order of the steps.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::findings::Findings;
use super::mask::mask;
use super::preset::{self, PresetUse};
use super::problem::{Location, Problem, Problems, Severity};
use super::resolve::{Surroundings, resolve};
use super::tree::Tree;
use super::{Config, layers, reader};
use crate::process;
use zeroize::Zeroizing;

/// Where the configuration text comes from.
#[derive(Clone)]
pub enum Source {
    /// This file. Relative paths in it start from its folder.
    File(PathBuf),
    /// A text at hand. Relative paths in it start from the working directory.
    Text {
        /// What problems call it.
        name: String,
        /// The text.
        text: String,
    },
}

/// Whether loading follows the references to secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Every secret is read; one that cannot be is a problem.
    Read,
    /// No secret is read, each is empty in the result, and client certificates may be missing: for what only looks
    /// at the configuration.
    Leave,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed, but probably not what was meant.
    pub warnings: Problems,
    /// What presets filled in, in the order of the file.
    pub presets: Vec<PresetUse>,
}

/// Reads and resolves a configuration, with the environment of this process laid over it. Blocks: on files, and on
/// commands that give out secrets.
///
/// # Errors
/// Every problem found, when one of them is an error.
pub fn load(source: &Source, secrets: Secrets) -> Result<Loaded, Problems> {
    process::apart(|| load_here(source, secrets))
}

/// The same, for a thread that ends soon.
///
/// # Errors
/// As [`load`].
pub fn load_here(source: &Source, secrets: Secrets) -> Result<Loaded, Problems> {
    load_with(source, secrets, &|name| std::env::var(name).ok())
}

/// As [`load`], with another environment for the scalar settings and for the proxy on the way out.
pub(crate) fn load_with(
    source: &Source,
    secrets: Secrets,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let (name, text, file) = read(source)?;
    let folder = file.as_deref().and_then(Path::parent).map_or_else(PathBuf::new, Path::to_owned);
    let tree = tree(&name, &text, variable)?;
    let findings = Findings::new(&tree);
    let document: Document = reader::read(&findings);
    let presets = preset::resolve(&document, &findings);
    let config = resolve(&document, &findings, Surroundings { file, folder, secrets, variable });
    let failed = findings.has_errors();
    let problems = findings.into_problems();
    // What is only there to be shown beside a problem may be long.
    let masked = if problems.is_empty() { String::new() } else { mask(&text) };
    let problems = Problems::new(name, masked, problems);
    match config {
        Some(config) if !failed => Ok(Loaded { config, warnings: problems, presets }),
        Some(_) | None => Err(problems),
    }
}

/// The text with all layers; what the parser made of it is gone by then.
fn tree(name: &str, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Tree, Problems> {
    let (written, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(Problems::new(name.to_owned(), mask(text), syntax_problems(text, &errors)));
    }
    if nests_deeper(written.get_ref(), DEEPEST) {
        let message = "the tables are nested too deeply".to_owned();
        return Err(Problems::whole(name.to_owned(), message, "no key lies that deep"));
    }
    Ok(layers::merge(written.get_ref(), variable))
}

type Read = (String, Zeroizing<String>, Option<PathBuf>);

fn read(source: &Source) -> Result<Read, Problems> {
    let path = match source {
        Source::Text { name, text } => return Ok((name.clone(), Zeroizing::new(text.clone()), None)),
        Source::File(path) => path,
    };
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        let help = "give the file with -c FILE or KEYBEARER_CONFIG; `keybearer demo` needs none";
        Problems::whole(name.clone(), format!("cannot read the configuration: {error}"), help)
    })?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, Zeroizing::new(text), Some(path.clone()))),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            let message = format!("the configuration is not UTF-8 text: line {line} holds other bytes");
            Err(Problems::whole(name, message, "save it as UTF-8"))
        }
    }
}

/// One problem a line: what comes after the first on a line mostly follows from it.
fn syntax_problems(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut problems: Vec<(usize, Problem)> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = text.get(..span.start).map_or(0, |before| before.bytes().filter(|byte| *byte == b'\n').count());
        if problems.iter().any(|(other, _)| *other == line) {
            continue;
        }
        let problem = Problem {
            severity: Severity::Error,
            key: String::new(),
            location: Location::File(span),
            related: None,
            // The parser's texts name what it expects and never quote what is there.
            message: format!("this is not valid TOML: {}", error.message()),
            help: Some("texts go in quotes, tables are written [name] or { key = value }".to_owned()),
        };
        problems.push((line, problem));
    }
    problems.sort_by_key(|(line, _)| *line);
    problems.into_iter().map(|(_, problem)| problem).collect()
}

/// No key of ours lies this deep. The parser lets dotted keys nest thousands of times, and what walks the tree
/// recurses.
const DEEPEST: usize = 32;

fn nests_deeper(table: &DeTable<'_>, levels: usize) -> bool {
    table.values().any(|value| value_nests_deeper(value.get_ref(), levels))
}

fn value_nests_deeper(value: &DeValue<'_>, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return true };
    match value {
        DeValue::Table(table) => nests_deeper(table, levels),
        DeValue::Array(items) => items.iter().any(|item| value_nests_deeper(item.get_ref(), levels)),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            false
        }
    }
}
