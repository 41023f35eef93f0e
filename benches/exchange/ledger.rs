//! `benches/instructions.toml`: the numbers that were agreed on, and how new ones compare.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

/// How far a number may be from the agreed one. Repeated runs differ by far less (`benches/README.md` has the spread).
const TOLERANCE: f64 = 0.03;

const PREAMBLE: &str = "\
# Instructions executed in user space, counted by callgrind on x86-64 Linux; benches/README.md says what is counted.
# More than 3 % above fails the gate. Written by `benches/gate.sh --update`; a commit that raises one says why.
";

/// Numbers by group and name.
pub(crate) type Numbers = BTreeMap<String, BTreeMap<String, u64>>;

/// The agreed numbers.
pub(crate) struct Ledger {
    path: PathBuf,
    agreed: Numbers,
}

/// What a comparison said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
}

impl Ledger {
    /// Reads the file; one that does not exist holds nothing.
    pub(crate) fn read() -> Result<Self, Box<dyn Error>> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml");
        let agreed = if path.exists() { toml::from_str(&std::fs::read_to_string(&path)?)? } else { Numbers::new() };
        Ok(Self { path, agreed })
    }

    /// Writes `measured` in place of what was agreed; groups that were not measured stay.
    pub(crate) fn update(mut self, measured: Numbers) -> Result<(), Box<dyn Error>> {
        use std::fmt::Write as _;
        self.agreed.extend(measured);
        let mut text = PREAMBLE.to_owned();
        for (group, numbers) in &self.agreed {
            writeln!(text, "\n[{group}]")?;
            for (name, number) in numbers {
                writeln!(text, "{name} = {number}")?;
            }
        }
        std::fs::write(&self.path, text)?;
        println!(
            "wrote {} numbers to benches/instructions.toml",
            self.agreed.values().map(BTreeMap::len).sum::<usize>()
        );
        Ok(())
    }

    /// Prints each number beside the agreed one, and what to do about those that are too far from it.
    pub(crate) fn compare(&self, measured: &Numbers) -> Verdict {
        let mut verdict = Verdict::Passed;
        let nothing = BTreeMap::new();
        for (group, numbers) in measured {
            let agreed = self.agreed.get(group).unwrap_or(&nothing);
            println!("{:<42} {:>10} {:>10}", format!("[{group}]"), "agreed", "now");
            for (name, &now) in numbers {
                let line = agreed.get(name).map_or_else(
                    || Line { text: "NEW: write it down with benches/gate.sh --update".to_owned(), fails: true },
                    |&agreed| judge(agreed, now),
                );
                let before = agreed.get(name).map_or_else(|| "-".to_owned(), u64::to_string);
                println!("  {name:<40} {before:>10} {now:>10}  {}", line.text);
                if line.fails {
                    verdict = Verdict::Failed;
                }
            }
            for name in agreed.keys().filter(|name| !numbers.contains_key(*name)) {
                println!("  {name:<40} GONE: nothing measures it any more; benches/gate.sh --update removes it");
                verdict = Verdict::Failed;
            }
        }
        verdict
    }
}

struct Line {
    text: String,
    fails: bool,
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn judge(agreed: u64, now: u64) -> Line {
    let change = now as f64 / agreed as f64 - 1.0;
    let percent = format!("{:+.2} %", change * 100.0);
    let text = if change > TOLERANCE {
        format!("{percent}  TOO MANY: find out why, or agree with benches/gate.sh --update")
    } else if change < -TOLERANCE {
        format!("{percent}  fewer: lower the number with benches/gate.sh --update, so that it stays won")
    } else {
        percent
    };
    Line { text, fails: change > TOLERANCE }
}
