//! The providers that are out there, each as it was recorded: its token request as it wants it, its answer as it gives
//! it, its way of saying that a token is no longer good. The whole program is driven through every one of them, with
//! a configuration of public keys only.
//!
//! `zoo/providers.json` holds the recordings, `mapping` says how a user would configure each, `wire` what its token
//! endpoint must then see.

pub(crate) mod mapping;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use self::mapping::{Entry, credentials};
use crate::support::http::{self, Answer};
use crate::support::proxy::{Proxy, Setup, head};
use crate::support::scripted::{Received, Scripted, Serving, answer};

/// What became of the entries, by outcome.
type Count = BTreeMap<&'static str, usize>;

/// The providers' side: every token endpoint and every API, told apart by the entry's name in the path.
#[derive(Default)]
struct Providers {
    /// Requests to each token endpoint so far.
    asked: BTreeMap<String, usize>,
    /// The credential that came to each API first.
    first: BTreeMap<String, String>,
    /// Whether the APIs take that credential no longer.
    expired: bool,
}

impl Providers {
    /// The recorded answer, at first; then one with another token.
    fn token(&mut self, entry: &Entry, request: &Received) -> Vec<u8> {
        let count = self.asked.entry(entry.name()).and_modify(|count| *count += 1).or_insert(1);
        let (status, fields, body) = entry.token_response();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if entry.outcome() == "error" && entry.kind() == "retry_with_nonce" && wire::nonce(request).is_some() {
            let token = br#"{"access_token":"EXAMPLEdpop0001","token_type":"DPoP","expires_in":3600}"#;
            return answer(200, &[("content-type", "application/json")], token);
        }
        match entry.token() {
            Some(token) if *count > 1 => answer(status, &fields, body.replace(token, &format!("{token}-2")).as_bytes()),
            _ => answer(status, &fields, body.as_bytes()),
        }
    }

    /// A plain token endpoint, for what is to be said about the API of an entry whose own gives no token.
    fn plain_token(&mut self, name: String) -> Vec<u8> {
        let count = self.asked.entry(name).and_modify(|count| *count += 1).or_insert(1);
        let body = format!(r#"{{"access_token":"plain-{count}","token_type":"Bearer","expires_in":3600}}"#);
        answer(200, &[("content-type", "application/json")], body.as_bytes())
    }

    fn api(&mut self, entry: &Entry, name: &str, request: &Received) -> Vec<u8> {
        let (header, _) = entry.inject();
        let credential = request.field(&header).unwrap_or_default().to_owned();
        let first = self.first.entry(name.to_owned()).or_insert_with(|| credential.clone());
        let nonce =
            entry.expired_field("dpop-nonce").is_some_and(|nonce| wire::nonce(request).as_deref() == Some(nonce));
        let is_expired = self.expired && (*first == credential || entry.always_refused()) && !nonce;
        if !is_expired {
            return answer(200, &[("content-type", "application/json")], br#"{"orders":[]}"#);
        }
        let (status, fields, body) = entry.expired_answer();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        answer(status, &fields, body.as_bytes())
    }
}

/// The zoo, and the proxy before it.
struct Zoo {
    entries: Vec<Entry>,
    providers: Arc<Mutex<Providers>>,
    serving: Serving,
    proxy: Proxy,
}

impl Zoo {
    async fn open() -> Self {
        let entries = Entry::all();
        let providers = Arc::new(Mutex::new(Providers::default()));
        let server = Scripted::start().await;
        let address = server.address;
        let (known, state) = (entries.clone(), Arc::clone(&providers));
        let serving = server.serve(move |request| {
            let mut parts = request.head.split([' ', '?']).nth(1).unwrap().split('/').skip(1);
            let (kind, name) = (parts.next().unwrap(), parts.next().unwrap().to_owned());
            let plain = name.strip_suffix("_plain");
            let entry = known.iter().find(|entry| entry.name() == plain.unwrap_or(&name)).unwrap();
            let mut state = state.lock().unwrap();
            match (kind, plain) {
                ("token", None) => state.token(entry, request),
                ("token", Some(_)) => state.plain_token(name),
                _ => state.api(entry, &name, request),
            }
        });
        let mut config = head("info");
        for entry in &entries {
            config.push_str(&credentials(entry, address));
        }
        let proxy = mapping::files(Setup::new(&config)).run().await;
        Self { entries, providers, serving, proxy }
    }

    async fn get(&self, name: &str) -> Answer {
        http::get(self.proxy.address, &format!("/{name}/orders")).await.unwrap()
    }

    /// Requests of one kind that came in for an entry.
    fn received(&self, kind: &str, name: &str) -> Vec<Received> {
        let place = format!(" /{kind}/{name}");
        let is_here = |request: &Received| {
            let target = request.head.lines().next().unwrap();
            target.find(&place).is_some_and(|at| target[at + place.len()..].starts_with(['/', '?', ' ']))
        };
        self.serving.received().into_iter().filter(is_here).collect()
    }

    /// What the log says about the first token of an external credential.
    fn lifetime(&self, name: &str) -> Option<u64> {
        let lines = self.proxy.process.stderr.lines();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .map(|line| if line.get("fields").is_some() { line["fields"].clone() } else { line })
            .find(|fields| fields["message"] == "minted a token" && fields["external_credential"] == name)
            .and_then(|fields| fields["lifetime_seconds"].as_u64())
    }

    /// The token request, the answer read, the token attached; or the refusal.
    async fn mint(&self, entry: &Entry) -> &'static str {
        let name = entry.name();
        let answer = self.get(&name).await;
        let (asked, called) = (self.received("token", &name), self.received("api", &name));
        let context = format!("{name}: {}\n{asked:#?}\n{}", answer.text(), self.proxy.process.stderr.text());
        if let Some(request) = asked.first() {
            wire::check(entry, request);
        }
        if entry.outcome() == "error" && entry.kind() != "retry_with_nonce" {
            let status = if entry.kind() == "transient" { 503 } else { 502 };
            assert_eq!((answer.status, asked.len(), called.len()), (status, 1, 0), "{context}");
            return if status == 503 { "to be asked again later" } else { "refused" };
        }
        assert_eq!((answer.status, called.len()), (200, 1), "{context}");
        let (header, scheme) = entry.inject();
        let sent = called[0].field(&header).unwrap();
        let token = sent.strip_prefix(&scheme).unwrap_or_else(|| panic!("{context}")).trim_start();
        for (field, value) in entry.api_headers() {
            assert_eq!(called[0].field(&field), Some(value.as_str()), "{context}");
        }
        match entry.token() {
            Some(expected) => assert_eq!(token, expected, "{context}"),
            None if entry.outcome() == "self_minted" => assert_eq!(token.split('.').count(), 3, "a JWT: {context}"),
            None => assert_eq!((token, asked.len()), ("EXAMPLEdpop0001", 2), "{context}"),
        }
        if let Some(seconds) = entry.lifetime() {
            assert_eq!(self.lifetime(&name), Some(seconds), "{context}");
        }
        match (entry.outcome(), entry.kind()) {
            ("error", _) => "token, after a nonce",
            ("self_minted", _) => "signed by us",
            _ => "token",
        }
    }

    /// The token is no longer good, or it is, and the answer only looks like it.
    async fn expire(&self, entry: &Entry) -> &'static str {
        let name = entry.api();
        if name != entry.name() {
            self.providers.lock().unwrap().expired = false;
            assert_eq!(self.get(&name).await.status, 200, "{name}");
        }
        self.providers.lock().unwrap().expired = true;
        let before = (self.received("token", &name).len(), self.received("api", &name).len());
        let answer = self.get(&name).await;
        let asked = self.received("token", &name).len() - before.0;
        let called = self.received("api", &name).len() - before.1;
        let context = format!("{name}: {}\n{}", answer.text(), self.proxy.process.stderr.text());
        let mints = usize::from(entry.outcome() != "self_minted");
        let (status, _, body) = entry.expired_answer();
        if entry.always_refused() {
            assert_eq!((answer.status, asked, called), (status, 1, 2), "{context}");
            assert_eq!(self.get(&name).await.status, status, "{context}");
            assert_eq!(self.received("token", &name).len() - before.0, 1, "a brake: {context}");
            return "renewed, refused again, passed on";
        }
        if entry.should_refresh() {
            assert_eq!((answer.status, asked, called), (200, mints, 2), "{context}");
            return "renewed and replayed";
        }
        if entry.expired_field("dpop-nonce").is_some() {
            assert_eq!((answer.status, asked, called), (200, 0, 2), "{context}");
            return "sent again with the nonce";
        }
        assert_eq!((answer.status, asked, called), (status, 0, 1), "{context}");
        assert_eq!(answer.body, body.as_bytes(), "{context}");
        "passed on"
    }
}

#[tokio::test]
async fn every_recorded_provider_is_asked_read_attached_and_renewed_as_it_wants() {
    let zoo = Zoo::open().await;
    let (mut minted, mut expired) = (Count::new(), Count::new());
    for entry in &zoo.entries {
        *minted.entry(zoo.mint(entry).await).or_default() += 1;
    }
    for entry in &zoo.entries {
        *expired.entry(zoo.expire(entry).await).or_default() += 1;
    }
    assert_eq!(
        minted.into_iter().collect::<Vec<_>>(),
        [
            ("refused", 8),
            ("signed by us", 1),
            ("to be asked again later", 1),
            ("token", 42),
            ("token, after a nonce", 1)
        ]
    );
    assert_eq!(
        expired.into_iter().collect::<Vec<_>>(),
        [
            ("passed on", 5),
            ("renewed and replayed", 46),
            ("renewed, refused again, passed on", 1),
            ("sent again with the nonce", 1),
        ]
    );
}
