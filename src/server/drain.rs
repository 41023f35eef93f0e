//! The way down, as a value passed to all who must know: serving, lame duck, closing, forced.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::DrainSettings;

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
pub struct Drain(watch::Receiver<Phase>);

/// What the signal handling holds.
#[derive(Debug)]
pub struct DrainHandle(watch::Sender<Phase>);

impl DrainHandle {
    /// A handle and the value that is passed down.
    #[must_use]
    pub fn new() -> (Self, Drain) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), Drain(receiver))
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
    pub(super) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Resolves once `phase` is reached. A handle that is gone counts as the end.
    pub(super) async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }

    /// Resolves once listeners are to close; for services that end with the process.
    pub async fn closing(mut self) {
        self.reached(Phase::Closing).await;
    }
}
