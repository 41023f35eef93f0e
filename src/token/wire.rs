//! How the parameters of a token request are laid out: as a form, as JSON, or in the query. Which parameters there are
//! is the business of `grant` and `authentication`.
//!
//! RFC 6749 3.2: no parameter is sent more than once. What the configured URL's query already holds is left as it is,
//! byte for byte, and stays out of everything else; only `audience` and `resource` may repeat (RFC 8693 2.1, RFC 8707 2).

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use oauth2::url::form_urlencoded;
use serde_json::{Map, Value};

use super::failure::MintError;
use crate::secret::Secret;

/// Parameters that may occur more than once.
const REPEATABLE: [&str; 2] = ["audience", "resource"];

/// Parameters whose values are no secrets, whoever configured them.
const PUBLIC: [&str; 15] = [
    "actor_token_type",
    "audience",
    "client_assertion_type",
    "client_id",
    "expires_in",
    "grant_type",
    "issued_token_type",
    "requested_token_type",
    "resource",
    "response_type",
    "scope",
    "subject_token_type",
    "token_type",
    "username",
    "error",
];

/// Whether the values of a parameter may be seen by those who look at a token request.
pub(super) fn is_public(name: &str) -> bool {
    PUBLIC.contains(&name)
}

/// Where the parameters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A form in the body (RFC 6749 3.2).
    Form,
    /// One JSON object in the body; every value is a text, those of a repeated name are a list.
    Json,
    /// All in the query, no body.
    Query,
}

/// The parameters in the order in which they are sent.
#[derive(Clone, Default)]
pub(super) struct Form(Vec<(String, Secret)>);

impl Form {
    /// What the form in `body` holds.
    pub(super) fn parse(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body);
        Self(pairs.map(|(name, value)| (name.into_owned(), Secret::new(value.into_owned()))).collect())
    }

    /// Puts a parameter in the place of all that have its name, or at the end.
    pub(super) fn put(&mut self, name: &str, value: Secret) {
        let Some(at) = self.0.iter().position(|(known, _)| known == name) else {
            self.0.push((name.to_owned(), value));
            return;
        };
        self.remove(name);
        self.0.insert(at, (name.to_owned(), value));
    }

    /// Puts a parameter that is not secret.
    pub(super) fn put_text(&mut self, name: &str, value: &str) {
        self.put(name, Secret::new(value.to_owned()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Leaves out what `query` holds already.
    fn without(mut self, query: &str) -> Self {
        let there: Vec<_> = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name).collect();
        self.0.retain(|(name, _)| REPEATABLE.contains(&name.as_str()) || !there.iter().any(|known| known == name));
        self
    }

    fn serialised(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(self.iter().map(|(name, value)| (name, value.expose())));
        form.finish()
    }

    fn json(&self) -> Vec<u8> {
        let mut members = Map::new();
        for (name, value) in self.iter() {
            let value = Value::from(value.expose());
            match members.get_mut(name) {
                None => drop(members.insert(name.to_owned(), value)),
                Some(Value::Array(list)) => list.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        Value::Object(members).to_string().into_bytes()
    }
}

/// One request with the parameters of `form`; those of `query` are in the query whatever the layout is.
///
/// # Errors
/// [`MintError`] when the parameters make a query that is too long for a URL.
pub(super) fn request(
    method: &Method,
    url: &Uri,
    layout: Layout,
    query: &[(String, Secret)],
    form: Form,
) -> Result<Request<Bytes>, MintError> {
    let query = Form(query.to_vec()).without(url.query().unwrap_or(""));
    let url = extended(url, &query.serialised())?;
    let form = form.without(url.query().unwrap_or(""));
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let (url, body) = match layout {
        Layout::Query => (extended(&url, &form.serialised())?, Bytes::new()),
        Layout::Form => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (url, Bytes::from(form.serialised()))
        }
        Layout::Json => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            (url, Bytes::from(form.json()))
        }
    };
    if body.is_empty() && method != Method::GET {
        // Without it some servers answer 411; an HTTP library leaves it out where there is no body (RFC 9110 8.6).
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method.clone(), url, headers);
    Ok(request)
}

/// `url` byte for byte, with `added` at the end of its query.
fn extended(url: &Uri, added: &str) -> Result<Uri, MintError> {
    if added.is_empty() {
        return Ok(url.clone());
    }
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&{added}"),
        Some(_) | None => added.to_owned(),
    };
    let unfit = || MintError::misconfigured("the parameters do not fit into a URL");
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{query}", url.path()).try_into().map_err(|_| unfit())?);
    Uri::from_parts(parts).map_err(|_| unfit())
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Form, Layout, request};
    use crate::secret::Secret;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, Secret)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned()))).collect()
    }

    fn sent(method: &Method, url: &str, layout: Layout, query: &[(&str, &str)], form: &[(&str, &str)]) -> [String; 2] {
        let made = request(method, &url.parse().unwrap(), layout, &pairs(query), Form(pairs(form))).unwrap();
        [made.uri().to_string(), String::from_utf8(made.body().to_vec()).unwrap()]
    }

    #[test]
    fn each_layout_puts_the_parameters_in_one_place() {
        let (post, get) = (Method::POST, Method::GET);
        let form = &[("grant_type", "x y"), ("resource", "a&b"), ("resource", "c")][..];
        let encoded = "grant_type=x+y&resource=a%26b&resource=c";
        let json = r#"{"grant_type":"x y","resource":["a&b","c"]}"#;
        for (method, layout, url, body) in [
            (&post, Layout::Form, "http://h/t?q=%7e".to_owned(), encoded),
            (&post, Layout::Json, "http://h/t?q=%7e".to_owned(), json),
            (&post, Layout::Query, format!("http://h/t?q=%7e&{encoded}"), ""),
            (&get, Layout::Query, format!("http://h/t?q=%7e&{encoded}"), ""),
        ] {
            assert_eq!(sent(method, "http://h/t?q=%7e", layout, &[], form), [url, body.to_owned()], "{layout:?}");
        }
    }

    #[test]
    fn a_query_is_only_ever_added_to() {
        for (url, query, whole) in [
            ("http://h/t", &[("a", "b c")][..], "http://h/t?a=b+c"),
            ("http://h/t?", &[("a", "b")], "http://h/t?a=b"),
            ("http://h/t?", &[], "http://h/t?"),
            ("http://h?x=%7e&&y", &[("a", "b")], "http://h/?x=%7e&&y&a=b"),
        ] {
            assert_eq!(sent(&Method::POST, url, Layout::Form, query, &[])[0], whole);
        }
    }

    /// C1: no parameter is sent twice unless it may repeat.
    #[test]
    fn no_parameter_is_sent_twice_unless_it_may_repeat() {
        let form = &[("grant_type", "a"), ("scope", "b"), ("resource", "c"), ("x", "y")];
        let url = "http://h/t?grant%5Ftype=z&resource=d";
        let [url, body] = sent(&Method::POST, url, Layout::Form, &[("scope", "e"), ("grant_type", "f")], form);
        assert_eq!(url, "http://h/t?grant%5Ftype=z&resource=d&scope=e");
        assert_eq!(body, "resource=c&x=y");
    }

    #[test]
    fn a_post_without_a_body_says_so() {
        for (method, layout, length) in [
            (Method::POST, Layout::Form, Some("0")),
            (Method::POST, Layout::Query, Some("0")),
            (Method::GET, Layout::Query, None),
        ] {
            let made = request(&method, &"http://h/t".parse().unwrap(), layout, &[], Form::default()).unwrap();
            let said = made.headers().get("content-length").map(|value| value.to_str().unwrap());
            assert_eq!(said, length);
        }
    }

    #[test]
    fn a_parameter_is_put_in_the_place_of_all_of_its_name() {
        let mut form = Form::parse(b"a=1&b=2&c=3&b=4");
        form.put_text("b", "5");
        form.put_text("d", "6");
        form.remove("a");
        assert_eq!(form.serialised(), "b=5&c=3&d=6");
        assert!(form.contains("c") && !form.contains("a"));
    }
}
