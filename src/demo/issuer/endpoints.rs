//! The issuer's endpoints: what is asked, and the answer that the RFCs give.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, PRAGMA, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::authenticate::{Refused, client};
use super::{Behavior, Client, TokenRequest, Tokens};
use crate::body::{self, AnswerBody};
use crate::demo::form;
use crate::demo::serving::{Disconnect, Service};

/// Longest form.
const LIMIT: usize = 64 * 1024;

const FORM: &str = "application/x-www-form-urlencoded";

const INDEX: &str = "\
The identity provider of keybearer's demo.

POST /token        an access token for client_id and client_secret (RFC 6749 4.4)
POST /revoke       revokes one token of the client (RFC 7009)
POST /introspect   tells whether a token is live (RFC 7662)
POST /demo/revoke  revokes every token, without asking who you are
GET  /.well-known/oauth-authorization-server
";

/// The issuer as a service.
#[derive(Clone)]
pub(super) struct Endpoints(pub(super) Tokens);

impl Service for Endpoints {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Disconnect> {
        let (head, body) = request.into_parts();
        let allowed = match head.uri.path() {
            "/" | "/.well-known/oauth-authorization-server" => Method::GET,
            "/token" | "/revoke" | "/introspect" | "/demo/revoke" => Method::POST,
            _ => return Ok(text(StatusCode::NOT_FOUND, "not found\n")),
        };
        if head.method != allowed {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
            let allow = if allowed == Method::GET { "GET" } else { "POST" };
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            return Ok(answer);
        }
        match head.uri.path() {
            "/" => return Ok(text(StatusCode::OK, INDEX)),
            "/.well-known/oauth-authorization-server" => return Ok(metadata(&head.headers)),
            "/demo/revoke" => return Ok(answer(StatusCode::OK, &json!({ "revoked": self.0.revoke_all() }))),
            _ => {}
        }
        let Ok(body) = Limited::new(body, LIMIT).collect().await else {
            return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "the form is too large\n"));
        };
        let form = std::str::from_utf8(&body.to_bytes()).ok().and_then(form::parse);
        if head.uri.path() == "/token" {
            return self.token(head, form).await;
        }
        Ok(self.about_a_token(&head, form).unwrap_or_else(Error::answer))
    }
}

impl Endpoints {
    async fn token(
        &self,
        head: Parts,
        form: Option<Vec<(String, String)>>,
    ) -> Result<Response<AnswerBody>, Disconnect> {
        let Parts { uri, headers, .. } = head;
        let request = TokenRequest { uri, headers: headers.clone(), form: form.clone().unwrap_or_default() };
        let behavior = self.0.asked(request);
        if matches!(behavior, Behavior::OnlyToken) {
            self.0.revoke_all();
        }
        self.0.0.gate.pass().await;
        match &behavior {
            Behavior::Disconnect => return Err(Disconnect),
            Behavior::Answer(made_up) => {
                let mut answer = Response::new(body::full(made_up.body.clone()));
                *answer.status_mut() = made_up.status;
                answer.headers_mut().extend(made_up.headers.iter().cloned());
                return Ok(answer);
            }
            Behavior::Conforming | Behavior::SameToken | Behavior::OnlyToken | Behavior::Members(_) => {}
        }
        let minted = self.mint(&headers, form, &behavior);
        Ok(minted.map_or_else(Error::answer, |token| answer(StatusCode::OK, &Value::Object(token))))
    }

    /// The members of the answer of RFC 6749 5.1.
    fn mint(
        &self,
        headers: &HeaderMap,
        form: Option<Vec<(String, String)>>,
        behavior: &Behavior,
    ) -> Result<Map<String, Value>, Error> {
        let form = checked(headers, form)?;
        let client = client(&self.0.0.clients, headers, &form)?;
        match parameter(&form, "grant_type") {
            None => return Err(Error::InvalidRequest),
            Some("client_credentials") => {}
            Some(_) => return Err(Error::UnsupportedGrantType),
        }
        let scope = parameter(&form, "scope");
        if scope.is_some_and(|scope| !is_scope(scope)) {
            return Err(Error::InvalidScope);
        }
        let repeated = if matches!(behavior, Behavior::SameToken) { self.0.last(client) } else { None };
        let token = match repeated {
            Some(token) => token,
            None => self.0.mint(client, scope).map_err(|_| Error::Server)?,
        };
        let mut members = Map::new();
        members.insert("access_token".to_owned(), token.into());
        members.insert("token_type".to_owned(), "Bearer".into());
        members.insert("expires_in".to_owned(), client.lifetime.as_secs().into());
        if let Some(scope) = scope {
            members.insert("scope".to_owned(), scope.into());
        }
        if let Behavior::Members(replaced) = behavior {
            members.extend(replaced.clone());
            members.retain(|_, value| !value.is_null());
        }
        Ok(members)
    }

    /// Revocation and introspection: both take a token from a client.
    fn about_a_token(&self, head: &Parts, form: Option<Vec<(String, String)>>) -> Result<Response<AnswerBody>, Error> {
        let form = checked(&head.headers, form)?;
        let client: &Client = client(&self.0.0.clients, &head.headers, &form)?;
        let token = parameter(&form, "token").ok_or(Error::InvalidRequest)?;
        if head.uri.path() == "/revoke" {
            // RFC 7009 2.2: an unknown token is as good as a revoked one.
            self.0.revoke(token, client);
            return Ok(text(StatusCode::OK, ""));
        }
        let Some(grant) = self.0.active(token) else {
            return Ok(answer(StatusCode::OK, &json!({ "active": false })));
        };
        let end = SystemTime::now() + grant.rest;
        let mut members = json!({
            "active": true,
            "client_id": grant.client_id,
            "token_type": "Bearer",
            "exp": end.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        });
        if let (Some(scope), Some(members)) = (grant.scope, members.as_object_mut()) {
            members.insert("scope".to_owned(), scope.into());
        }
        Ok(answer(StatusCode::OK, &members))
    }
}

/// The form when it is one: RFC 6749 3.2 wants the media type and no parameter twice, and ignores those without value.
fn checked(headers: &HeaderMap, form: Option<Vec<(String, String)>>) -> Result<Vec<(String, String)>, Error> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let mut form = form.filter(|_| media_type.eq_ignore_ascii_case(FORM)).ok_or(Error::InvalidRequest)?;
    form.retain(|(_, value)| !value.is_empty());
    // RFC 8707 2 lets `resource` be repeated, RFC 8693 2.1 `audience`.
    let names = form.iter().map(|(name, _)| name.as_str()).filter(|name| !matches!(*name, "resource" | "audience"));
    let mut seen = HashSet::new();
    if names.into_iter().all(|name| seen.insert(name)) { Ok(form) } else { Err(Error::InvalidRequest) }
}

fn parameter<'a>(form: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

/// RFC 6749 3.3.
fn is_scope(scope: &str) -> bool {
    let is_token =
        |token: &str| !token.is_empty() && token.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    scope.split(' ').all(is_token)
}

/// RFC 6749 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Error {
    InvalidRequest,
    InvalidClient,
    UnsupportedGrantType,
    InvalidScope,
    Server,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::InvalidClient => Self::InvalidClient,
            Refused::InvalidRequest => Self::InvalidRequest,
        }
    }
}

impl Error {
    fn answer(self) -> Response<AnswerBody> {
        let (status, code) = match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            Self::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Self::Server => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        let mut answer = answer(status, &json!({ "error": code }));
        // Demanded where the client used the field, allowed where not; RFC 9110 15.5.2 wants it with every 401.
        if self == Self::InvalidClient {
            let scheme = HeaderValue::from_static("Basic realm=\"keybearer demo\", charset=\"UTF-8\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        answer
    }
}

/// RFC 8414; the issuer is whatever name the request used, since the port is not known beforehand.
fn metadata(headers: &HeaderMap) -> Response<AnswerBody> {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let issuer = format!("http://{host}");
    answer(
        StatusCode::OK,
        &json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/token"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "introspection_endpoint": format!("{issuer}/introspect"),
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }),
    )
}

/// A JSON answer that no cache keeps (RFC 6749 5.1).
fn answer(status: StatusCode, value: &Value) -> Response<AnswerBody> {
    made(status, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, text: &'static str) -> Response<AnswerBody> {
    made(status, "text/plain; charset=utf-8", text.to_owned())
}

fn made(status: StatusCode, content_type: &'static str, content: String) -> Response<AnswerBody> {
    let mut answer = Response::new(body::full(content));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}
