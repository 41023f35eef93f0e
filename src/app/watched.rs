//! The files that the configuration is made of, looked at now and then.
//!
//! Links are followed to what they lead to: what Kubernetes mounts is a link that is swapped. Only whether to read again
//! is decided here; what has changed is decided by what is read.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The usual time between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// Looking takes at most one part in so many of the time.
const SHARE: u32 = 50;

/// Files, and what they were like when they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Watched {
    files: Vec<PathBuf>,
    seen: Vec<Option<State>>,
    took: Duration,
}

/// Which file it is, its size, and when content and inode changed last, in seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    file: (u64, u64),
    size: u64,
    content: (i64, i64),
    inode: (i64, i64),
}

impl Watched {
    /// These files as they are now. Blocks.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let mut watched = Self { files, ..Self::default() };
        watched.look();
        watched
    }

    /// From now on these files. What those that stay were like is not forgotten. Blocks.
    pub(super) fn replace(&mut self, files: Vec<PathBuf>) {
        if files == self.files {
            return;
        }
        let known: HashMap<&PathBuf, &Option<State>> = self.files.iter().zip(&self.seen).collect();
        self.seen = files.iter().map(|path| known.get(path).map_or_else(|| State::of(path), |seen| **seen)).collect();
        self.files = files;
    }

    /// Whether one is another than at the last look. Blocks.
    pub(super) fn look(&mut self) -> bool {
        let begun = Instant::now();
        let now: Vec<_> = self.files.iter().map(State::of).collect();
        self.took = begun.elapsed();
        let has_changed = now != self.seen;
        self.seen = now;
        has_changed
    }

    /// The time to the next look.
    pub(super) fn pause(&self) -> Duration {
        PERIOD.max(self.took * SHARE)
    }
}

impl State {
    fn of(path: &PathBuf) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            file: (found.dev(), found.ino()),
            size: found.size(),
            content: (found.mtime(), found.mtime_nsec()),
            inode: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::Watched;

    #[test]
    fn writing_replacing_removing_and_swapping_a_link_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        write("a", "1");
        write("b", "1");
        symlink(path("a"), path("link")).unwrap();
        let mut watched = Watched::new(vec![path("link"), path("later")]);
        assert!(!watched.look());
        write("a", "22");
        assert!(watched.look() && !watched.look());
        symlink(path("b"), path("new")).unwrap();
        std::fs::rename(path("new"), path("link")).unwrap();
        assert!(watched.look() && !watched.look());
        write("later", "1");
        assert!(watched.look() && !watched.look());
        std::fs::remove_file(path("b")).unwrap();
        assert!(watched.look() && !watched.look());
    }
}
