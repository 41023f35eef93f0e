//! Addresses of names, by the system's resolver (`getaddrinfo`).
//!
//! It blocks a thread for as long as a name server pleases, and threads for that are bounded in number. So names that
//! others choose, callers mostly, have few of them at a time: however slow their name servers are, names of the
//! configuration find room.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use tokio::sync::Semaphore;

/// Who named a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NamedBy {
    /// The configuration, or who it trusts.
    #[default]
    Configuration,
    /// A caller, or a token endpoint's answer.
    Others,
}

/// Names of others that may be looked up at a time. Each runtime has 512 threads for what blocks (tokio's default).
const MOST_FOREIGN: usize = 32;

/// One for the process: its purpose is that no part has a share of its own.
static FOREIGN: Semaphore = Semaphore::const_new(MOST_FOREIGN);

/// The addresses of `name`. Waits for its turn where others named it, so the caller bounds the time.
pub(super) async fn lookup(name: &str, named_by: NamedBy) -> io::Result<Vec<SocketAddr>> {
    match named_by {
        NamedBy::Configuration => tokio::net::lookup_host((name, 0)).await.map(Iterator::collect),
        NamedBy::Others => {
            let name = name.to_owned();
            in_turn(&FOREIGN, move || (name.as_str(), 0).to_socket_addrs().map(Iterator::collect)).await
        }
    }
}

/// Runs `lookup` in its turn. The turn lasts as long as its thread is busy, also when nobody waits for it any more.
async fn in_turn<T: Send + 'static>(
    turns: &'static Semaphore,
    lookup: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let turn = turns.acquire().await.map_err(io::Error::other)?;
    let looking = tokio::task::spawn_blocking(move || {
        let found = lookup();
        drop(turn);
        found
    });
    looking.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// C25: a caller that names slow hosts takes few threads, and what is configured resolves beside it.
    #[tokio::test]
    async fn a_turn_lasts_as_long_as_its_thread_and_names_of_the_configuration_wait_for_none() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let (release, blocked) = mpsc::channel::<()>();
        let (begun, beginning) = tokio::sync::oneshot::channel();
        let slow = tokio::spawn(in_turn(&TURNS, move || {
            let _ = begun.send(());
            let _ = blocked.recv();
            Ok(())
        }));
        beginning.await.unwrap();
        slow.abort();
        assert!(slow.await.unwrap_err().is_cancelled(), "its caller has gone");
        assert_eq!(TURNS.available_permits(), 0, "its thread has not");
        let mut next = tokio::spawn(in_turn(&TURNS, || Ok("in turn")));
        assert!(!lookup("localhost", NamedBy::Configuration).await.unwrap().is_empty());
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut next).await.is_err(), "it waits for its turn");
        release.send(()).unwrap();
        assert_eq!(next.await.unwrap().unwrap(), "in turn");
        assert_eq!(TURNS.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_name_of_others_is_found_too() {
        assert!(!lookup("localhost", NamedBy::Others).await.unwrap().is_empty());
        assert!(lookup("name.invalid", NamedBy::Others).await.is_err());
        assert_eq!(FOREIGN.available_permits(), MOST_FOREIGN);
    }
}
