//! Names of listeners, callers, named and external credentials and principals.
//!
//! The rule is Salesforce's: letters, digits and single underscores, beginning with a letter, not ending with an
//! underscore. Names are used in paths, metric labels and log fields, so nothing else may be in them.

use std::fmt;
use std::sync::Arc;

/// A checked name. Cloning costs one atomic increment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`]. The text itself is left out: callers know where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name holds letters, digits and single underscores, begins with a letter and does not end with an underscore"
)]
pub struct InvalidName;

impl Name {
    /// Checks `text` (1 to 80 bytes) against the rule above.
    ///
    /// # Errors
    /// [`InvalidName`] when it does not hold.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        let known_bytes = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if starts_well && known_bytes && text.len() <= 80 && !text.ends_with('_') && !text.contains("__") {
            Ok(Self(Arc::from(text)))
        } else {
            Err(InvalidName)
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn a_name_is_letters_digits_and_single_underscores() {
        for good in ["a", "orders", "Orders_2", "x1_y2"] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "a_", "a__b", "1a", "a-b", "a b", "ä", "a/b", "a.b", &"a".repeat(81)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }
}
