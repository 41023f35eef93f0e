//! Imports go downwards: every `crate::room` in `src/` is an edge of the table in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What the table says: each room's floor, counted from the top, and the edges within floors.
struct Table {
    floors: BTreeMap<String, usize>,
    sideways: BTreeSet<(String, String)>,
}

impl Table {
    fn read(document: &str) -> Self {
        let mut table = Self { floors: BTreeMap::new(), sideways: BTreeSet::new() };
        let section = document.split("## Rooms and edges").nth(1).expect("ARCHITECTURE.md has the section");
        let section = section.split("\n## ").next().unwrap();
        for (floor, row) in section.lines().filter(|line| line.starts_with("| ")).skip(1).enumerate() {
            let [_, _, rooms, edges, _] = row.split('|').collect::<Vec<_>>()[..] else {
                panic!("three columns: {row}")
            };
            for room in rooms.split('`').skip(1).step_by(2) {
                assert!(table.floors.insert(room.to_owned(), floor).is_none(), "{room} stands on two floors");
            }
            for (from, to) in edges.split('`').skip(1).step_by(2).filter_map(|edge| edge.split_once(" → ")) {
                table.sideways.insert((from.to_owned(), to.to_owned()));
            }
        }
        table
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        let (Some(above), Some(below)) = (self.floors.get(from), self.floors.get(to)) else { return false };
        from == to || above < below || self.sideways.contains(&(from.to_owned(), to.to_owned()))
    }

    /// What is wrong with the text of one file of a room.
    fn faults(&self, room: &str, text: &str) -> Vec<String> {
        let code = code_of(text);
        let all = rooms_used(&code);
        let outside_tests = rooms_used(&without_test_items(&code));
        let is_fault = |to: &&String| !self.allows(room, to) && (to.as_str() != "demo" || outside_tests.contains(*to));
        all.iter().filter(is_fault).map(|to| format!("{room} → {to}")).collect()
    }
}

/// The code without its comments. A `//` in a literal cuts its line too, which hides nothing: rustfmt gives every
/// import a line of its own.
fn code_of(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The code less the items marked `#[cfg(test)]`: up to the end of their braces, or their semicolon.
fn without_test_items(code: &str) -> String {
    let mut parts = code.split("#[cfg(test)]");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut depth = 0;
        let end = part.char_indices().find(|(_, character)| {
            depth += i32::from(*character == '{') - i32::from(*character == '}');
            depth == 0 && matches!(character, '}' | ';')
        });
        kept.push_str(end.map_or("", |(at, _)| &part[at + 1..]));
    }
    kept
}

/// The rooms behind every `crate::`, alone or in braces; `keybearer::` is what `main.rs` writes for it.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for root in ["crate::", "keybearer::"] {
        for (at, _) in code.match_indices(root).filter(|(at, _)| !code[..*at].ends_with(is_word)) {
            let path = code[at + root.len()..].trim_start();
            match path.strip_prefix('{') {
                Some(group) => rooms.extend(top_level(group).iter().map(|path| first_word(path))),
                None => drop(rooms.insert(first_word(path))),
            }
        }
    }
    rooms
}

/// The members of a `use` group: split at the commas that are in no inner braces, up to the closing one.
fn top_level(group: &str) -> Vec<&str> {
    let (mut members, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                members.push(group[start..at].trim());
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    members.retain(|member| !member.is_empty());
    members
}

fn first_word(path: &str) -> String {
    path.chars().take_while(|character| is_word(*character)).collect()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Every source file with its room. `lib.rs` is the map and no room.
fn files(folder: &Path, room: Option<&str>, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let room = room.unwrap_or(&stem);
        if path.is_dir() {
            files(&path, Some(room), found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && room != "lib" {
            let text = fs::read_to_string(&path).unwrap();
            let is_test_file = stem == "tests";
            let text = if is_test_file { format!("#[cfg(test)] mod tests {{\n{text}\n}}") } else { text };
            found.push((room.to_owned(), text));
        }
    }
}

fn house() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut found);
    found
}

fn table() -> Table {
    Table::read(&fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap())
}

#[test]
fn every_import_is_an_edge_of_the_table() {
    let table = table();
    let faults: Vec<String> = house().iter().flat_map(|(room, text)| table.faults(room, text)).collect();
    assert!(faults.is_empty(), "edges that the table in ARCHITECTURE.md does not have: {faults:#?}");
}

#[test]
fn the_rooms_of_the_table_are_the_rooms_of_the_house() {
    let rooms: BTreeSet<String> = house().into_iter().map(|(room, _)| room).collect();
    assert_eq!(rooms, table().floors.into_keys().collect());
}

#[test]
fn a_planted_edge_is_found_in_every_form() {
    let table = table();
    for (room, text, faults) in [
        ("route", "use crate::header;", vec![]),
        ("route", "use crate::token::Settings;", vec!["route → token"]),
        ("route", "use crate::{header, proxy::{settings, x}, peer::{a, b}};", vec!["route → proxy"]),
        ("route", "use crate::{\n    header::{self, x},\n    config,\n};", vec!["route → config"]),
        ("route", "fn f() -> crate::server::Address {}", vec!["route → server"]),
        ("route", "pub(crate) fn f() { let x = 'c'; $crate::app::run() }", vec!["route → app"]),
        ("route", "use crate::nowhere::X;", vec!["route → nowhere"]),
        ("route", "use crate::route::X; use super::token;", vec![]),
        ("route", "//! [`crate::token`]\nconst A: u8 = 1; // crate::app\nuse crate::name;", vec![]),
        ("route", "#[cfg(test)]\nmod tests { use crate::demo; use crate::header; }", vec![]),
        ("route", "#[cfg(test)] mod tests { fn f() {} use crate::app; }", vec!["route → app"]),
        ("route", "#[cfg(test)] mod tests; use crate::demo;", vec!["route → demo"]),
        ("header", "use crate::peer::Peer;", vec![]),
        ("peer", "use crate::header;", vec!["peer → header"]),
        ("main", "keybearer::cli::run()", vec![]),
        ("cli", "use crate::main;", vec!["cli → main"]),
    ] {
        assert_eq!(table.faults(room, text), faults, "{text}");
    }
}
