//! What the token endpoint said beside a token, at the places that named credentials ask for.

use std::fmt;

/// Longest value that is kept.
const LONGEST: usize = 2 * 1024;

/// Most places that may be asked for in one answer.
pub const MOST_MEMBERS: usize = 16;

/// Texts of a token endpoint's answer by their JSON pointers. Nothing of it is a token, and yet it is not shown: what
/// stands there is the server's business.
#[derive(Clone, Default)]
pub struct Members(Vec<(String, String)>);

impl Members {
    /// Keeps a text that is not too long.
    pub(super) fn keep(&mut self, pointer: &str, text: &str) {
        if text.len() <= LONGEST && self.0.len() < MOST_MEMBERS {
            self.0.push((pointer.to_owned(), text.to_owned()));
        }
    }

    /// The text at a JSON pointer; none where there was none, or the pointer was not among those asked for.
    #[must_use]
    pub fn get(&self, pointer: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == pointer).map(|(_, text)| text.as_str())
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.iter().map(|(pointer, _)| pointer)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, MOST_MEMBERS, Members};

    #[test]
    fn what_is_kept_is_bounded_and_not_shown() {
        let mut members = Members::default();
        members.keep("/instance_url", "https://canary.example");
        members.keep("/long", &"x".repeat(LONGEST + 1));
        for number in 0..20 {
            members.keep(&format!("/{number}"), "x");
        }
        assert_eq!(members.get("/instance_url"), Some("https://canary.example"));
        assert_eq!((members.get("/long"), members.get("/other"), members.0.len()), (None, None, MOST_MEMBERS));
        let shown = format!("{members:?}");
        assert!(shown.contains("/instance_url") && !shown.contains("canary"), "{shown}");
    }
}
