//! The admin listener as a service of the server: which requests may come here at all, then the answer.

use std::pin::Pin;
use std::sync::Arc;

use http::header::HOST;
use http::{Request, Response};
use hyper::body::Incoming;

use super::{Admin, Audience};
use crate::answer::{self, Detail, Failure};
use crate::body::AnswerBody;
use crate::caller::browser::{self, BrowserRules, Hosts, Verdict};
use crate::header::Presence;
use crate::server::{Address, Arrival, Connection, Service};

impl Service for Admin {
    fn call(
        self: Arc<Self>,
        arrival: Arrival,
        connection: Arc<Connection>,
    ) -> Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>> {
        Box::pin(async move {
            let failure = match arrival {
                Arrival::Refused(failure) => failure,
                Arrival::Request(request) => match judge(&request, &connection) {
                    None => {
                        let audience = self.audience(&request, &connection).await;
                        return self.answer(request.method(), request.uri().path(), audience).await;
                    }
                    Some(failure) => failure,
                },
            };
            answer::failure(failure, &Detail::default(), "admin")
        })
    }
}

impl Admin {
    async fn audience(&self, request: &Request<Incoming>, connection: &Connection) -> Audience {
        if self.local || self.admitted.is_empty() {
            return if self.local { Audience::Operator } else { Audience::Anyone };
        }
        let identify = || self.callers.load().identify(&connection.peer, connection.certificate(), request.headers());
        let mut identified = identify();
        if let Some(pending) = identified.pending.take() {
            pending.settled().await;
            identified = identify();
        }
        let admitted = identified.names.iter().any(|caller| self.admitted.contains(caller));
        if admitted { Audience::Operator } else { Audience::Anyone }
    }
}

/// No web page may read what is served here, not even by a name rebound to loopback.
fn judge(request: &Request<Incoming>, connection: &Connection) -> Option<Failure> {
    let listener = &connection.listener;
    let none_other = |_: &str| false;
    let hosts = match listener.address {
        Address::Tcp(_) if listener.address.is_local() => Hosts::Loopback(&none_other),
        Address::Tcp(_) | Address::Unix(_) => Hosts::Any,
    };
    let authority = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(HOST).and_then(|host| host.to_str().ok()),
    };
    let rules = BrowserRules { scheme: connection.scheme(), hosts, allowed_origins: &listener.allowed_origins };
    match browser::judge(request.method(), authority, (request.headers(), Presence::ANY), rules) {
        Verdict::Pass => None,
        Verdict::Misdirected => Some(Failure::Misdirected),
        Verdict::CrossSite | Verdict::CrossOrigin(_) | Verdict::Preflight(_) => Some(Failure::CrossSite),
    }
}
