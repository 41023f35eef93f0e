//! Interim answers (1xx, RFC 9110 15.2) on their way from an upstream connection's task to the exchange.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use http::{HeaderMap, Request, StatusCode};
use parking_lot::Mutex;

/// More of them than this, unread, are dropped: an exchange reads them as soon as they come.
const UNREAD: usize = 16;

/// The interim answers of one exchange. Cloned, it is the same queue.
#[derive(Clone, Debug, Default)]
pub struct Interims(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    unread: VecDeque<(StatusCode, HeaderMap)>,
    waker: Option<Waker>,
}

impl Interims {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has those of `request`'s answer come here. HTTP/1 only: hyper tells of none over HTTP/2.
    pub fn follow<B>(&self, request: &mut Request<B>) {
        let queue = Arc::clone(&self.0);
        hyper::ext::on_informational(request, move |interim| {
            let mut queue = queue.lock();
            if queue.unread.len() < UNREAD {
                queue.unread.push_back((interim.status(), interim.headers().clone()));
            }
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
        });
    }

    /// The next one that has come; where there is none, `waker` is to be told of it.
    pub fn next(&self, waker: Option<&Waker>) -> Option<(StatusCode, HeaderMap)> {
        let mut queue = self.0.lock();
        let next = queue.unread.pop_front();
        if let (None, Some(waker)) = (&next, waker) {
            queue.waker = Some(waker.clone());
        }
        next
    }
}
