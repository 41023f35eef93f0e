//! What hyper lets through in an HTTP/2 request and no intermediary may (RFC 9113 8.2, 8.3), so that one rule holds for
//! both versions. h2 refuses the rest: names in upper case, fields of connections, pseudo-fields that are missing,
//! doubled or late, a `content-length` that its DATA does not have.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::answer::Failure;
use crate::header;
use crate::server::Limits;
use crate::server::guard::{check_host, check_method, check_target};

/// Most digits of a `content-length`, as in HTTP/1.
const LENGTH_DIGITS: usize = 19;

/// Judges a request's head, and joins its cookies (RFC 9113 8.2.3). An extended CONNECT passes (RFC 8441).
pub(super) fn check<B>(request: &mut http::Request<B>, limits: &Limits) -> Result<(), Failure> {
    let is_extended = request.extensions().get::<hyper::ext::Protocol>().is_some();
    if !check_method(request.method().as_str().as_bytes()) {
        return Err(Failure::BadRequest);
    }
    if request.method() == Method::CONNECT && !is_extended {
        return Err(Failure::MethodNotAllowed);
    }
    target(request.method(), request.uri(), limits)?;
    fields(request.headers(), limits)?;
    authority(request.uri(), request.headers())?;
    join_cookies(request.headers_mut());
    Ok(())
}

fn target(method: &Method, uri: &Uri, limits: &Limits) -> Result<(), Failure> {
    let target = uri.path_and_query().map(|target| target.as_str().as_bytes()).unwrap_or_default();
    if target.len() > limits.target {
        return Err(Failure::TargetTooLong);
    }
    // Forms with an authority of their own are for the request line of HTTP/1.
    if !matches!(target.first(), Some(b'/' | b'*')) {
        return Err(Failure::BadTarget);
    }
    let method = if method == Method::OPTIONS { b"OPTIONS" } else { &b""[..] };
    check_target(method, target)
}

fn fields(headers: &HeaderMap, limits: &Limits) -> Result<(), Failure> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > limits.header {
        return Err(Failure::HeaderTooLarge);
    }
    if headers.len() > limits.header_fields {
        return Err(Failure::TooManyFields);
    }
    let is_odd = |name: &HeaderName| name.as_str().bytes().any(|byte| matches!(byte, b'_' | b'.'));
    if headers.keys().any(|name| is_odd(name) && header::is_ambiguous_name(name.as_str())) {
        return Err(Failure::BadRequest);
    }
    let is_repeated = |name| headers.get_all(name).iter().nth(1).is_some();
    if is_repeated(CONTENT_LENGTH) || is_repeated(CONTENT_TYPE) {
        return Err(Failure::BadRequest);
    }
    // h2 takes an empty one for 0, and any number of zeros before one; an upstream of HTTP/1 may take it for anything.
    let is_long = |value: &HeaderValue| value.len() > LENGTH_DIGITS;
    if headers.get(CONTENT_LENGTH).is_some_and(|value| is_long(value) || header::content_length(headers).is_none()) {
        return Err(Failure::BadRequest);
    }
    Ok(())
}

/// RFC 9113 8.3.1: `:authority`, or else `Host`; both only where they are the same.
fn authority(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, other) = (hosts.next(), hosts.next());
    let named = uri.authority().map(|authority| authority.as_str().as_bytes());
    let authority = match (named, host) {
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority) => {
            return Err(Failure::BadRequest);
        }
        (Some(authority), _) => authority,
        (None, Some(host)) => host.as_bytes(),
        (None, None) => return Err(Failure::BadRequest),
    };
    if other.is_some() || authority.is_empty() || !check_host(authority) {
        return Err(Failure::BadRequest);
    }
    Ok(())
}

fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::check;
    use crate::answer::Failure;
    use crate::server::Limits;

    fn judge(uri: &str, fields: &[(&str, &str)]) -> (Result<(), Failure>, Request<()>) {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        (check(&mut request, &Limits::default()), request)
    }

    /// B53, B14: the authority that counts is the only one, and no name folds onto one of ours.
    #[test]
    fn what_the_library_lets_through_is_judged_as_in_http_1() {
        for (uri, fields, verdict) in [
            ("http://a/x?y", vec![], Ok(())),
            ("http://a/x", vec![("host", "A")], Ok(())),
            ("/x", vec![("host", "a:80")], Ok(())),
            ("http://a/x", vec![("x-obs", "caf\u{e9}")], Ok(())),
            ("http://a/x", vec![("host", "b")], Err(Failure::BadRequest)),
            ("http://a/x", vec![("host", "a:80")], Err(Failure::BadRequest)),
            ("http://a/x", vec![("host", "a"), ("host", "a")], Err(Failure::BadRequest)),
            ("/x", vec![], Err(Failure::BadRequest)),
            ("/x", vec![("host", "")], Err(Failure::BadRequest)),
            ("/x", vec![("host", "a b")], Err(Failure::BadRequest)),
            ("http://user@a/x", vec![], Err(Failure::BadRequest)),
            ("http://a/x", vec![("content_length", "1")], Err(Failure::BadRequest)),
            ("http://a/x", vec![("content-length", "1"), ("content-length", "1")], Err(Failure::BadRequest)),
            ("http://a/x", vec![("content-length", "")], Err(Failure::BadRequest)),
            ("http://a/x", vec![("content-length", "3, 3")], Err(Failure::BadRequest)),
            ("http://a/x", vec![("content-length", "0000000000000000003")], Ok(())),
            ("http://a/x", vec![("content-length", "00000000000000000003")], Err(Failure::BadRequest)),
            ("http://a/x", vec![("content-type", "a/b"), ("content-type", "c/d")], Err(Failure::BadRequest)),
        ] {
            assert_eq!(judge(uri, &fields).0, verdict, "{uri} {fields:?}");
        }
        let long = format!("http://a/{}", "x".repeat(8192));
        assert_eq!(judge(&long, &[]).0, Err(Failure::TargetTooLong));
        let value = "x".repeat(40_000);
        assert_eq!(judge("http://a/", &[("x", &value)]).0, Err(Failure::HeaderTooLarge));
        assert_eq!(judge("http://a/", &vec![("x", "y"); 101]).0, Err(Failure::TooManyFields));
    }

    /// B53: a method is one that HTTP/1 would let through.
    #[test]
    fn methods_in_lower_case_and_endless_ones_are_refused() {
        for (method, verdict) in [("PATCH", Ok(())), ("X-1", Ok(())), ("get", Err(Failure::BadRequest))] {
            let mut request = Request::builder().method(method).uri("http://a/x").body(()).unwrap();
            assert_eq!(check(&mut request, &Limits::default()), verdict, "{method}");
        }
        let mut request = Request::builder().method("M".repeat(33).as_str()).uri("http://a/x").body(()).unwrap();
        assert_eq!(check(&mut request, &Limits::default()), Err(Failure::BadRequest));
    }

    /// B54: the crumbs of a cookie are one field again.
    #[test]
    fn crumbs_of_a_cookie_are_joined() {
        let (verdict, request) = judge("http://a/", &[("cookie", "a=b"), ("cookie", "c=d"), ("x", "y")]);
        assert_eq!(verdict, Ok(()));
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=b; c=d"]);
    }
}
