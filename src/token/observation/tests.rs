//! The mask by itself.

use bytes::Bytes;
use http::HeaderMap;

use super::mask::Mask;
use crate::secret::Secret;

#[test]
fn eight_characters_in_a_row_are_too_many() {
    let mask = Mask::new(&["0123456789abcdef", "sesame", "pin"].map(|text| Secret::new(text.to_owned())));
    for (text, shown) in [
        ("a 0123456789abcdef b", "a ******** b"),
        ("23456789a", "********"),
        ("0123456", "0123456"),
        ("open sesame!", "open ********!"),
        ("spinning", "spinning"),
        ("é01234567é", "é********é"),
        ("a\u{1b}[31m", "a?[31m"),
    ] {
        assert_eq!(mask.received_field("x", text), shown);
    }
    assert_eq!(mask.received_field("set-cookie", "x"), "********");
}

#[test]
fn a_member_is_a_token_however_its_name_is_spelt() {
    let answer =
        |body: &str| Mask::new(&[]).received_body(&HeaderMap::new(), &Bytes::from(body.to_owned()), "/data/jwt").0;
    let members = ["refreshToken", "Refresh-Token", "idToken", "session_token", "apiToken", "clientSecret", "passWord"];
    for name in members {
        assert_eq!(answer(&format!(r#"{{"{name}":"canary"}}"#)), format!(r#"{{"{name}":"********"}}"#));
    }
    for name in ["token_type", "tokenType", "expires_in", "scope", "issued_token_type"] {
        let shown = format!(r#"{{"{name}":"a"}}"#);
        assert_eq!(answer(&shown), shown);
    }
    assert!(!answer(r#"refreshToken: canary"#).contains("canary"));
}

#[test]
fn a_credential_of_two_words_is_not_taken_for_a_scheme() {
    let mask = Mask::new(&[Secret::new("canary-one two".to_owned())]);
    assert_eq!(mask.sent_field("authorization", "canary-one two"), "******** ********");
    assert_eq!(mask.sent_field("authorization", "Bearer two"), "Bearer ********");
}
