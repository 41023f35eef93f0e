//! How the steps are printed, each as it ends; or all at once as JSON.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Effects, Style};
use serde_json::{Value, json};

use crate::cli::Format;
use crate::cli::diagnosis::Diagnosis;

/// Where the width is not known.
const USUAL_WIDTH: usize = 80;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// The steps so far.
pub(super) struct Report {
    /// None: nobody reads it.
    format: Option<Format>,
    ahead: Vec<&'static str>,
    /// When the last step ended.
    since: Instant,
    warnings: usize,
    steps: Vec<Value>,
}

impl Report {
    /// A report on `ahead`, the names of all steps in their order.
    pub(super) fn new(format: Format, ahead: Vec<&'static str>) -> Self {
        Self { format: Some(format), ahead, since: Instant::now(), warnings: 0, steps: Vec::new() }
    }

    /// One that is not printed.
    pub(super) fn silent() -> Self {
        Self { format: None, ahead: Vec::new(), since: Instant::now(), warnings: 0, steps: Vec::new() }
    }

    pub(super) fn ok(&mut self, step: &'static str, found: impl AsRef<str>) {
        self.step(step, Outcome::Ok, found.as_ref());
    }

    pub(super) fn warning(&mut self, step: &'static str, found: impl AsRef<str>) {
        self.warnings += 1;
        self.step(step, Outcome::Warning, found.as_ref());
    }

    pub(super) fn failed(&mut self, step: &'static str, found: impl AsRef<str>) {
        self.step(step, Outcome::Failed, found.as_ref());
    }

    pub(super) fn skipped(&mut self, step: &'static str, found: impl AsRef<str>) {
        self.step(step, Outcome::Skipped, found.as_ref());
    }

    /// What is left was not reached; then the diagnosis, or that there is nothing to complain of.
    pub(super) fn end(mut self, name: &str, diagnosis: Option<&Diagnosis>) {
        for step in std::mem::take(&mut self.ahead) {
            self.step(step, Outcome::Skipped, "not reached");
        }
        if self.format == Some(Format::Json) {
            let object = json!({
                "name": name,
                "ok": diagnosis.is_none(),
                "steps": self.steps,
                "diagnosis": diagnosis.map(Diagnosis::to_json),
            });
            anstream::println!("{object:#}");
            return;
        }
        match (diagnosis, self.warnings) {
            (Some(diagnosis), _) => anstream::println!("\n{}", diagnosis.paragraph(width(&std::io::stdout()))),
            (None, 0) => anstream::println!("\nAll is well."),
            (None, 1) => anstream::println!("\nIt works, with the warning above."),
            (None, _) => anstream::println!("\nIt works, with the warnings above."),
        }
    }

    fn step(&mut self, step: &'static str, outcome: Outcome, found: &str) {
        let took = self.since.elapsed();
        self.since = Instant::now();
        self.ahead.retain(|ahead| *ahead != step);
        match self.format {
            None => {}
            Some(Format::Text) => line(step, outcome, found, took),
            Some(Format::Json) => self.steps.push(json!({
                "step": step,
                "outcome": outcome.name(),
                "found": found,
                "duration_ms": (outcome != Outcome::Skipped).then(|| milliseconds(took)),
            })),
        }
    }
}

fn line(step: &str, outcome: Outcome, found: &str, took: Duration) {
    let style = outcome.style();
    let name = match outcome {
        Outcome::Failed => "FAILED",
        Outcome::Ok | Outcome::Warning | Outcome::Skipped => outcome.name(),
    };
    let took = if outcome == Outcome::Skipped { String::new() } else { format!(" ({} ms)", milliseconds(took)) };
    anstream::println!("{style}{name:<8}{style:#} {step:<27} {found}{took}");
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Failed => AnsiColor::Red.on_default().effects(Effects::BOLD),
            Self::Skipped => Style::new().dimmed(),
        }
    }
}

/// How wide a paragraph may be on `stream`.
pub(in crate::cli) fn width(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> usize {
    match terminal_size::terminal_size_of(stream) {
        Some((terminal_size::Width(columns), _)) if stream.is_terminal() => usize::from(columns).clamp(40, 120),
        Some(_) | None => USUAL_WIDTH,
    }
}
