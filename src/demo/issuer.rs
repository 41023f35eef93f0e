//! The built-in identity provider: an OAuth 2.0 authorization server for the client credentials grant.
//!
//! RFC 6749 (4.4, and 2.3.1 with `client_secret_basic` and `client_secret_post`), RFC 7009 revocation, RFC 7662
//! introspection, RFC 8414 metadata. Tests make it fail, answer anything, wait at a gate, and move its clock.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::gate::Gate;
use super::serving::Serving;
use crate::secret::Secret;

mod authenticate;
mod endpoints;

/// How many token requests are remembered.
const REMEMBERED: usize = 100;

/// A client of the issuer.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`
    pub id: String,
    /// `client_secret`
    pub secret: Secret,
    /// How long its tokens live; sent as `expires_in`, in whole seconds.
    pub lifetime: Duration,
}

/// What the token endpoint does with a request, right client or not.
#[derive(Clone, Debug, Default)]
pub enum Behavior {
    /// What the RFCs say.
    #[default]
    Conforming,
    /// This answer, whatever was asked.
    Answer(Answer),
    /// The connection is closed without an answer.
    Disconnect,
    /// The client's last token again, even a revoked one.
    SameToken,
    /// A new token, which ends all others as soon as it is asked for, before the answer is sent.
    OnlyToken,
    /// A conforming answer with these members replaced or added; null removes one.
    Members(Map<String, Value>),
}

/// An answer made up by a test.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its content.
    pub body: Bytes,
}

/// A token request as it came; its `Debug` leaves values out.
#[derive(Clone)]
pub struct TokenRequest {
    /// The target.
    pub uri: Uri,
    /// The header section.
    pub headers: HeaderMap,
    /// The form body, decoded, in order.
    pub form: Vec<(String, String)>,
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.form.iter().map(|(name, _)| name.as_str()).collect();
        formatter
            .debug_struct("TokenRequest")
            .field("path", &self.uri.path())
            .field("form", &names)
            .finish_non_exhaustive()
    }
}

/// What a live token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The client it was issued to.
    pub client_id: String,
    /// The scope it was issued with.
    pub scope: Option<String>,
    /// How long it is still good.
    pub rest: Duration,
}

/// A running issuer; ends when dropped.
#[derive(Debug)]
pub struct Issuer {
    serving: Serving,
    tokens: Tokens,
}

/// The issued tokens, as a resource server in the same process asks for them. Clones share one store.
#[derive(Clone)]
pub struct Tokens(Arc<Shared>);

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokens").finish_non_exhaustive()
    }
}

struct Shared {
    clients: Vec<Client>,
    gate: Gate,
    /// Requests that reached the token endpoint.
    asked: watch::Sender<u64>,
    store: Mutex<Store>,
}

#[derive(Default)]
struct Store {
    live: HashMap<String, Issued>,
    /// Each client's last token, live or not.
    last: HashMap<String, String>,
    /// How far ahead of the real time the issuer's clock is.
    ahead: Duration,
    behavior: Behavior,
    next: VecDeque<Behavior>,
    requests: VecDeque<TokenRequest>,
    minted: u64,
}

struct Issued {
    client_id: String,
    scope: Option<String>,
    end: Instant,
}

impl Issuer {
    /// Listens on `address` (loopback; port 0 takes a free one) and serves on the current runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(address: SocketAddr, clients: Vec<Client>) -> io::Result<Self> {
        let shared =
            Shared { clients, gate: Gate::new(), asked: watch::Sender::new(0), store: Mutex::new(Store::default()) };
        let tokens = Tokens(Arc::new(shared));
        let serving = Serving::start(address, endpoints::Endpoints(tokens.clone())).await?;
        Ok(Self { serving, tokens })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The URL of its token endpoint.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!("http://{}/token", self.address())
    }

    /// Its tokens, for the API that checks them.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// Revokes every live token and says how many.
    pub fn revoke_all(&self) -> usize {
        self.tokens.revoke_all()
    }

    /// Moves the issuer's clock on, so that tokens end without anybody waiting.
    pub fn advance(&self, by: Duration) {
        self.tokens.0.store.lock().ahead += by;
    }

    /// What the token endpoint does from now on.
    pub fn behave(&self, behavior: Behavior) {
        self.tokens.0.store.lock().behavior = behavior;
    }

    /// What the token endpoint does at the next request for which nothing is planned yet; then as it was.
    pub fn behave_once(&self, behavior: Behavior) {
        self.tokens.0.store.lock().next.push_back(behavior);
    }

    /// Token requests wait here, counted already, before they are answered.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.tokens.0.gate
    }

    /// How many requests reached the token endpoint.
    #[must_use]
    pub fn token_requests(&self) -> u64 {
        *self.tokens.0.asked.borrow()
    }

    /// Returns once at least `count` requests reached the token endpoint.
    pub async fn token_requests_reach(&self, count: u64) {
        // The sender lives as long as `self`.
        let _ = self.tokens.0.asked.subscribe().wait_for(|asked| *asked >= count).await;
    }

    /// How many tokens were issued.
    #[must_use]
    pub fn minted(&self) -> u64 {
        self.tokens.0.store.lock().minted
    }

    /// The last token requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.tokens.0.store.lock().requests.iter().cloned().collect()
    }
}

impl Tokens {
    /// What `token` stands for; none when it is unknown, over or revoked.
    #[must_use]
    pub fn active(&self, token: &str) -> Option<Grant> {
        let store = self.0.store.lock();
        let issued = store.live.get(token)?;
        let rest = issued.end.saturating_duration_since(store.now());
        let grant = Grant { client_id: issued.client_id.clone(), scope: issued.scope.clone(), rest };
        Some(grant).filter(|grant| !grant.rest.is_zero())
    }

    fn revoke_all(&self) -> usize {
        let mut store = self.0.store.lock();
        store.forget_ended();
        store.live.drain().count()
    }

    /// Revokes `token` if it is one of `client`'s.
    fn revoke(&self, token: &str, client: &Client) {
        let mut store = self.0.store.lock();
        if store.live.get(token).is_some_and(|issued| issued.client_id == client.id) {
            store.live.remove(token);
        }
    }

    /// Issues a token to `client` without being asked over HTTP.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn mint(&self, client: &Client, scope: Option<&str>) -> io::Result<String> {
        let token = random()?;
        let mut store = self.0.store.lock();
        store.forget_ended();
        let end = store.now() + client.lifetime;
        let issued = Issued { client_id: client.id.clone(), scope: scope.map(str::to_owned), end };
        store.live.insert(token.clone(), issued);
        store.last.insert(client.id.clone(), token.clone());
        store.minted += 1;
        Ok(token)
    }

    fn last(&self, client: &Client) -> Option<String> {
        self.0.store.lock().last.get(&client.id).cloned()
    }

    /// Remembers a token request and says what to do with it.
    fn asked(&self, request: TokenRequest) -> Behavior {
        let mut store = self.0.store.lock();
        if store.requests.len() == REMEMBERED {
            store.requests.pop_front();
        }
        store.requests.push_back(request);
        let behavior = store.next.pop_front().unwrap_or_else(|| store.behavior.clone());
        drop(store);
        self.0.asked.send_modify(|asked| *asked += 1);
        behavior
    }
}

impl Store {
    fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }

    fn forget_ended(&mut self) {
        let now = self.now();
        self.live.retain(|_, issued| issued.end > now);
    }
}

/// A fresh client secret of 256 random bits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn random_secret() -> io::Result<Secret> {
    random().map(Secret::new)
}

/// 256 random bits as text.
fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes can be had"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests;
