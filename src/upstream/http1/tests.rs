//! Over pipes in memory: what is written byte for byte, and what makes a connection unusable.

use std::convert::Infallible;
use std::future::poll_fn;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Form, Link, RequestHead, Room, TransferError, UpstreamStream, head, most};
use crate::upstream::opener::Counted;

type Outgoing = UnsyncBoxBody<Bytes, Infallible>;

fn pair() -> (Link<Outgoing, DuplexStream>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    (Link::new(UpstreamStream::new((ours, usize::MAX), Counted::none()), Room::Wide), theirs)
}

fn full(body: &[u8]) -> Outgoing {
    Full::new(Bytes::copy_from_slice(body)).boxed_unsync()
}

/// A body whose length nobody knows.
fn pieces(pieces: &[&'static [u8]], trailers: Option<HeaderMap>) -> Outgoing {
    let data = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece)));
    let frames: Vec<_> = data.chain(trailers.map(Frame::trailers)).map(Ok).collect();
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

/// Begins a POST with these fields.
fn post(link: &mut Link<Outgoing, DuplexStream>, body: Outgoing, form: &Form, fields: &[(&'static str, &'static str)]) {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let headers = [("host", "a.test")].iter().chain(fields).map(field).collect();
    let target = Uri::from_static("/a?b");
    link.begin(RequestHead { method: &Method::POST, target: &target, headers: &headers, set: &[] }, form, body);
}

/// What is written of a request, and how that ended.
async fn written(body: Outgoing, fields: &[(&'static str, &'static str)]) -> (String, Result<(), TransferError>) {
    let (mut link, mut theirs) = pair();
    post(&mut link, body, &Form::Origin, fields);
    let ended = poll_fn(|cx| link.poll_written(cx)).await;
    drop(link);
    let mut text = String::new();
    theirs.read_to_string(&mut text).await.unwrap();
    (text, ended)
}

async fn answer(link: &mut Link<Outgoing, DuplexStream>) -> Result<StatusCode, TransferError> {
    poll_fn(|cx| link.poll_answer(cx, &mut |_, _| {})).await.map(|answer| answer.status())
}

async fn content(link: &mut Link<Outgoing, DuplexStream>) -> Result<Vec<u8>, TransferError> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| link.poll_frame(cx)).await {
        all.extend(frame?.into_data().unwrap_or_default());
    }
    Ok(all)
}

/// B45: such a request may be sent again. What its connection said before is no answer to what it never got.
#[tokio::test]
async fn a_request_of_which_nothing_could_be_written_was_not_sent() {
    for said in ["", "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"] {
        for body in [b"hello".as_slice(), &[b'a'; 100_000]] {
            let (mut link, mut theirs) = pair();
            theirs.write_all(said.as_bytes()).await.unwrap();
            drop(theirs);
            post(&mut link, full(body), &Form::Origin, &[]);
            assert!(matches!(answer(&mut link).await, Err(TransferError::Unsent)));
            assert!(!link.rest());
        }
    }
}

#[tokio::test]
async fn a_request_says_once_how_long_it_is() {
    let head = "POST /a?b HTTP/1.1\r\nhost: a.test\r\n";
    for (body, fields, expected) in [
        (full(b""), [].as_slice(), "\r\n"),
        (full(b""), &[("content-length", "0")], "content-length: 0\r\n\r\n"),
        (full(b"hello"), &[], "content-length: 5\r\n\r\nhello"),
        (pieces(&[b"he", b"", b"llo"], None), &[("content-length", "5")], "content-length: 5\r\n\r\nhello"),
        (pieces(&[b"hello"], None), &[], "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (
            pieces(&[&[b'a'; 5000]], None),
            &[("transfer-encoding", "chunked")],
            &format!("transfer-encoding: chunked\r\n\r\n1388\r\n{}\r\n0\r\n\r\n", "a".repeat(5000)),
        ),
    ] {
        let (text, ended) = written(body, fields).await;
        assert_eq!(text, format!("{head}{expected}"));
        ended.unwrap();
    }
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), "42".parse().unwrap())]);
    let (text, ended) = written(pieces(&[b"a"], Some(trailers)), &[]).await;
    assert!(text.ends_with("1\r\na\r\n0\r\nx-sum: 42\r\n\r\n"), "{text}");
    ended.unwrap();
}

/// B20: a body that is not as long as its head says is never passed off as a whole one.
#[tokio::test]
async fn a_body_of_another_length_than_announced_ends_in_an_error() {
    for pieces_of in [[].as_slice(), &[b"hell".as_slice()], &[b"hello", b"!"]] {
        let (text, ended) = written(pieces(pieces_of, None), &[("content-length", "5")]).await;
        assert!(matches!(ended, Err(TransferError::RequestBody(_))), "{text}");
    }
}

/// A proxy that reads requests is told the whole URL, and our credentials in the place of anybody else's.
#[tokio::test]
async fn a_proxy_gets_the_whole_url_of_the_upstream_and_our_credentials() {
    let credentials = Some(HeaderValue::from_static("Basic eA=="));
    let form = Form::Absolute { authority: "api.test:81".parse().unwrap(), credentials };
    let (mut link, mut theirs) = pair();
    post(&mut link, full(b""), &form, &[("proxy-authorization", "Basic bXk=")]);
    poll_fn(|cx| link.poll_written(cx)).await.unwrap();
    drop(link);
    let mut text = String::new();
    theirs.read_to_string(&mut text).await.unwrap();
    let expected = "POST http://api.test:81/a?b HTTP/1.1\r\nhost: a.test\r\nproxy-authorization: Basic eA==\r\n\r\n";
    assert_eq!(text, expected);
}

/// What a connection shows of itself holds no credential.
#[tokio::test]
async fn a_connection_shows_no_credential() {
    let (mut link, _theirs) = pair();
    post(&mut link, full(b"secret"), &Form::Origin, &[("authorization", "Bearer secret")]);
    assert!(!format!("{link:?}").contains("secret"), "{link:?}");
}

#[tokio::test]
async fn a_connection_serves_again_only_after_a_clean_end() {
    for (bytes, is_usable) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1", false),
    ] {
        let (mut link, mut theirs) = pair();
        post(&mut link, full(b"hello"), &Form::Origin, &[]);
        theirs.write_all(bytes.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut link).await.unwrap(), StatusCode::OK);
        assert!(!link.rest(), "the answer was not read");
        assert_eq!(content(&mut link).await.unwrap(), b"ok");
        assert_eq!(link.rest(), is_usable, "{bytes}");
    }
}

/// A write that failed is not told, so that the answer can be read. But what took half of a request takes no other.
#[tokio::test]
async fn a_connection_that_did_not_take_all_of_a_request_does_not_serve_again() {
    let (mut link, mut theirs) = pair();
    post(&mut link, full(&[b'a'; 2 << 20]), &Form::Origin, &[]);
    assert!(answer(&mut link).now_or_never().is_none(), "the pipe is full");
    theirs.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    drop(theirs);
    assert_eq!(answer(&mut link).await.unwrap(), StatusCode::OK);
    assert_eq!(content(&mut link).await.unwrap(), b"ok");
    assert!(link.is_written() && link.is_read());
    assert!(!link.rest());
}

#[tokio::test]
async fn an_idle_connection_dies_with_its_server_and_with_whatever_it_says() {
    for is_closed in [true, false] {
        let (mut link, mut theirs) = pair();
        assert!(!link.is_dead());
        if is_closed {
            drop(theirs)
        } else {
            theirs.write_all(b"HTTP/1.1 408 Late\r\n\r\n").await.unwrap()
        }
        assert!(link.is_dead());
    }
}

/// B58: what the upstream answered counts, even where it no longer takes the request.
#[tokio::test]
async fn an_answer_counts_before_its_request_is_written() {
    let (mut link, mut theirs) = pair();
    let never = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>()).boxed_unsync();
    post(&mut link, never, &Form::Origin, &[]);
    theirs.write_all(b"HTTP/1.1 413 Too Long\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    assert_eq!(answer(&mut link).await.unwrap(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(content(&mut link).await.unwrap(), b"no");
    assert!(!link.is_written() && !link.rest());
}

/// B21: what has no end is not collected, nor read without end.
#[tokio::test]
async fn heads_chunk_lines_and_trailers_have_bounds() {
    let long = "a".repeat(head::LONGEST);
    for (begin, is_head) in [
        (format!("HTTP/1.1 200 OK\r\nx: {long}"), true),
        ("HTTP/1.1 200 OK\r\n".to_owned() + &"x: y\r\n".repeat(101) + "\r\n", true),
        ("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(101), true),
        ("\r\n".repeat(40), true),
        (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}", &long[..5000]), false),
        (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: {}", &long[..40_000]), false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_owned(), false),
    ] {
        let (mut link, mut theirs) = pair();
        post(&mut link, full(b""), &Form::Origin, &[]);
        theirs.write_all(begin.as_bytes()).await.unwrap();
        let head = answer(&mut link).now_or_never().unwrap();
        assert_eq!(head.is_err(), is_head);
        let error = match head {
            Err(error) => error,
            Ok(_) => content(&mut link).now_or_never().unwrap().unwrap_err(),
        };
        assert!(matches!(error, TransferError::Malformed(_)), "{error}");
    }
}

/// RFC 9112 2.2: empty lines before an answer are none of it; a carriage return alone is no line.
#[tokio::test]
async fn an_answer_may_come_behind_empty_lines() {
    for (before, is_read) in [("\r\n\n", true), ("\n\r\n", true), ("\r", false), ("\n\r", false), ("\r\r\n", false)] {
        let (mut link, mut theirs) = pair();
        post(&mut link, full(b""), &Form::Origin, &[]);
        for byte in format!("{before}HTTP/1.1 204 No Content\r\n\r\n").as_bytes() {
            assert!(answer(&mut link).now_or_never().is_none_or(|answered| answered.is_err() && !is_read));
            theirs.write_all(&[*byte]).await.unwrap();
        }
        assert_eq!(answer(&mut link).now_or_never().unwrap().is_ok(), is_read, "{before:?}");
    }
}

/// Pieces are smaller the more connections there are.
#[test]
fn pieces_are_bounded() {
    let kibibytes = [1, 32, 33, 512, 513, 100_000].map(|open| most(open) / 1024);
    assert_eq!(kibibytes, [256, 256, 128, 32, 16, 8]);
}
