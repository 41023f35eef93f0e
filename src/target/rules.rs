//! Which of the things that servers read in different ways a named credential lets through (`path`).

use super::{Inspected, UnsafeTarget, settle};

/// Whether something passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As it came, byte for byte.
    Pass,
    /// 400.
    Refuse,
}

/// `path` of a named credential. Whatever it says, what [`super::inspect`] refuses is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// A slash that only decoding brings out, at whichever level: `%2F`, as in GitLab's `/projects/group%2Fproject`.
    pub encoded_slash: Allowance,
    /// A semicolon, raw or encoded: path parameters to some servers (RFC 3986 3.3), plain text to others.
    pub semicolon: Allowance,
    /// Two slashes in a row, raw or encoded: an empty segment to some servers (S3), one slash to others.
    pub double_slash: Allowance,
}

impl Default for PathRules {
    fn default() -> Self {
        Self { encoded_slash: Allowance::Refuse, semicolon: Allowance::Pass, double_slash: Allowance::Pass }
    }
}

impl PathRules {
    /// Judges a path by what [`super::inspect`] found in it, and closer only where something beyond that is refused.
    ///
    /// # Errors
    /// The rule that the path breaks.
    pub fn judge(self, path: &str, inspected: Inspected) -> Result<(), UnsafeTarget> {
        if inspected.encoded_slash && self.encoded_slash == Allowance::Refuse {
            return Err(UnsafeTarget::EncodedSlash);
        }
        if self.semicolon == Allowance::Pass && self.double_slash == Allowance::Pass {
            return Ok(());
        }
        // At the last level of decoding stands whatever stood there at one before.
        let settled = settle(path.as_bytes())?;
        if self.semicolon == Allowance::Refuse && settled.contains(&b';') {
            return Err(UnsafeTarget::Semicolon);
        }
        if self.double_slash == Allowance::Refuse && settled.windows(2).any(|pair| pair == b"//") {
            return Err(UnsafeTarget::DoubleSlash);
        }
        Ok(())
    }
}
