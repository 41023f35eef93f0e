//! Getting an assertion from where it comes from. Both ways block, on a signature or on a file, so both leave the
//! control runtime, whose one thread also renews all other tokens.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use super::{About, Assertion, AssertionSource, Purpose};
use crate::secret::{Secret, SecretError, SecretSource};
use crate::sign::SignError;

/// Why there is no assertion. Names a file, never what is in it.
#[derive(Debug, thiserror::Error)]
pub(in crate::token) enum AssertionError {
    /// It cannot be signed: a matter of the configuration.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The file cannot be read, or holds no assertion; whoever writes it may still do so.
    #[error("the assertion file {} cannot be used: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// The runtime ends.
    #[error("the process is stopping")]
    Stopping,
}

impl AssertionSource {
    /// A fresh assertion, or what the file holds now.
    ///
    /// # Errors
    /// [`AssertionError`]
    pub(in crate::token) async fn obtain(&self, purpose: Purpose, about: &About<'_>) -> Result<Secret, AssertionError> {
        match self {
            Self::Signed(assertion) => assertion.obtain(purpose, about).await,
            Self::File(path) => read(path).await,
        }
    }
}

impl Assertion {
    /// As [`Assertion::sign`], with the signature made on a thread that may block.
    ///
    /// # Errors
    /// [`AssertionError`]
    pub(in crate::token) async fn obtain(&self, purpose: Purpose, about: &About<'_>) -> Result<Secret, AssertionError> {
        let unsigned = self.unsigned(purpose, about)?;
        let signed = spawn_blocking(move || unsigned.sign()).await;
        Ok(signed.map_err(|_| AssertionError::Stopping)??)
    }
}

/// The text of an assertion file, without the white space around it.
async fn read(path: &Path) -> Result<Secret, AssertionError> {
    let source = SecretSource::File(path.to_owned());
    let secret = spawn_blocking(move || source.read()).await.map_err(|_| AssertionError::Stopping)?;
    let trimmed = secret.and_then(|secret| match secret.expose().trim() {
        "" => Err(SecretError::Empty),
        text if text.len() == secret.expose().len() => Ok(secret.clone()),
        text => Ok(Secret::new(text.to_owned())),
    });
    trimmed.map_err(|error| AssertionError::File {
        path: path.to_owned(),
        // The system's words alone where there are some: the error's own name the file once more.
        reason: error.source().map_or_else(|| error.to_string(), ToString::to_string),
    })
}
