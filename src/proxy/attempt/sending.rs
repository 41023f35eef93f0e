//! One attempt: the request with what is attached goes over a connection of the pool, and over another one where that
//! was dead or refused it, until the head of an answer is there.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderName, HeaderValue, Response, Version};
use tokio::time::Instant;

use super::super::destination::Way;
use super::super::interim::Following;
use super::super::look::UpstreamBody;
use super::super::prepare::{DPOP, Hop};
use super::super::replay::{AttemptBody, Gate, Progress};
use super::super::sent::Sent;
use super::super::settings::Timeouts;
use super::super::stop::{self, Stop};
use super::super::{record::OpenRecord, upgrade};
use super::{Answered, Attached, Attempts, is_idempotent};
use crate::answer::Failure;
use crate::header;
use crate::limit::Limit;
use crate::server;
use crate::upstream::{Lease, Protocol, Room, SendError};

/// How often a request that was not sent at all, or not processed, is given to another connection.
const UNSENT_RETRIES: u8 = 2;

impl Attempts<'_> {
    /// Sends the request with what is attached, `now`, and waits for the head of an answer.
    pub(super) async fn forward(
        &self,
        attached: Option<&Attached<'_>>,
        now: Instant,
        open: &mut OpenRecord,
    ) -> Result<Box<Answered>, Stop> {
        let way = self.destination.way(self.named, attached.map(|attached| attached.token))?;
        let connect = self.connect_time();
        let room = self.room();
        let mut lease = way.pool().checkout(now, connect, room).await.map_err(|error| stop::checkout(&error))?;
        let (mut set, mut body) = self.request(attached, &way, &lease)?;
        // Opening a connection takes time, and so may waiting for a place on one.
        let is_at_once = lease.is_reused() && lease.protocol() == Protocol::Http1;
        let mut begun = if is_at_once { now } else { Instant::now() };
        let mut unsent = 0;
        let mut lost = false;
        loop {
            let was_reused = lease.is_reused();
            let sent = self.sent(attached, &set);
            let answered = {
                let following = Following::new(self, &sent);
                let sending = std::pin::pin!(self.send(&mut lease, (&set, body), &following));
                self.answered(sending, begun).await?
            };
            match answered {
                Ok(answer) if self.misses_expectation(&answer) => {}
                Ok(mut answer) => {
                    open.record.upstream_status = Some(answer.status().as_u16());
                    let upgrade = self.switched(&answer)?;
                    // Over HTTP/1 the connection has seen to it.
                    if answer.version() == Version::HTTP_2
                        && !header::is_framed_once(answer.version(), answer.headers())
                    {
                        return Err(Stop::with(
                            Failure::UpstreamProtocol,
                            "the answer's length can be read in two ways",
                        ));
                    }
                    if let Some(attached) = attached {
                        attached.cell.note_nonce(way.origin(), answer.headers());
                    }
                    sent.scrub(answer.headers_mut());
                    let body = self.body.clone();
                    let sent = if self.passes_trailers() { sent.keep() } else { None };
                    lease.detach_request();
                    let answer = answer.map(|()| UpstreamBody::new(lease));
                    return Ok(Box::new(Answered { answer, body, upgrade, sent }));
                }
                Err(_) if self.body.is_too_large() => return Err(Stop::new(Failure::BodyTooLarge)),
                // Nobody has seen it. Who closes what was opened for it is not asked for more.
                Err(SendError::Unsent)
                    if unsent < UNSENT_RETRIES
                        && (was_reused || lease.protocol() == Protocol::Http2)
                        && self.body.take_over().is_ok() =>
                {
                    unsent += 1;
                    way.pool().stale();
                }
                // The upstream says that nothing was applied (RFC 9113 8.7), so the method does not matter.
                Err(SendError::Refused(error)) if unsent < UNSENT_RETRIES && self.body.take_over().is_ok() => {
                    tracing::debug!(%error, "the upstream refused a stream; sending again on another connection");
                    unsent += 1;
                }
                Err(SendError::Lost(error)) if was_reused && !lost && self.may_repeat() => {
                    if !self.retries.spend() {
                        open.limit = Some(Limit::Retries);
                        return Err(stop::send(&SendError::Lost(error), self.connection));
                    }
                    tracing::debug!(%error, "a pooled connection was dead; sending again on a new one");
                    lost = true;
                    way.pool().stale();
                }
                Err(error) => return Err(stop::send(&error, self.connection)),
            }
            lease = way.pool().open(self.connect_time(), room).await.map_err(|error| stop::checkout(&error))?;
            (set, body) = self.request(attached, &way, &lease)?;
            begun = Instant::now();
        }
    }

    /// What is set, and the body, of the next request to send. A proof serves one request only (RFC 9449 4.2), so each
    /// gets its own.
    fn request(
        &self,
        attached: Option<&Attached<'_>>,
        way: &Way<'_>,
        lease: &Lease<AttemptBody>,
    ) -> Result<(Vec<(HeaderName, HeaderValue)>, AttemptBody), Stop> {
        let protocol = lease.protocol();
        if self.prepared.upgrade.is_some() && protocol != Protocol::Http1 {
            return Err(upgrade::impossible());
        }
        let hop = Hop { protocol, expects: self.prepared.expects && self.expects_in_turn(protocol) };
        let mut set = self.prepared.say(hop);
        set.extend(way.host(self.named).map(|host| (HOST, host.clone())));
        if let Some(attached) = attached {
            set.push((self.named.injected().clone(), attached.value.clone()));
            if attached.cell.dpop().is_some()
                && let Some(proof) = attached.proof(&self.prepared, way.origin())
            {
                set.push((DPOP, proof?));
            }
        }
        Ok((set, self.body.attempt(if hop.expects { Gate::Shut(None) } else { Gate::Open })))
    }

    /// What this request carries that its answer must not repeat.
    fn sent<'s>(&'s self, attached: Option<&'s Attached<'_>>, set: &[(HeaderName, HeaderValue)]) -> Sent<'s> {
        let bound = attached.filter(|attached| attached.cell.dpop().is_some());
        let proof = bound.and_then(|_| set.iter().find(|(name, _)| *name == DPOP));
        Sent {
            token: attached.map(|attached| &attached.value),
            secrets: &self.prepared.secrets,
            proof: proof.map(|(_, value)| value.clone()),
        }
    }

    /// Hands the request to the connection.
    fn send<'l>(
        &self,
        lease: &'l mut Lease<AttemptBody>,
        (set, body): (&[(HeaderName, HeaderValue)], AttemptBody),
        following: &'l Following<'l>,
    ) -> impl Future<Output = Result<Response<()>, SendError>> + use<'l> {
        // A caller that logs a connection in at a host of its own choice must not do so for others.
        if self.named.passes_through && header::authenticates_connection(&self.prepared.headers) {
            lease.spend();
        }
        lease.send(self.prepared.head(set), body, |status, headers| following.pass_on(status, headers))
    }

    fn room(&self) -> Room {
        if self.connection.is_proven() { Room::Wide } else { Room::Narrow }
    }

    /// How long connecting may take: its own limit, or what is left of the whole exchange's.
    fn connect_time(&self) -> Duration {
        let connect = self.named.settings.timeouts.connect;
        self.end.map_or(connect, |end| connect.min(end.saturating_duration_since(Instant::now())))
    }

    /// Whether the caller is sent trailers: over HTTP/2 always, otherwise where it reads them.
    fn passes_trailers(&self) -> bool {
        self.prepared.reads_trailers || self.connection.protocol == server::Protocol::Http2
    }

    /// RFC 9110 9.2.2: only what is idempotent, and only while every byte of its body is still there.
    fn may_repeat(&self) -> bool {
        is_idempotent(&self.prepared.method) && self.body.take_over().is_ok()
    }

    /// Waits for what `sending` gives, which has `begun`; the first-byte time-out starts with the last byte of the request
    /// that moved. A body that is held back goes on its way when the upstream has had its time to ask for it.
    async fn answered<S>(
        &self,
        mut sending: Pin<&mut S>,
        begun: Instant,
    ) -> Result<Result<Response<()>, SendError>, Stop>
    where
        S: Future<Output = Result<Response<()>, SendError>>,
    {
        let Timeouts { first_byte, continue_, .. } = self.named.settings.timeouts;
        let mut deadline = begun + first_byte;
        let mut release = (self.prepared.expects && self.body.is_held_back()).then(|| begun + continue_);
        loop {
            let at = [self.end, release].into_iter().flatten().fold(deadline, Instant::min);
            let answered = poll_fn(|cx| match sending.as_mut().poll(cx) {
                Poll::Ready(sent) => Poll::Ready(Some(sent)),
                Poll::Pending => self.connection.alarm().lock().poll(cx, at).map(|()| None),
            });
            if let Some(sent) = answered.await {
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
