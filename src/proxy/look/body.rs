//! An upstream's answer body of which a part may have been read ahead: that part first, then the rest as it comes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::super::replay::AttemptBody;
use crate::upstream::Lease;

type Kept<E> = VecDeque<Result<Frame<Bytes>, E>>;

/// An answer's body, and the connection that it comes over. One that was not looked into costs a comparison for each
/// piece more than the connection's own.
#[derive(Debug)]
pub(in crate::proxy) struct UpstreamBody<R: Body = Lease<AttemptBody>> {
    /// Read ahead, an error at its end too: it is for whoever gets the body.
    kept: Option<Box<Kept<R::Error>>>,
    rest: R,
}

/// What came next of a body.
#[derive(Debug)]
pub(in crate::proxy) enum Next {
    /// A piece.
    Data(Bytes),
    /// Nothing more.
    End,
    /// An error.
    Failed,
}

impl<R: Body<Data = Bytes> + Unpin> UpstreamBody<R> {
    /// A body of which nothing was read.
    pub(in crate::proxy) fn new(rest: R) -> Self {
        Self { kept: None, rest }
    }

    /// Reads the next piece and keeps it. Given up while it waits, it loses nothing.
    pub(in crate::proxy) async fn keep_next(&mut self) -> Next {
        loop {
            if self.rest.is_end_stream() {
                return Next::End;
            }
            let Some(frame) = self.rest.frame().await else { return Next::End };
            // Trailers end a body, which shows at the next turn.
            let next = match &frame {
                Ok(frame) => frame.data_ref().cloned().map(Next::Data),
                Err(_) => Some(Next::Failed),
            };
            self.kept.get_or_insert_default().push_back(frame);
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// The trailers of a body that holds nothing else, once they were read.
    pub(in crate::proxy) fn only_trailers(&self) -> Option<&HeaderMap> {
        match self.kept.as_deref()?.front()? {
            Ok(frame) => frame.trailers_ref(),
            Err(_) => None,
        }
    }

    /// What was not read yet, for whoever does not want the body; none when it has failed.
    pub(in crate::proxy) fn into_rest(self) -> Option<R> {
        self.kept.iter().flat_map(|kept| kept.iter()).all(Result::is_ok).then_some(self.rest)
    }
}

impl<R: Body<Data = Bytes> + Unpin> Body for UpstreamBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let this = self.get_mut();
        if let Some(kept) = &mut this.kept {
            match kept.pop_front() {
                Some(frame) => return Poll::Ready(Some(frame)),
                None => this.kept = None,
            }
        }
        Pin::new(&mut this.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.is_empty()) && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(kept) = &self.kept else { return self.rest.size_hint() };
        let data = |frame: &Result<Frame<Bytes>, R::Error>| Some(frame.as_ref().ok()?.data_ref()?.len() as u64);
        let kept: u64 = kept.iter().filter_map(data).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}
