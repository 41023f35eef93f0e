//! What was found, in lines: for the head of the document and for people who ran the command.

use super::note::Kind;
use super::todo::Place;
use super::{Import, Note, ToDo};

/// The to-do list, then the notes, worst first.
pub(super) fn lines(import: &Import) -> Vec<String> {
    let mut lines = Vec::new();
    if !import.todos.is_empty() {
        lines.push("To do:".to_owned());
        lines.extend(import.todos.iter().map(|todo| format!("- {}", to_do(todo))));
    }
    for (kind, title) in [
        (Kind::Error, "Errors, whose files were left out:"),
        (Kind::NotCarriedOver, "Not carried over:"),
        (Kind::Warning, "Warnings:"),
        (Kind::Remark, "Remarks:"),
    ] {
        let of_kind: Vec<&Note> = import.notes.iter().filter(|note| note.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(title.to_owned());
        lines.extend(of_kind.into_iter().map(|note| format!("- {}:{}: {}", note.file, note.line, note.message)));
    }
    lines
}

fn to_do(todo: &ToDo) -> String {
    match &todo.place {
        Place::Variable(name) => format!("set {name}: {} ({})", todo.what, todo.source),
        Place::File(path) => format!("put into {path}: {} ({})", todo.what, todo.source),
    }
}
