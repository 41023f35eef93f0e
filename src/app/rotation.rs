//! A secret that was rotated: the token of the new one is minted before the old one's is let go.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout_at};

use crate::name::Name;
use crate::token::{Cell, ExternalCredential, MintFailure};

/// So many are minted at a time.
const AT_A_TIME: usize = 16;
/// What has no token after this goes on with the old secret, and the configuration is taken over without it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// An external credential whose proof has changed while tokens of the old one are live.
pub(super) struct Rotation {
    pub(super) name: Name,
    /// What has served until now.
    pub(super) serving: Arc<ExternalCredential>,
    wanted: Arc<ExternalCredential>,
}

impl Rotation {
    /// None where no live token would be lost. What is asked for by formulas is minted when it is met.
    pub(super) fn new(
        name: &Name,
        serving: &Arc<ExternalCredential>,
        wanted: &Arc<ExternalCredential>,
    ) -> Option<Self> {
        let rotation = Self { name: name.clone(), serving: Arc::clone(serving), wanted: Arc::clone(wanted) };
        let loses_token = rotation.cells().next().is_some();
        loses_token.then_some(rotation)
    }

    /// The cells with a live token, and those without one that take their place.
    fn cells(&self) -> impl Iterator<Item = (&Arc<Cell>, &Arc<Cell>)> {
        let pairs = self.serving.principals().iter().zip(self.wanted.principals());
        let cells = pairs.filter_map(|(serving, wanted)| Some((serving.fixed_cell()?, wanted.fixed_cell()?)));
        cells.filter(|(serving, wanted)| {
            !Arc::ptr_eq(serving, wanted) && serving.live().is_some() && wanted.live().is_none()
        })
    }

    async fn mint(&self) -> Result<(), MintFailure> {
        for (_, wanted) in self.cells() {
            wanted.token().await?;
        }
        Ok(())
    }

    /// Returns when the new secret has got its tokens, or when those of the old one are over.
    pub(super) async fn settled(self) -> (Name, Arc<ExternalCredential>) {
        let mut pause = PAUSE;
        loop {
            sleep(pause).await;
            let live = |external: &ExternalCredential| {
                external.principals().iter().filter_map(|each| each.fixed_cell()).any(|cell| cell.live().is_some())
            };
            if !live(&self.serving) {
                tracing::warn!(external_credential = %self.name, "the old secret's tokens are over");
                return (self.name, self.wanted);
            }
            match self.mint().await {
                Ok(()) => return (self.name, self.wanted),
                Err(failure) => pause = failure.retry_after.max(PAUSE),
            }
        }
    }
}

/// Mints for all of them; those that got no token are the result.
pub(super) async fn mint_first(rotations: Vec<Rotation>) -> Vec<Rotation> {
    let end = Instant::now() + PATIENCE;
    let minted = stream::iter(rotations).map(|rotation| async move {
        let cause = match timeout_at(end, rotation.mint()).await {
            Ok(Ok(())) => return None,
            Ok(Err(failure)) => failure.cause,
            Err(_) => "timed out".to_owned(),
        };
        tracing::warn!(
            external_credential = %rotation.name,
            cause,
            "the new secret gets no token; the old one serves as long as its tokens live"
        );
        Some(rotation)
    });
    minted.buffer_unordered(AT_A_TIME).filter_map(std::future::ready).collect().await
}
