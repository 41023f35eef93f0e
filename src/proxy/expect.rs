//! `Expect: 100-continue` (RFC 9110 10.1.1): the caller's body stays with the caller until the upstream asks for it.
//!
//! The head goes on with an expectation of our own. The upstream's `100 Continue` releases the body: it is read, and
//! hyper asks the caller for it. A final answer instead leaves the body where it is, so a rejected token costs none of
//! it. An upstream that says nothing is not waited for twice.

use std::time::Duration;

use http::header::EXPECT;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::attempt::Attempts;
use super::stop::Stop;
use crate::answer::Failure;
use crate::upstream::Protocol;

/// What we expect in our turn.
pub(super) const CONTINUE: HeaderValue = HeaderValue::from_static("100-continue");

/// How long an upstream that paid no heed to an expectation is sent none.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Takes the expectation out of a request; whether the caller waits to be asked for its body. HTTP/1.0 knows none.
pub(super) fn take(headers: &mut HeaderMap, version: Version) -> Result<bool, Stop> {
    if !headers.contains_key(EXPECT) {
        return Ok(false);
    }
    let members = || headers.get_all(EXPECT).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    if !members().all(|member| member.trim_ascii().eq_ignore_ascii_case(CONTINUE.as_bytes())) {
        return Err(Stop::new(Failure::ExpectationFailed));
    }
    headers.remove(EXPECT);
    Ok(version > Version::HTTP_10)
}

/// Whether a named credential's upstream heeds expectations, shared by all workers.
#[derive(Debug, Default)]
pub struct Expectations(Mutex<Option<Instant>>);

impl Expectations {
    /// The same state, from now on apart.
    pub(super) fn copy(&self) -> Self {
        Self(Mutex::new(*self.0.lock()))
    }

    /// Notes that one was not heeded.
    pub(super) fn ignored(&self) {
        *self.0.lock() = Some(Instant::now() + REMEMBERED);
    }

    /// Whether another is worth waiting for.
    pub(super) fn are_worthwhile(&self) -> bool {
        self.0.lock().is_none_or(|until| Instant::now() >= until)
    }
}

impl Attempts<'_> {
    /// Whether the caller's body can wait for the upstream to ask for it. Over HTTP/2 hyper does not tell that it did.
    pub(super) fn expects_in_turn(&self, protocol: Protocol) -> bool {
        protocol == Protocol::Http1 && self.body.is_untouched() && self.named.expectations.are_worthwhile()
    }

    /// RFC 9110 10.1.1: what an expectation alone has failed is sent again without one, this time and the next ones.
    pub(super) fn misses_expectation(&self, answer: &Response<()>) -> bool {
        let misses = answer.status() == StatusCode::EXPECTATION_FAILED && self.body.is_held_back();
        if misses {
            self.named.expectations.ignored();
        }
        misses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B40: from HTTP/1.0 it is ignored, twice or in odd case it counts as one, and anything else is refused.
    #[test]
    fn only_one_expectation_is_known() {
        for (version, lines, expected) in [
            (Version::HTTP_11, vec![], Some(false)),
            (Version::HTTP_11, vec!["100-continue"], Some(true)),
            (Version::HTTP_2, vec!["100-Continue"], Some(true)),
            (Version::HTTP_11, vec!["100-CONTINUE", "100-continue"], Some(true)),
            (Version::HTTP_11, vec!["100-continue , 100-Continue"], Some(true)),
            (Version::HTTP_10, vec!["100-continue"], Some(false)),
            (Version::HTTP_11, vec!["100-continue, a-miracle"], None),
            (Version::HTTP_11, vec!["100-continue", "a-miracle"], None),
            (Version::HTTP_10, vec!["a-miracle"], None),
            (Version::HTTP_11, vec![""], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(EXPECT, HeaderValue::from_static(line));
            }
            let taken = take(&mut headers, version).ok();
            assert_eq!(taken, expected, "{version:?} {lines:?}");
            assert!(taken.is_none() || !headers.contains_key(EXPECT));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_paid_no_heed_is_tried_again_later() {
        let expectations = Expectations::default();
        assert!(expectations.are_worthwhile());
        expectations.ignored();
        assert!(!expectations.are_worthwhile());
        tokio::time::advance(REMEMBERED).await;
        assert!(expectations.are_worthwhile());
    }
}
