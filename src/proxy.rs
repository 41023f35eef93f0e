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
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use self::attempt::{Answered, Attempts};
use self::carry::Until;
use self::decide::{Arrived, Decision, Found};
use self::destination::Destination;
use self::plan::{NamedCredential, Plan};
use self::prepare::{Context, Prepared, TrailerRule};
use self::record::OpenRecord;
use self::relay::RelayLimits;
use self::replay::{AttemptBody, BodyLengths, CallerBody, Pause};
use self::stop::Stop;
use self::tunnel::Tunnel;
use crate::access_log::{AccessLog, RequestId};
use crate::answer::{self, Failure};
use crate::body::AnswerBody;
use crate::header::Pseudonym;
use crate::limit::RetryBudget;
use crate::metrics::{CallerDecision, CallerDecisions, Gauge, Limited, Metrics, NamedCredentialMetrics};
use crate::name::Name;
use crate::server::{Arrival, Connection, Protocol, Service};
use crate::upstream::{Endpoint, PoolLimits, Pools};

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

/// The life of a request. What is in flight is one such future, so nothing stays in it that is over: heads, decisions and
/// preparations pass through functions that do not wait.
async fn exchange(proxy: Arc<Proxy>, request: Request<Incoming>, connection: Arc<Connection>) -> Response<AnswerBody> {
    let (request, mut open, is_call) = opened(&proxy, request, &connection);
    let mut found = Found::default();
    let mut answer = match serve(&proxy, request, &connection, &mut open, &mut found).await {
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

/// A request that has arrived.
struct Opened {
    parts: Parts,
    incoming: Incoming,
    /// The caller's side of the tunnel that it asks for.
    near: Option<OnUpgrade>,
}

/// Takes a request apart and opens its record; whether it is a gRPC call.
fn opened(proxy: &Proxy, request: Request<Incoming>, connection: &Connection) -> (Opened, OpenRecord, bool) {
    let (mut parts, incoming) = request.into_parts();
    let is_call = connection.protocol == Protocol::Http2 && grpc::is_call(&parts.headers);
    let id = proxy.shared.request_id(parts.headers.get(answer::REQUEST_ID));
    let open = OpenRecord::new(&proxy.shared, connection, Some(&parts), id);
    // Over HTTP/2 it belongs to the exchange that an extended CONNECT stands for.
    let opens_tunnel = parts.method == Method::CONNECT && connection.protocol == Protocol::Http1;
    let near = if opens_tunnel { parts.extensions.remove() } else { None };
    (Opened { parts, incoming, near }, open, is_call)
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
    Opened { mut parts, incoming, near }: Opened,
    connection: &Arc<Connection>,
    open: &mut OpenRecord,
    found: &mut Found,
) -> Result<Outcome, Stop> {
    open.admit()?;
    let plan = proxy.shared.plan.load_full();
    let context = Context { connection, pseudonym: &proxy.shared.pseudonym, id: &open.record.id, has_secrets: true };
    let decided = match decide::arrive(&mut parts, &plan, connection, found) {
        Ok(Arrived::Known) => decide::decide(parts, &plan, &context, found),
        Ok(Arrived::Pending(pending)) => {
            Box::pin(pending.settled()).await;
            // Whatever is still open now stays unproven.
            let _ = decide::identify(&parts, &plan, connection, found);
            decide::decide(parts, &plan, &context, found)
        }
        Ok(Arrived::Answer(answer)) => Ok(Decision::Answer(answer)),
        Err(stop) => Err(stop),
    };
    proxy.shared.caller_decisions.count(decision(&decided));
    open.note(found);
    let (prepared, passing) = match forwarded(decided) {
        Ok(prepared) => prepared,
        Err(Otherwise::Stop(stop)) => return Err(stop),
        Err(Otherwise::Answer(answer)) => return Ok(Outcome::Answer(*answer)),
        Err(Otherwise::Tunnel(endpoint)) => {
            open.enter_tunnel()?;
            let tunnel = Box::pin(Tunnel::open(&endpoint, near)).await?;
            return Ok(Outcome::Tunnel(Box::new(tunnel)));
        }
    };
    let Some(named) = passing.as_ref().or(found.named.as_ref()) else { return Err(Stop::new(Failure::Internal)) };
    let (attempts, limits) = attempts(proxy, (prepared, incoming), (named, &found.callers), &plan, connection);
    open.body = Some(attempts.body.clone());
    let answered = attempts.run(open).await?;
    if attempts.prepared.switches_over_http2() && answered.upgrade.is_none() && answered.answer.status().is_success() {
        // RFC 8441 4: any 2xx would tell the caller that the tunnel is open.
        return Err(Stop::with(Failure::UpstreamProtocol, "the upstream did not switch protocols"));
    }
    Ok(Outcome::Relay(answered, limits))
}

/// What is done in place of sending the request on.
enum Otherwise {
    Stop(Stop),
    Answer(Box<Response<AnswerBody>>),
    Tunnel(Box<Endpoint>),
}

/// The request to send on, with the named credential of hosts that are passed through where it goes to one.
fn forwarded(decided: Result<Decision, Stop>) -> Result<(Box<Prepared>, Option<Arc<NamedCredential>>), Otherwise> {
    match decided {
        Ok(Decision::Forward(prepared)) => Ok((prepared, None)),
        Ok(Decision::PassThrough(prepared, named)) => Ok((prepared, Some(named))),
        Ok(Decision::Answer(answer)) => Err(Otherwise::Answer(answer)),
        Ok(Decision::Tunnel(endpoint)) => Err(Otherwise::Tunnel(endpoint)),
        Err(stop) => Err(Otherwise::Stop(stop)),
    }
}

/// The exchange with the upstream, not begun yet, and what holds for its answer.
fn attempts<'a>(
    proxy: &'a Proxy,
    (mut prepared, incoming): (Box<Prepared>, Incoming),
    (named, callers): (&'a Arc<NamedCredential>, &[Name]),
    plan: &Arc<Plan>,
    connection: &'a Arc<Connection>,
) -> (Attempts<'a>, RelayLimits) {
    let settings = &named.settings;
    let end = settings.timeouts.total.map(|total| Instant::now() + total);
    let lengths = BodyLengths {
        kept: settings.replay_limit,
        most: settings.limits.body,
        pause: if prepared.is_grpc { Pause::Stream(settings.streams.idle) } else { Pause::Usual },
    };
    let trailer_rule = || TrailerRule { named: Arc::clone(named), plan: Arc::clone(plan) };
    let body = CallerBody::new((incoming, connection), lengths, &proxy.shared.replay_memory, trailer_rule);
    let destination = Destination::of(named, &proxy.pools, prepared.protocol);
    let principal = decide::principal(named, callers);
    let cell = prepared.cell.take();
    let limits = RelayLimits {
        idle: settings.timeouts.idle,
        stream_idle: settings.streams.idle,
        trailers: prepared.reads_trailers || connection.protocol == Protocol::Http2,
        end,
    };
    proxy.retries.earn();
    let (retries, pseudonym) = (&proxy.retries, &proxy.shared.pseudonym);
    (Attempts { named, principal, cell, prepared, body, destination, retries, connection, pseudonym, end }, limits)
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
    fn request_id(&self, sent: Option<&HeaderValue>) -> RequestId {
        sent.and_then(RequestId::sent).unwrap_or_else(|| {
            let number = self.next_id.fetch_add(1, Ordering::Relaxed);
            let name = self.pseudonym.as_str();
            RequestId::numbered(name.strip_prefix("keybearer-").unwrap_or(name), number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::exchange;

    /// Every request in flight costs one of these; what grows it should be seen.
    #[test]
    fn the_future_of_an_exchange_stays_small() {
        fn size<P, R, C, F>(_: impl Fn(P, R, C) -> F) -> usize {
            std::mem::size_of::<F>()
        }
        let bytes = size(exchange);
        assert!(bytes <= 3584, "{bytes} bytes");
    }
}
