//! The duties of an intermediary and of an OAuth client, each with the tests that hold us to it.
//!
//! A test says which duties it covers in the first line of its doc comment: `/// B16, B25: what must happen.` The table
//! in `docs/conformance.md` is made from these lines and from `conformance/duties.txt`; with
//! `KEYBEARER_UPDATE_SNAPSHOTS=1` it is written anew. A behaviour that begins with `Does not apply:` needs no test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// One duty a line: id, source, what is asked, what we do.
const DUTIES: &str = include_str!("conformance/duties.txt");

const INTRODUCTION: &str = "\
# Conformance

What RFCs and experience ask of an intermediary (B) and of an OAuth client (C), what keybearer does, and the tests that
hold it to that. `Otherwise:` marks where it deliberately does something else, with the reason. This page is made from
the tests by `cargo test conformance`; do not edit it by hand.
";

struct Duty<'a> {
    id: &'a str,
    source: &'a str,
    asked: &'a str,
    done: &'a str,
}

fn duties() -> Vec<Duty<'static>> {
    let line = |line: &'static str| {
        let [id, source, asked, done] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("four columns: {line}")
        };
        Duty { id, source, asked, done }
    };
    DUTIES.lines().map(line).collect()
}

/// The ids at the beginning of a doc comment's first line; none where it does not begin with ids.
fn ids(line: &str) -> Option<Vec<&str>> {
    let (ids, _) = line.strip_prefix("/// ")?.split_once(": ")?;
    let ids: Vec<_> = ids.split(", ").collect();
    let is_id = |id: &&str| {
        id.strip_prefix(['B', 'C'])
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    ids.iter().all(is_id).then_some(ids)
}

/// The tests of a file that name duties: function and ids. A comment with ids that is not a test's is a mistake.
fn tests(text: &str) -> Vec<(&str, Vec<&str>)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let begins = at == 0 || !lines[at - 1].starts_with("///");
        let Some(ids) = ids(line).filter(|_| begins) else { continue };
        let rest: Vec<_> = lines[at..].iter().take_while(|line| !line.is_empty()).collect();
        let function = rest.iter().find_map(|line| {
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ")?.split('(').next()
        });
        let marked = rest.iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
        let function = function.filter(|_| marked).unwrap_or_else(|| panic!("ids, but no test: {line}"));
        found.push((function, ids));
    }
    found
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The tests of each duty, as `file::function`.
fn covered() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("tests/it"), &mut files);
    rust_files(&root.join("src"), &mut files);
    let mut covered: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(root).unwrap().with_extension("");
        let place = place.to_str().unwrap().trim_start_matches("tests/it/").replace('/', "::");
        for (function, ids) in tests(&text) {
            for id in ids {
                covered.entry(id.to_owned()).or_default().insert(format!("{place}::{function}"));
            }
        }
    }
    covered
}

/// The page; tests of `src` begin with `src::`.
fn page(duties: &[Duty<'_>], covered: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (letter, heading) in [("B", "An intermediary"), ("C", "An OAuth client")] {
        write!(page, "\n## {heading}\n\n| | asked | done | tests |\n|---|---|---|---|\n").unwrap();
        for Duty { id, source, asked, done } in duties.iter().filter(|duty| duty.id.starts_with(letter)) {
            let tests = covered.get(*id).into_iter().flatten().map(|test| format!("`{test}`"));
            let tests = tests.collect::<Vec<_>>().join("<br>");
            writeln!(page, "| {id} | {asked} ({source}) | {done} | {tests} |").unwrap();
        }
    }
    page
}

#[test]
fn every_duty_has_a_test_and_the_table_is_up_to_date() {
    let (duties, covered) = (duties(), covered());
    let known: BTreeSet<&str> = duties.iter().map(|duty| duty.id).collect();
    assert_eq!(known.len(), duties.len(), "an id stands twice");
    let expected: BTreeSet<String> =
        (1..=59).map(|n| format!("B{n}")).chain((1..=32).map(|n| format!("C{n}"))).collect();
    assert_eq!(known, expected.iter().map(String::as_str).collect::<BTreeSet<_>>());
    let unknown: Vec<_> = covered.iter().filter(|(id, _)| !known.contains(id.as_str())).collect();
    assert!(unknown.is_empty(), "no duty has these ids: {unknown:#?}");

    let without: Vec<&str> = duties
        .iter()
        .filter(|duty| !covered.contains_key(duty.id) && !duty.done.starts_with("Does not apply: "))
        .map(|duty| duty.id)
        .collect();
    assert!(without.is_empty(), "no test names these duties: {without:?}");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let page = page(&duties, &covered);
    if std::env::var_os("KEYBEARER_UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/conformance.md is out of date: run this with KEYBEARER_UPDATE_SNAPSHOTS=1");
}

#[test]
fn ids_are_read_where_they_stand_and_nowhere_else() {
    assert_eq!(ids("/// B16, C2: a thing."), Some(vec!["B16", "C2"]));
    for other in
        ["// B16: a thing.", "/// Because: a thing.", "/// B16 a thing", "/// B: a thing", "/// B1,B2: x", "/// B1x: y"]
    {
        assert_eq!(ids(other), None, "{other}");
    }
    let file = "/// B1: a thing.\n/// More of it.\n#[tokio::test]\nasync fn a_thing() {\n}\n\n/// A line.\n/// B2: no.\nfn x() {}\n";
    assert_eq!(tests(file), [("a_thing", vec!["B1"])]);
}
