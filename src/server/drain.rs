//! The way down, as a value passed to all who must know: serving, lame duck, closing, forced.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use self::seldom::Seldom;
use super::DrainSettings;
use crate::tls::Trust;

mod seldom;

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

/// How long what is left may last where nothing else is said.
const GRACE: Duration = Duration::from_secs(25);

/// What listeners and connections look at.
#[derive(Clone, Debug)]
pub struct Drain {
    process: watch::Receiver<Phase>,
    /// How long a connection lasts after nobody vouches for its caller any more.
    grace: Duration,
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
        (Self(sender), Drain { process: receiver, grace: GRACE, trust: None })
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
    /// The same, for connections that last `grace` at most after nobody vouches for their caller any more: as long as
    /// those of a process that ends.
    #[must_use]
    pub fn lasting(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

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

    /// Resolves once `phase` is reached. A handle that is gone counts as the end. Who waits for it beside something else
    /// pays next to nothing when that is woken.
    pub(super) fn reached(&mut self, phase: Phase) -> impl Future<Output = ()> {
        Seldom::new(self.wait_for(phase))
    }

    async fn wait_for(&mut self, phase: Phase) {
        let reached = self.process.wait_for(|now| *now >= phase);
        let Some(trust) = &mut self.trust else {
            let _ = reached.await;
            return;
        };
        let grace = if phase <= Phase::Closing { Duration::ZERO } else { self.grace };
        tokio::select! {
            _ = reached => {}
            () = over_for(trust, grace) => {}
        }
    }

    /// For what outlives HTTP on a connection; none where nobody has to vouch for its caller.
    pub(super) fn distrust(&self) -> Option<Distrust> {
        self.trust.clone().map(|trust| Distrust { trust, grace: self.grace })
    }

    /// Resolves once listeners are to close; for services that end with the process.
    pub async fn closing(mut self) {
        self.reached(Phase::Closing).await;
    }
}

/// When what outlives HTTP on a connection, a tunnel or another protocol, ends with the trust in its caller.
#[derive(Clone, Debug)]
pub struct Distrust {
    trust: Trust,
    grace: Duration,
}

impl Distrust {
    /// Resolves once nobody has vouched for the caller for as long as a connection lasts then.
    pub async fn over(mut self) {
        over_for(&mut self.trust, self.grace).await;
    }
}

/// Resolves once `trust` has been over for so long.
async fn over_for(trust: &mut Trust, grace: Duration) {
    trust.over().await;
    if !grace.is_zero() {
        tokio::time::sleep(grace).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(7);

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_vouches_for_closes_at_once_and_is_cut_off_later() {
        let (_handle, drain) = DrainHandle::new();
        let (vouching, trust) = Trust::example();
        let mut drain = drain.lasting(GRACE).trusting(Some(trust));
        let distrust = tokio::spawn(drain.distrust().unwrap().over());
        let mut cut = drain.clone();
        let cut = tokio::spawn(async move { cut.reached(Phase::Forced).await });
        tokio::time::sleep(10 * GRACE).await;
        assert!(!cut.is_finished() && !distrust.is_finished() && drain.phase() == Phase::Serving);
        drop(vouching);
        let began = Instant::now();
        drain.reached(Phase::Closing).await;
        assert_eq!((began.elapsed(), drain.phase()), (Duration::ZERO, Phase::Closing));
        cut.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), GRACE.as_secs());
        distrust.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), GRACE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_process_does_not_wait_for_that() {
        let (handle, drain) = DrainHandle::new();
        let (vouching, trust) = Trust::example();
        let mut drain = drain.lasting(100 * GRACE).trusting(Some(trust));
        drop(vouching);
        let settings = DrainSettings { delay: None, deadline: GRACE };
        let began = Instant::now();
        tokio::spawn(async move { handle.run(&settings, Duration::ZERO, std::future::pending()).await });
        drain.reached(Phase::Forced).await;
        assert_eq!(began.elapsed().as_secs(), GRACE.as_secs());
    }
}
