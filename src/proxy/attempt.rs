//! The attempt loop: attach a token, send, and judge the answer. Every reason for another attempt has its own bound:
//! a stale connection (once lost, and whenever nothing was sent, on a fresh connection), a renewed token (once).

use std::sync::Arc;
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::Instant;

use super::plan::NamedCredential;
use super::prepare::Prepared;
use super::record::OpenRecord;
use super::refusal::Change;
use super::replay::{AttemptBody, CallerBody, Progress};
use super::settings::Replay;
use super::{Stop, stop};
use crate::access_log::NotReplayed;
use crate::answer::Failure;
use crate::server::Connection;
use crate::token::{MintFailure, MintFailureKind, Principal, Renewal, Token};
use crate::upstream::{Lease, Pool, SendError};

/// How much of a rejected answer is read so that its connection can be used again, and for how long.
const DISCARD_BYTES: u64 = 16 * 1024;
const DISCARD_TIME: Duration = Duration::from_millis(250);

/// How often a request that was not sent at all is given to another fresh connection.
const UNSENT_RETRIES: u8 = 2;

/// One exchange with the upstream.
pub(super) struct Attempts<'a> {
    pub(super) named: &'a NamedCredential,
    pub(super) principal: Option<&'a Principal>,
    pub(super) prepared: Prepared,
    pub(super) body: CallerBody,
    pub(super) pool: Arc<Pool<AttemptBody>>,
    pub(super) connection: &'a Connection,
    /// When the whole exchange must have ended.
    pub(super) end: Option<Instant>,
}

/// The answer that the caller will see.
pub(super) struct Answered {
    pub(super) answer: Response<Incoming>,
    pub(super) lease: Lease<AttemptBody>,
    pub(super) body: CallerBody,
}

type Credential = (HeaderName, HeaderValue);

impl Attempts<'_> {
    /// Authorizes, forwards and, where the upstream refuses the token, renews and replays once.
    pub(super) async fn run(self, open: &mut OpenRecord) -> Result<Answered, Stop> {
        let Some(principal) = self.principal else {
            return self.forward(None, open).await;
        };
        let cell = principal.cell();
        let token = match cell.live() {
            Some(token) => token,
            None => match self.before_end(cell.token()).await {
                Some(minted) => minted.map_err(|failure| stop::mint(&failure))?,
                None => return Err(stop::mint(&late())),
            },
        };
        let first = self.forward(Some(&self.attachment(principal, &token)), open).await?;
        if !self.is_rejection(&first.answer) {
            self.accepted(&first.answer, &token);
            return Ok(first);
        }
        open.record.rejected = true;
        let renewed = match self.renewal(principal, &token, first.answer.status()).await {
            Ok(renewed) => renewed,
            Err(reason) => {
                open.record.not_replayed_reason = Some(reason);
                return Ok(first);
            }
        };
        open.record.renewed = true;
        open.record.replayed = true;
        discard(first).await;
        let second = self.forward(Some(&self.attachment(principal, &renewed)), open).await?;
        if self.is_rejection(&second.answer) {
            cell.replay_refused(&renewed);
            // A token that was good here a moment ago was revoked meanwhile, or this path alone refuses it. Neither
            // makes renewals pointless for others, and the cell's allowance bounds both.
            if !self.named.has_accepted(renewed.id()) {
                self.refused(&renewed, Duration::ZERO);
            }
            open.record.not_replayed_reason = Some(NotReplayed::Refused);
        } else {
            cell.replay_accepted(&renewed);
            self.accepted(&second.answer, &renewed);
        }
        Ok(second)
    }

    fn attachment(&self, principal: &Principal, token: &Token) -> Credential {
        (self.named.injected().clone(), principal.attachment(token))
    }

    /// By status; a token that is good but not enough (RFC 6750 3.1) is no reason to mint another.
    fn is_rejection(&self, answer: &Response<Incoming>) -> bool {
        let listed = self.named.external.as_ref().is_some_and(|external| external.is_rejection(answer.status()));
        listed && !answer.headers().get_all(WWW_AUTHENTICATE).iter().any(says_insufficient_scope)
    }

    /// A token to replay with, or why there is no replay. The token is renewed for the next exchange all the same,
    /// unless renewing it is known to be pointless.
    async fn renewal(
        &self,
        principal: &Principal,
        rejected: &Token,
        status: StatusCode,
    ) -> Result<Arc<Token>, NotReplayed> {
        if self.named.refusal.is_active(Instant::now()) {
            return Err(NotReplayed::Refused);
        }
        let cell = principal.cell();
        if let Some(reason) = self.replay_forbidden(status).or_else(|| self.body.not_replayable()) {
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

    /// A 401 says that the request was not applied (RFC 9110 15.5.2); no other status does.
    fn replay_forbidden(&self, status: StatusCode) -> Option<NotReplayed> {
        let allowed = match self.named.settings.replay {
            Replay::Never => return Some(NotReplayed::Off),
            Replay::Always => true,
            Replay::Unset => status == StatusCode::UNAUTHORIZED || is_idempotent(&self.prepared.method),
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

    fn accepted(&self, answer: &Response<Incoming>, token: &Token) {
        if !answer.status().is_success() {
            return;
        }
        self.named.note_accepted(token.id());
        if self.named.refusal.accepted(token.id()) == Change::Cleared {
            tracing::info!(named_credential = %self.named.settings.name, "the upstream accepts tokens again");
        }
    }

    /// Sends the request with `credential` and waits for the head of an answer.
    async fn forward(&self, credential: Option<&Credential>, open: &mut OpenRecord) -> Result<Answered, Stop> {
        let connect = self.connect_time();
        let mut lease = self.pool.checkout(connect).await.map_err(|error| stop::checkout(&error))?;
        let mut request = self.prepared.request(credential, self.body.attempt());
        let mut unsent = 0;
        let mut lost = false;
        loop {
            let was_reused = lease.is_reused();
            match self.send(&mut lease, request).await? {
                Ok(answer) => {
                    open.record.upstream_status = Some(answer.status().as_u16());
                    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                        return Err(Stop::with(Failure::UpstreamProtocol, "the upstream switched protocols unasked"));
                    }
                    return Ok(Answered { answer, lease, body: self.body.clone() });
                }
                Err(SendError::Unsent(returned)) if unsent < UNSENT_RETRIES => {
                    unsent += 1;
                    self.pool.stale();
                    request = *returned;
                }
                Err(SendError::Lost(error)) if was_reused && !lost && self.may_repeat() => {
                    tracing::debug!(%error, "a pooled connection was dead; sending again on a new one");
                    lost = true;
                    self.pool.stale();
                    request = self.prepared.request(credential, self.body.attempt());
                }
                Err(error) => return Err(stop::send(&error, self.connection)),
            }
            lease = self.pool.open(self.connect_time()).await.map_err(|error| stop::checkout(&error))?;
        }
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

    /// RFC 9110 9.2.2: only what is idempotent, and only while every byte of its body is still there.
    fn may_repeat(&self) -> bool {
        is_idempotent(&self.prepared.method) && self.body.take_over().is_ok()
    }

    /// Sends once; the first-byte time-out starts with the last byte of the request that moved.
    async fn send(
        &self,
        lease: &mut Lease<AttemptBody>,
        request: Request<AttemptBody>,
    ) -> Result<Result<Response<Incoming>, SendError<AttemptBody>>, Stop> {
        let first_byte = self.named.settings.timeouts.first_byte;
        let mut deadline = Instant::now() + first_byte;
        let mut sending = std::pin::pin!(lease.send(request));
        loop {
            let at = self.end.map_or(deadline, |end| end.min(deadline));
            if let Ok(sent) = tokio::time::timeout_at(at, sending.as_mut()).await {
                return Ok(sent);
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

/// The exchange's time was over before a token came.
fn late() -> MintFailure {
    MintFailure {
        kind: MintFailureKind::Unavailable,
        cause: "timed out".to_owned(),
        retry_after: Duration::from_secs(1),
    }
}

/// Reads a rejected answer to its end, within bounds, so that its connection can serve the replay; otherwise closes it.
async fn discard(rejected: Answered) {
    let Answered { answer, lease, body } = rejected;
    let mut incoming = answer.into_body();
    if incoming.size_hint().lower() > DISCARD_BYTES || !matches!(body.progress(), Progress::Ended(_)) {
        return;
    }
    let drained = async {
        let mut read = 0;
        while let Some(frame) = incoming.frame().await {
            read += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
            if frame.is_err() || read > DISCARD_BYTES {
                return false;
            }
        }
        true
    };
    if tokio::time::timeout(DISCARD_TIME, drained).await == Ok(true) {
        lease.give_back();
    }
}

/// RFC 9110 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
}

/// RFC 6750 3.1. Broken challenges are common, so the word is looked for and not the grammar.
fn says_insufficient_scope(challenge: &HeaderValue) -> bool {
    challenge.as_bytes().windows(18).any(|window| window.eq_ignore_ascii_case(b"insufficient_scope"))
}
