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

fn serve_in(
    pipe: usize,
    answer: impl Fn(Request<Incoming>, Arc<Connection>) -> Answer + Send + Sync + 'static,
) -> Served {
    let listener = ListenerSettings::new(Name::parse("test").unwrap(), Address::Tcp(([127, 0, 0, 1], 0).into()));
    let peer = Peer::Tcp(([127, 0, 0, 1], 1).into());
    let connection = Arc::new(Connection::new(peer, Arc::new(listener)));
    let (caller, socket) = tokio::io::duplex(pipe);
    let guard = Guard::new(socket, Arc::clone(&connection), Limits::default());
    let (handle, drain) = DrainHandle::new();
    let serving = tokio::spawn(serve(TokioIo::new(guard), Arc::new(Scripted(answer)), Arc::clone(&connection), drain));
    Served { caller, serving, connection, drain: Some(handle) }
}

fn start(answer: impl Fn(Request<Incoming>, Arc<Connection>) -> Answer + Send + Sync + 'static) -> Served {
    serve_in(1 << 16, answer)
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
    let served = serve_in(pipe, move |request, connection| {
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

/// Answers 101 after a second and echoes from then on.
fn echo(mut request: Request<Incoming>, _: Arc<Connection>) -> Answer {
    Box::pin(async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut socket = TokioIo::new(upgrade.await.unwrap());
            let (mut from, mut to) = tokio::io::split(&mut socket);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        switching()
    })
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";

/// B42: after a 101 the service has the socket, with every byte that came early and no byte twice.
#[tokio::test(start_paused = true)]
async fn after_a_101_the_service_has_the_socket() {
    let mut served = start(echo);
    served.send([UPGRADE, "early", GET].concat()).await;
    assert_eq!(served.heard().await, "");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.heard().await, [SWITCHED, "early", GET].concat());
    assert!(served.serving.is_finished(), "hyper's part is over");
    served.send("BAD\n\n").await;
    assert_eq!(served.heard().await, "BAD\n\n");
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    served.send("after a day").await;
    assert_eq!(served.heard().await, "after a day");
    served.caller.shutdown().await.unwrap();
    assert!(served.is_closed().await);
    assert_eq!(Arc::strong_count(&served.connection), 1, "nothing holds the connection in a circle");
}

/// B57: a drain waits for the answer to an upgrade and leaves the 101 alone.
#[tokio::test(start_paused = true)]
async fn a_drain_does_not_disturb_an_upgrade() {
    let mut served = start(echo);
    served.send(UPGRADE).await;
    assert_eq!(served.heard().await, "");
    let drain = served.drain(Duration::from_secs(20));
    assert_eq!(served.heard().await, "");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.heard().await, SWITCHED);
    served.send("hello").await;
    assert_eq!(served.heard().await, "hello");
    drain.await.unwrap();
}

/// B42: a request for another protocol that is pipelined behind others changes nothing for those.
#[tokio::test(start_paused = true)]
async fn a_pipelined_upgrade_waits_for_its_turn() {
    let mut served = start(|request, connection| {
        if request.uri().path() == "/ws" {
            return echo(request, connection);
        }
        Box::pin(async move {
            assert!(!connection.may_switch());
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!connection.may_switch());
            status(StatusCode::OK)
        })
    });
    served.send([GET, GET, UPGRADE, "early"].concat()).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(served.heard().await, [OK, OK, SWITCHED, "early"].concat());
}

/// B42, B10: an answer that agrees to nothing is whole, says that the connection ends, and nothing behind the request is
/// taken for another one.
#[tokio::test(start_paused = true)]
async fn a_declined_upgrade_is_answered_whole_and_ends_the_connection() {
    for (head, code) in
        [(UPGRADE, StatusCode::OK), ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", StatusCode::FORBIDDEN)]
    {
        let mut served = serve_in(64, move |_, connection| {
            Box::pin(async move {
                assert!(connection.may_switch());
                let mut answer = status(code);
                *answer.body_mut() = body::full("x".repeat(100_000));
                answer
            })
        });
        let (mut reader, mut writer) = tokio::io::split(served.caller);
        let sending = tokio::spawn(async move { writer.write_all([head, GET].concat().as_bytes()).await });
        let drain = served.drain.take().unwrap();
        let settings = DrainSettings { delay: None, deadline: Duration::from_secs(3600) };
        tokio::spawn(async move { drain.run(&settings, Duration::from_millis(3), std::future::pending()).await });
        let mut heard = Vec::new();
        let mut buffer = [0_u8; 10];
        while let Ok(length) = reader.read(&mut buffer).await
            && length > 0
        {
            heard.extend_from_slice(&buffer[..length]);
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        let heard = String::from_utf8(heard).unwrap();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {code}\r\n")) && head.contains("connection: close"), "{head}");
        assert_eq!(body.len(), 100_000);
        sending.await.unwrap().unwrap();
    }
}

/// B42: an interim status, 101 included, that nobody asked for is a fault of ours.
#[tokio::test(start_paused = true)]
async fn a_101_that_nobody_asked_for_is_502() {
    let mut served = start(|_, _| Box::pin(async { switching() }));
    served.send(GET).await;
    assert_eq!(served.heard().await, "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
    served.send("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let heard = served.heard().await;
    assert!(heard.starts_with("HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n"), "{heard}");
    assert!(served.is_closed().await);
}

/// B10: a 2xx to CONNECT hands over the socket.
#[tokio::test(start_paused = true)]
async fn after_a_2xx_to_connect_the_service_has_the_socket() {
    let mut served = start(|request, connection| {
        assert_eq!(request.uri().authority().unwrap().as_str(), "a.example:443");
        let answer = echo(request, connection);
        Box::pin(async move {
            answer.await;
            status(StatusCode::OK)
        })
    });
    served.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nearly").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(served.heard().await, "HTTP/1.1 200 OK\r\n\r\nearly");
    served.send("more").await;
    assert_eq!(served.heard().await, "more");
}

/// B43: callers that offer `h2c` with every request keep their connections.
#[tokio::test(start_paused = true)]
async fn an_h2c_offer_is_ignored() {
    let mut served = start(|request, connection| {
        assert!(!request.headers().contains_key(http::header::UPGRADE) && !connection.may_switch());
        Box::pin(async { status(StatusCode::OK) })
    });
    for _ in 0..3 {
        served.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n").await;
        assert_eq!(served.heard().await, OK);
    }
}

/// B25: an answer that leaves a body unread says that the connection ends, and it does; one that need not, goes on.
#[tokio::test(start_paused = true)]
async fn an_early_answer_says_whether_the_connection_goes_on() {
    let early = || start(|_, _| Box::pin(async { status(StatusCode::NOT_FOUND) }));
    let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    for (request, closes) in [
        (GET.to_owned(), false),
        (head("Content-Length: 5\r\n") + "hello", false),
        (head("Content-Length: 5\r\n") + "hell", true),
        (head("Content-Length: 5\r\n"), true),
        (head("Content-Length: 5\r\nExpect: 100-continue\r\n"), true),
        (head("Content-Length: 5\r\nExpect: 100-continue\r\n") + "hello", false),
        (head("Content-Length: 0\r\nExpect: 100-continue\r\n"), false),
        (head("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n", true),
        (head("Transfer-Encoding: chunked\r\n") + "5\r\nhel", true),
        (head("Content-Length: 100000\r\n") + &"x".repeat(60_000), true),
    ] {
        let mut served = early();
        served.send(&request).await;
        let answer = served.heard().await;
        let told = answer.contains("connection: close\r\n");
        let what = request.chars().take(150).collect::<String>();
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{what}: {answer}");
        assert_eq!(told, closes, "{what}");
        assert_eq!(served.is_closed().await, closes, "{what}");
        if !closes {
            served.send(GET).await;
            assert!(served.heard().await.starts_with("HTTP/1.1 404 Not Found\r\n"), "{what}");
        }
    }
}

/// B25: an answer may stream while its request does, and then the connection goes on.
#[tokio::test(start_paused = true)]
async fn an_answer_that_streams_while_the_body_is_read_keeps_the_connection() {
    let mut served = start(|request, _| Box::pin(async { Response::new(echoed(request.into_body())) }));
    for _ in 0..2 {
        served.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await;
        assert_eq!(served.heard().await, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc");
        served.send("def").await;
        assert_eq!(served.heard().await, "def");
    }
}

/// The caller's body as an answer's.
fn echoed(incoming: Incoming) -> AnswerBody {
    incoming.map_err(body::BodyError::Upstream).boxed_unsync()
}

/// B25: a body that was read does not cost the connection, in chunks neither.
#[tokio::test(start_paused = true)]
async fn a_body_that_was_read_leaves_the_connection_open() {
    let mut served = start(|request, _| {
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            status(StatusCode::OK)
        })
    });
    for body in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\nx\r\n0\r\n\r\n"]
    {
        for _ in 0..2 {
            served.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}")).await;
            assert_eq!(served.heard().await, OK);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_before_a_101_takes_the_exchange_along() {
    let (told, mut gone) = tokio::sync::mpsc::channel::<Failure>(1);
    let told = Arc::new(parking_lot::Mutex::new(Some(told)));
    let mut served = start(move |_, _| {
        let told = told.lock().take();
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(told);
            switching()
        })
    });
    served.send([UPGRADE, "early"].concat()).await;
    assert_eq!(served.heard().await, "");
    drop(served.caller);
    assert!(timeout(Duration::from_secs(1), gone.recv()).await.unwrap().is_none(), "the exchange was dropped");
}
