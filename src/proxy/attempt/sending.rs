//! One attempt: the request with what is attached goes over a connection of the pool, and over another one where that
//! was dead or refused it, until the head of an answer is there.

use std::pin::Pin;
use std::time::Duration;

use http::header::HOST;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::super::destination::Way;
use super::super::interim::Following;
use super::super::look::UpstreamBody;
use super::super::prepare::{Credential, DPOP, Hop};
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
use crate::upstream::{Lease, Protocol, SendError};

/// How often a request that was not sent at all, or not processed, is given to another connection.
const UNSENT_RETRIES: u8 = 2;

impl Attempts<'_> {
    /// Sends the request with what is attached and waits for the head of an answer.
    pub(super) async fn forward(
        &self,
        attached: Option<&Attached<'_>>,
        open: &mut OpenRecord,
    ) -> Result<Answered, Stop> {
        let way = self.destination.way(self.named, attached.map(|attached| attached.token))?;
        let connect = self.connect_time();
        let mut lease = way.pool().checkout(connect).await.map_err(|error| stop::checkout(&error))?;
        let mut request = self.request(attached, &way, &lease)?;
        let mut unsent = 0;
        let mut lost = false;
        loop {
            let was_reused = lease.is_reused();
            let sent = self.sent(attached, &request);
            let answered = {
                let following = Following::new(&mut request, self, &sent);
                let sending = std::pin::pin!(self.send(&mut lease, request));
                self.answered(sending, following).await?
            };
            match answered {
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
                    }
                    sent.scrub(answer.headers_mut());
                    let body = self.body.clone();
                    let sent = if self.passes_trailers() { sent.keep() } else { None };
                    return Ok(Answered { answer: answer.map(UpstreamBody::new), lease, body, upgrade, sent });
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

    /// What this request carries that its answer must not repeat.
    fn sent<'s>(&'s self, attached: Option<&'s Attached<'_>>, request: &Request<AttemptBody>) -> Sent<'s> {
        let bound = attached.filter(|attached| attached.cell.dpop().is_some());
        Sent {
            token: attached.map(|attached| &attached.value),
            secrets: &self.prepared.secrets,
            proof: bound.and_then(|_| request.headers().get(DPOP).cloned()),
        }
    }

    /// Hands the request to the connection.
    fn send<'l>(
        &self,
        lease: &'l mut Lease<AttemptBody>,
        request: Request<AttemptBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError<AttemptBody>>> + use<'l> {
        // A caller that logs a connection in at a host of its own choice must not do so for others.
        if self.named.passes_through && header::authenticates_connection(&self.prepared.headers) {
            lease.spend();
        }
        lease.read_for(self.connection.valve());
        lease.send(request)
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

    /// Waits for what `sending` gives; the first-byte time-out starts with the last byte of the request that moved. A body
    /// that is held back goes on its way when the upstream has had its time to ask for it.
    async fn answered<S>(
        &self,
        mut sending: Pin<&mut S>,
        following: Following<'_>,
    ) -> Result<Result<Response<Incoming>, SendError<AttemptBody>>, Stop>
    where
        S: Future<Output = Result<Response<Incoming>, SendError<AttemptBody>>>,
    {
        let Timeouts { first_byte, continue_, .. } = self.named.settings.timeouts;
        let mut deadline = Instant::now() + first_byte;
        let mut release = (self.prepared.expects && self.body.is_held_back()).then(|| Instant::now() + continue_);
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
