//! HTTP/1.1 to an upstream (RFC 9112): one exchange at a time over one connection, driven by whoever waits for it.
//!
//! There is no task behind a connection, no channel to it, and no buffer while it idles: the request is written and the
//! answer read by polling this. hyper's client has all three, which was a fifth of what an exchange cost and 8.5 KiB for
//! each connection. Heads, lengths and chunks are read strictly; what can be read in two ways is refused.

mod framing;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod head;
mod outgoing;
mod pump;

use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::{fmt, io};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use self::framing::Framing;
use self::head::{Head, Searched};
use self::outgoing::Outgoing;
use super::form::Form;
use super::stream::UpstreamStream;
use super::{RequestHead, TransferError};
use crate::connect::Stream;

pub use self::head::LONGEST as LONGEST_HEAD;
pub(super) use self::pump::{Pump, finish};

/// Open connections of the process. A caller that does not read holds one piece of its answer.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// What is read at first; more at once, the more there is.
const FIRST: usize = 8 * 1024;

/// Most interim answers before an answer: they are read without a pause, and have no end by themselves.
const MOST_INTERIMS: u8 = 100;

/// With more open connections than this, one that is opened for a caller that may not read is made for little.
const CROWD: usize = 512;

/// About how much of an answer the system holds for us on such a connection. By itself it takes hundreds of KiB from the
/// upstream for a caller that takes nothing; for thousands of them that is work and memory which others lack.
const LITTLE: u32 = 16 * 1024;

/// How much of an answer may wait for its caller outside of our own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// As much as the system sees fit.
    Wide,
    /// Little where there is a crowd: whether the caller reads is not known.
    Narrow,
}

impl Room {
    /// What a connection is made for that is opened now.
    pub(super) fn now(self) -> Self {
        if OPEN.load(Ordering::Relaxed) > CROWD { self } else { Self::Wide }
    }

    /// See [`connect::Destination`].
    pub(super) fn held_at_most(self) -> Option<u32> {
        (self == Self::Narrow).then_some(LITTLE)
    }
}

/// Most bytes of one read: the more connections there are, the less, so that many stalled callers take little memory and
/// few busy ones are served in large pieces.
fn most(open: usize) -> usize {
    let piece = match open {
        0..=32 => 256,
        33..=64 => 128,
        65..=128 => 64,
        129..=512 => 32,
        513..=1024 => 16,
        _ => 8,
    };
    piece * 1024
}

/// An open connection. Dropped, it closes at once, whatever is still on its way: a request body that nobody reads any
/// more must not keep a connection for as long as the upstream is patient.
pub(super) struct Link<B, IO = Stream> {
    io: UpstreamStream<IO>,
    pub(super) opened: Instant,
    outgoing: Outgoing<B>,
    /// What was read and not handed out.
    held: BytesMut,
    /// How much is read at once.
    step: usize,
    reading: Reading,
    /// How many interim answers came before the one that is awaited.
    interims: u8,
    /// Whether the request at hand is a HEAD.
    is_head: bool,
    keeps_alive: bool,
    pub(super) room: Room,
    _open: Open,
}

/// Without what was read.
impl<B, IO> fmt::Debug for Link<B, IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, outgoing, reading, .. } = self;
        f.debug_struct("Link").field("opened", opened).field("outgoing", outgoing).field("reading", reading).finish()
    }
}

/// Counts a connection for as long as HTTP/1 is spoken on it.
#[derive(Debug)]
struct Open;

impl Open {
    fn new() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As if there were a crowd, until it is dropped.
#[cfg(test)]
pub(super) fn crowd() -> Vec<impl Sized> {
    (0..=CROWD).map(|_| Open::new()).collect()
}

/// Where the answer is.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// Its head is to come.
    Head(Searched),
    /// Its content.
    Content(Framing),
    /// It switched protocols: what comes is no HTTP.
    Switched,
}

impl<B, IO> Link<B, IO> {
    /// A connection on which nothing was said.
    pub(super) fn new(io: UpstreamStream<IO>, room: Room) -> Self {
        Self {
            io,
            opened: Instant::now(),
            outgoing: Outgoing::new(),
            held: BytesMut::new(),
            step: FIRST,
            reading: Reading::Content(Framing::Done),
            interims: 0,
            is_head: false,
            keeps_alive: true,
            room,
            _open: Open::new(),
        }
    }

    /// Whether all of the request was written.
    pub(super) fn is_written(&self) -> bool {
        self.outgoing.is_done()
    }

    /// Whether all of the answer was handed out.
    pub(super) fn is_read(&self) -> bool {
        self.reading == Reading::Content(Framing::Done)
    }

    /// How much of the answer's content is to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.reading {
            Reading::Content(framing) => framing.left(),
            Reading::Head(_) | Reading::Switched => None,
        }
    }

    /// Whether the connection can serve another exchange; then nothing of the last one is kept.
    pub(super) fn rest(&mut self) -> bool {
        let is_usable =
            self.keeps_alive && self.is_written() && self.is_read() && self.held.is_empty() && !self.io.is_broken();
        if is_usable {
            self.held = BytesMut::new();
        }
        is_usable
    }
}

impl<B> Link<B> {
    /// The connection, once it has switched protocols, and what came over it already.
    pub(super) fn into_switched(mut self) -> Option<(UpstreamStream<Stream>, Bytes)> {
        (self.reading == Reading::Switched).then(|| (self.io, self.held.split().freeze()))
    }
}

impl<B, IO: AsyncRead + Unpin> Link<B, IO> {
    /// Whether the server has closed the connection, or said something unasked. What is known without asking the kernel
    /// counts: whoever loses a request on it may send it again.
    pub(super) fn is_dead(&mut self) -> bool {
        let mut byte = [0];
        let mut unasked = ReadBuf::new(&mut byte);
        Pin::new(&mut self.io).poll_read(&mut Context::from_waker(Waker::noop()), &mut unasked).is_ready()
    }

    /// Reads more of the answer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransferError>> {
        let step = self.step.min(most(OPEN.load(Ordering::Relaxed)));
        let read = if step == FIRST && self.held.is_empty() {
            ready!(self.poll_read_little(cx))
        } else {
            self.held.reserve(step);
            let mut room = (&mut self.held).limit(step);
            ready!(pin!(self.io.read_buf(&mut room)).poll(cx))
        };
        let read = read.map_err(TransferError::Io)?;
        if read == step {
            self.step = step * 2;
        }
        Poll::Ready(if read == 0 { Err(TransferError::Ended) } else { Ok(()) })
    }

    /// Reads at most [`FIRST`] bytes by way of the stack: as much memory as came is held, and none while nothing comes.
    fn poll_read_little(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); FIRST];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        self.held.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }
}

impl<B, IO> Link<B, IO>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// Begins an exchange.
    pub(super) fn begin(&mut self, head: RequestHead<'_>, form: &Form, body: B) {
        self.is_head = head.method == Method::HEAD;
        self.reading = Reading::Head(Searched::default());
        self.interims = 0;
        self.io.begin();
        self.step = (self.step / 2).max(FIRST);
        self.outgoing.begin(head, form, body);
    }

    /// Sends the request and waits for the head of its answer; `interim` is told of each 1xx that comes before it
    /// (RFC 9110 15.2).
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        interim: &mut impl FnMut(StatusCode, HeaderMap),
    ) -> Poll<Result<Response<()>, TransferError>> {
        // An answer that is there counts more than that the connection takes no more of the request.
        let sending = self.outgoing.poll(cx, &mut self.io);
        if let Poll::Ready(Err(error @ TransferError::RequestBody(_))) = sending {
            return Poll::Ready(Err(error));
        }
        if self.io.has_lost_all() {
            // What can be read answers nothing that was asked.
            return Poll::Ready(Err(TransferError::Unsent));
        }
        loop {
            let Reading::Head(searched) = &mut self.reading else { return Poll::Ready(Err(TransferError::Ended)) };
            let head = head::take(&mut self.held, searched, self.is_head)?;
            let Some(Head { answer, framing, keeps_alive }) = head else {
                match (self.poll_read(cx), &sending) {
                    (Poll::Ready(read), _) => read?,
                    (Poll::Pending, Poll::Ready(Err(_))) => {
                        return sending.map(|sent| sent.and(Err(TransferError::Ended)));
                    }
                    (Poll::Pending, _) => return Poll::Pending,
                }
                continue;
            };
            let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            if answer.status().is_informational() && !switches {
                self.interims += 1;
                if self.interims > MOST_INTERIMS {
                    return Poll::Ready(Err(TransferError::Malformed("the answer begins with too many interim ones")));
                }
                interim(answer.status(), answer.into_parts().0.headers);
                continue;
            }
            self.keeps_alive = keeps_alive && !switches;
            self.reading = if switches { Reading::Switched } else { Reading::Content(framing) };
            return Poll::Ready(Ok(answer));
        }
    }

    /// The next piece of the answer's content, or its trailers. The request is not sent on by this.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TransferError>>> {
        loop {
            let Reading::Content(framing) = &mut self.reading else { return Poll::Ready(None) };
            if let Some(frame) = framing.next(&mut self.held)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if *framing == Framing::Done {
                return Poll::Ready(None);
            }
            let is_until_close = *framing == Framing::UntilClose;
            match ready!(self.poll_read(cx)) {
                Err(TransferError::Ended) if is_until_close => {
                    self.keeps_alive = false;
                    self.reading = Reading::Content(Framing::Done);
                }
                read => read?,
            }
        }
    }

    /// Sends the request on; ready when all of it is written.
    pub(super) fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransferError>> {
        self.outgoing.poll(cx, &mut self.io)
    }
}

#[cfg(test)]
mod tests;
