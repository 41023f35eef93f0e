//! A small load generator: kept-alive connections that send GET and small POST in turn and count the answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http::{Connection, request};
use super::{PATIENCE, within};

/// What to send, and how much of it.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    /// The target of every request.
    pub(crate) target: String,
    /// Fields of every request.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) connections: usize,
    pub(crate) amount: Amount,
}

/// When a connection has done its work.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    /// After so many requests.
    Requests(u64),
    /// At the first answer after this time *and* after the test has said that it is done, whichever is later.
    Time(Duration),
}

/// What came back.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Exchanges that got no whole answer.
    pub(crate) broken: Vec<String>,
    /// The last answer that was not a 2xx.
    pub(crate) odd: Option<String>,
}

impl Tally {
    /// How many answers there were.
    pub(crate) fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Fails unless every single request was answered with this status.
    pub(crate) fn assert_all(&self, status: u16) {
        let all = self.statuses.keys().all(|found| *found == status);
        assert!(all && self.broken.is_empty() && self.answers() > 0, "not all answers are {status}: {self:#?}");
    }

    fn merge(mut self, other: Self) -> Self {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.broken.extend(other.broken);
        self.odd = other.odd.or(self.odd);
        self
    }
}

/// A load under way.
pub(crate) struct Running {
    /// Answers so far, caller by caller.
    answered: watch::Receiver<Vec<u64>>,
    done: watch::Sender<bool>,
    callers: JoinSet<Tally>,
}

impl Load {
    /// Opens all connections, then lets all of them send at once.
    pub(crate) fn start(self) -> Running {
        let (count, answered) = watch::channel(vec![0; self.connections]);
        let (done, _) = watch::channel(false);
        let count = Arc::new(count);
        let connected = Arc::new(Barrier::new(self.connections));
        let mut callers = JoinSet::new();
        for number in 0..self.connections {
            let caller = Caller { load: self.clone(), number, count: Arc::clone(&count), done: done.subscribe() };
            callers.spawn(caller.run(Arc::clone(&connected)));
        }
        Running { answered, done, callers }
    }
}

impl Running {
    /// Waits until `more` further answers have come.
    pub(crate) async fn further_answers(&mut self, more: u64) {
        let goal = self.answered.borrow().iter().sum::<u64>() + more;
        let reached = self.answered.wait_for(|counts| counts.iter().sum::<u64>() >= goal);
        within("answers come", PATIENCE, reached).await.expect("the load is still running");
    }

    /// Waits until every caller has got `more` further answers: whatever was under way before has ended then.
    pub(crate) async fn further_answers_each(&mut self, more: u64) {
        let goals: Vec<u64> = self.answered.borrow().iter().map(|count| count + more).collect();
        let reached = self.answered.wait_for(|counts| counts.iter().zip(&goals).all(|(count, goal)| count >= goal));
        within("every caller is answered", PATIENCE, reached).await.expect("the load is still running");
    }

    /// Lets the load come to its end.
    pub(crate) async fn finish(self) -> Tally {
        self.done.send_replace(true);
        let tallies = within("the load ends", PATIENCE * 2, self.callers.join_all()).await;
        tallies.into_iter().fold(Tally::default(), Tally::merge)
    }
}

struct Caller {
    load: Load,
    number: usize,
    count: Arc<watch::Sender<Vec<u64>>>,
    done: watch::Receiver<bool>,
}

impl Caller {
    async fn run(self, connected: Arc<Barrier>) -> Tally {
        let mut tally = Tally::default();
        let mut connection = Connection::open(self.load.address).await.ok();
        connected.wait().await;
        let started = Instant::now();
        for turn in 0.. {
            let over = match self.load.amount {
                Amount::Requests(number) => turn >= number,
                Amount::Time(time) => *self.done.borrow() && started.elapsed() >= time,
            };
            if over {
                break;
            }
            connection = self.turn(turn, connection, &mut tally).await;
        }
        tally
    }

    /// One exchange; returns the connection if it can be used again.
    async fn turn(&self, turn: u64, connection: Option<Connection>, tally: &mut Tally) -> Option<Connection> {
        let opened = match connection {
            Some(connection) => Ok(connection),
            None => Connection::open(self.load.address).await,
        };
        let exchange = async {
            let mut connection = opened?;
            let answer = connection.exchange(&self.request(turn)).await?;
            Ok::<_, std::io::Error>((connection, answer))
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(Ok((connection, answer))) => {
                *tally.statuses.entry(answer.status).or_default() += 1;
                if !(200..300).contains(&answer.status) {
                    tally.odd = Some(answer.text());
                }
                self.count.send_modify(|counts| counts[self.number] += 1);
                (!answer.closes()).then_some(connection)
            }
            Ok(Err(error)) => {
                tally.broken.push(error.to_string());
                None
            }
            Err(_) => {
                tally.broken.push("no answer in time".to_owned());
                None
            }
        }
    }

    fn request(&self, turn: u64) -> Vec<u8> {
        let mut fields: Vec<_> = self.load.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if (self.number as u64 + turn).is_multiple_of(2) {
            return request("GET", &self.load.target, &fields, b"");
        }
        let key = format!("{}-{turn}", self.number);
        fields.push(("Idempotency-Key", &key));
        fields.push(("Content-Type", "application/json"));
        let body = format!(r#"{{"order":{turn},"caller":{},"note":"a small body"}}"#, self.number);
        request("POST", &self.load.target, &fields, body.as_bytes())
    }
}
