//! hyper's client against an HTTP/2 server that is written by hand, frame for frame.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Fate, ends_connection, fate};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// RFC 9113 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

fn goaway(last: u32, reason: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
}

fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &reason.to_be_bytes())
}

/// Reads until `count` requests have come, and says `answer`; then the end of the connection.
async fn serve(mut io: DuplexStream, count: usize, answer: Vec<u8>) {
    let mut preface = [0; 24];
    io.read_exact(&mut preface).await.unwrap();
    io.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut seen = 0;
    while seen < count {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        io.read_exact(&mut payload).await.unwrap();
        seen += usize::from(head[3] == HEADERS);
    }
    io.write_all(&answer).await.unwrap();
    io.shutdown().await.unwrap();
    let _ = io.read_to_end(&mut Vec::new()).await;
}

/// What becomes of two requests at once, of streams 1 and 3, whom the server answers so.
async fn fates(answer: Vec<u8>) -> [Option<(Fate, bool)>; 2] {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(serve(theirs, 2, answer));
    let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(ours)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let mut send = || {
        let request = Request::post("http://a.test/").body(Empty::<Bytes>::new()).unwrap();
        let sent = sender.try_send_request(request);
        async { sent.await.err().map(|error| (fate(error.error()), ends_connection(error.error()))) }
    };
    let (first, second) = (send(), send());
    let (first, second) = tokio::join!(first, second);
    [first, second]
}

/// The answer 200 without a body: END_STREAM and END_HEADERS, and the eighth entry of HPACK's static table.
fn fine(stream: u32) -> Vec<u8> {
    frame(HEADERS, 5, stream, &[0x88])
}

/// B45: what the server did not process is told from what it may have processed: a refused stream, and streams above
/// the last one of a GOAWAY, whatever its reason.
#[tokio::test]
async fn only_what_the_server_did_not_process_is_refused() {
    let refused = Some((Fate::Refused, true));
    for (answer, expected) in [
        ([fine(1), reset(3, REFUSED_STREAM)].concat(), [None, refused]),
        ([fine(1), goaway(1, NO_ERROR)].concat(), [None, refused]),
        ([fine(1), goaway(1, ENHANCE_YOUR_CALM)].concat(), [None, refused]),
        (goaway(0, NO_ERROR), [refused, refused]),
        // Processed perhaps: the connection ended before the answer, or the stream for another reason.
        (goaway(1, NO_ERROR), [Some((Fate::Lost, true)), refused]),
        (goaway(1, ENHANCE_YOUR_CALM), [Some((Fate::Lost, true)), refused]),
        ([goaway(i32::MAX as u32, NO_ERROR), fine(1)].concat(), [None, Some((Fate::Lost, true))]),
        (goaway(3, ENHANCE_YOUR_CALM), [Some((Fate::Lost, true)), Some((Fate::Lost, true))]),
        ([fine(1), reset(3, INTERNAL_ERROR)].concat(), [None, Some((Fate::Lost, false))]),
        (Vec::new(), [Some((Fate::Lost, true)), Some((Fate::Lost, true))]),
        // No status: malformed (RFC 9113 8.1.1).
        ([fine(1), frame(HEADERS, 5, 3, &[])].concat(), [None, Some((Fate::Broken, false))]),
    ] {
        assert_eq!(fates(answer.clone()).await, expected, "{answer:?}");
    }
}
