//! What operators and orchestrators ask the process: health, readiness, metrics.
//!
//! Nothing here knows a secret or a token.

mod exposition;
mod service;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::body::{self, AnswerBody};
use crate::caller::Callers;
use crate::metrics::{self, Metrics};
use crate::name::Name;
use crate::readiness::Readiness;

pub use self::exposition::Scrapes;

const TEXT: &str = "text/plain; charset=utf-8";

const INDEX: &str = "\
keybearer

/healthz   200 while the process runs
/readyz    200 once it takes traffic, 503 before that and while it drains
/metrics   OpenMetrics for Prometheus
";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Somebody on this machine, or a caller that the configuration admits.
    Operator,
    /// Everybody else: an orchestrator, a scraper.
    Anyone,
}

/// The admin service.
#[derive(Debug)]
pub struct Admin {
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// What `/readyz` asks.
    pub readiness: Readiness,
    /// Whether only this machine can reach the listener; others learn neither names nor what else there is.
    pub local: bool,
    /// Who is calling; those of the newest configuration.
    pub callers: Arc<ArcSwap<Callers>>,
    /// Callers that are told everything on a listener that others can reach.
    pub admitted: Vec<Name>,
    /// Who reads metrics now.
    pub scrapes: Scrapes,
}

impl Admin {
    /// Answers a request for `path`, which has no query. Never fails; needs a runtime for `/metrics`.
    pub async fn answer(&self, method: &Method, path: &str, audience: Audience) -> Response<AnswerBody> {
        let known =
            matches!(path, "/healthz" | "/readyz" | "/metrics") || (path == "/" && audience == Audience::Operator);
        if !known {
            return answer(StatusCode::NOT_FOUND, TEXT, "not found\n");
        }
        // RFC 9110 9.3.2: HEAD is GET without the content, which the server leaves out.
        if method != Method::GET && method != Method::HEAD {
            let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/healthz" => answer(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.ready(audience),
            "/metrics" => self.metrics().await,
            _ => answer(StatusCode::OK, TEXT, INDEX),
        }
    }

    fn ready(&self, audience: Audience) -> Response<AnswerBody> {
        if self.readiness.is_ready() {
            return answer(StatusCode::OK, TEXT, "ready\n");
        }
        let mut text = "not ready\n".to_owned();
        if audience == Audience::Operator {
            if self.readiness.is_draining() {
                text.push_str("draining\n");
            }
            for task in self.readiness.pending() {
                text.push_str("waiting for ");
                text.push_str(&task);
                text.push('\n');
            }
        }
        answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
    }

    async fn metrics(&self) -> Response<AnswerBody> {
        let Ok(scrape) = Arc::clone(&self.scrapes.0).acquire_owned().await else {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics could not be rendered\n");
        };
        answered(StatusCode::OK, metrics::CONTENT_TYPE, exposition::body(self.metrics.clone(), scrape))
    }
}

fn answer(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Response<AnswerBody> {
    answered(status, content_type, body::full(text))
}

fn answered(status: StatusCode, content_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, StatusCode};
    use http_body_util::BodyExt as _;

    use super::{Admin, Audience, Scrapes};
    use crate::metrics::Metrics;
    use crate::readiness::Readiness;

    fn admin(local: bool) -> Admin {
        Admin {
            metrics: Metrics::new(),
            readiness: Readiness::new(),
            local,
            callers: Arc::default(),
            admitted: Vec::new(),
            scrapes: Scrapes::default(),
        }
    }

    async fn asked(admin: &Admin, method: Method, path: &str) -> (StatusCode, http::HeaderMap, String) {
        let audience = if admin.local { Audience::Operator } else { Audience::Anyone };
        let (head, body) = admin.answer(&method, path, audience).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_answer_is_kept_out_of_caches_and_never_sniffed() {
        let admin = admin(true);
        for path in ["/", "/healthz", "/readyz", "/metrics", "/nothing"] {
            let (_, headers, _) = asked(&admin, Method::GET, path).await;
            assert_eq!(headers["cache-control"], "no-store", "{path}");
            assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        }
    }

    #[tokio::test]
    async fn health_is_200_even_when_not_ready() {
        let admin = admin(true);
        admin.readiness.drain();
        let (status, _, body) = asked(&admin, Method::GET, "/healthz").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "ok\n"));
    }

    #[tokio::test]
    async fn readiness_names_what_is_missing_to_this_machine_only() {
        for local in [true, false] {
            let admin = admin(local);
            let task = admin.readiness.task("first token of apigee");
            let (status, _, body) = asked(&admin, Method::GET, "/readyz").await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(body.contains("waiting for first token of apigee\n"), local, "{body}");
            drop(task);
            assert_eq!(asked(&admin, Method::GET, "/readyz").await.0, StatusCode::OK);
            admin.readiness.drain();
            assert_eq!(asked(&admin, Method::GET, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    #[tokio::test]
    async fn metrics_are_openmetrics() {
        let (status, headers, body) = asked(&admin(false), Method::GET, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert!(body.contains("keybearer_build_info{version=") && body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn only_reading_is_allowed() {
        let admin = admin(true);
        assert_eq!(asked(&admin, Method::HEAD, "/readyz").await.0, StatusCode::OK);
        let (status, headers, _) = asked(&admin, Method::POST, "/readyz").await;
        assert_eq!((status, &headers["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD".parse().unwrap()));
        assert_eq!(asked(&admin, Method::POST, "/nothing").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn the_index_is_for_this_machine_only() {
        assert_eq!(asked(&admin(true), Method::GET, "/").await.0, StatusCode::OK);
        assert_eq!(asked(&admin(false), Method::GET, "/").await.0, StatusCode::NOT_FOUND);
        let (_, _, index) = asked(&admin(true), Method::GET, "/").await;
        for path in index.lines().filter_map(|line| line.split(' ').next()).filter(|word| word.starts_with('/')) {
            assert_eq!(asked(&admin(true), Method::GET, path).await.0, StatusCode::OK, "{path}");
        }
    }
}
