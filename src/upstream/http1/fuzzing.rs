//! What must hold for any bytes of an upstream, in any pieces: the same is read however they are cut, and whatever passes
//! for a whole answer is the same answer to hyper's client, which reads by other code.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a property that does not hold stops here, and says where"
)]

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::outgoing::Outgoing;
use super::{Link, Room};
use crate::upstream::RequestHead;
use crate::upstream::form::Form;
use crate::upstream::opener::Counted;
use crate::upstream::stream::UpstreamStream;

/// A server that says what it says, in pieces of this size, and closes.
struct Wire<'a> {
    left: &'a [u8],
    step: usize,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (piece, left) = this.left.split_at(this.step.min(this.left.len()).min(buf.remaining()));
        buf.put_slice(piece);
        this.left = left;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// An answer, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Read {
    interims: Vec<(StatusCode, HeaderMap)>,
    head: Option<(Version, StatusCode, HeaderMap)>,
    content: Vec<u8>,
    trailers: HeaderMap,
    error: Option<String>,
}

/// A body that has not come yet, or none.
struct Awaited {
    comes: bool,
}

impl Body for Awaited {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.comes { Poll::Pending } else { Poll::Ready(None) }
    }

    fn is_end_stream(&self) -> bool {
        !self.comes
    }
}

/// The request that `head` becomes on a connection, read from what is written of it while its body is to come.
pub(in crate::upstream) fn written(head: RequestHead<'_>, form: &Form) -> Request<()> {
    let mut outgoing = Outgoing::new();
    let comes = head.headers.contains_key(CONTENT_LENGTH);
    outgoing.begin(head, form, Awaited { comes });
    let mut text = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    let sent = outgoing.poll(&mut cx, &mut text);
    assert_eq!(sent.map_err(|error| error.to_string()), if comes { Poll::Pending } else { Poll::Ready(Ok(())) });
    let text = String::from_utf8_lossy(&text).into_owned();
    let (line, rest) = text.split_once("\r\n").expect("a request line");
    let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
    let mut request = Request::builder().method(method).uri(target).body(()).expect("a method and a target");
    let fields = rest.strip_suffix("\r\n").expect("an empty line");
    for field in fields.split_terminator("\r\n") {
        let (name, value) = field.split_once(": ").expect("a field");
        let name: HeaderName = name.parse().expect("a name");
        // What is not ASCII was lost above; where it stood is enough here.
        request.headers_mut().append(name, HeaderValue::from_str(&value.replace('\u{fffd}', "?")).expect("a value"));
    }
    request
}

fn request(method: &Method) -> Request<Empty<Bytes>> {
    Request::builder().method(method).uri("/").header("host", "a").body(Empty::new()).unwrap()
}

/// What is read of `bytes`, and whether the connection could be used again.
fn read(bytes: &[u8], step: usize, method: &Method) -> (Read, bool) {
    let mut link = Link::new(UpstreamStream::new((Wire { left: bytes, step }, 0), Counted::none()), Room::Wide);
    let mut cx = Context::from_waker(Waker::noop());
    let mut read = Read::default();
    let asked = request(method);
    let head = RequestHead { method, target: asked.uri(), headers: asked.headers(), set: &[] };
    link.begin(head, &Form::Origin, Empty::<Bytes>::new());
    let mut interims = Vec::new();
    let answered = link.poll_answer(&mut cx, &mut |status, headers| interims.push((status, headers)));
    read.interims = interims;
    match answered {
        Poll::Pending => panic!("there is always something to read"),
        Poll::Ready(Err(error)) => read.error = Some(error.to_string()),
        Poll::Ready(Ok(answer)) => {
            let head = answer.into_parts().0;
            read.head = Some((head.version, head.status, head.headers));
        }
    }
    while read.head.is_some() {
        match link.poll_frame(&mut cx) {
            Poll::Pending => panic!("there is always something to read"),
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(error))) => {
                read.error = Some(error.to_string());
                break;
            }
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => read.content.extend_from_slice(&data),
                Err(frame) => read.trailers = frame.into_trailers().unwrap(),
            },
        }
    }
    let is_usable = read.error.is_none() && link.rest();
    (read, is_usable)
}

/// What hyper's client makes of `bytes`; none: an error.
fn oracle(bytes: &[u8], method: &Method) -> Option<Read> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(bytes.len() + 1024);
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        let serving = async {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                theirs.read_buf(&mut asked).await.unwrap();
            }
            // Who has read enough may have gone.
            let _ = theirs.write_all(bytes).await;
            drop(theirs);
        };
        let (answer, ()) = tokio::join!(sender.send_request(request(method)), serving);
        let (head, body) = answer.ok()?.into_parts();
        let mut read = Read { head: Some((head.version, head.status, head.headers)), ..Read::default() };
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            let body = body.collect().await.ok()?;
            read.trailers = body.trailers().cloned().unwrap_or_default();
            read.content = body.to_bytes().to_vec();
        }
        Some(read)
    })
}

/// Of two faults that bytes have, how they are cut may decide which is found first.
fn unnamed(read: Read) -> Read {
    Read { error: read.error.map(|_| String::new()), ..read }
}

/// The first byte chooses the method and a piece's size; then what the server says.
pub fn answer(bytes: &[u8]) {
    let Some((choice, wire)) = bytes.split_first() else { return };
    let method = if choice & 1 == 1 { Method::HEAD } else { Method::GET };
    let (whole, is_usable) = read(wire, usize::MAX, &method);
    for step in [1, 2, 3 + usize::from(choice >> 1)] {
        assert_eq!(unnamed(read(wire, step, &method).0), unnamed(whole.clone()), "in pieces of {step}");
    }
    if whole.error.is_some() {
        assert!(!is_usable);
        return;
    }
    let Some(other) = oracle(wire, &method) else { panic!("hyper refuses what passed for {whole:?}") };
    assert_eq!(other, Read { interims: Vec::new(), ..whole });
}
