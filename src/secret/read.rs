//! Following a reference to its secret. Blocks: on files, and on commands for at most [`COMMAND_TIMEOUT`].

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::{Zeroize, Zeroizing};

use super::{Secret, SecretSource};

/// A longer file or output is no secret but a mistake.
const LONGEST: usize = 64 * 1024;

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a command that has closed its output is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// Why a reference led to no secret. Names the way, never what was found there.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not there.
    #[error("the environment variable `{0}` is not set")]
    NotSet(String),
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The command list is empty.
    #[error("the command is empty")]
    NoCommand,
    /// The command cannot be run; the text is its first word.
    #[error("cannot run `{0}`")]
    Spawn(String, #[source] io::Error),
    /// The command did not end well.
    #[error("`{0}` ended with {1}")]
    Failed(String, ExitStatus),
    /// The command took too long and was stopped.
    #[error("`{0}` took longer than {secs} s", secs = COMMAND_TIMEOUT.as_secs())]
    TimedOut(String),
    /// There is something, but it is empty.
    #[error("the secret is empty")]
    Empty,
    /// There is more than a secret.
    #[error("the secret is longer than 64 KiB")]
    TooLong,
    /// It is no text.
    #[error("the secret is not UTF-8 text")]
    NotText,
}

impl SecretSource {
    /// Follows the reference. A file's and a command's secret loses one trailing line end. A command is run without a
    /// shell, with our environment and standard error and no standard input.
    ///
    /// # Errors
    /// [`SecretError`] when there is no secret, or none that can be used.
    pub fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| SecretError::NotSet(name.clone()))?;
                checked(value.into_string().map_err(|_| SecretError::NotText)?)
            }
            Self::File(path) => {
                let read = File::open(path).and_then(bounded);
                text(read.map_err(|error| SecretError::File(path.clone(), error))?)
            }
            Self::Command(words) => text(run(words, COMMAND_TIMEOUT)?),
            Self::DangerousLiteral(secret) => checked(secret.expose().to_owned()),
        }
    }
}

/// Reads up to one byte more than a secret may have. The room is taken first: a buffer that grows leaves copies.
fn bounded(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    source.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(mut bytes: Zeroizing<Vec<u8>>) -> Result<Secret, SecretError> {
    if bytes.len() > LONGEST {
        return Err(SecretError::TooLong);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText)?;
    let without = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    let result = checked(without.to_owned());
    bytes.zeroize();
    result
}

fn checked(text: String) -> Result<Secret, SecretError> {
    match text.len() {
        0 => Err(SecretError::Empty),
        length if length > LONGEST => Err(SecretError::TooLong),
        _ => Ok(Secret::new(text)),
    }
}

/// Runs a command and gives back its output.
fn run(words: &[String], timeout: Duration) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let Some((program, arguments)) = words.split_first() else { return Err(SecretError::NoCommand) };
    let failed = |error| SecretError::Spawn(program.clone(), error);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    let deadline = Instant::now() + timeout;
    let output = collect(&mut child);
    let outcome = outcome(&mut child, &output, deadline);
    if outcome.is_err() {
        // It may have ended by itself in the meantime; nothing is left to do about either.
        let _ = child.kill();
        let _ = child.wait();
    }
    match outcome {
        Ok((status, bytes)) if status.success() => Ok(bytes),
        Ok((status, _)) => Err(SecretError::Failed(program.clone(), status)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(SecretError::TimedOut(program.clone())),
        Err(error) => Err(failed(error)),
    }
}

/// Reads the output in a thread of its own: a pipe has no time-out. The thread ends when the output is closed.
fn collect(child: &mut Child) -> Receiver<io::Result<Zeroizing<Vec<u8>>>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || sender.send(bounded(stdout)));
    }
    receiver
}

fn outcome(
    child: &mut Child,
    output: &Receiver<io::Result<Zeroizing<Vec<u8>>>>,
    deadline: Instant,
) -> io::Result<(ExitStatus, Zeroizing<Vec<u8>>)> {
    let left = deadline.saturating_duration_since(Instant::now());
    let bytes = output.recv_timeout(left).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, bytes));
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LONGEST, SecretError, run};
    use crate::secret::{Secret, SecretSource};

    const CANARY: &str = "canary-7f3a";

    fn file(content: &[u8]) -> (tempfile::TempDir, SecretSource) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        (folder, SecretSource::File(path))
    }

    fn command(words: &[&str]) -> SecretSource {
        SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn a_file_loses_one_trailing_line_end() {
        for (content, secret) in [
            ("canary-7f3a", "canary-7f3a"),
            ("canary-7f3a\n", "canary-7f3a"),
            ("canary-7f3a\r\n", "canary-7f3a"),
            ("canary-7f3a\n\n", "canary-7f3a\n"),
            (" canary-7f3a ", " canary-7f3a "),
            ("canary-7f3a\r", "canary-7f3a\r"),
        ] {
            let (_folder, source) = file(content.as_bytes());
            assert_eq!(source.read().unwrap().expose(), secret, "{content:?}");
        }
    }

    #[test]
    fn an_error_never_holds_what_was_found() {
        let mut not_text = CANARY.as_bytes().to_vec();
        not_text.push(0xff);
        let too_long = CANARY.repeat(LONGEST / CANARY.len() + 1);
        for content in [not_text.as_slice(), too_long.as_bytes(), b"", b"\n"] {
            let (_folder, source) = file(content);
            let error = source.read().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = SecretSource::Env("KEYBEARER_TEST_NO_SUCH_VARIABLE".to_owned()).read().unwrap_err();
        assert_eq!(error.to_string(), "the environment variable `KEYBEARER_TEST_NO_SUCH_VARIABLE` is not set");
        let error = SecretSource::File("/no/such/file".into()).read().unwrap_err();
        assert_eq!(error.to_string(), "cannot read /no/such/file");
    }

    #[test]
    fn a_command_gives_its_output_and_no_shell_sees_its_words() {
        assert_eq!(command(&["printf", "%s\\n", "$HOME; canary"]).read().unwrap().expose(), "$HOME; canary");
    }

    #[test]
    fn a_command_must_end_well_and_in_time() {
        assert!(matches!(command(&[]).read(), Err(SecretError::NoCommand)));
        assert!(matches!(command(&["/no/such/program"]).read(), Err(SecretError::Spawn(..))));
        assert!(matches!(command(&["false"]).read(), Err(SecretError::Failed(..))));
        let began = Instant::now();
        let words = ["sleep".to_owned(), "60".to_owned()];
        assert!(matches!(run(&words, Duration::from_millis(50)), Err(SecretError::TimedOut(_))));
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_command_that_writes_without_end_is_stopped() {
        assert!(matches!(command(&["yes"]).read(), Err(SecretError::Failed(..) | SecretError::TooLong)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let source = SecretSource::DangerousLiteral(Secret::new(CANARY.to_owned()));
        assert!(!format!("{source:?} {:?}", source.read().unwrap()).contains("canary"));
    }
}
