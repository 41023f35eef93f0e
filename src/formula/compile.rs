//! From text to a tree that is safe to evaluate on any thread.
//!
//! The library's parser recurses, and so do its trees when they are walked, cloned and dropped. A text is therefore
//! bounded in length first, parsed on a thread whose stack is enough for the deepest tree of that length, and only a
//! shallow tree leaves that thread.

use cel::common::ast::{IdedExpr, SourceInfo};
use cel::parser::ParseErrors;

use super::analysis::Analysis;
use super::{FormulaError, Uses, functions};

/// Longest formula, in characters. Salesforce has the same limit.
const LONGEST: usize = 3_900;
/// Deepest tree, in levels: each operator, call and member adds one. Evaluating it takes a small part of a worker's
/// stack.
const DEEPEST: usize = 64;
/// Enough for a tree of [`LONGEST`] levels without optimisation. It is address space: only what is used becomes memory.
const STACK: usize = 256 * 1024 * 1024;

/// Parses and judges.
pub(super) fn compile(text: &str) -> Result<(IdedExpr, Uses), FormulaError> {
    if let Some((offset, _)) = text.char_indices().nth(LONGEST) {
        return Err(error(format!("the formula is longer than {LONGEST} characters"), offset));
    }
    if text.trim().is_empty() {
        return Err(error("the formula is empty", 0));
    }
    let owned = text.to_owned();
    let parsing = std::thread::Builder::new().name("formula".to_owned()).stack_size(STACK).spawn(move || parse(&owned));
    match parsing.map(std::thread::JoinHandle::join) {
        Ok(Ok(parsed)) => parsed,
        // A panic of the parser ends here, as an error like any other.
        Ok(Err(_)) => Err(error("this cannot be parsed", 0)),
        Err(_) => Err(error("the operating system refused a thread to parse the formula with", 0)),
    }
}

fn parse(text: &str) -> Result<(IdedExpr, Uses), FormulaError> {
    let parser = functions::environment().parser();
    let (mut expression, places) = parser.parse_with_source_info(text).map_err(|errors| converted(&errors, text))?;
    let places = Places { text, places: &places };
    let uses = Analysis::new(&places, DEEPEST).judge(&mut expression)?;
    Ok((expression, uses))
}

/// Where the nodes of a tree stand in the text.
pub(super) struct Places<'a> {
    text: &'a str,
    places: &'a SourceInfo,
}

impl Places<'_> {
    /// An error at a node; one that a macro made stands at the beginning.
    pub(super) fn error(&self, node: u64, message: impl Into<String>) -> FormulaError {
        let start = self.places.offset_for(node).map_or(0, |(start, _)| start as usize).min(self.text.len());
        error(message, (0..=start).rev().find(|offset| self.text.is_char_boundary(*offset)).unwrap_or(0))
    }
}

fn error(message: impl Into<String>, offset: usize) -> FormulaError {
    FormulaError { message: message.into(), offset }
}

/// The first of the parser's errors. It quotes the text; what it goes on to say of the grammar helps nobody.
fn converted(errors: &ParseErrors, text: &str) -> FormulaError {
    let Some(first) = errors.errors.first() else { return error("this is not a CEL expression", 0) };
    // Line and column count from one, the column in characters.
    let (line, column) = (usize::try_from(first.pos.0).unwrap_or(0), usize::try_from(first.pos.1).unwrap_or(0));
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(start..).unwrap_or("");
    let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(offset, _)| offset);
    error(plain(&first.msg), start + within)
}

/// What the parser says, in plain words.
fn plain(said: &str) -> String {
    const UNEXPECTED: [&str; 4] =
        ["token recognition error at: ", "mismatched input ", "extraneous input ", "no viable alternative at input "];
    let said = said.trim_start_matches("Syntax error: ");
    let said = said.split(" expecting ").next().unwrap_or(said);
    match UNEXPECTED.iter().find_map(|prefix| said.strip_prefix(prefix)) {
        Some("'<EOF>'") => "this is not a CEL expression: unexpected end".to_owned(),
        Some(input) => format!("this is not a CEL expression: unexpected {input}"),
        None if matches!(said, "" | "UNKNOWN") => "this is not a CEL expression, or nested too deeply".to_owned(),
        None => format!("this is not a CEL expression: {said}"),
    }
}
