//! A server on loopback for tests: answers each request with a closure and keeps what it saw.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running server; stops when dropped.
pub(crate) struct Fake {
    port: u16,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
    serving: JoinHandle<()>,
}

impl Fake {
    /// Serves `answer` at every path.
    pub(crate) async fn serve(answer: impl Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(accept(listener, Arc::new(answer), Arc::clone(&seen)));
        Self { port, seen, serving }
    }

    /// Serves one status, set of fields and body.
    pub(crate) async fn serving(
        status: u16,
        headers: &'static [(&'static str, &'static str)],
        body: &'static str,
    ) -> Self {
        Self::serve(move |_| {
            let builder =
                headers.iter().fold(Response::builder().status(status), |b, (name, value)| b.header(*name, *value));
            builder.body(Bytes::from(body)).unwrap()
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> Uri {
        format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Request<Bytes>> {
        self.seen.lock().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves every connection in a task of its own; they end with the runtime of the test.
async fn accept<A>(listener: TcpListener, answer: Arc<A>, seen: Arc<Mutex<Vec<Request<Bytes>>>>)
where
    A: Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
{
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
        let service = service_fn(move |request| respond(request, Arc::clone(&answer), Arc::clone(&seen)));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn respond<A>(
    request: Request<Incoming>,
    answer: Arc<A>,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
) -> Result<Response<Full<Bytes>>, Infallible>
where
    A: Fn(&Request<Bytes>) -> Response<Bytes>,
{
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, body.collect().await.unwrap().to_bytes());
    let response = answer(&request);
    seen.lock().push(request);
    Ok(response.map(Full::new))
}
