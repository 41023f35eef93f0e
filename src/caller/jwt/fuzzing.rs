//! What must hold for any text where a caller's JWT may stand: it proves a caller only when its issuer signed it, and
//! says what it must. And for any bytes as an issuer's keys.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a property that does not hold stops here, and says where"
)]

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::jose::KeySet;
use super::{ALGORITHMS, ClaimRule, ClaimValue, KeyOrigin, KeySource, LONGEST, Settings, Tokens};
use crate::connect::{Addresses, HttpProxies};
use crate::name::Name;
use crate::secret::Secret;
use crate::sign::Signer;
use crate::tls::Profile;

/// The key of RFC 8037 A.1; its issuer signs with it and nothing else.
const OURS: &str = concat!(
    r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","#,
    r#""x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
);

/// What the issuer publishes: that key, and the one of RFC 7515 A.3, whose private half nobody here has.
const PUBLISHED: &[u8] = br#"{"keys":[
    {"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    {"kty":"EC","crv":"P-256","kid":"2","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
     "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "keybearer";
const SUBJECT: &str = "billing";

/// Signed by the issuer without our doing: a caller's proof, as it stands in a seed.
const GOOD_INPUT: &str = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjoia2V5YmVhcmVyIiwi\
                          c3ViIjoiYmlsbGluZyIsImV4cCI6NDAwMDAwMDAwMH0";

fn known() -> Tokens {
    let mut tokens = Tokens::default();
    let settings = Settings {
        issuer: ISSUER.to_owned(),
        keys: KeySource {
            origin: KeyOrigin::Discovery,
            tls: Arc::new(Profile::trusting_nobody().unwrap()),
            bearer_token_file: None,
            dangerous_plain_http: false,
            addresses: Addresses::CONFIGURED,
            http_proxies: HttpProxies::default(),
        },
        audience: vec![AUDIENCE.to_owned()],
        claims: vec![ClaimRule { pointer: "/sub".to_owned(), any_of: vec![ClaimValue::parse(SUBJECT)] }],
        header: AUTHORIZATION,
        algorithms: ALGORITHMS.to_vec(),
    };
    tokens.add(settings, Name::parse("billing").unwrap());
    for authority in tokens.carriers.iter().flat_map(|carrier| &carrier.authorities) {
        authority.supply.take(KeySet::parse(PUBLISHED).unwrap());
    }
    tokens
}

/// The first byte chooses: text in the place of a token, a header and claims (a line each) that the issuer signs, or a
/// key set.
pub fn jwt(bytes: &[u8]) {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    let Some((choice, rest)) = bytes.split_first() else { return };
    match choice % 3 {
        0 => {
            if proves(rest) {
                let text = std::str::from_utf8(rest).unwrap();
                let (input, _) = text.rsplit_once('.').unwrap();
                assert_eq!(input, GOOD_INPUT, "nothing that the issuer did not sign");
            }
        }
        1 => {
            let signer = SIGNER.get_or_init(|| Signer::load(&Secret::new(OURS.to_owned()), None, None, None).unwrap());
            let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (header, claims) = (&rest[..line], rest.get(line + 1..).unwrap_or_default());
            let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let signature = URL_SAFE_NO_PAD.encode(signer.signature(input.as_bytes()).unwrap());
            let token = format!("{input}.{signature}");
            if proves(token.as_bytes()) {
                assert!(token.len() <= LONGEST);
                good(&json(header), &json(claims));
            }
        }
        _ => {
            if let Ok(keys) = KeySet::parse(rest) {
                assert!((1..=32).contains(&keys.len()), "{} keys", keys.len());
                // Whatever the set holds, a token that only resembles one is proven by none of it.
                let forged = format!("{GOOD_INPUT}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
                let token = super::jose::Unverified::read(forged.as_bytes()).unwrap();
                assert!(keys.verify(&token, ISSUER, &[&AUDIENCE.to_owned()]).is_err());
            }
        }
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Whether a request with this token comes from a known caller; the same however often it is asked.
fn proves(token: &[u8]) -> bool {
    static TOKENS: OnceLock<Tokens> = OnceLock::new();
    let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", token].concat()) else { return false };
    let (tokens, mut headers) = (TOKENS.get_or_init(known), HeaderMap::new());
    headers.insert(AUTHORIZATION, value);
    let judged = || {
        let mut names = Vec::new();
        let pending = tokens.prove(&headers, &mut names).is_some();
        assert!(names.len() <= 1 && (!pending || names.is_empty()), "one caller, or perhaps one later");
        !names.is_empty()
    };
    let is_proven = judged();
    assert_eq!(is_proven, judged(), "remembered as it was judged");
    is_proven
}

/// Header and claims of what proves a caller, judged once more and apart.
fn good(header: &Value, claims: &Value) {
    assert_eq!(header["alg"], "EdDSA");
    assert!(header.get("crit").is_none_or(Value::is_null));
    assert!(matches!(header.get("kid"), None | Some(Value::Null)) || header["kid"] == "1");
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["sub"], SUBJECT);
    let is_ours = |audience: &Value| audience == AUDIENCE;
    assert!(is_ours(&claims["aud"]) || claims["aud"].as_array().is_some_and(|all| all.iter().any(is_ours)));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(claims["exp"].as_f64().is_some_and(|expires| expires > now - 31.0), "it has expired");
    assert!(claims.get("nbf").is_none_or(|begins| begins.as_f64().is_some_and(|begins| begins < now + 31.0)));
}
