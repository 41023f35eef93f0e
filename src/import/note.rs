//! What there is to say about the files: errors, what is not carried over, and what somebody should know. Each note has
//! a place. Texts of the files are shown only through [`shown`], and those that may be secret are not shown at all.

use std::fmt::Write as _;

/// A place in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'f> {
    /// The file as it was named.
    pub(super) file: &'f str,
    /// The line, counted from 1.
    pub(super) line: usize,
}

/// What kind of a note it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The file is not what it should be; nothing of it is carried over.
    Error,
    /// Well formed, but without a counterpart here.
    NotCarriedOver,
    /// Carried over, but probably not as it should stay.
    Warning,
    /// Worth knowing.
    Remark,
}

/// One thing to say about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub kind: Kind,
    /// The file as it was named.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// A clause, without what may be secret.
    pub message: String,
}

/// Collects notes.
#[derive(Debug, Default)]
pub(super) struct Notes {
    list: Vec<Note>,
}

impl Kind {
    /// The kind as one word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::NotCarriedOver => "not_carried_over",
            Self::Warning => "warning",
            Self::Remark => "remark",
        }
    }
}

impl Notes {
    pub(super) fn error(&mut self, at: Place<'_>, message: impl Into<String>) {
        self.push(Kind::Error, at, message.into());
    }

    pub(super) fn not_carried_over(&mut self, at: Place<'_>, message: impl Into<String>) {
        self.push(Kind::NotCarriedOver, at, message.into());
    }

    pub(super) fn warning(&mut self, at: Place<'_>, message: impl Into<String>) {
        self.push(Kind::Warning, at, message.into());
    }

    pub(super) fn remark(&mut self, at: Place<'_>, message: impl Into<String>) {
        self.push(Kind::Remark, at, message.into());
    }

    /// How many errors there are so far. A file whose reading adds none is sound.
    pub(super) fn errors(&self) -> usize {
        self.list.iter().filter(|note| note.kind == Kind::Error).count()
    }

    /// All notes: worst first, then by place.
    pub(super) fn into_sorted(mut self) -> Vec<Note> {
        self.list.sort_by(|a, b| (a.kind, &a.file, a.line).cmp(&(b.kind, &b.file, b.line)));
        self.list
    }

    fn push(&mut self, kind: Kind, at: Place<'_>, message: String) {
        self.list.push(Note { kind, file: at.file.to_owned(), line: at.line, message });
    }
}

/// A text of a file between back quotes: no control characters, and not too long for a line.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut quoted = String::from("`");
    for character in text.chars().take(LONGEST) {
        if is_plain(character) {
            quoted.push(character);
        } else {
            let _ = write!(quoted, "{}", character.escape_unicode());
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        quoted.push('…');
    }
    quoted.push('`');
    quoted
}

/// A text of a file on one line, for comments.
pub(super) fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|character| if is_plain(character) { character } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Neither a control character nor one that changes the direction of the text around it.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{one_line, shown};

    #[test]
    fn what_is_shown_is_short_and_cannot_steer_a_terminal() {
        assert_eq!(shown("Oauth2"), "`Oauth2`");
        assert_eq!(shown("a\u{1b}[2Jb\n"), "`a\\u{1b}[2Jb\\u{a}`");
        assert_eq!(shown("\u{202e}x"), "`\\u{202e}x`");
        assert_eq!(shown(&"x".repeat(99)), format!("`{}…`", "x".repeat(60)));
        assert_eq!(one_line("two\n  lines\u{7}"), "two lines");
    }
}
