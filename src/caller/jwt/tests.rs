//! Tokens good and bad, against key sets in files: nothing is fetched here.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::jose::{KeySet, Unproven, Unverified};
use super::{ALGORITHMS, ClaimRule, ClaimValue, KeyOrigin, KeySource, Settings};
use crate::caller::{Callers, Identified, Proof};
use crate::connect::{Addresses, HttpProxies};
use crate::name::Name;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::sign::{self, Algorithm, ED25519_JWK, P256_JWK, RSA_JWK, Signer};
use crate::tls::Profile;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const BILLING: &str = "system:serviceaccount:prod:billing";

fn signer(jwk: &str, algorithm: Option<Algorithm>, key_id: Option<&str>) -> Signer {
    Signer::load(&Secret::new(jwk.to_owned()), algorithm, key_id.map(str::to_owned), None).unwrap()
}

/// The public key as an issuer publishes it, with further members.
fn published(signer: &Signer, members: Value) -> Value {
    let mut jwk = signer.public_jwk();
    let all = jwk.as_object_mut().unwrap();
    if let Some(id) = signer.key_id() {
        all.insert("kid".to_owned(), id.into());
    }
    all.extend(object(members));
    jwk
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a good token, changed.
fn claims(changes: Value) -> Map<String, Value> {
    let mut claims = object(json!({
        "iss": ISSUER, "sub": BILLING, "aud": ["keybearer"], "exp": now() + 600, "iat": now(), "nbf": now(),
        "kubernetes.io": { "namespace": "prod" }, "groups": ["a", "b"],
    }));
    for (name, value) in object(changes) {
        if value.is_null() {
            claims.remove(&name)
        } else {
            claims.insert(name, value)
        };
    }
    claims
}

fn token(signer: &Signer, header: Value, changes: Value) -> String {
    signer.sign(object(header), &claims(changes)).unwrap().expose().to_owned()
}

/// Callers that are known by tokens of [`ISSUER`] whose keys are these.
struct Known {
    callers: Callers,
    _file: NamedTempFile,
}

fn settings(keys: &NamedTempFile, subject: &str) -> Settings {
    Settings {
        issuer: ISSUER.to_owned(),
        keys: KeySource {
            origin: KeyOrigin::File(keys.path().to_owned()),
            tls: Arc::new(Profile::trusting_nobody().unwrap()),
            bearer_token_file: None,
            dangerous_plain_http: false,
            addresses: Addresses::FOREIGN,
            http_proxies: HttpProxies::default(),
        },
        audience: vec!["keybearer".to_owned()],
        claims: vec![ClaimRule { pointer: "/sub".to_owned(), any_of: vec![ClaimValue::parse(subject)] }],
        header: http::header::AUTHORIZATION,
        algorithms: ALGORITHMS.to_vec(),
    }
}

fn key_file(keys: &[Value]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    file
}

impl Known {
    fn by(keys: &[Value], change: impl Fn(&mut Settings)) -> Self {
        let file = key_file(keys);
        let callers = [("billing", BILLING), ("audit", "system:serviceaccount:prod:audit")].map(|(name, subject)| {
            let mut settings = settings(&file, subject);
            change(&mut settings);
            crate::caller::Settings { name: Name::parse(name).unwrap(), proof: Proof::Jwt(Box::new(settings)) }
        });
        Self { callers: Callers::new(callers.into()), _file: file }
    }

    fn identified(&self, lines: &[(&'static str, &str)]) -> Identified {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        self.callers.identify(&Peer::Tcp(([192, 0, 2, 1], 1).into()), None, &headers)
    }

    /// The callers that a token proves, and whether its key might turn up.
    fn proven(&self, token: &str) -> (Vec<String>, bool) {
        let Identified { names, pending } = self.identified(&[("authorization", &format!("Bearer {token}"))]);
        (names.iter().map(ToString::to_string).collect(), pending.is_some())
    }

    fn assert_proves(&self, token: &str, what: &str) {
        assert_eq!(self.proven(token), (vec!["billing".to_owned()], false), "{what}");
    }

    fn assert_proves_nothing(&self, token: &str, what: &str) {
        assert_eq!(self.proven(token), (vec![], false), "{what}");
    }
}

#[test]
fn a_token_with_the_right_claims_proves_its_caller_however_it_is_signed() {
    for (jwk, algorithm) in [
        (P256_JWK, Algorithm::Es256),
        (RSA_JWK, Algorithm::Rs256),
        (RSA_JWK, Algorithm::Ps384),
        (RSA_JWK, Algorithm::Rs512),
        (ED25519_JWK, Algorithm::EdDsa),
    ] {
        let signer = signer(jwk, Some(algorithm), Some("1"));
        let known = Known::by(&[published(&signer, json!({ "use": "sig", "alg": algorithm.name() }))], |_| {});
        let good = token(&signer, json!({}), json!({}));
        known.assert_proves(&good, algorithm.name());
        known.assert_proves(&good, "known from before");
        let audit = token(&signer, json!({}), json!({ "sub": "system:serviceaccount:prod:audit" }));
        assert_eq!(known.proven(&audit).0, ["audit"]);
        assert_eq!(known.callers.key_headers(), ["authorization"]);
    }
}

#[test]
fn registered_claims_have_to_be_there_and_right() {
    let signer = signer(P256_JWK, None, Some("1"));
    let known = Known::by(&[published(&signer, json!({}))], |_| {});
    for good in [
        json!({ "aud": "keybearer" }),
        json!({ "aud": ["other", "keybearer"] }),
        json!({ "nbf": null, "iat": null }),
        json!({ "exp": now() - 10 }),
        json!({ "nbf": now() + 10 }),
        json!({ "exp": 99_999_999_999_u64 }),
        json!({ "exp": 4_102_444_800.5 }),
    ] {
        known.assert_proves(&token(&signer, json!({}), good.clone()), &good.to_string());
    }
    for bad in [
        json!({ "iss": null }),
        json!({ "iss": format!("{ISSUER}/") }),
        json!({ "iss": [ISSUER] }),
        json!({ "iss": "https://other.example" }),
        json!({ "aud": null }),
        json!({ "aud": "other" }),
        json!({ "aud": [] }),
        json!({ "aud": "Keybearer" }),
        json!({ "aud": { "keybearer": "keybearer" } }),
        json!({ "exp": null }),
        json!({ "exp": now() - 31 }),
        json!({ "exp": -1 }),
        json!({ "exp": (now() + 600).to_string() }),
        json!({ "exp": [now() + 600] }),
        json!({ "nbf": now() + 40 }),
        json!({ "nbf": "soon" }),
        json!({ "sub": null }),
        json!({ "sub": "system:serviceaccount:prod:billing2" }),
        json!({ "sub": "system:serviceaccount:test:billing" }),
    ] {
        known.assert_proves_nothing(&token(&signer, json!({}), bad.clone()), &bad.to_string());
    }
}

#[test]
fn the_header_cannot_choose_how_the_token_is_verified() {
    let ours = signer(RSA_JWK, Some(Algorithm::Rs256), Some("1"));
    let theirs = signer(P256_JWK, None, Some("1"));
    let known = Known::by(&[published(&ours, json!({}))], |_| {});
    for good in [
        json!({ "typ": "JWT" }),
        json!({ "typ": "jwt" }),
        json!({ "typ": "application/at+jwt" }),
        json!({ "typ": "JOSE" }),
    ] {
        known.assert_proves(&token(&ours, good.clone(), json!({})), &good.to_string());
    }
    for bad in [
        json!({ "typ": "dpop+jwt" }),
        json!({ "typ": "logout+jwt" }),
        json!({ "typ": 1 }),
        json!({ "crit": ["exp"], "exp": 1 }),
        json!({ "crit": [] }),
        json!({ "kid": 1 }),
    ] {
        known.assert_proves_nothing(&token(&ours, bad.clone(), json!({})), &bad.to_string());
    }
    // A key that comes with the token is nobody's.
    let jwk = theirs.public_jwk();
    for header in
        [json!({ "jwk": jwk }), json!({ "jku": "https://evil.example/keys" }), json!({ "x5u": "https://evil.example" })]
    {
        let (names, _) = known.proven(&token(&theirs, header.clone(), json!({})));
        assert!(names.is_empty(), "{header}");
    }
}

/// Whoever knows the public key must not be able to sign with it, and nobody without a signature.
#[test]
fn symmetric_and_missing_signatures_prove_nothing() {
    let ours = signer(RSA_JWK, Some(Algorithm::Rs256), Some("1"));
    let public = published(&ours, json!({}));
    let modulus = URL_SAFE_NO_PAD.decode(public["n"].as_str().unwrap()).unwrap();
    let known = Known::by(std::slice::from_ref(&public), |_| {});
    let payload = URL_SAFE_NO_PAD.encode(Value::Object(claims(json!({}))).to_string());
    for secret in [modulus, public.to_string().into_bytes(), public["n"].as_str().unwrap().into(), vec![]] {
        for (alg, hash) in [("HS256", sign::HashAlgorithm::Sha256), ("HS512", sign::HashAlgorithm::Sha512)] {
            let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": "1" }).to_string());
            let input = format!("{header}.{payload}");
            let mac = URL_SAFE_NO_PAD.encode(sign::hmac(hash, &secret, input.as_bytes()));
            known.assert_proves_nothing(&format!("{input}.{mac}"), alg);
        }
    }
    let good = token(&ours, json!({}), json!({}));
    let signature = good.rsplit_once('.').unwrap().1;
    for alg in ["none", "None", "NONE", "", "RS1", "rs256"] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": "1" }).to_string());
        known.assert_proves_nothing(&format!("{header}.{payload}."), alg);
        known.assert_proves_nothing(&format!("{header}.{payload}.{signature}"), alg);
    }
    // A symmetric key in the set is not taken for one.
    let oct = json!({ "kty": "oct", "kid": "1", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA" });
    assert!(KeySet::parse(json!({ "keys": [oct] }).to_string().as_bytes()).is_err());
}

#[test]
fn a_token_is_refused_when_anything_of_it_was_changed() {
    let ours = signer(P256_JWK, None, Some("1"));
    let known = Known::by(&[published(&ours, json!({}))], |_| {});
    let good = token(&ours, json!({}), json!({}));
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let other = URL_SAFE_NO_PAD.encode(Value::Object(claims(json!({ "sub": BILLING, "x": 1 }))).to_string());
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[10] ^= 1;
    for bad in [
        format!("{header}.{other}.{signature}"),
        format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(&flipped)),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}."),
        format!("{header}.{payload}.{signature}=="),
        format!("{header}.{payload}.{signature}.{signature}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        "..".to_owned(),
        "a.b.c".to_owned(),
    ] {
        known.assert_proves_nothing(&bad, &bad);
    }
    known.assert_proves(&good, "as it was");
}

#[test]
fn a_key_counts_under_its_own_id_only_and_without_ids_all_are_tried() {
    let first = signer(P256_JWK, None, Some("first"));
    let generated = Signer::generate_es256().unwrap();
    let second = published(&generated, json!({ "kid": "second" }));
    let known = Known::by(&[published(&first, json!({})), second], |_| {});
    known.assert_proves(&token(&first, json!({}), json!({})), "its own");
    known.assert_proves(&token(&generated, json!({ "kid": "second" }), json!({})), "its own");
    known.assert_proves(&token(&generated, json!({}), json!({})), "without an id, tried with all");
    known.assert_proves_nothing(&token(&generated, json!({ "kid": "first" }), json!({})), "another key's id");
    assert_eq!(known.proven(&token(&first, json!({ "kid": "third" }), json!({}))), (vec![], true), "not known yet");

    let anonymous = [
        published(&signer(RSA_JWK, None, None), json!({})),
        published(&signer(P256_JWK, None, None), json!({})),
        generated.public_jwk(),
    ];
    let known = Known::by(&anonymous, |_| {});
    for signer in [&generated, &signer(P256_JWK, None, None), &signer(RSA_JWK, Some(Algorithm::Ps256), None)] {
        known.assert_proves(&token(signer, json!({}), json!({})), "keys without ids");
        known.assert_proves(&token(signer, json!({ "kid": "any" }), json!({})), "a key without id may be the one");
    }
    let stranger = Signer::generate_es256().unwrap();
    let Identified { names, pending } =
        known.identified(&[("authorization", &format!("Bearer {}", token(&stranger, json!({}), json!({}))))]);
    assert!(names.is_empty());
    assert_eq!(pending.unwrap().candidates(), [Name::parse("billing").unwrap()]);
}

#[test]
fn a_key_is_used_for_what_it_says_it_is_for() {
    let ours = signer(RSA_JWK, Some(Algorithm::Rs256), Some("1"));
    for (members, is_used) in [
        (json!({ "use": "sig" }), true),
        (json!({ "use": "jwt-svid" }), true),
        (json!({ "key_ops": ["verify"] }), true),
        (json!({ "alg": "RS256" }), true),
        (json!({ "alg": "PS256" }), false),
        (json!({ "use": "enc" }), false),
        (json!({ "use": "x509-svid" }), false),
        (json!({ "key_ops": ["encrypt"] }), false),
        (json!({ "alg": "RSA-OAEP" }), false),
    ] {
        let other = published(&signer(P256_JWK, None, Some("2")), json!({}));
        let odd = [json!(1), json!({}), json!({ "kty": "RSA" }), json!({ "kty": "future" })];
        let known = Known::by(&[odd.as_slice(), &[published(&ours, members.clone()), other]].concat(), |_| {});
        let (names, _) = known.proven(&token(&ours, json!({}), json!({})));
        assert_eq!(names.len(), usize::from(is_used), "{members}");
    }
    let known = Known::by(&[published(&ours, json!({}))], |settings| settings.algorithms = vec![Algorithm::Es256]);
    known.assert_proves_nothing(&token(&ours, json!({}), json!({})), "an algorithm that is not configured");
}

#[test]
fn a_token_counts_in_its_field_once() {
    let ours = signer(P256_JWK, None, Some("1"));
    let good = token(&ours, json!({}), json!({}));
    let bearer = format!("bEARER {good}");
    let known = Known::by(&[published(&ours, json!({}))], |_| {});
    let count = |known: &Known, lines: &[(&'static str, &str)]| known.identified(lines).names.len();
    assert_eq!(count(&known, &[("authorization", &bearer)]), 1);
    assert_eq!(count(&known, &[("authorization", &good)]), 0, "without the scheme");
    assert_eq!(count(&known, &[("authorization", &bearer), ("authorization", &bearer)]), 0);
    assert_eq!(count(&known, &[("authorization", &bearer), ("authorization", "Basic eDp5")]), 0);
    assert_eq!(count(&known, &[("authorization", &format!("{bearer}, {bearer}"))]), 0);
    assert_eq!(count(&known, &[("proxy-authorization", &bearer), ("x-token", &good)]), 0);

    let known =
        Known::by(&[published(&ours, json!({}))], |settings| settings.header = HeaderName::from_static("x-token"));
    assert_eq!(count(&known, &[("x-token", &good)]), 1);
    assert_eq!(count(&known, &[("x-token", &bearer)]), 1);
    assert_eq!(count(&known, &[("authorization", &bearer)]), 0);
}

#[test]
fn a_token_has_a_length_that_is_reasonable() {
    let ours = signer(P256_JWK, None, Some("1"));
    let known = Known::by(&[published(&ours, json!({}))], |_| {});
    known.assert_proves(&token(&ours, json!({}), json!({ "x": "x".repeat(4000) })), "long");
    known.assert_proves_nothing(&token(&ours, json!({}), json!({ "x": "x".repeat(8 * 1024) })), "too long");
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"{ISSUER}","x":{deep}}}"#));
    known.assert_proves_nothing(&format!("eyJhbGciOiJFUzI1NiJ9.{payload}.AA"), "deep");
}

#[test]
fn every_claim_that_is_configured_must_hold() {
    let given = Value::Object(claims(json!({
        "verified": true, "tenant": 4711, "https://x/roles": ["r"], "spiffe": "spiffe://example.org/ns/prod/x",
    })));
    for (pointer, any_of, expected) in [
        ("/sub", vec![BILLING], true),
        ("/sub", vec!["x", BILLING], true),
        ("/sub", vec!["system:serviceaccount:prod:*"], false),
        ("/kubernetes.io/namespace", vec!["prod"], true),
        ("/kubernetes.io", vec!["prod"], false),
        ("/groups", vec!["b"], true),
        ("/groups", vec!["c", "d"], false),
        ("/groups/0", vec!["a"], true),
        ("/https:~1~1x~1roles", vec!["r"], true),
        ("/verified", vec!["true"], true),
        ("/tenant", vec!["4711"], true),
        ("/tenant", vec!["471"], false),
        ("/missing", vec!["null"], false),
        ("/spiffe", vec!["spiffe://example.org/ns/prod/*"], true),
        ("/spiffe", vec!["spiffe://example.org/ns/*"], true),
        ("/spiffe", vec!["spiffe://example.org/ns/pro/*"], false),
    ] {
        let any_of = any_of.into_iter().map(ClaimValue::parse).collect();
        let rule = ClaimRule { pointer: pointer.to_owned(), any_of };
        assert_eq!(rule.holds(&given), expected, "{rule:?}");
    }
}

#[test]
fn the_examples_of_the_rfcs_are_read_as_they_are_meant() {
    const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let keys = [RSA_JWK, P256_JWK].map(|jwk| published(&signer(jwk, None, None), json!({})));
    let keys = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    let audience = "keybearer".to_owned();
    let rs256 = concat!(
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb",
        "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383",
        "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy",
        "wlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );
    let es256 = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    for (header, signature) in [("eyJhbGciOiJSUzI1NiJ9", rs256), ("eyJhbGciOiJFUzI1NiJ9", es256)] {
        // RFC 7515 A.2 and A.3: the signature is good, and the token expired in 2011 and is for nobody.
        let jws = format!("{header}.{JOE}.{signature}");
        let token = Unverified::read(jws.as_bytes()).unwrap();
        assert_eq!(token.issuer(), "joe");
        assert_eq!(token.time_left(SystemTime::now()), Err("it has expired"));
        assert_eq!(
            keys.verify(&token, "joe", &[&audience]),
            Err(Unproven::Refused("a registered claim is missing or wrong"))
        );
        let broken = jws.replace(".eyJpc3Mi", ".eyJpc3Mg");
        let broken = Unverified::read(broken.as_bytes());
        assert!(broken.is_err() || keys.verify(&broken.unwrap(), "joe", &[&audience]) == Err(Unproven::UnknownKey));
    }
    // RFC 7515 A.1 and RFC 7519 6.1: HMAC, and no signature at all.
    let hs256 = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    for text in [hs256, format!("eyJhbGciOiJub25lIn0.{JOE}.")] {
        assert_eq!(Unverified::read(text.as_bytes()).err(), Some("its algorithm is not allowed"));
    }
}

#[test]
fn what_is_no_key_set_is_said_so() {
    for (document, expected) in [
        ("", "is not JSON"),
        ("[]", "is not a JWK set"),
        ("{}", "is not a JWK set"),
        (r#"{"keys":{}}"#, "is not a JWK set"),
        (r#"{"keys":[]}"#, "holds no key that can verify a token"),
        (r#"{"keys":[{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}]}"#, "holds no key that can verify a token"),
    ] {
        assert_eq!(KeySet::parse(document.as_bytes()).err(), Some(expected), "{document}");
    }
    let key = published(&signer(P256_JWK, None, None), json!({}));
    let many = json!({ "keys": vec![key; 100] }).to_string();
    assert_eq!(KeySet::parse(many.as_bytes()).unwrap().len(), 32);
}

/// An `exp` that is no number is no time, however far ahead.
#[test]
fn an_expiry_that_is_no_number_is_no_time() {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    for exp in ["\"4102444800\"", "null", "[]", "true", "-1"] {
        let claims = format!(r#"{{"iss":"i","exp":{exp}}}"#);
        let text = format!("{}.{}.x", part(r#"{"alg":"RS256"}"#), part(&claims));
        let token = Unverified::read(text.as_bytes()).ok().unwrap();
        assert_eq!(token.time_left(SystemTime::now()), Err("its `exp` is not a time"), "{exp}");
    }
}
