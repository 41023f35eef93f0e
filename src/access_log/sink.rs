//! Where lines end up: a standard stream or a file that can be opened anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Target;

/// Why the access log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be created or appended to.
    #[error("cannot open the access log {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The standard stream is closed.
    #[error("cannot use the {name} for the access log")]
    Stream {
        /// The stream.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes the access log")]
    Thread(#[source] io::Error),
}

/// Takes bytes, and can start over at the same place.
pub(super) trait Sink: Send {
    /// Writes some of `bytes` and says how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Opens the file again under its name, for log rotation; nothing to do for a stream.
    fn reopen(&mut self) -> io::Result<()>;
}

/// A [`Target`] that is open.
#[derive(Debug)]
pub(super) struct OpenTarget {
    file: File,
    path: Option<PathBuf>,
}

impl OpenTarget {
    /// Opens `target`; none when it is off.
    pub(super) fn open(target: &Target) -> Result<Option<Self>, OpenError> {
        match target {
            Target::Off => Ok(None),
            Target::Stdout => stream("standard output", &io::stdout()).map(Some),
            Target::Stderr => stream("standard error", &io::stderr()).map(Some),
            Target::File(path) => {
                let file = append(path).map_err(|source| OpenError::File { path: path.clone(), source })?;
                Ok(Some(Self { file, path: Some(path.clone()) }))
            }
        }
    }
}

/// A descriptor of our own for the stream: the standard library's handle would buffer by lines and lock.
fn stream(name: &'static str, stream: &impl AsFd) -> Result<OpenTarget, OpenError> {
    let descriptor = stream.as_fd().try_clone_to_owned().map_err(|source| OpenError::Stream { name, source })?;
    Ok(OpenTarget { file: File::from(descriptor), path: None })
}

fn append(path: &Path) -> io::Result<File> {
    // Who called what when is not for everyone on the machine.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

impl Sink for OpenTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut self.file, bytes)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = append(path)?;
        }
        Ok(())
    }
}
