//! How often rejections may cost a mint: a burst of three, then one per 30 s, doubling to 10 min while replays keep
//! being refused.
//!
//! Pure and synchronous. It counts rejections only: an API that answers 200 on one path and always 401 on another must
//! not refill it with its successes. Failing mints are the business of `backoff`.

use std::time::Duration;

use tokio::time::Instant;

const BURST: u32 = 3;
const INTERVAL: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// The renewal allowance of one token cell.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    /// Since when the next one grows; meaningful while some are missing.
    growing_since: Instant,
    /// How many renewals in a row were in vain, counted once the burst is used up.
    in_vain: u32,
    in_vain_at: Instant,
    /// The token whose replay was counted as refused last.
    refused: Option<u64>,
    closed_until: Option<Instant>,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, growing_since: now, in_vain: 0, in_vain_at: now, refused: None, closed_until: None }
    }

    /// Takes one renewal, or says how long until the next.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(until) = self.closed_until {
            if now < until {
                return Err(until - now);
            }
            self.closed_until = None;
        }
        self.grow(now);
        if self.left == 0 {
            return Err((self.growing_since + self.interval()).saturating_duration_since(now));
        }
        if self.left == BURST {
            self.growing_since = now;
        }
        self.left -= 1;
        Ok(())
    }

    /// Gives back what was taken for a mint that brought no token.
    pub(super) fn give_back(&mut self) {
        self.left = (self.left + 1).min(BURST);
    }

    /// The replay with `token` was refused too. Many exchanges say so of one token: it counts once.
    pub(super) fn refused(&mut self, token: u64, now: Instant) {
        if self.refused.replace(token) == Some(token) {
            return;
        }
        self.grow(now);
        if self.left == 0 {
            self.count_in_vain(now);
        }
    }

    /// A mint brought the rejected `token` again: as good as a refused replay, and no reason to ask soon.
    pub(super) fn same_again(&mut self, token: u64, now: Instant) {
        self.refused = Some(token);
        self.count_in_vain(now);
        self.closed_until = Some(now + self.interval());
    }

    /// A replay with `token` was accepted: the intervals stop growing, but nothing is refilled.
    pub(super) fn accepted(&mut self, token: u64) {
        if self.refused != Some(token) {
            self.in_vain = 0;
        }
    }

    fn interval(&self) -> Duration {
        let doublings = self.in_vain.saturating_sub(1).min(5);
        (INTERVAL * 2_u32.pow(doublings)).min(LONGEST)
    }

    fn count_in_vain(&mut self, now: Instant) {
        self.in_vain = self.in_vain.saturating_add(1);
        self.in_vain_at = now;
    }

    fn grow(&mut self, now: Instant) {
        // So long a rest means that the trouble is over: under demand it would have shown after `LONGEST`.
        if now.saturating_duration_since(self.in_vain_at) > 2 * LONGEST {
            self.in_vain = 0;
        }
        while self.left < BURST {
            let next = self.growing_since + self.interval();
            if now < next {
                return;
            }
            self.growing_since = next;
            self.left += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Allowance;
    use std::time::Duration;
    use tokio::time::Instant;

    enum Event {
        Take,
        Refused(u64),
        Same(u64),
        Accepted(u64),
        GiveBack,
    }
    use Event::{Accepted, GiveBack, Refused, Same, Take};

    /// Plays events at seconds after the start; the result is what each `Take` said: `None` for yes, or the wait.
    fn play(events: &[(u64, Event)]) -> Vec<Option<u64>> {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut said = Vec::new();
        for (second, event) in events {
            let now = start + Duration::from_secs(*second);
            match event {
                Take => said.push(allowance.take(now).err().map(|wait| wait.as_secs())),
                Refused(token) => allowance.refused(*token, now),
                Same(token) => allowance.same_again(*token, now),
                Accepted(token) => allowance.accepted(*token),
                GiveBack => allowance.give_back(),
            }
        }
        said
    }

    #[test]
    fn a_burst_of_three_then_one_per_thirty_seconds() {
        let said = play(&[(0, Take), (1, Take), (2, Take), (3, Take), (29, Take), (30, Take), (31, Take), (60, Take)]);
        assert_eq!(said, [None, None, None, Some(27), Some(1), None, Some(29), None]);
    }

    #[test]
    fn the_interval_doubles_to_ten_minutes_while_replays_are_refused() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut taken = Vec::new();
        for second in 0..6000 {
            let now = start + Duration::from_secs(second);
            if allowance.take(now).is_ok() {
                taken.push(second);
                allowance.refused(second, now);
                allowance.refused(second, now);
            }
        }
        let gaps: Vec<u64> = taken.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps[..8], [1, 1, 28, 60, 120, 240, 480, 600]);
        assert!(gaps[8..].iter().all(|gap| *gap == 600), "{gaps:?}");
    }

    #[test]
    fn an_accepted_replay_stops_the_growth_and_refills_nothing() {
        let burst = || [(0, Take), (0, Take), (0, Take), (0, Refused(1)), (30, Take), (30, Refused(2))];
        let mut grown: Vec<_> = burst().into();
        grown.push((31, Take));
        assert_eq!(play(&grown)[4], Some(59));
        let mut accepted: Vec<_> = burst().into();
        accepted.extend([(31, Accepted(3)), (31, Take)]);
        assert_eq!(play(&accepted)[4], Some(29));
    }

    #[test]
    fn a_token_refused_on_one_path_and_accepted_on_another_counts_as_refused() {
        let said = play(&[
            (0, Take),
            (0, Take),
            (0, Take),
            (0, Refused(1)),
            (30, Take),
            (30, Refused(2)),
            (30, Accepted(2)),
            (31, Take),
        ]);
        assert_eq!(said[4], Some(59));
    }

    #[test]
    fn the_same_token_again_closes_the_allowance() {
        let said = play(&[(0, Take), (0, Same(1)), (1, Take), (29, Take), (30, Take), (30, Same(1)), (31, Take)]);
        assert_eq!(said, [None, Some(29), Some(1), None, Some(59)]);
    }

    #[test]
    fn a_mint_that_brought_nothing_is_given_back() {
        let said = play(&[(0, Take), (0, GiveBack), (0, Take), (0, Take), (0, Take), (0, Take)]);
        assert_eq!(said, [None, None, None, None, Some(30)]);
    }

    #[test]
    fn a_long_rest_refills_the_burst() {
        let said = play(&[(0, Take), (0, Take), (0, Take), (90, Take), (90, Take), (90, Take), (90, Take)]);
        assert_eq!(said, [None, None, None, None, None, None, Some(30)]);
    }
}
