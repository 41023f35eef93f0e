//! Secrets and the references that lead to them. A secret shows nothing in `Debug` and has no `Display` and no
//! `Serialize`.

mod read;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

pub use self::read::SecretError;

/// A secret text, wiped when the last clone is dropped.
#[derive(Clone)]
pub struct Secret(Arc<SecretString>);

impl Secret {
    /// Takes ownership of the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(SecretString::from(text)))
    }

    /// The text itself. Call this only where the secret leaves for its destination.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// For holding configurations of ours against each other; what a caller sends is compared elsewhere, in constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.expose() == other.expose()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// Where a secret comes from, as written in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// `{ env = "X" }`
    Env(String),
    /// `{ file = "…" }`, already resolved against the folder of the configuration file.
    File(PathBuf),
    /// `{ command = ["op", "read", "…"] }`: its standard output, less one trailing line end.
    Command(Vec<String>),
    /// `{ dangerous_literal = "…" }`
    DangerousLiteral(Secret),
}
