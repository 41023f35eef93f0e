use std::time::Duration;

use http::HeaderMap;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::answer::Failure;
use crate::name::Name;
use crate::peer::Peer;
use crate::server::{Address, DrainHandle, DrainSettings, Limits, ListenerSettings};

mod bodies;
mod switching;

type Answer = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;

/// A service made of a function; what the guard refused is answered 400.
struct Scripted<F>(F);

impl<F> Service for Scripted<F>
where
    F: Fn(Request<Incoming>, Arc<Connection>) -> Answer + Send + Sync + 'static,
{
    fn call(self: Arc<Self>, arrival: Arrival, connection: Arc<Connection>) -> Answer {
        match arrival {
            Arrival::Request(request) => (self.0)(request, connection),
            Arrival::Refused(_) => Box::pin(async { status(StatusCode::BAD_REQUEST) }),
        }
    }
}

/// A connection of a caller that is being served.
struct Served {
    caller: DuplexStream,
    serving: JoinHandle<()>,
    connection: Arc<Connection>,
    drain: Option<DrainHandle>,
}

/// A connection of the only caller.
fn lonely() -> Connection {
    let listener = ListenerSettings::new(Name::parse("test").unwrap(), Address::Tcp(([127, 0, 0, 1], 0).into()));
    Connection::new(Peer::Tcp(([127, 0, 0, 1], 1).into()), Arc::new(listener))
}

fn serve_in(
    pipe: usize,
    connection: Connection,
    answer: impl Fn(Request<Incoming>, Arc<Connection>) -> Answer + Send + Sync + 'static,
) -> Served {
    let connection = Arc::new(connection);
    let (caller, socket) = tokio::io::duplex(pipe);
    let guard = Guard::new(socket, Arc::clone(&connection), Limits::default());
    let (handle, drain) = DrainHandle::new();
    let serving = tokio::spawn(serve(TokioIo::new(guard), Arc::new(Scripted(answer)), Arc::clone(&connection), drain));
    Served { caller, serving, connection, drain: Some(handle) }
}

fn start(answer: impl Fn(Request<Incoming>, Arc<Connection>) -> Answer + Send + Sync + 'static) -> Served {
    serve_in(1 << 16, lonely(), answer)
}

impl Served {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.caller.write_all(bytes.as_ref()).await.unwrap();
    }

    /// What comes until nothing more does, without `date` lines.
    async fn heard(&mut self) -> String {
        let mut heard = Vec::new();
        let mut buffer = [0_u8; 4096];
        while let Ok(Ok(length)) = timeout(Duration::from_millis(100), self.caller.read(&mut buffer)).await
            && length > 0
        {
            heard.extend_from_slice(&buffer[..length]);
        }
        let text = String::from_utf8(heard).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
    }

    async fn is_closed(&mut self) -> bool {
        matches!(timeout(Duration::from_millis(100), self.caller.read(&mut [0])).await, Ok(Ok(0)))
    }

    /// Begins the way down, listeners closing at once.
    fn drain(&mut self, deadline: Duration) -> JoinHandle<()> {
        let handle = self.drain.take().unwrap();
        let settings = DrainSettings { delay: None, deadline };
        tokio::spawn(async move { handle.run(&settings, Duration::ZERO, std::future::pending()).await })
    }
}

fn status(status: StatusCode) -> Response<AnswerBody> {
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = status;
    answer
}

fn switching() -> Response<AnswerBody> {
    let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert("upgrade", HeaderValue::from_static("x"));
    answer
}

fn hint(link: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::header::LINK, HeaderValue::from_str(link).unwrap())])
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// B41: interim answers leave as soon as they are there, several in a row, before the answer and never after its
/// beginning; HTTP/1.0 gets none.
#[tokio::test(start_paused = true)]
async fn interim_answers_come_at_once_and_in_order() {
    let mut served = start(|_, connection| {
        Box::pin(async move {
            connection.interim(StatusCode::PROCESSING, &HeaderMap::new());
            connection.interim(StatusCode::EARLY_HINTS, &hint("a"));
            tokio::time::sleep(Duration::from_secs(1)).await;
            connection.interim(StatusCode::EARLY_HINTS, &hint("b"));
            let late = Arc::clone(&connection);
            let body = StreamBody::new(futures_util::stream::once(async move {
                late.interim(StatusCode::EARLY_HINTS, &hint("late"));
                Ok(http_body::Frame::data(bytes::Bytes::from_static(b"body")))
            }));
            Response::new(body.boxed_unsync())
        })
    });
    let hints = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n";
    let rest = "HTTP/1.1 103 Early Hints\r\nlink: b\r\n\r\n\
                HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    for _ in 0..2 {
        served.send(GET).await;
        assert_eq!(served.heard().await, hints, "before the exchange goes on");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(served.heard().await, rest);
    }
    served.send([GET, GET].concat()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(served.heard().await, [hints, rest, hints, rest].concat());
    served.send("GET / HTTP/1.0\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(served.heard().await, "HTTP/1.0 200 OK\r\n\r\nbody");
}

/// B39: hyper's own 100 and ours do not mix.
#[tokio::test(start_paused = true)]
async fn a_continue_of_hypers_and_interim_answers_stay_apart() {
    let mut served = start(|request, connection| {
        Box::pin(async move {
            connection.interim(StatusCode::EARLY_HINTS, &hint("a"));
            let read = tokio::spawn(request.into_body().collect());
            tokio::task::yield_now().await;
            connection.interim(StatusCode::EARLY_HINTS, &hint("b"));
            read.await.unwrap().unwrap();
            status(StatusCode::OK)
        })
    });
    served.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    let heard = served.heard().await;
    assert!(heard.starts_with("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"), "{heard}");
    assert_eq!(heard.matches("HTTP/1.1 100 Continue\r\n\r\n").count(), 1, "{heard}");
    assert_eq!(heard.matches("link: b\r\n\r\n").count(), 1, "{heard}");
    served.send("abc").await;
    assert_eq!(served.heard().await, OK);
}

/// Reads answers strictly: for each exchange the links of its interim answers, and its body.
fn exchanges(mut text: &str) -> Vec<(Vec<String>, String)> {
    let (mut all, mut links) = (Vec::new(), Vec::new());
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let mut lines = head.lines();
        let first = lines.next().unwrap();
        let fields: Vec<_> = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"))).collect();
        if first == "HTTP/1.1 103 Early Hints" {
            assert_eq!(fields.len(), 1, "{head:?}");
            links.push(fields[0].1.to_owned());
            text = rest;
            continue;
        }
        assert_eq!(first, "HTTP/1.1 200 OK");
        let length: usize = fields.iter().find(|(name, _)| *name == "content-length").unwrap().1.parse().unwrap();
        let (body, rest) = rest.split_at(length);
        all.push((std::mem::take(&mut links), body.to_owned()));
        text = rest;
    }
    assert!(links.is_empty());
    all
}

/// What each exchange of a property test does: how many interim answers, pauses between them, the body's length.
#[derive(Debug, Clone)]
struct Plan {
    interims: usize,
    pauses: bool,
    body: usize,
}

async fn talk(plans: Vec<Plan>, pipe: usize, reads: usize, posts: bool) -> String {
    let count = plans.len();
    let plans = Arc::new(plans);
    let served = serve_in(pipe, lonely(), move |request, connection| {
        let plans = Arc::clone(&plans);
        Box::pin(async move {
            let number: usize = request.uri().path().trim_start_matches('/').parse().unwrap();
            let plan = &plans[number];
            for turn in 0..plan.interims {
                connection.interim(StatusCode::EARLY_HINTS, &hint(&format!("{number}.{turn}")));
                if plan.pauses {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            // An answer that comes before the body was read would close the connection.
            request.into_body().collect().await.unwrap();
            Response::new(body::full(number.to_string().repeat(plan.body)))
        })
    });
    let (mut reader, mut writer) = tokio::io::split(served.caller);
    let requests: String = (0..count)
        .map(|number| match posts {
            true => format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
            false => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
        })
        .collect();
    let writing = tokio::spawn(async move {
        writer.write_all(requests.as_bytes()).await.unwrap();
        writer
    });
    let mut heard = Vec::new();
    let mut buffer = vec![0_u8; reads];
    while let Ok(Ok(length)) = timeout(Duration::from_secs(1), reader.read(&mut buffer)).await
        && length > 0
    {
        heard.extend_from_slice(&buffer[..length]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(writing.await.unwrap());
    String::from_utf8(heard).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// B41: however slowly the caller reads and whatever is pipelined, interim answers stand whole, in order, and before
    /// the answer of their own exchange.
    #[test]
    fn interim_answers_never_interleave(
        plans in proptest::collection::vec((0_usize..4, any::<bool>(), 0_usize..400), 1..6),
        pipe in 1_usize..200,
        reads in 1_usize..200,
        posts in any::<bool>(),
    ) {
        let plans: Vec<_> =
            plans.into_iter().map(|(interims, pauses, body)| Plan { interims, pauses, body }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let heard = exchanges(&runtime.block_on(talk(plans.clone(), pipe, reads, posts)));
        prop_assert_eq!(heard.len(), plans.len());
        for (number, ((links, body), plan)) in heard.iter().zip(&plans).enumerate() {
            prop_assert_eq!(body, &number.to_string().repeat(plan.body));
            let sent: Vec<_> = (0..plan.interims).map(|turn| format!("{number}.{turn}")).collect();
            prop_assert!(sent.starts_with(links), "{:?} of {:?}", links, sent);
            // None may be dropped where each had the time to leave.
            prop_assert!(!plan.pauses || pipe < 100 || links.len() == sent.len() || number > 0, "{:?}", links);
        }
    }
}

/// The time begins with the end of the answer, after which hyper reads no more by itself.
#[tokio::test(start_paused = true)]
async fn a_connection_that_idles_after_an_answer_is_closed_in_time() {
    let mut served = start(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            status(StatusCode::OK)
        })
    });
    served.send(GET).await;
    let mut buffer = [0_u8; 4096];
    assert!(served.caller.read(&mut buffer).await.unwrap() > 0);
    let began = tokio::time::Instant::now();
    assert_eq!(timeout(Duration::from_secs(3600), served.caller.read(&mut buffer)).await.unwrap().unwrap(), 0);
    assert_eq!(began.elapsed(), Limits::default().idle_timeout);
}
