//! One request over one leased connection, and what became of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::task::AbortHandle;

use super::pool::Pool;

/// A connection taken out of its pool. Dropped, it closes; only [`Lease::give_back`] returns it.
#[derive(Debug)]
pub struct Lease<B> {
    link: Link<B>,
    pool: Arc<Pool<B>>,
    reused: bool,
}

/// An open connection and the task that drives it. Dropped, it closes at once, whatever is still on its way: a request
/// body that nobody reads any more must not keep a connection for as long as the upstream is patient.
#[derive(Debug)]
pub(super) struct Link<B> {
    pub(super) sender: http1::SendRequest<B>,
    task: AbortHandle,
}

impl<B> Link<B> {
    pub(super) fn new(sender: http1::SendRequest<B>, task: AbortHandle) -> Self {
        Self { sender, task }
    }
}

impl<B> Drop for Link<B> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of a request that got no answer. The variant says who may send it again.
#[derive(Debug, thiserror::Error)]
pub enum SendError<B> {
    /// Not a byte of it was sent; here it is again.
    #[error("the connection closed before the request was sent")]
    Unsent(Box<Request<B>>),
    /// The connection ended after sending had begun and before an answer's head came.
    #[error("the connection ended before an answer came")]
    Lost(#[source] hyper::Error),
    /// An answer came that is no HTTP.
    #[error("the answer was broken")]
    Broken(#[source] hyper::Error),
    /// The request body failed on our side.
    #[error("the request body ended early")]
    RequestBody(#[source] hyper::Error),
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn new(link: Link<B>, pool: Arc<Pool<B>>, reused: bool) -> Self {
        Self { link, pool, reused }
    }

    /// Whether the connection had served an exchange before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends `request` and waits for the head of its answer.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, SendError<B>> {
        self.link.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(request)),
            None => {
                let error = error.into_error();
                if error.is_user() {
                    SendError::RequestBody(error)
                } else if error.is_parse() {
                    SendError::Broken(error)
                } else {
                    SendError::Lost(error)
                }
            }
        })
    }

    /// Returns the connection. Call this only when request and answer have both ended.
    pub fn give_back(self) {
        if !self.link.sender.is_closed() {
            self.pool.put(self.link);
        }
    }
}
