//! The refresh token in use (RFC 6749 6): which one is current, who may use it, and where it is kept over a restart.
//!
//! A server may replace a refresh token whenever it is used, and may take the whole grant back when an old one is used
//! again (RFC 9700 4.14.2). So one grant has one [`RefreshTokens`], which all cells that draw on it share, and one mint
//! at a time: whoever has the [`Turn`] holds it until the new token is known and stored.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use aws_lc_rs::digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use tracing::{error, warn};
use zeroize::Zeroizing;

use super::key::Digest;
use crate::name::Name;
use crate::secret::Secret;

/// A longer file is not ours.
const LONGEST: u64 = 128 * 1024;

/// The refresh tokens of one grant, the newest of which counts.
pub(super) struct RefreshTokens {
    external_credential: Name,
    principal: Name,
    /// As configured.
    initial: Secret,
    /// Where it is kept. A reload may name another place while the grant lives on.
    store: Mutex<Option<PathBuf>>,
    /// Held across a mint on purpose: two mints at once would use the same refresh token twice.
    current: Arc<tokio::sync::Mutex<Current>>,
    warned: AtomicBool,
}

struct Current {
    token: Secret,
    /// The file that needs no writing: it holds this token, or this is the configured one.
    stored_in: Option<PathBuf>,
}

/// The right to use the refresh token.
pub(super) struct Turn {
    tokens: Arc<RefreshTokens>,
    current: OwnedMutexGuard<Current>,
}

/// What the store holds.
#[derive(Deserialize, Serialize)]
struct Stored {
    /// Of the configured token that this one descends from: when another is configured, this file means nothing.
    initial_sha256: String,
    refresh_token: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.refresh_token);
    }
}

impl RefreshTokens {
    pub(super) fn new(external_credential: Name, principal: Name, initial: Secret, store: Option<PathBuf>) -> Self {
        Self {
            external_credential,
            principal,
            current: Arc::new(tokio::sync::Mutex::new(Current { token: initial.clone(), stored_in: None })),
            initial,
            store: Mutex::new(store),
            warned: AtomicBool::new(false),
        }
    }

    /// Waits until nobody else uses the refresh token. The store is read each time, because a command such as
    /// `keybearer token` may have used it meanwhile; what could not be stored is newer than the store.
    pub(super) async fn turn(self: &Arc<Self>) -> Turn {
        let mut turn = Turn { tokens: Arc::clone(self), current: Arc::clone(&self.current).lock_owned().await };
        let store = self.store.lock().clone();
        let Some(path) = store else { return turn };
        let current = &mut turn.current;
        let is_newer = current.token.expose() != self.initial.expose() && current.stored_in.as_ref() != Some(&path);
        if is_newer {
            return turn;
        }
        let read = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || load(&path)).await.unwrap_or_else(|_| Err(interrupted()))
        };
        match read {
            Ok(Some(mut stored)) if stored.initial_sha256 == sha256(self.initial.expose()) => {
                let token = Secret::new(std::mem::take(&mut stored.refresh_token));
                **current = Current { token, stored_in: Some(path) };
                return turn;
            }
            Ok(_) => {}
            Err(cause) => error!(
                external_credential = %self.external_credential,
                principal = %self.principal,
                store = %path.display(),
                %cause,
                "the stored refresh token cannot be read; the last one known is used"
            ),
        }
        let is_configured = current.token.expose() == self.initial.expose();
        current.stored_in = is_configured.then_some(path);
        turn
    }

    /// Goes on with the store that a newer configuration names.
    fn moved(&self, store: Option<PathBuf>) {
        *self.store.lock() = store;
    }
}

impl Turn {
    /// The refresh token to use.
    pub(super) fn token(&self) -> Secret {
        self.current.token.clone()
    }

    /// The configured one, where that is another: the last resort when the current one is refused.
    pub(super) fn configured(&self) -> Option<Secret> {
        let initial = &self.tokens.initial;
        (initial.expose() != self.current.token.expose() && !initial.expose().is_empty()).then(|| initial.clone())
    }

    /// Says that the server took `used`, and gave `rotated` in its place. When this returns, the next refresh
    /// token is stored, or it is logged that it is not. It is in memory from the first poll on, and the turn ends only
    /// when it is stored: a mint that is given up meanwhile neither loses it nor lets the next one overtake it.
    pub(super) async fn succeeded(mut self, used: Secret, rotated: Option<Secret>) {
        let is_new = rotated.as_ref().is_some_and(|rotated| rotated.expose() != used.expose());
        let next = rotated.unwrap_or(used);
        if next.expose() != self.current.token.expose() {
            *self.current = Current { token: next, stored_in: None };
        }
        let store = self.tokens.store.lock().clone();
        match store {
            Some(path) => self.store(path).await,
            None if is_new => self.tokens.warn_of_loss(),
            None => {}
        }
    }

    async fn store(mut self, path: PathBuf) {
        if self.current.stored_in.as_ref() == Some(&path) {
            return;
        }
        // What blocks owns the turn, and is not ended by whoever waits for it.
        let storing = tokio::task::spawn_blocking(move || {
            let saved = save(&path, &self.to_store());
            self.settle(path, saved);
        });
        // It logs for itself.
        let _ = storing.await;
    }

    fn to_store(&self) -> Stored {
        Stored {
            initial_sha256: sha256(self.tokens.initial.expose()),
            refresh_token: self.current.token.expose().to_owned(),
        }
    }

    fn settle(&mut self, path: PathBuf, saved: io::Result<()>) {
        match saved {
            Ok(()) => self.current.stored_in = Some(path),
            Err(cause) => error!(
                external_credential = %self.tokens.external_credential,
                principal = %self.tokens.principal,
                store = %path.display(),
                %cause,
                "the new refresh token cannot be stored; it is kept in memory, and a restart would lose it"
            ),
        }
    }
}

impl RefreshTokens {
    /// Once: it happens at every mint.
    fn warn_of_loss(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                external_credential = %self.external_credential,
                principal = %self.principal,
                "the token endpoint replaces refresh tokens; a restart will need a new one; set refresh_token_store"
            );
        }
    }
}

/// The grants of the process, so that the cells that draw on one of them share its state, before a reload and after.
#[derive(Default)]
pub(super) struct Grants(Mutex<HashMap<Digest, Weak<RefreshTokens>>>);

impl Grants {
    /// The state that is known under `key`, with the store of `made`; `made` itself where there is none.
    pub(super) fn share(&self, key: Digest, made: Arc<RefreshTokens>) -> Arc<RefreshTokens> {
        let mut grants = self.0.lock();
        grants.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = grants.get(&key).and_then(Weak::upgrade) {
            known.moved(made.store.lock().clone());
            return known;
        }
        grants.insert(key, Arc::downgrade(&made));
        made
    }
}

fn load(path: &Path) -> io::Result<Option<Stored>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The room is taken first: a buffer that grows leaves copies.
    let length = usize::try_from(file.metadata()?.len().min(LONGEST)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(LONGEST).read_to_end(&mut bytes)?;
    // The parser's own words could quote the file.
    let not_ours = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not a JSON object that was stored here");
    serde_json::from_slice(&bytes).map(Some).map_err(not_ours)
}

/// Replaces the file as a whole: after a crash there is the old content or the new, never half of one.
fn save(path: &Path, stored: &Stored) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let temporary = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = write(&temporary, stored).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It may not even be there; the error that counts is the first.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {} // a leftover of a crash
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * stored.refresh_token.len() + 256));
    serde_json::to_writer(&mut *bytes, stored)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&bytes)?;
    file.sync_all()
}

fn sha256(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn interrupted() -> io::Error {
    io::Error::other("the process is ending")
}
