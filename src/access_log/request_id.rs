//! The id of a request: in the log, in the request as it is sent on, and in the answer.

use std::ops::Deref;

use http::HeaderValue;

/// An id of visible characters, so that it is the value of a field as it is. Cloning costs one atomic increment.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's own, where it is fit to be logged and sent on. It is copied, so that it does not keep the rest of
    /// the caller's head in memory.
    #[must_use]
    pub fn sent(value: &HeaderValue) -> Option<Self> {
        let text = value.as_bytes();
        let is_fit = (1..=128).contains(&text.len())
            && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if is_fit { HeaderValue::from_bytes(text).ok().map(Self) } else { None }
    }

    /// `{name}-{number:x}`, for a fifth of what `format!` takes: nearly every exchange makes one. `name` is a token.
    #[must_use]
    pub fn numbered(name: &str, number: u64) -> Self {
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
        let mut text = String::with_capacity(name.len() + 1 + digits as usize);
        text.push_str(name);
        text.push('-');
        for place in (0..digits).rev() {
            let digit = (number >> (4 * place)) as u8 & 0xf;
            text.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
        }
        Self(HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown")))
    }

    /// One for a request that nobody sends, or that is sent on trial.
    #[must_use]
    pub fn fixed(text: &'static str) -> Self {
        Self(HeaderValue::from_static(text))
    }

    /// The value of the field that tells it.
    #[must_use]
    pub fn field(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::RequestId;

    #[test]
    fn request_ids_count_in_hexadecimal_digits() {
        for number in [0, 9, 10, 15, 16, 0xff, 0x100, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(&*RequestId::numbered("name", number), format!("name-{number:x}"));
        }
    }

    #[test]
    fn a_callers_own_id_is_taken_where_it_is_fit() {
        let longest = "a".repeat(128);
        for fit in ["1", "a-B_c.9", &longest] {
            let id = RequestId::sent(&HeaderValue::from_str(fit).unwrap()).unwrap();
            assert_eq!((&*id, id.field().as_bytes()), (fit, fit.as_bytes()));
        }
        for unfit in [&b""[..], b"a b", b"a\"b", b"a/b", b"\xe9", &[b'a'; 129]] {
            assert!(RequestId::sent(&HeaderValue::from_bytes(unfit).unwrap()).is_none(), "{unfit:?}");
        }
    }
}
