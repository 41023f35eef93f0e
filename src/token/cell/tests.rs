//! The cell and its minter against an endpoint in memory, under a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};

use super::{Cell, MOST_WAITING, Made, Outcome, Renewal, Shared};
use crate::name::Name;
use crate::secret::Secret;
use crate::token::backoff::{Backoff, Pace};
use crate::token::failure::{Concerns, MintError, MintFailureKind};
use crate::token::lifetime::{Lifetime, Origin};
use crate::token::members::Members;
use crate::token::minted::Minted;
use crate::token::minter::{self, Start};
use crate::token::source::{Kind, Mint, Source};
use crate::token::watchers::Watchers;
use crate::token::{LifetimeRules, RenewAhead};

const S: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// A token endpoint that takes a while and answers what it is told to.
struct Endpoint {
    mints: AtomicUsize,
    takes: Mutex<Duration>,
    answer: Mutex<Answer>,
}

#[derive(Clone, Copy)]
enum Answer {
    /// A value of its own for each mint, living this many seconds.
    Fresh(u64),
    /// Always the same value.
    Same(u64),
    WrongSecret,
    WrongScope,
    Down,
    Unreached,
    Panic,
}

impl Endpoint {
    fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Self { mints: AtomicUsize::new(0), takes: Mutex::new(S), answer: Mutex::new(answer) })
    }

    fn mints(&self) -> usize {
        self.mints.load(Ordering::SeqCst)
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }
}

impl Mint for Arc<Endpoint> {
    fn mint(&self) -> BoxFuture<'static, Result<Minted, MintError>> {
        let number = self.mints.fetch_add(1, Ordering::SeqCst) + 1;
        let (takes, endpoint) = (*self.takes.lock(), Arc::clone(self));
        async move {
            sleep(takes).await;
            let answer = *endpoint.answer.lock();
            let minted = |value: String, seconds| Minted {
                value: Secret::new(value),
                token_type: None,
                scope: None,
                asked_scope: None,
                lifetime: Lifetime { span: S * seconds, origin: Origin::Endpoint },
                members: Members::default(),
            };
            match answer {
                Answer::Fresh(seconds) => Ok(minted(format!("token {number}"), u32::try_from(seconds).unwrap())),
                Answer::Same(seconds) => Ok(minted("the token".to_owned(), u32::try_from(seconds).unwrap())),
                Answer::WrongSecret => Err(MintError::new(MintFailureKind::Refused, Pace::Permanent, "invalid_client")),
                Answer::WrongScope => {
                    let mut error = MintError::new(MintFailureKind::Refused, Pace::Permanent, "invalid_scope");
                    error.concerns = Concerns::Request;
                    Err(error)
                }
                Answer::Down => Err(MintError::new(MintFailureKind::Unavailable, Pace::Transient, "status 503")),
                Answer::Unreached => Err(MintError::new(MintFailureKind::Unavailable, Pace::Unreached, "unreachable")),
                Answer::Panic => panic!("an expected panic of this test"),
            }
        }
        .boxed()
    }
}

fn source(endpoint: &Arc<Endpoint>) -> Source {
    Source {
        external_credential: Name::parse("apigee").unwrap(),
        principal: Name::parse("default").unwrap(),
        mint: Box::new(Arc::clone(endpoint)),
        kind: Kind::Minted,
        lifetime: LifetimeRules {
            default: S * 900,
            max: S * 86_400,
            renew_ahead: RenewAhead::Share(0.2),
            expiry_margin: S * 10,
        },
        patience: PATIENCE,
    }
}

fn start_with(endpoint: &Arc<Endpoint>, client: &Arc<Mutex<Backoff>>, start: Start) -> (Arc<Cell>, JoinHandle<()>) {
    let shared = Arc::new(Shared::new(source(endpoint), Arc::clone(client), None, Watchers::default()));
    let (asks, asked) = mpsc::channel(1);
    let (outcomes, outcome) = watch::channel(Outcome::None);
    let minter = tokio::spawn(minter::run(Arc::clone(&shared), asked, outcomes, start));
    (Arc::new(Cell::from(Made::new(shared, asks, outcome))), minter)
}

fn start(endpoint: &Arc<Endpoint>) -> Arc<Cell> {
    start_with(endpoint, &Arc::default(), Start::OnDemand).0
}

/// Lets every other task run until it waits, without time passing.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// C16: a thousand waiters share one mint.
#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_share_one_mint() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let cell = start(&endpoint);
    assert!(cell.live().is_none());
    let tokens = join_all((0..1000).map(|_| cell.token())).await;
    let first = tokens[0].as_ref().unwrap().id();
    assert!(tokens.iter().all(|token| token.as_ref().is_ok_and(|token| token.id() == first)));
    assert_eq!(cell.live().unwrap().id(), first);
    settle().await;
    assert_eq!(endpoint.mints(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiters_share_a_failure_and_the_next_fail_at_once() {
    let endpoint = Endpoint::new(Answer::Down);
    let cell = start(&endpoint);
    for failed in join_all((0..100).map(|_| cell.token())).await {
        let failure = failed.unwrap_err();
        assert_eq!((failure.kind, failure.cause.as_str()), (MintFailureKind::Unavailable, "status 503"));
        assert!(failure.retry_after > Duration::ZERO && failure.retry_after <= S);
    }
    let before = Instant::now();
    assert!(cell.token().await.is_err());
    assert_eq!(before.elapsed(), Duration::ZERO);
    settle().await;
    assert_eq!(endpoint.mints(), 1);
}

/// C16: a caller that goes away does not cancel the mint.
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_cancel_the_mint() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let cell = start(&endpoint);
    assert!(tokio::time::timeout(S / 2, cell.token()).await.is_err());
    advance(S).await;
    settle().await;
    assert!(cell.live().is_some());
    assert_eq!(endpoint.mints(), 1);
    assert!(cell.made.get().unwrap().shared.let_in(1), "nobody waits any more");
}

/// C16: waiters are bounded in number.
#[tokio::test(start_paused = true)]
async fn waiters_are_bounded_in_number() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let cell = start(&endpoint);
    let waited = join_all((0..=MOST_WAITING).map(|_| cell.token())).await;
    let failed: Vec<_> = waited.into_iter().filter_map(Result::err).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].kind, MintFailureKind::OverCapacity);
}

/// C16: waiters are bounded in time.
#[tokio::test(start_paused = true)]
async fn waiters_are_bounded_in_time() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    *endpoint.takes.lock() = S * 1000;
    let cell = start(&endpoint);
    let before = Instant::now();
    let failure = cell.token().await.unwrap_err();
    assert_eq!((failure.kind, failure.cause.as_str()), (MintFailureKind::Unavailable, "timed out"));
    assert!(before.elapsed() <= PATIENCE + S);
}

#[tokio::test(start_paused = true)]
async fn a_dead_minter_is_an_error_and_not_a_hang() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let (cell, minter) = start_with(&endpoint, &Arc::default(), Start::OnDemand);
    let waiting = tokio::spawn({
        let cell = Arc::clone(&cell);
        async move { cell.token().await.map(|token| token.id()) }
    });
    settle().await;
    minter.abort();
    let before = Instant::now();
    assert_eq!(waiting.await.unwrap().unwrap_err().cause, "the minter has ended");
    assert_eq!(cell.token().await.unwrap_err().kind, MintFailureKind::Unavailable);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_mint_is_a_failure_and_the_minter_lives_on() {
    let endpoint = Endpoint::new(Answer::Panic);
    let cell = start(&endpoint);
    assert_eq!(cell.token().await.unwrap_err().cause, "a defect in keybearer");
    endpoint.answers(Answer::Fresh(3600));
    advance(S).await;
    assert!(cell.token().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_minter_ends_with_its_cell() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let (cell, minter) = start_with(&endpoint, &Arc::default(), Start::OnDemand);
    cell.token().await.unwrap();
    drop(cell);
    minter.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_renewed_for_all_who_rejected_it() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let cell = start(&endpoint);
    let rejected = cell.token().await.unwrap();
    let renewals = join_all((0..100).map(|_| cell.renew(&rejected))).await;
    for renewal in renewals {
        assert!(matches!(renewal, Renewal::Renewed(token) if token.id() != rejected.id()));
    }
    settle().await;
    assert_eq!(endpoint.mints(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_under_renewal_is_not_handed_out() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let cell = start(&endpoint);
    let rejected = cell.token().await.unwrap();
    cell.reject(&rejected);
    assert!(cell.live().is_none());
    assert_ne!(cell.token().await.unwrap().id(), rejected.id());
    assert_eq!(endpoint.mints(), 2);
}

/// C18: a late rejection drops nothing and is answered at once.
#[tokio::test(start_paused = true)]
async fn a_late_rejection_drops_nothing_and_is_answered_at_once() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let cell = start(&endpoint);
    let old = cell.token().await.unwrap();
    cell.renew(&old).await;
    let live = cell.live().unwrap();
    let before = Instant::now();
    assert!(matches!(cell.renew(&old).await, Renewal::Renewed(token) if token.id() == live.id()));
    cell.reject(&old);
    assert_eq!(cell.live().unwrap().id(), live.id());
    settle().await;
    assert_eq!((before.elapsed(), endpoint.mints()), (Duration::ZERO, 2));
}

/// C18: an upstream that always rejects costs a bounded number of mints.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_always_rejects_costs_a_bounded_number_of_mints() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    *endpoint.takes.lock() = Duration::ZERO;
    let cell = start(&endpoint);
    let mut exhausted = 0;
    for _ in 0..3600 {
        let token = cell.token().await.unwrap();
        match cell.renew(&token).await {
            Renewal::Renewed(token) => cell.replay_refused(&token),
            Renewal::Exhausted { retry_after } => {
                assert!(retry_after <= S * 600);
                exhausted += 1;
            }
            Renewal::SameToken | Renewal::Failed(_) => panic!("unexpected"),
        }
        // Other calls succeed meanwhile and refill nothing.
        assert!(cell.live().is_some());
        advance(S).await;
    }
    assert!(endpoint.mints() <= 14, "{} mints", endpoint.mints());
    assert!(exhausted > 3500);
}

/// Pins Zoom's rule: the endpoint has ended the old token and its new one is still on the way, at every renewal ahead.
#[tokio::test(start_paused = true)]
async fn a_rejection_while_a_mint_is_underway_is_renewed_by_it_and_costs_no_allowance() {
    let endpoint = Endpoint::new(Answer::Fresh(60));
    let cell = start(&endpoint);
    let mut token = cell.token().await.unwrap();
    for renewal in 2..=8 {
        advance(S * 50).await;
        assert_eq!(cell.live().unwrap().id(), token.id());
        settle().await;
        assert_eq!(endpoint.mints(), renewal, "a renewal ahead is under way");
        let Renewal::Renewed(renewed) = cell.renew(&token).await else { panic!("renewal {renewal}") };
        assert_eq!(endpoint.mints(), renewal, "and it is the only one");
        token = renewed;
    }
    for _ in 0..3 {
        let Renewal::Renewed(renewed) = cell.renew(&token).await else { panic!("the burst is whole") };
        token = renewed;
    }
}

#[tokio::test(start_paused = true)]
async fn the_rejected_value_again_is_no_renewal_and_not_asked_for_again_soon() {
    let endpoint = Endpoint::new(Answer::Same(3600));
    let cell = start(&endpoint);
    let token = cell.token().await.unwrap();
    assert!(matches!(cell.renew(&token).await, Renewal::SameToken));
    assert_eq!(cell.live().unwrap().id(), token.id());
    for _ in 0..29 {
        assert!(matches!(cell.renew(&token).await, Renewal::Exhausted { .. }));
        advance(S).await;
    }
    assert_eq!(endpoint.mints(), 2);
    advance(S).await;
    endpoint.answers(Answer::Fresh(3600));
    assert!(matches!(cell.renew(&token).await, Renewal::Renewed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_with_a_dead_endpoint_leaves_the_token_to_others() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let cell = start(&endpoint);
    let token = cell.token().await.unwrap();
    endpoint.answers(Answer::Unreached);
    let (renewal, other) = tokio::join!(cell.renew(&token), async {
        settle().await;
        assert!(cell.live().is_none());
        cell.token().await
    });
    assert!(matches!(renewal, Renewal::Failed(failure) if failure.cause == "unreachable"));
    assert_eq!(other.unwrap().id(), token.id());
    // While the back-off runs, rejecting again costs nobody the token.
    assert!(matches!(cell.renew(&token).await, Renewal::Failed(_)));
    assert_eq!(cell.live().unwrap().id(), token.id());
    // Failed mints did not use up the allowance: the endpoint's return is noticed at the pace of the back-off.
    for _ in 0..10 {
        advance(S * 2).await;
        assert!(matches!(cell.renew(&token).await, Renewal::Failed(_)));
    }
    endpoint.answers(Answer::Fresh(3600));
    advance(S * 2).await;
    assert!(matches!(cell.renew(&token).await, Renewal::Renewed(_)));
}

/// C17: a renewal ahead happens once and only while the cell is in use.
#[tokio::test(start_paused = true)]
async fn a_renewal_ahead_happens_once_and_only_while_the_cell_is_in_use() {
    let endpoint = Endpoint::new(Answer::Fresh(1000));
    let cell = start(&endpoint);
    let first = cell.token().await.unwrap();
    advance(S * 700).await;
    assert!(cell.live().is_some());
    settle().await;
    assert_eq!(endpoint.mints(), 1);
    // Past the line, nobody looks: nothing happens.
    advance(S * 200).await;
    settle().await;
    assert_eq!(endpoint.mints(), 1);
    for _ in 0..100 {
        assert_eq!(cell.live().unwrap().id(), first.id());
    }
    settle().await;
    advance(S * 2).await;
    settle().await;
    assert_eq!(endpoint.mints(), 2);
    assert_ne!(cell.live().unwrap().id(), first.id());
}

/// C5, C19: a failing renewal ahead keeps the live token to its line and not beyond.
#[tokio::test(start_paused = true)]
async fn a_failing_renewal_ahead_keeps_the_live_token_to_its_line_and_not_beyond() {
    let endpoint = Endpoint::new(Answer::Fresh(1000));
    *endpoint.takes.lock() = Duration::ZERO;
    let cell = start(&endpoint);
    let token = cell.token().await.unwrap();
    endpoint.answers(Answer::Down);
    advance(S * 900).await;
    for second in 900..990 {
        assert_eq!(cell.live().map(|token| token.id()), Some(token.id()), "{second}");
        settle().await;
        advance(S).await;
    }
    assert!((2..=12).contains(&endpoint.mints()), "{} mints", endpoint.mints());
    assert!(cell.live().is_none());
    assert!(cell.token().await.is_err());
    endpoint.answers(Answer::Fresh(1000));
    advance(S * 30).await;
    assert_ne!(cell.token().await.unwrap().id(), token.id());
}

#[tokio::test(start_paused = true)]
async fn a_token_of_one_second_is_usable() {
    let endpoint = Endpoint::new(Answer::Fresh(1));
    *endpoint.takes.lock() = Duration::ZERO;
    let cell = start(&endpoint);
    let token = cell.token().await.unwrap();
    advance(S * 4 / 10).await;
    assert_eq!(cell.live().unwrap().id(), token.id());
    advance(S / 2).await;
    assert!(cell.live().is_none());
}

/// C21: what the request took is not added to the lifetime.
#[tokio::test(start_paused = true)]
async fn what_the_request_took_is_not_added_to_the_lifetime() {
    let endpoint = Endpoint::new(Answer::Fresh(100));
    *endpoint.takes.lock() = S * 9;
    let cell = start(&endpoint);
    assert_eq!(cell.token().await.unwrap().seconds_left(), 91);
}

/// C20: a wrong secret is tried three times in two minutes under constant demand.
#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_tried_three_times_in_two_minutes_under_constant_demand() {
    let endpoint = Endpoint::new(Answer::WrongSecret);
    *endpoint.takes.lock() = Duration::ZERO;
    let client = Arc::default();
    // Two token requests of one client share the pace.
    let cells = [start_with(&endpoint, &client, Start::OnDemand).0, start_with(&endpoint, &client, Start::OnDemand).0];
    for _ in 0..1200 {
        for cell in &cells {
            assert_eq!(cell.token().await.unwrap_err().cause, "invalid_client");
        }
        advance(S / 10).await;
    }
    assert_eq!(endpoint.mints(), 3);
    for _ in 0..6000 {
        let _ = cells[0].token().await;
        advance(S / 10).await;
    }
    assert!((4..=8).contains(&endpoint.mints()), "{} mints", endpoint.mints());
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_refused_does_not_hold_up_the_clients_other_requests() {
    let (wrong, right) = (Endpoint::new(Answer::WrongScope), Endpoint::new(Answer::Fresh(3600)));
    let client = Arc::default();
    let cells = [start_with(&wrong, &client, Start::OnDemand).0, start_with(&right, &client, Start::OnDemand).0];
    assert_eq!(cells[0].token().await.unwrap_err().cause, "invalid_scope");
    assert!(cells[1].token().await.is_ok());
    assert!(cells[0].token().await.is_err());
    assert_eq!(wrong.mints(), 1);
}

/// C19: an endpoint that returns is found within two seconds.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_returns_is_found_within_two_seconds() {
    let endpoint = Endpoint::new(Answer::Unreached);
    *endpoint.takes.lock() = Duration::ZERO;
    let cell = start(&endpoint);
    for _ in 0..600 {
        assert!(cell.token().await.is_err());
        advance(S / 10).await;
    }
    endpoint.answers(Answer::Fresh(3600));
    let before = Instant::now();
    while cell.token().await.is_err() {
        advance(S / 10).await;
    }
    assert!(before.elapsed() < S * 2, "{:?}", before.elapsed());
}

/// C17: the same token near its end is not asked for in a loop.
#[tokio::test(start_paused = true)]
async fn the_same_token_near_its_end_is_not_asked_for_in_a_loop() {
    let endpoint = Endpoint::new(Answer::Same(3600));
    *endpoint.takes.lock() = Duration::ZERO;
    let cell = start(&endpoint);
    cell.token().await.unwrap();
    advance(S * 3500).await;
    endpoint.answers(Answer::Same(20));
    for _ in 0..18 {
        assert!(cell.live().is_some());
        settle().await;
        advance(S).await;
    }
    assert_eq!(endpoint.mints(), 2);
}

#[tokio::test(start_paused = true)]
async fn mint_at_start_needs_nobody_to_ask() {
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    let (cell, _minter) = start_with(&endpoint, &Arc::default(), Start::Soon);
    sleep(S * 4).await;
    assert!(cell.live().is_some());
    assert_eq!(endpoint.mints(), 1);
}

/// C22: many cells that mint at the start are spread, so that many replicas at once are no storm.
#[tokio::test(start_paused = true)]
async fn mints_at_start_are_spread() {
    const CELLS: usize = 64;
    let endpoint = Endpoint::new(Answer::Fresh(3600));
    *endpoint.takes.lock() = Duration::ZERO;
    let cells: Vec<_> = (0..CELLS).map(|_| start_with(&endpoint, &Arc::default(), Start::Soon)).collect();
    sleep(minter::START_SPREAD / 2).await;
    // Sixty-four coins: fewer than eight of a kind come once in 10^10 runs.
    assert!((8..=CELLS - 8).contains(&endpoint.mints()), "{} of {CELLS} in the first half", endpoint.mints());
    sleep(minter::START_SPREAD).await;
    assert_eq!(endpoint.mints(), CELLS, "each once");
    drop(cells);
}
