//! The examples of the RFCs.

use serde_json::json;

use super::samples::{ED25519_JWK, P256_JWK, P521_JWK, RSA_JWK};
use super::*;

const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn hs256_is_that_of_rfc_7515_a_1() {
    let key = decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    let mac = hmac(HashAlgorithm::Sha256, &key, format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}").as_bytes());
    assert_eq!(URL_SAFE_NO_PAD.encode(mac), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}

#[test]
fn rs256_is_that_of_rfc_7515_a_2() {
    let signature = load(RSA_JWK, None).unwrap().signature(format!("eyJhbGciOiJSUzI1NiJ9.{JOE}").as_bytes()).unwrap();
    let expected = concat!(
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb",
        "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383",
        "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy",
        "wlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );
    assert_eq!(URL_SAFE_NO_PAD.encode(signature), expected);
}

// ECDSA signatures differ every time, so here it is the keys that have to agree with the examples.
#[test]
fn es256_and_es512_keys_are_those_of_rfc_7515_a_3_and_a_4() {
    let es256 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{JOE}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-\
         Kg6NU1Q"
    );
    let es512 = concat!(
        "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGD",
        "KB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
    );
    for (jwk, algorithm, jws) in [(P256_JWK, Algorithm::Es256, es256.as_str()), (P521_JWK, Algorithm::Es512, es512)] {
        let signer = load(jwk, None).unwrap();
        assert_eq!(signer.algorithm(), algorithm);
        assert!(is_signed(algorithm, &signer.public_jwk(), jws));
        let input = jws.rsplit_once('.').unwrap().0.as_bytes();
        assert!(is_valid(algorithm, &signer.public_jwk(), input, &signer.signature(input).unwrap()));
    }
}

#[test]
fn eddsa_is_that_of_rfc_8037_a_4() {
    let input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = load(ED25519_JWK, None).unwrap().signature(input).unwrap();
    let expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(URL_SAFE_NO_PAD.encode(signature), expected);
}

#[test]
fn thumbprints_are_those_of_rfc_7638_rfc_8037_and_rfc_9449() {
    assert_eq!(load(ED25519_JWK, None).unwrap().thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let n = concat!(
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3",
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA",
        "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-",
        "kEgU8awapJzKnqDKgw",
    );
    let rsa = json!({ "e": "AQAB", "kty": "RSA", "n": n });
    assert_eq!(jwk::thumbprint(&rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let ec = json!({
        "crv": "P-256",
        "kty": "EC",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    });
    assert_eq!(jwk::thumbprint(&ec), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}
