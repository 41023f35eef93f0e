//! Whether a rejected request is sent again: every combination of what the upstream said, method, body and setting,
//! held against a small model of the rules.
//!
//! The model is written from what users are promised and calls nothing of ours. A cell of the matrix has a token of its
//! own, so no cell's renewal is braked by another's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::http::{Answer, Connection};
use crate::support::proxy::{Setup, head};
use crate::support::scene::TokenEndpoint;
use crate::support::scripted::{Peer, Received, Scripted, answer};
use crate::support::{PATIENCE, eventually, within};

/// `replay_limit` of every named credential here.
const LIMIT: usize = 1024;

/// What is read of an unfinished body before the upstream refuses it, and what the caller sends afterwards.
const BEGUN: &str = "20\r\nthe first part, 32 bytes in all.\r\n";
const REST: &str = "0f\r\n and the second\r\n0\r\n\r\n";
const WHOLE: &str = "the first part, 32 bytes in all. and the second";

/// What asks for a body that is held back.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Callers at once.
const CALLERS: usize = 24;

/// How the upstream refuses a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Refusal {
    /// By a status that is always, or here, listed.
    Status(u16),
    /// By a text in the body of a 400, which a rule looks for.
    InBody,
}

const REFUSALS: [Refusal; 6] = [
    Refusal::Status(401),
    Refusal::Status(403),
    Refusal::Status(419),
    Refusal::Status(500),
    Refusal::Status(502),
    Refusal::InBody,
];

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Content {
    None,
    OneByte,
    AsLongAsTheLimit,
    OneByteMore,
    Chunked,
    /// The upstream refuses before the caller has sent all of it.
    ChunkedUnfinished,
    /// The caller waits to be asked for it, and the upstream refuses without asking.
    Expected,
    /// Likewise, and longer than what could have been kept.
    ExpectedOneByteMore,
}

const CONTENTS: [Content; 8] = [
    Content::None,
    Content::OneByte,
    Content::AsLongAsTheLimit,
    Content::OneByteMore,
    Content::Chunked,
    Content::ChunkedUnfinished,
    Content::Expected,
    Content::ExpectedOneByteMore,
];

const SETTINGS: [&str; 4] = ["unset", "always", "idempotent", "never"];

/// One combination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Combination {
    refusal: Refusal,
    method: &'static str,
    content: Content,
    setting: &'static str,
}

/// What must become of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// Renewed and sent again.
    Replayed,
    /// Renewed for the next, and the caller gets the upstream's answer with this reason.
    NotReplayed(&'static str),
    /// No rejection at all.
    Passed,
}

impl Combination {
    /// The rules of rejection, renewal and replay, as they are promised.
    fn outcome(self) -> Outcome {
        // An answer to HEAD has no body in which a rule could find anything.
        if self.refusal == Refusal::InBody && self.method == "HEAD" {
            return Outcome::Passed;
        }
        let idempotent = !matches!(self.method, "POST" | "PATCH");
        let allowed = match self.setting {
            "never" => return Outcome::NotReplayed("off"),
            "always" => true,
            "idempotent" => idempotent,
            // RFC 9110 15.5.2: only a 401 says that the request was not applied.
            _ => idempotent || self.refusal == Refusal::Status(401),
        };
        match (allowed, self.content) {
            (false, _) => Outcome::NotReplayed("method"),
            (true, Content::OneByteMore) => Outcome::NotReplayed("body_too_large"),
            // What the caller still has needs not be kept, so its length does not matter.
            (true, _) => Outcome::Replayed,
        }
    }

    fn status(self) -> u16 {
        match self.refusal {
            Refusal::Status(status) => status,
            Refusal::InBody => 400,
        }
    }

    /// What the upstream refuses with, to HEAD without its body.
    fn refused_with(self) -> Vec<u8> {
        let body: &[u8] = if self.refusal == Refusal::InBody { b"{\"error\":\"token expired\"}" } else { b"refused" };
        self.said(answer(self.status(), &[("X-Said", "no")], body))
    }

    fn said(self, answer: Vec<u8>) -> Vec<u8> {
        if self.method != "HEAD" {
            return answer;
        }
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        answer[..end].to_vec()
    }

    /// Whether the caller waits to be asked for the body.
    fn is_expected(self) -> bool {
        matches!(self.content, Content::Expected | Content::ExpectedOneByteMore)
    }

    /// The body without its coding.
    fn body(self) -> Vec<u8> {
        match self.content {
            Content::None => Vec::new(),
            Content::OneByte | Content::Expected => b"x".to_vec(),
            Content::AsLongAsTheLimit => (0..LIMIT).map(|at| b'a' + (at % 26) as u8).collect(),
            Content::OneByteMore | Content::ExpectedOneByteMore => {
                (0..=LIMIT).map(|at| b'a' + (at % 26) as u8).collect()
            }
            Content::Chunked | Content::ChunkedUnfinished => WHOLE.into(),
        }
    }

    /// What the caller sends at once, and what only after the upstream has refused.
    fn request(self, number: usize) -> (Vec<u8>, Vec<u8>) {
        let Self { method, content, setting, .. } = self;
        let kind = if self.refusal == Refusal::InBody { "body".to_owned() } else { self.status().to_string() };
        let head = format!("{method} /{setting}{kind}/{number} HTTP/1.1\r\nHost: localhost\r\nX-Cell: {number}\r\n");
        let chunked = "Transfer-Encoding: chunked\r\n\r\n";
        match content {
            Content::Chunked => ([head.as_str(), chunked, BEGUN, REST].concat().into(), Vec::new()),
            Content::ChunkedUnfinished => ([head.as_str(), chunked, BEGUN].concat().into(), REST.into()),
            Content::None if method != "POST" => ((head + "\r\n").into(), Vec::new()),
            Content::None | Content::OneByte | Content::AsLongAsTheLimit | Content::OneByteMore => {
                let body = self.body();
                let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                ([head.as_bytes(), body.as_slice()].concat(), Vec::new())
            }
            Content::Expected | Content::ExpectedOneByteMore => {
                let body = self.body();
                let head = format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
                (head.into(), body)
            }
        }
    }
}

/// Every combination; its place is its number.
fn matrix() -> Vec<Combination> {
    let mut matrix = Vec::new();
    for setting in SETTINGS {
        for refusal in REFUSALS {
            for method in METHODS {
                matrix.extend(CONTENTS.map(|content| Combination { refusal, method, content, setting }));
            }
        }
    }
    matrix
}

/// A pair of credentials for each setting and refusal; the scope makes a token request of its own of each cell.
fn config(endpoint: &TokenEndpoint, upstream: &Scripted) -> String {
    let mut config = head("info");
    for setting in SETTINGS {
        for kind in ["401", "403", "419", "500", "502", "body"] {
            let replay = if setting == "unset" { String::new() } else { format!("replay = \"{setting}\"\n") };
            config += &format!(
                "[named_credentials.{setting}{kind}]\nurl = \"http://{}\"\nexternal_credential = \"x{setting}{kind}\"\n\
                 replay_limit = \"{LIMIT}B\"\ntimeouts = {{ continue = \"1h\" }}\n{replay}\
                 [external_credentials.x{setting}{kind}]\ntoken_endpoint = \"http://{}/token\"\n\
                 client_id = \"{setting}{kind}\"\nclient_secret = {{ env = \"SECRET\" }}\n\
                 scope = {{ formula = 'request.headers[\"x-cell\"]' }}\n\
                 additional_refresh_status_codes = [403, 419, 500, 502]\n\
                 refresh_when = [{{ status = [400], body_contains = \"token expired\" }}]\n",
                upstream.address,
                endpoint.address(),
            );
        }
    }
    config
}

/// What the upstream saw: by cell, each request with its token, and its body where all of it came.
type Seen = HashMap<usize, Vec<(String, Option<Vec<u8>>)>>;

/// An upstream that refuses the first token it sees in each cell, as the cell says, and takes any other.
#[derive(Clone)]
struct Upstream {
    matrix: Arc<Vec<Combination>>,
    seen: watch::Sender<Seen>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    async fn serve(self, listener: Scripted) {
        let mut connections = JoinSet::new();
        loop {
            let peer = listener.accept().await;
            connections.spawn(self.clone().connection(peer));
        }
    }

    async fn connection(self, mut peer: Peer) {
        while let Some(head) = peer.next_head().await {
            let number: usize = head.field("x-cell").unwrap().parse().unwrap();
            let cell = self.matrix[number];
            let token = head.authorization().to_owned();
            let mut refuses = true;
            self.seen.send_modify(|seen| {
                let requests = seen.entry(number).or_default();
                refuses = requests.first().is_none_or(|(first, _)| *first == token);
                requests.push((token, None));
            });
            if refuses && cell.content == Content::ChunkedUnfinished {
                peer.more(BEGUN.len()).await;
                peer.send(&cell.refused_with()).await;
                peer.drained().await;
                return;
            }
            if cell.is_expected() {
                assert_eq!(head.field("expect"), Some("100-continue"), "{}", head.head);
                if refuses {
                    peer.send(&cell.refused_with()).await;
                    peer.drained().await;
                    return;
                }
                peer.send(CONTINUE).await;
            }
            let Some(Received { body, .. }) = peer.body(head).await else { return };
            let answer = if refuses { cell.refused_with() } else { cell.said(answer(200, &[], &body)) };
            self.seen.send_modify(|seen| seen.get_mut(&number).unwrap().last_mut().unwrap().1 = Some(body));
            peer.send(&answer).await;
        }
    }

    /// Plays one cell from the caller's side.
    async fn play(&self, number: usize, address: std::net::SocketAddr) {
        let cell = self.matrix[number];
        let mut seen = self.seen.subscribe();
        let mut caller = Connection::open(address).await.unwrap();
        let (request, rest) = cell.request(number);
        caller.send(&request).await.unwrap();
        let answered = if rest.is_empty() {
            caller.answer(cell.method != "HEAD").await
        } else if cell.is_expected() {
            play_expected(&mut caller, cell, &rest).await
        } else {
            let again = |seen: &Seen| seen.get(&number).is_some_and(|requests| requests.len() > 1);
            tokio::select! {
                sent_again = async { seen.wait_for(again).await.is_ok() } => {
                    assert!(sent_again, "the upstream lives");
                    caller.send(&rest).await.unwrap();
                    caller.answer(cell.method != "HEAD").await
                }
                answered = caller.answer(cell.method != "HEAD") => answered,
            }
        };
        let complaint = answered.map_err(|error| error.to_string()).and_then(|answer| self.judge(cell, &answer));
        if let Err(complaint) = complaint {
            self.failures.lock().unwrap().push(format!("{number} {cell:?} expects {:?}: {complaint}", cell.outcome()));
        }
    }

    /// What the caller must have got.
    fn judge(&self, cell: Combination, answer: &Answer) -> Result<(), String> {
        let refused = cell.refused_with();
        let (status, said, body) = match cell.outcome() {
            Outcome::Replayed => (200, None, if cell.method == "HEAD" { Vec::new() } else { cell.body() }),
            Outcome::NotReplayed(reason) => {
                let said = format!("keybearer; received-status={}; details=\"not-replayed:{reason}\"", cell.status());
                (cell.status(), Some(said), tail(&refused))
            }
            Outcome::Passed => (cell.status(), None, tail(&refused)),
        };
        let got = (answer.status, answer.field("proxy-status"), &answer.body);
        (got == (status, said.as_deref(), &body)).then_some(()).ok_or_else(|| answer.text())
    }
}

/// Sends the body when it is asked for, and not otherwise.
async fn play_expected(caller: &mut Connection, cell: Combination, body: &[u8]) -> std::io::Result<Answer> {
    let head = caller.any_head().await?;
    if head.as_bytes() == CONTINUE {
        caller.send(body).await?;
        return caller.answer(cell.method != "HEAD").await;
    }
    let mut answer = Answer { status: head.get(9..12).unwrap().parse().unwrap(), head, body: Vec::new() };
    if cell.method != "HEAD" {
        let mut body = Vec::new();
        caller.body(&answer, |part| body.extend_from_slice(part)).await?;
        answer.body = body;
    }
    Ok(answer)
}

/// What stands behind the head.
fn tail(message: &[u8]) -> Vec<u8> {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    message[end..].to_vec()
}

/// B39, B45, B47, B48: a rejected request is sent again exactly where the rules allow it, with the same body, and a POST or
/// PATCH is carried out a second time only after a 401 or where `replay = "always"` says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_combination_is_replayed_or_told_as_promised() {
    let endpoint = TokenEndpoint::start().await;
    let listener = Scripted::start().await;
    let proxy = Setup::new(&config(&endpoint, &listener)).env("SECRET", "s3cret-of-all-cells").run().await;
    let matrix = Arc::new(matrix());
    let upstream = Upstream { matrix: Arc::clone(&matrix), seen: watch::Sender::default(), failures: Arc::default() };
    let mut serving = JoinSet::new();
    serving.spawn(upstream.clone().serve(listener));

    let mut callers = JoinSet::new();
    for first in 0..CALLERS {
        let (upstream, address, cells) = (upstream.clone(), proxy.address, matrix.len());
        callers.spawn(async move {
            for number in (first..cells).step_by(CALLERS) {
                within(&format!("cell {number}"), PATIENCE / 2, upstream.play(number, address)).await;
            }
        });
    }
    callers.join_all().await;
    let failures = upstream.failures.lock().unwrap().clone();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), matrix.len(), failures.join("\n"));

    // Where the request is not sent again, nobody waits for the renewal.
    let tokens = |cell: &Combination| if cell.outcome() == Outcome::Passed { 1 } else { 2 };
    let all = matrix.iter().map(tokens).sum();
    eventually("every renewal", async || (endpoint.asked().len() >= all).then_some(())).await;
    let mut asked: HashMap<String, usize> = HashMap::new();
    for mut parameters in endpoint.parameters() {
        *asked.entry(parameters.remove("scope").unwrap()).or_default() += 1;
    }
    let seen = upstream.seen.borrow();
    for (number, cell) in matrix.iter().enumerate() {
        let requests = &seen[&number];
        let outcome = cell.outcome();
        assert_eq!(requests.len(), if outcome == Outcome::Replayed { 2 } else { 1 }, "{cell:?}");
        for (_, body) in requests {
            assert!(body.as_ref().is_none_or(|body| *body == cell.body()), "{cell:?} came as {body:?}");
        }
        let is_read = cell.content != Content::ChunkedUnfinished && !cell.is_expected();
        assert_eq!(requests[0].1.is_some(), is_read, "{cell:?}");
        assert!(outcome != Outcome::Replayed || requests[1].1.is_some(), "{cell:?}: the replay is whole");
        assert_eq!(asked[&number.to_string()], tokens(cell), "{cell:?}: token requests");
        // Said once more without the model.
        let twice = requests.iter().filter(|(_, body)| body.is_some()).count() > 1;
        let careful = matches!(cell.method, "POST" | "PATCH") && cell.setting != "always";
        assert!(!(twice && careful) || cell.refusal == Refusal::Status(401), "{cell:?} was applied twice");
    }
}
