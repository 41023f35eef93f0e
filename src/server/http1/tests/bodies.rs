//! Bodies that are left unread, and answers that are.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;

use super::*;

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
    incoming.map_err(|error| body::BodyError::Upstream(error.into())).boxed_unsync()
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

/// An answer of fifty pieces, which are counted as they are taken. As from an upstream, another one is there a moment
/// after one was taken, or at once.
fn pieces(taken: Arc<AtomicUsize>, are_there: bool) -> AnswerBody {
    let pieces = futures_util::stream::iter(0..50).then(move |_| {
        let taken = Arc::clone(&taken);
        async move {
            if !are_there {
                tokio::task::yield_now().await;
            }
            taken.fetch_add(1, Ordering::Relaxed);
            Ok(http_body::Frame::data(bytes::Bytes::from(vec![b'x'; MUCH])))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// A caller that does not read is given no more of its answer than is on its way, and all of it once it reads. Where all
/// of the answer is there, hyper may take as much as it has room for, but for a caller that has to show that it reads.
#[tokio::test(start_paused = true)]
async fn no_more_of_an_answer_is_taken_than_its_caller_reads() {
    for (unproven, are_there, most) in [(0, false, 4), (1 << 20, false, 4), (1 << 20, true, 4), (0, true, 50)] {
        let taken = Arc::new(AtomicUsize::new(0));
        let taking = Arc::clone(&taken);
        let mut connection = lonely();
        connection.unproven = AtomicUsize::new(unproven);
        let mut served = serve_in(64, connection, move |_, _| {
            let body = pieces(Arc::clone(&taking), are_there);
            Box::pin(async move { Response::new(body) })
        });
        served.send(GET).await;
        let mut first = [0; 64];
        served.caller.read_exact(&mut first).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let count = taken.load(Ordering::Relaxed);
        assert!(count <= most, "{count} pieces for 64 bytes; unproven: {unproven}, all there: {are_there}");
        assert!(most == 4 || count > 4, "one that reads is not held up");
        let rest = served.heard().await;
        assert_eq!(taken.load(Ordering::Relaxed), 50);
        assert_eq!(rest.matches("xx").count(), 50 * MUCH / 2, "nothing is lost");
        let left = served.connection.unproven.load(Ordering::Relaxed);
        assert_eq!(left, unproven.saturating_sub(50 * MUCH), "what was taken counts");
    }
}
