//! A request body that can be called off while hyper sends it over HTTP/2.
//!
//! hyper reads it in a task of its own, which ends with the body or with the stream; and the stream does not end while
//! that task waits for the body. Over HTTP/1 the connection is closed instead.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::Reason;
use http_body::{Body, Frame, SizeHint};

/// The body, and who may call it off.
#[derive(Debug)]
pub(super) struct Stoppable<B> {
    body: B,
    /// None: it had ended before it was sent.
    off: Option<Arc<Off>>,
}

/// Whether a body is called off.
#[derive(Debug, Default)]
pub(super) struct Off {
    is_off: AtomicBool,
    waker: AtomicWaker,
}

impl Off {
    /// Ends the body with an error, so that its stream is reset.
    pub(super) fn call(&self) {
        self.is_off.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl<B: Body> Stoppable<B> {
    /// `body`, and the handle by which it is called off, where there is anything left to call off.
    pub(super) fn new(body: B) -> (Self, Option<Arc<Off>>) {
        let off = (!body.is_end_stream()).then(Arc::default);
        (Self { body, off: off.clone() }, off)
    }
}

impl<B> Body for Stoppable<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Some(off) = &this.off {
            off.waker.register(cx.waker());
            if off.is_off.load(Ordering::Acquire) {
                // hyper takes the reason of the reset from the error.
                return Poll::Ready(Some(Err(Box::new(h2::Error::from(Reason::CANCEL)))));
            }
        }
        Pin::new(&mut this.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
