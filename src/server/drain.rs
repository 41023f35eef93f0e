//! The way down, as a value passed to all who must know: serving, lame duck, closing, forced.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::DrainSettings;
use crate::tls::Trust;

/// How far the way down has come. The order is the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// Still accepting; every answer says `Connection: close`.
    LameDuck,
    /// Listeners are closed; connections end after the exchange at hand.
    Closing,
    /// What is left is cut off.
    Forced,
}

/// What listeners and connections look at.
#[derive(Clone, Debug)]
pub struct Drain {
    process: watch::Receiver<Phase>,
    /// A connection whose caller is no longer vouched for ends like one of a process that ends.
    trust: Option<Trust>,
}

/// What the signal handling holds.
#[derive(Debug)]
pub struct DrainHandle(watch::Sender<Phase>);

impl DrainHandle {
    /// A handle and the value that is passed down.
    #[must_use]
    pub fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), Drain { process: receiver, trust: None })
    }

    /// Goes down in order: lame duck at once, closed listeners after the delay, force at the deadline or when `force`
    /// resolves. Returns when nobody holds a [`Drain`] any more.
    pub async fn run(self, settings: &DrainSettings, delay: Duration, force: impl Future<Output = ()>) {
        let signalled = Instant::now();
        let deadline = signalled + settings.deadline.max(delay);
        self.0.send_replace(Phase::LameDuck);
        let orderly = async {
            tokio::time::sleep(delay).await;
            self.0.send_replace(Phase::Closing);
            tokio::time::timeout_at(deadline, self.0.closed()).await
        };
        let done = tokio::select! {
            closed = orderly => closed.is_ok(),
            () = force => false,
        };
        if !done {
            tracing::warn!("cutting off what is left");
            self.0.send_replace(Phase::Forced);
            let _ = tokio::time::timeout(Duration::from_secs(2), self.0.closed()).await;
        }
    }
}

impl Drain {
    /// The same for a connection that ends earlier where `trust` does.
    pub(super) fn trusting(self, trust: Option<Trust>) -> Self {
        Self { trust, ..self }
    }

    pub(super) fn phase(&self) -> Phase {
        let phase = *self.process.borrow();
        if self.is_distrusted() { phase.max(Phase::Closing) } else { phase }
    }

    /// Whether nobody vouches for the caller any more.
    pub(super) fn is_distrusted(&self) -> bool {
        self.trust.as_ref().is_some_and(Trust::is_over)
    }

    /// Resolves once `phase` is reached. A handle that is gone counts as the end.
    pub(super) async fn reached(&mut self, phase: Phase) {
        let reached = self.process.wait_for(|now| *now >= phase);
        match &mut self.trust {
            Some(trust) if phase <= Phase::Closing => tokio::select! {
                _ = reached => {}
                () = trust.over() => {}
            },
            Some(_) | None => {
                let _ = reached.await;
            }
        }
    }

    /// Resolves once listeners are to close; for services that end with the process.
    pub async fn closing(mut self) {
        self.reached(Phase::Closing).await;
    }
}
