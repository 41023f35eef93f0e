//! The attempts of an exchange: attach a token, send (`sending`), and judge the answer. Every reason for another attempt
//! has its own bound: a stale connection (once lost, and whenever nothing was sent, on a fresh connection), a proof that
//! lacked a nonce (once for each token), a renewed token (once).

mod sending;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use tokio::time::Instant;

use super::destination::Destination;
use super::discard::discard;
use super::look::{UpstreamBody, look};
use super::plan::NamedCredential;
use super::prepare::Prepared;
use super::record::OpenRecord;
use super::refusal::Change;
use super::replay::{CallerBody, Progress};
use super::sent::Kept;
use super::settings::Replay;
use super::upgrade::Upgrade;
use super::{Stop, grpc, stop};
use crate::access_log::NotReplayed;
use crate::answer::Failure;
use crate::header::{self, Pseudonym};
use crate::limit::{Limit, RetryBudget};
use crate::server::Connection;
use crate::token::{Cell, MintFailure, MintFailureKind, Principal, Renewal, Token, Verdict};

/// One exchange with the upstream.
pub(super) struct Attempts<'a> {
    pub(super) named: &'a NamedCredential,
    pub(super) principal: Option<&'a Principal>,
    /// Where the principal's tokens for this exchange are; none: there is no token to attach.
    pub(super) cell: Option<Arc<Cell>>,
    pub(super) prepared: Box<Prepared>,
    pub(super) body: CallerBody,
    pub(super) destination: Destination<'a>,
    pub(super) retries: &'a RetryBudget,
    pub(super) connection: &'a Connection,
    /// Our name in `Via`.
    pub(super) pseudonym: &'a Pseudonym,
    /// When the whole exchange must have ended.
    pub(super) end: Option<Instant>,
}

/// The answer that the caller will see. It passes through many hands, so they are given a box.
pub(super) struct Answered {
    pub(super) answer: Response<UpstreamBody>,
    pub(super) body: CallerBody,
    /// What the upstream consented to, with a 101.
    pub(super) upgrade: Option<Box<Upgrade>>,
    /// What its request carried, where trailers may follow that must not repeat it.
    pub(super) sent: Option<Box<Kept>>,
}

/// The field in which an upstream gives the nonce for the next proof (RFC 9449 8.1).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// A token and where it is from: what every request of an attempt is authorized with.
struct Attached<'a> {
    cell: &'a Cell,
    token: &'a Token,
    value: HeaderValue,
}

impl Attempts<'_> {
    /// Authorizes, forwards and, where the upstream refuses the token, renews and replays once.
    pub(super) async fn run(&self, open: &mut OpenRecord) -> Result<Box<Answered>, Stop> {
        let (Some(principal), Some(cell)) = (self.principal, &self.cell) else {
            return self.forward(None, Instant::now(), open).await;
        };
        let mut now = Instant::now();
        let token = match cell.live_at(now) {
            Some(token) => token,
            None => {
                let minted = Box::pin(self.minted(cell, open)).await?;
                now = Instant::now();
                minted
            }
        };
        let attached = Attached::new(cell, principal, &token);
        let mut first = self.forward(Some(&attached), now, open).await?;
        let mut verdict = self.verdict(&attached, &first);
        if verdict == Verdict::Look {
            (first, verdict) = Box::pin(self.look_closer(&attached, first, open)).await?;
        }
        let Verdict::Rejected(replay) = verdict else {
            self.accepted(first.answer.status(), &token);
            return Ok(first);
        };
        open.record.rejected = true;
        Box::pin(self.renew_and_replay((principal, cell, &token), first, replay, open)).await
    }

    /// The token that is minted now. This and all that a rejection leads to is boxed by its callers, because it is rare
    /// and every exchange would make room for it.
    async fn minted(&self, cell: &Cell, open: &mut OpenRecord) -> Result<Arc<Token>, Stop> {
        let Some(minted) = self.before_end(cell.token()).await else { return Err(stop::mint(&late())) };
        minted.map_err(|failure| {
            if failure.kind == MintFailureKind::OverCapacity {
                open.limit = Some(Limit::Waiters);
            }
            stop::mint(&failure)
        })
    }

    /// Renews the token that was rejected with the answer `first` and replays the request once; the answer to that, or
    /// `first` where it cannot be.
    async fn renew_and_replay(
        &self,
        (principal, cell, token): (&Principal, &Cell, &Token),
        first: Box<Answered>,
        replay: Option<Replay>,
        open: &mut OpenRecord,
    ) -> Result<Box<Answered>, Stop> {
        let replay = replay.unwrap_or(self.named.settings.replay);
        let renewed = match self.renewal(cell, token, &first, replay).await {
            Ok(renewed) => renewed,
            Err(reason) => {
                open.record.not_replayed_reason = Some(reason);
                return Ok(first);
            }
        };
        open.record.renewed = true;
        open.record.replayed = true;
        discard(*first).await;
        let attached = Attached::new(cell, principal, &renewed);
        let mut second = self.forward(Some(&attached), Instant::now(), open).await?;
        let mut verdict = self.verdict(&attached, &second);
        if verdict == Verdict::Look {
            (second, verdict) = self.look_closer(&attached, second, open).await?;
        }
        if let Verdict::Rejected(_) = verdict {
            cell.replay_refused(&renewed);
            // A token that was good here a moment ago was revoked meanwhile, or this path alone refuses it. Neither
            // makes renewals pointless for others, and the cell's allowance bounds both.
            if !self.named.has_accepted(renewed.id()) {
                self.refused(&renewed, Duration::ZERO);
            }
            open.record.not_replayed_reason = Some(NotReplayed::Refused);
        } else {
            cell.replay_accepted(&renewed);
            self.accepted(second.answer.status(), &renewed);
        }
        Ok(second)
    }

    /// What status and fields of the answer say about its token.
    fn verdict(&self, attached: &Attached<'_>, answered: &Answered) -> Verdict {
        if attached.lacks_nonce(&answered.answer) {
            return Verdict::Look;
        }
        let Some(external) = &self.named.external else { return Verdict::Accepted };
        let rules = external.rejection();
        let verdict = rules.head(answered.answer.status(), answered.answer.headers());
        match verdict == Verdict::Accepted && self.is_ended_call(answered) {
            true => grpc::head(&answered.answer, rules),
            false => verdict,
        }
    }

    /// Whether the answer is that to a gRPC call whose request has ended. What is said to one that goes on may come any
    /// time later, and nobody waits for that.
    fn is_ended_call(&self, answered: &Answered) -> bool {
        self.prepared.is_grpc && matches!(answered.body.progress(), Progress::Ended(_))
    }

    /// The verdict on an answer whose status and fields do not settle it; never [`Verdict::Look`].
    async fn look_closer(
        &self,
        attached: &Attached<'_>,
        answered: Box<Answered>,
        open: &mut OpenRecord,
    ) -> Result<(Box<Answered>, Verdict), Stop> {
        let answered = self.with_nonce(attached, answered, open).await?;
        let Some(external) = &self.named.external else { return Ok((answered, Verdict::Accepted)) };
        let rules = external.rejection();
        let Answered { mut answer, body, upgrade, sent } = *answered;
        let mut verdict = rules.head(answer.status(), answer.headers());
        if verdict == Verdict::Look {
            (answer, verdict) = look(answer, &self.prepared.method, rules, self.end).await;
        }
        let mut answered = Box::new(Answered { answer, body, upgrade, sent });
        if verdict == Verdict::Accepted && self.is_ended_call(&answered) {
            verdict = grpc::head(&answered.answer, rules);
        }
        if verdict == Verdict::Look {
            (answered.answer, verdict) = grpc::look(answered.answer, rules, self.end).await;
        }
        Ok((answered, verdict))
    }

    /// Sends the request once more with the same token where all that is wrong is the nonce of its proof (RFC 9449 9).
    /// The upstream has applied nothing and asks for exactly this, so it is neither a rejection nor a replay, and
    /// `replay` does not rule it; only a body that is not kept stands in its way, and that is told.
    async fn with_nonce(
        &self,
        attached: &Attached<'_>,
        answered: Box<Answered>,
        open: &mut OpenRecord,
    ) -> Result<Box<Answered>, Stop> {
        if !attached.lacks_nonce(&answered.answer) {
            return Ok(answered);
        }
        if let Err(reason) = self.body.take_over() {
            open.record.not_replayed_reason = Some(reason);
            return Ok(answered);
        }
        discard(*answered).await;
        self.forward(Some(attached), Instant::now(), open).await
    }

    /// A token to replay with, or why there is no replay. The token is renewed for the next exchange all the same,
    /// unless renewing it is known to be pointless.
    async fn renewal(
        &self,
        cell: &Cell,
        rejected: &Token,
        answered: &Answered,
        replay: Replay,
    ) -> Result<Arc<Token>, NotReplayed> {
        if self.named.refusal.is_active(Instant::now()) {
            return Err(NotReplayed::Refused);
        }
        if let Some(reason) = self.replay_forbidden(answered, replay).or_else(|| self.body.not_replayable()) {
            cell.reject(rejected);
            return Err(reason);
        }
        // Whoever runs out of time takes the upstream's answer; the mint goes on for the next exchange.
        let renewal = self.before_end(cell.renew(rejected)).await.unwrap_or_else(|| Renewal::Failed(late()));
        match renewal {
            // The body went on streaming while the token was renewed: judge it again, and take it over if all is there.
            Renewal::Renewed(token) => self.body.take_over().map(|()| token),
            Renewal::SameToken => {
                self.refused(rejected, Duration::ZERO);
                Err(NotReplayed::SameToken)
            }
            Renewal::Exhausted { retry_after } => {
                self.refused(rejected, retry_after);
                Err(NotReplayed::Refused)
            }
            Renewal::Failed(_) => Err(NotReplayed::MintFailed),
        }
    }

    /// A 401 says that the request was not applied (RFC 9110 15.5.2), and so does gRPC's UNAUTHENTICATED; no other status
    /// does.
    fn replay_forbidden(&self, answered: &Answered, replay: Replay) -> Option<NotReplayed> {
        let is_unapplied = || {
            answered.answer.status() == StatusCode::UNAUTHORIZED
                || (self.prepared.is_grpc && grpc::is_unauthenticated(&answered.answer))
        };
        let allowed = match replay {
            Replay::Never => return Some(NotReplayed::Off),
            Replay::Always => true,
            Replay::Unset => is_unapplied() || is_idempotent(&self.prepared.method),
            Replay::Idempotent => is_idempotent(&self.prepared.method),
        };
        (!allowed).then_some(NotReplayed::Method)
    }

    fn refused(&self, token: &Token, at_least: Duration) {
        if self.named.refusal.note(token.id(), Instant::now(), at_least) == Change::Refused {
            tracing::warn!(
                named_credential = %self.named.settings.name,
                "the upstream refuses fresh tokens; its answers pass through and renewals pause"
            );
        }
    }

    fn accepted(&self, status: StatusCode, token: &Token) {
        if !status.is_success() {
            return;
        }
        self.named.note_accepted(token.id());
        if self.named.refusal.accepted(token.id()) == Change::Cleared {
            tracing::info!(named_credential = %self.named.settings.name, "the upstream accepts tokens again");
        }
    }

    /// Waits within the time that the whole exchange may take; none when that is over first.
    async fn before_end<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        match self.end {
            None => Some(waiting.await),
            Some(end) => tokio::time::timeout_at(end, waiting).await.ok(),
        }
    }
}

impl<'a> Attached<'a> {
    fn new(cell: &'a Cell, principal: &Principal, token: &'a Token) -> Self {
        Self { cell, token, value: principal.attachment(token) }
    }

    fn proof(&self, prepared: &Prepared, origin: &str) -> Option<Result<HeaderValue, Stop>> {
        let proof = self.cell.proof(self.token, &prepared.method, origin, prepared.target.path())?;
        Some(proof.map_err(|error| {
            tracing::error!(%error, "no proof of possession can be made");
            Stop::new(Failure::Internal)
        }))
    }

    /// Whether the answer only asks for the nonce that it gives. Another exchange may have noted the same one before,
    /// so it need not be new.
    fn lacks_nonce<B>(&self, answer: &Response<B>) -> bool {
        self.cell.dpop().is_some()
            && answer.status() == StatusCode::UNAUTHORIZED
            && answer.headers().contains_key(DPOP_NONCE)
            && header::challenge_errors(answer.headers(), &["DPoP"]).iter().any(|error| error == "use_dpop_nonce")
    }
}

/// The exchange's time was over before a token came.
fn late() -> MintFailure {
    MintFailure {
        kind: MintFailureKind::Unavailable,
        cause: "timed out".to_owned(),
        retry_after: Duration::from_secs(1),
    }
}

/// RFC 9110 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
}
