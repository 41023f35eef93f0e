//! The attempt loop: attach a token, send, and judge the answer. Every reason for another attempt has its own bound:
//! a stale connection (once lost, and whenever nothing was sent, on a fresh connection), a proof that lacked a nonce
//! (once for each token), a renewed token (once).

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::destination::{Destination, Way};
use super::discard::discard;
use super::interim::Following;
use super::look::{UpstreamBody, look};
use super::plan::NamedCredential;
use super::prepare::{Credential, Hop, Prepared};
use super::record::OpenRecord;
use super::refusal::Change;
use super::replay::{AttemptBody, CallerBody, Gate, Progress};
use super::settings::{Replay, Timeouts};
use super::upgrade::Upgrade;
use super::{Stop, grpc, stop, upgrade};
use crate::access_log::NotReplayed;
use crate::answer::Failure;
use crate::header::{self, Pseudonym};
use crate::limit::{Limit, RetryBudget};
use crate::server::{self, Connection};
use crate::token::{Cell, MintFailure, MintFailureKind, Principal, Renewal, Token, Verdict};
use crate::upstream::{Lease, Protocol, SendError};

/// How often a request that was not sent at all, or not processed, is given to another connection.
const UNSENT_RETRIES: u8 = 2;

/// One exchange with the upstream.
pub(super) struct Attempts<'a> {
    pub(super) named: &'a NamedCredential,
    pub(super) principal: Option<&'a Principal>,
    /// Where the principal's tokens for this exchange are; none: there is no token to attach.
    pub(super) cell: Option<Arc<Cell>>,
    pub(super) prepared: Prepared,
    pub(super) body: CallerBody,
    pub(super) destination: Destination<'a>,
    pub(super) retries: &'a RetryBudget,
    pub(super) connection: &'a Connection,
    /// Our name in `Via`.
    pub(super) pseudonym: &'a Pseudonym,
    /// When the whole exchange must have ended.
    pub(super) end: Option<Instant>,
}

/// The answer that the caller will see.
pub(super) struct Answered {
    pub(super) answer: Response<UpstreamBody>,
    pub(super) lease: Lease<AttemptBody>,
    pub(super) body: CallerBody,
    /// What the upstream consented to, with a 101.
    pub(super) upgrade: Option<Box<Upgrade>>,
    /// The credential of its request, where trailers may follow that must not repeat it.
    pub(super) credential: Option<Box<HeaderValue>>,
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
    pub(super) async fn run(self, open: &mut OpenRecord) -> Result<Answered, Stop> {
        let (Some(principal), Some(cell)) = (self.principal, &self.cell) else {
            return self.forward(None, open).await;
        };
        let token = match cell.live() {
            Some(token) => token,
            None => match self.before_end(cell.token()).await {
                Some(minted) => minted.map_err(|failure| {
                    if failure.kind == MintFailureKind::OverCapacity {
                        open.limit = Some(Limit::Waiters);
                    }
                    stop::mint(&failure)
                })?,
                None => return Err(stop::mint(&late())),
            },
        };
        let attached = Attached::new(cell, principal, &token);
        let mut first = self.forward(Some(&attached), open).await?;
        let mut verdict = self.verdict(&attached, &first);
        if verdict == Verdict::Look {
            (first, verdict) = Box::pin(self.look_closer(&attached, first, open)).await?;
        }
        let Verdict::Rejected(replay) = verdict else {
            self.accepted(first.answer.status(), &token);
            return Ok(first);
        };
        open.record.rejected = true;
        let replay = replay.unwrap_or(self.named.settings.replay);
        let renewed = match self.renewal(cell, &token, &first, replay).await {
            Ok(renewed) => renewed,
            Err(reason) => {
                open.record.not_replayed_reason = Some(reason);
                return Ok(first);
            }
        };
        open.record.renewed = true;
        open.record.replayed = true;
        discard(first).await;
        let attached = Attached::new(cell, principal, &renewed);
        let mut second = self.forward(Some(&attached), open).await?;
        let mut verdict = self.verdict(&attached, &second);
        if verdict == Verdict::Look {
            (second, verdict) = Box::pin(self.look_closer(&attached, second, open)).await?;
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

    /// The verdict on an answer whose status and fields do not settle it; never [`Verdict::Look`]. Apart from the
    /// rest and boxed by its callers, because it is rare and every exchange would make room for it.
    async fn look_closer(
        &self,
        attached: &Attached<'_>,
        answered: Answered,
        open: &mut OpenRecord,
    ) -> Result<(Answered, Verdict), Stop> {
        let answered = self.with_nonce(attached, answered, open).await?;
        let Some(external) = &self.named.external else { return Ok((answered, Verdict::Accepted)) };
        let rules = external.rejection();
        let Answered { mut answer, lease, body, upgrade, credential } = answered;
        let mut verdict = rules.head(answer.status(), answer.headers());
        if verdict == Verdict::Look {
            (answer, verdict) = look(answer, &self.prepared.method, rules, self.end).await;
        }
        let mut answered = Answered { answer, lease, body, upgrade, credential };
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
        answered: Answered,
        open: &mut OpenRecord,
    ) -> Result<Answered, Stop> {
        if !attached.lacks_nonce(&answered.answer) {
            return Ok(answered);
        }
        if let Err(reason) = self.body.take_over() {
            open.record.not_replayed_reason = Some(reason);
            return Ok(answered);
        }
        discard(answered).await;
        self.forward(Some(attached), open).await
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

    /// Sends the request with what is attached and waits for the head of an answer.
    async fn forward(&self, attached: Option<&Attached<'_>>, open: &mut OpenRecord) -> Result<Answered, Stop> {
        let way = self.destination.way(self.named, attached.map(|attached| attached.token))?;
        let connect = self.connect_time();
        let mut lease = way.pool().checkout(connect).await.map_err(|error| stop::checkout(&error))?;
        let mut request = self.request(attached, &way, &lease)?;
        let mut unsent = 0;
        let mut lost = false;
        loop {
            let was_reused = lease.is_reused();
            match self.send(&mut lease, request, attached).await? {
                Ok(answer) if self.misses_expectation(&answer) => request = self.request(attached, &way, &lease)?,
                Ok(mut answer) => {
                    open.record.upstream_status = Some(answer.status().as_u16());
                    let upgrade = self.switched(&answer)?;
                    if !header::is_framed_once(answer.version(), answer.headers()) {
                        return Err(Stop::with(
                            Failure::UpstreamProtocol,
                            "the answer's length can be read in two ways",
                        ));
                    }
                    if let Some(attached) = attached {
                        attached.cell.note_nonce(way.origin(), answer.headers());
                        header::scrub(answer.headers_mut(), &attached.value);
                    }
                    let body = self.body.clone();
                    let credential = attached.filter(|_| self.passes_trailers()).map(|attached| attached.value.clone());
                    let (answer, credential) = (answer.map(UpstreamBody::new), credential.map(Box::new));
                    return Ok(Answered { answer, lease, body, upgrade, credential });
                }
                // Nobody has seen it, nor its proof.
                Err(SendError::Unsent(returned)) if unsent < UNSENT_RETRIES => {
                    unsent += 1;
                    way.pool().stale();
                    request = *returned;
                }
                Err(_) if self.body.is_too_large() => return Err(Stop::new(Failure::BodyTooLarge)),
                // The upstream says that nothing was applied (RFC 9113 8.7), so the method does not matter.
                Err(SendError::Refused(error)) if unsent < UNSENT_RETRIES && self.body.take_over().is_ok() => {
                    tracing::debug!(%error, "the upstream refused a stream; sending again on another connection");
                    unsent += 1;
                    request = self.request(attached, &way, &lease)?;
                }
                Err(SendError::Lost(error)) if was_reused && !lost && self.may_repeat() => {
                    if !self.retries.spend() {
                        open.limit = Some(Limit::Retries);
                        return Err(stop::send(&SendError::<AttemptBody>::Lost(error), self.connection));
                    }
                    tracing::debug!(%error, "a pooled connection was dead; sending again on a new one");
                    lost = true;
                    way.pool().stale();
                    request = self.request(attached, &way, &lease)?;
                }
                Err(error) => return Err(stop::send(&error, self.connection)),
            }
            lease = way.pool().open(self.connect_time()).await.map_err(|error| stop::checkout(&error))?;
        }
    }

    /// The next request to send. A proof serves one request only (RFC 9449 4.2), so each gets its own.
    fn request(
        &self,
        attached: Option<&Attached<'_>>,
        way: &Way<'_>,
        lease: &Lease<AttemptBody>,
    ) -> Result<Request<AttemptBody>, Stop> {
        let mut request = self.authorized(attached, way.origin(), lease.protocol())?;
        if let Some(host) = way.host(self.named) {
            request.headers_mut().insert(HOST, host.clone());
        }
        Ok(request)
    }

    fn authorized(
        &self,
        attached: Option<&Attached<'_>>,
        origin: &str,
        protocol: Protocol,
    ) -> Result<Request<AttemptBody>, Stop> {
        if self.prepared.upgrade.is_some() && protocol != Protocol::Http1 {
            return Err(upgrade::impossible());
        }
        let hop = Hop { protocol, expects: self.prepared.expects && self.expects_in_turn(protocol) };
        let body = self.body.attempt(if hop.expects { Gate::Shut(None) } else { Gate::Open });
        let Some(attached) = attached else { return Ok(self.prepared.request(None, body, hop)) };
        let proof = match attached.cell.dpop() {
            Some(_) => attached.proof(&self.prepared, origin).transpose()?,
            None => None,
        };
        let credential = Credential { header: self.named.injected(), value: attached.value.clone(), proof };
        Ok(self.prepared.request(Some(credential), body, hop))
    }

    /// Waits within the time that the whole exchange may take; none when that is over first.
    async fn before_end<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        match self.end {
            None => Some(waiting.await),
            Some(end) => tokio::time::timeout_at(end, waiting).await.ok(),
        }
    }

    /// How long connecting may take: its own limit, or what is left of the whole exchange's.
    fn connect_time(&self) -> Duration {
        let connect = self.named.settings.timeouts.connect;
        self.end.map_or(connect, |end| connect.min(end.saturating_duration_since(Instant::now())))
    }

    /// Whether the caller is sent trailers: over HTTP/2 always, otherwise where it reads them.
    pub(super) fn passes_trailers(&self) -> bool {
        self.prepared.reads_trailers || self.connection.protocol == server::Protocol::Http2
    }

    /// RFC 9110 9.2.2: only what is idempotent, and only while every byte of its body is still there.
    fn may_repeat(&self) -> bool {
        is_idempotent(&self.prepared.method) && self.body.take_over().is_ok()
    }

    /// Sends once; the first-byte time-out starts with the last byte of the request that moved. A body that is held
    /// back goes on its way when the upstream has had its time to ask for it.
    async fn send(
        &self,
        lease: &mut Lease<AttemptBody>,
        mut request: Request<AttemptBody>,
        attached: Option<&Attached<'_>>,
    ) -> Result<Result<Response<Incoming>, SendError<AttemptBody>>, Stop> {
        // A caller that logs a connection in at a host of its own choice must not do so for others.
        if self.named.passes_through && header::authenticates_connection(&self.prepared.headers) {
            lease.spend();
        }
        let Timeouts { first_byte, continue_, .. } = self.named.settings.timeouts;
        let mut deadline = Instant::now() + first_byte;
        let mut release = (self.prepared.expects && self.body.is_held_back()).then(|| Instant::now() + continue_);
        let following = Following::new(&mut request, self, attached.map(|attached| &attached.value));
        lease.read_for(self.connection.valve());
        let mut sending = std::pin::pin!(lease.send(request));
        let mut answering = std::future::poll_fn(|cx| {
            let sent = sending.as_mut().poll(cx);
            // Those that came with the answer come before it, and behind it comes none.
            following.pass_on(sent.is_pending().then_some(cx.waker()));
            sent
        });
        loop {
            let at = [self.end, release].into_iter().flatten().fold(deadline, Instant::min);
            if let Ok(sent) = tokio::time::timeout_at(at, &mut answering).await {
                return Ok(sent);
            }
            if release.take_if(|release| *release <= at).is_some() {
                if self.body.release() {
                    self.named.expectations.ignored();
                }
                continue;
            }
            let moved = match self.body.progress() {
                Progress::Moving(last) | Progress::Ended(Some(last)) => last + first_byte,
                Progress::Ended(None) | Progress::Failed => at,
            };
            if moved <= at || self.end.is_some_and(|end| end <= at) {
                return Err(Stop::new(Failure::UpstreamTimeout));
            }
            deadline = moved;
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
