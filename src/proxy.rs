//! One exchange, in order: arrive, caller, route, prepare, authorize, forward, renew and replay, relay, record.
//!
//! A [`Proxy`] is the service of one worker. What it shares with the other workers is behind [`Shared`].

mod attempt;
mod carry;
mod decide;
mod destination;
mod discard;
mod expect;
pub mod explain;
mod fields;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grpc;
mod interim;
mod limits;
mod look;
pub mod plan;
mod prepare;
pub mod probe;
mod record;
mod refusal;
mod relay;
mod replay;
mod sent;
pub mod settings;
mod stop;
mod tunnel;
mod upgrade;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use self::attempt::{Answered, Attempts};
use self::carry::Until;
use self::decide::{Arrived, Decision, Found};
use self::destination::Destination;
use self::plan::Plan;
use self::prepare::{Context, TrailerRule};
use self::record::OpenRecord;
use self::relay::RelayLimits;
use self::replay::{AttemptBody, BodyLengths, CallerBody, Pause};
use self::stop::Stop;
use self::tunnel::Tunnel;
use crate::access_log::AccessLog;
use crate::answer::{self, Failure};
use crate::body::AnswerBody;
use crate::header::Pseudonym;
use crate::limit::RetryBudget;
use crate::metrics::{CallerDecision, CallerDecisions, Gauge, Limited, Metrics, NamedCredentialMetrics};
use crate::server::{Arrival, Connection, Protocol, Service};
use crate::upstream::{PoolLimits, Pools};

pub use self::forward::forward_match;
pub use self::replay::ReplayMemory;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// Who may call what; swapped whole.
    pub plan: ArcSwap<Plan>,
    /// Where records go.
    pub access_log: AccessLog,
    /// Metrics of exchanges that no named credential matched.
    pub unmatched: NamedCredentialMetrics,
    /// What was decided about callers.
    pub caller_decisions: CallerDecisions,
    /// Requests being served.
    pub in_flight: Gauge,
    /// How many of them there may be.
    pub most_in_flight: i64,
    /// Tunnels that callers asked for and that are open, or being opened.
    pub tunnels: Gauge,
    /// How many of them there may be.
    pub most_tunnels: i64,
    /// Their longest pause.
    pub tunnel_idle: Duration,
    /// Counts limits that were reached.
    pub limited: Limited,
    /// Memory for copies of request bodies.
    pub replay_memory: Arc<ReplayMemory>,
    /// Our name in `Via`: `keybearer-` and a random part, so that a loop is told from a chain.
    pub pseudonym: Pseudonym,
    /// The next number of a request id.
    pub next_id: AtomicU64,
}

/// The service of one worker.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    pools: Pools<AttemptBody>,
    retries: RetryBudget,
}

impl Proxy {
    /// A worker's service, with pools of its own.
    #[must_use]
    pub fn new(shared: Arc<Shared>, metrics: Metrics) -> Self {
        Self { shared, pools: Pools::new(PoolLimits::default(), metrics), retries: RetryBudget::default() }
    }
}

impl Service for Proxy {
    fn call(
        self: Arc<Self>,
        arrival: Arrival,
        connection: Arc<Connection>,
    ) -> Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>> {
        match arrival {
            Arrival::Request(request) => Box::pin(exchange(self, request, connection)),
            Arrival::Refused(failure) => {
                let mut open = OpenRecord::new(&self.shared, &connection, None, self.shared.request_id(None));
                let answer = refuse(&mut open, &Stop::new(failure));
                Box::pin(std::future::ready(answer))
            }
        }
    }
}

/// The life of a request.
async fn exchange(proxy: Arc<Proxy>, request: Request<Incoming>, connection: Arc<Connection>) -> Response<AnswerBody> {
    let (parts, incoming) = request.into_parts();
    let is_call = connection.protocol == Protocol::Http2 && grpc::is_call(&parts.headers);
    let id = proxy.shared.request_id(parts.headers.get(answer::REQUEST_ID));
    let mut open = OpenRecord::new(&proxy.shared, &connection, Some(&parts), id);
    let mut found = Found::default();
    let mut answer = match serve(&proxy, (parts, incoming), &connection, &mut open, &mut found).await {
        Ok(Outcome::Relay(mut answered, limits)) => match answered.upgrade.take() {
            None => relay::relay(*answered, open, &proxy.shared.pseudonym, limits),
            Some(upgrade) => {
                let until = Until {
                    idle: limits.stream_idle,
                    half_closed: limits.stream_idle,
                    end: limits.end,
                    distrust: connection.distrust.clone(),
                };
                upgrade::switch(*answered, *upgrade, open, &proxy.shared.pseudonym, until)
            }
        },
        Ok(Outcome::Tunnel(tunnel)) => tunnel.answer(open, proxy.shared.tunnel_idle, &connection),
        Ok(Outcome::Answer(answer)) => {
            open.record.status = answer.status().as_u16();
            answer
        }
        Err(stop) if is_call => refuse_call(&mut open, &stop),
        Err(stop) => refuse(&mut open, &stop),
    };
    if let Some(origin) = found.cors {
        origin.apply(answer.headers_mut());
    }
    answer
}

/// What an exchange came to when nothing failed.
enum Outcome {
    /// The upstream's answer, to be passed on.
    Relay(Box<Answered>, RelayLimits),
    /// A tunnel, to be told to the caller.
    Tunnel(Box<Tunnel>),
    /// An answer of our own.
    Answer(Response<AnswerBody>),
}

async fn serve(
    proxy: &Proxy,
    (mut parts, incoming): (Parts, Incoming),
    connection: &Arc<Connection>,
    open: &mut OpenRecord,
    found: &mut Found,
) -> Result<Outcome, Stop> {
    open.admit()?;
    let plan = proxy.shared.plan.load_full();
    let context = Context { connection, pseudonym: &proxy.shared.pseudonym, id: &open.record.id, has_secrets: true };
    // Over HTTP/2 it belongs to the exchange that an extended CONNECT stands for.
    let opens_tunnel = parts.method == Method::CONNECT && connection.protocol == Protocol::Http1;
    let upgrade = if opens_tunnel { parts.extensions.remove() } else { None };
    let decided = match decide::arrive(&mut parts, &plan, connection, found) {
        Ok(Arrived::Answer(answer)) => Ok(Decision::Answer(*answer)),
        Ok(Arrived::Known) => decide::decide(parts, &plan, &context, found),
        Ok(Arrived::Pending(pending)) => {
            Box::pin(pending.settled()).await;
            // Whatever is still open now stays unproven.
            let _ = decide::identify(&parts, &plan, connection, found);
            decide::decide(parts, &plan, &context, found)
        }
        Err(stop) => Err(stop),
    };
    proxy.shared.caller_decisions.count(decision(&decided));
    open.note(found);
    let passing;
    let (mut prepared, named) = match (decided?, &found.named) {
        (Decision::Forward(prepared), Some(named)) => (prepared, named),
        (Decision::PassThrough(pass), _) => {
            passing = pass.1;
            (pass.0, &passing)
        }
        (Decision::Tunnel(endpoint), _) => {
            open.enter_tunnel()?;
            let opening = Box::pin(Tunnel::open(&endpoint, upgrade));
            return opening.await.map(|tunnel| Outcome::Tunnel(Box::new(tunnel)));
        }
        (Decision::Forward(_), None) => return Err(Stop::new(Failure::Internal)),
        (Decision::Answer(answer), _) => return Ok(Outcome::Answer(answer)),
    };
    let settings = &named.settings;
    let end = settings.timeouts.total.map(|total| Instant::now() + total);
    let body = {
        let lengths = BodyLengths {
            kept: settings.replay_limit,
            most: settings.limits.body,
            pause: if prepared.is_grpc { Pause::Stream(settings.streams.idle) } else { Pause::Usual },
        };
        let trailer_rule = || TrailerRule { named: Arc::clone(named), plan: Arc::clone(&plan) };
        CallerBody::new((incoming, connection), lengths, &proxy.shared.replay_memory, trailer_rule)
    };
    open.body = Some(body.clone());
    let destination = Destination::of(named, &proxy.pools, prepared.protocol);
    let principal = decide::principal(named, &found.callers);
    let cell = prepared.cell.take();
    if cell.is_some() {
        prepared.make_room(named.injected());
    }
    proxy.retries.earn();
    let retries = &proxy.retries;
    let limits = RelayLimits {
        idle: settings.timeouts.idle,
        stream_idle: settings.streams.idle,
        trailers: prepared.reads_trailers || connection.protocol == Protocol::Http2,
        end,
    };
    let switches_over_http2 = prepared.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_asked_over_http2());
    let pseudonym = &proxy.shared.pseudonym;
    let attempts =
        Attempts { named, principal, cell, prepared, body, destination, retries, connection, pseudonym, end };
    let answered = attempts.run(open).await?;
    if switches_over_http2 && answered.upgrade.is_none() && answered.answer.status().is_success() {
        // RFC 8441 4: any 2xx would tell the caller that the tunnel is open.
        return Err(Stop::with(Failure::UpstreamProtocol, "the upstream did not switch protocols"));
    }
    Ok(Outcome::Relay(Box::new(answered), limits))
}

/// What was decided about the caller, whatever became of the request.
fn decision(decided: &Result<Decision, Stop>) -> CallerDecision {
    match decided {
        Err(Stop { failure: Failure::CallerUnknown, .. }) => CallerDecision::Unknown,
        Err(Stop { failure: Failure::CallerNotAllowed, .. }) => CallerDecision::NotAllowed,
        Err(Stop { failure: Failure::CrossSite | Failure::Misdirected, .. }) => CallerDecision::Browser,
        Ok(_) | Err(_) => CallerDecision::Allowed,
    }
}

fn refuse(open: &mut OpenRecord, stop: &Stop) -> Response<AnswerBody> {
    open.fail(stop.failure);
    let answer = answer::failure(stop.failure, &stop.detail, &open.record.id);
    open.record.bytes_out = http_body::Body::size_hint(answer.body()).exact().unwrap_or(0);
    answer
}

/// What [`refuse`] is to callers of gRPC, who read no other status than their own.
fn refuse_call(open: &mut OpenRecord, stop: &Stop) -> Response<AnswerBody> {
    open.fail(stop.failure);
    let answer = answer::call_failure(stop.failure, &stop.detail, &open.record.id);
    open.record.status = answer.status().as_u16();
    answer
}

impl Shared {
    /// The caller's own request id where it is fit to be logged and sent on, otherwise a new one.
    fn request_id(&self, sent: Option<&HeaderValue>) -> String {
        let fit = |text: &&str| {
            (1..=128).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match sent.and_then(|value| value.to_str().ok()).filter(fit) {
            Some(id) => id.to_owned(),
            None => {
                let number = self.next_id.fetch_add(1, Ordering::Relaxed);
                let name = self.pseudonym.as_str();
                numbered(name.strip_prefix("keybearer-").unwrap_or(name), number)
            }
        }
    }
}

/// `{name}-{number:x}`, for a fifth of what `format!` takes: nearly every exchange makes one.
fn numbered(name: &str, number: u64) -> String {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    let mut text = String::with_capacity(name.len() + 1 + digits as usize);
    text.push_str(name);
    text.push('-');
    for place in (0..digits).rev() {
        let digit = (number >> (4 * place)) as u8 & 0xf;
        text.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{exchange, numbered};

    #[test]
    fn request_ids_count_in_hexadecimal_digits() {
        for number in [0, 9, 10, 15, 16, 0xff, 0x100, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(numbered("name", number), format!("name-{number:x}"));
        }
    }

    /// Every request in flight costs one of these; what grows it should be seen.
    #[test]
    fn the_future_of_an_exchange_stays_small() {
        fn size<P, R, C, F>(_: impl Fn(P, R, C) -> F) -> usize {
            std::mem::size_of::<F>()
        }
        let bytes = size(exchange);
        assert!(bytes <= 5 * 1024, "{bytes} bytes");
    }
}
