//! Keys for the tests: those of the RFCs, and what is made from them.

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _};
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::sign::algorithm::Curve;
use crate::sign::key;

/// RFC 7515 A.2.1.
pub(crate) const RSA_JWK: &str = concat!(
    r#"{"kty":"RSA","e":"AQAB","#,
    r#""n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-"#,
    r#"yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-"#,
    r#"bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-"#,
    r#"UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-"#,
    r#"DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","#,
    r#""d":"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-"#,
    r#"7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfp"#,
    r#"RLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBO"#,
    r#"neufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ","#,
    r#""p":"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8"#,
    r#"cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc","#,
    r#""q":"uQPEfgmVtjL0Uyyx88GZFF1fOunH3-"#,
    r#"7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-"#,
    r#"njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc","#,
    r#""dp":"BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-"#,
    r#"FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0","#,
    r#""dq":"h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-"#,
    r#"NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU","#,
    r#""qi":"IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w9"#,
    r#"3IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"}"#,
);

/// RFC 7515 A.3.1.
pub(crate) const P256_JWK: &str = concat!(
    r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
    r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#,
);

/// RFC 7515 A.4.1.
pub(super) const P521_JWK: &str = concat!(
    r#"{"kty":"EC","crv":"P-521","#,
    r#""x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","#,
    r#""y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2","#,
    r#""d":"AY5pb7A0UFiB3RELSD64fTLOSV_jazdF7fLYyuTw8lOfRhWg6Y6rUrPAxerEzgdRhajnu0ferB0d53vM9mE15j2C"}"#,
);

/// RFC 8037 A.1.
pub(crate) const ED25519_JWK: &str = concat!(
    r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","#,
    r#""x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
);

/// A PKCS #8 key of 1024 bits.
const SMALL_RSA: &str = concat!(
    "MIICdQIBADANBgkqhkiG9w0BAQEFAASCAl8wggJbAgEAAoGBAJr5ipjqcSTDVOuBfqKNRUhDeKFUKwRlYDByoHlI3LcQ90TmCMB1Lj6Sx0qvBv",
    "qosyHdByNaea42x83jIBh7PLNKARe0trMhHHUn0nGRNsxRHskuRA+VobkwxlVnGBpahjcOz/LBMlCEeQsuOr7Jj1+ecVufp7RUQcEmkeyfLsH3",
    "AgMBAAECgYBkrdksnqICkCOLHAV49O4dlDe6F0QbBwEGeHFoWb2J8KuzRv5IidgRLqnqCustzIsTZNROU2jZlR0Y1IT1Ypp7nKspSx6qHZuTws",
    "RU3eEat0sMQosJVhYCRSz92IzRfHEZhCL+kt5u9GG4ocXctGt2CG1BW6qvn/tQEU32Qd7ZgQJBAMue0BV7x3UAIL/ZagZVaOhRbbNCGSnLYLbZ",
    "sIDaTtr+mj46jWqkbbc/haanx603+GgySONpwlnyudar/tHgmyMCQQDC1zqAG7gIbsTIassc4gKTxVncCLi/WL+i6XODYBRdjdR8VFhpVQSmEL",
    "+2Vqd84a6rHXBigcwzlK4mo2f7jIUdAkAJTimuQajc1POqMNJilbakn0wHHCcwPMYftRUW3mMqKOZ9n4lk7TzCWhnOgu5iISOuB1ZDZkrmd2w8",
    "vkF37+7HAkAXkqSgRTpBwu0J9mm2h92Z9UGG7oMzm1AsLKRuG5y7KOKxXB8KN2AFm3cmX1uKL1/Lkhc7w8pp3y4mvJRjCcA9AkBoCSjQaYtftd",
    "libkmsf/S8jJA/x6KmMO/12DqgFZxX3N3x1WvWj7czAAFoDXqVfxDnBrntySyl0Y6AHazR6SFO",
);

/// PKCS #8 keys on the curve secp256k1 and of Ed448.
const FOREIGN: [&str; 2] = [
    "MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgGbqei7ao/y6GSkp73qkqjbui6Wrppj4ErpyEygSDarehRANCAATOqHaQLuFyvjDUSXnEgmmT3ZAyetu2cA0ZukcEwYvwtll3In5/6nnD23Qjrsy6/T8IyS651jbeqHe3TJbEmy+y",
    "MEcCAQAwBQYDK2VxBDsEOcZTofls/j0WQs2tnc392iGw02plFF8sm6vQoNo82oXVxFJtZjC2NzJx3/UOa1JW3g+9xMmZNf0Jtg==",
];

/// One key in all its forms.
pub(super) struct Sample {
    pub(super) jwk: String,
    pub(super) pem: Vec<String>,
    pub(super) algorithms: Vec<Algorithm>,
}

/// One of each kind.
pub(super) fn all() -> Vec<Sample> {
    let p384 = EcdsaKeyPair::generate(Curve::P384.signing()).unwrap();
    [RSA_JWK, P256_JWK, &ec_jwk(Curve::P384, &p384), P521_JWK, ED25519_JWK].map(sample).into()
}

fn sample(jwk: &str) -> Sample {
    let found = key::read(jwk).unwrap();
    let fits = |algorithm: &Algorithm| algorithm.key_kind() == found.key.kind();
    Sample {
        jwk: jwk.to_owned(),
        algorithms: Algorithm::ALL.into_iter().filter(fits).collect(),
        pem: match &found.key {
            Key::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
                vec![pem("PRIVATE KEY", der.as_ref()), pem("RSA PRIVATE KEY", pkcs1(der.as_ref()))]
            }
            Key::Ec(_, pair) => {
                let sec1: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
                let pkcs8 = pair.to_pkcs8v1().unwrap();
                vec![pem("PRIVATE KEY", pkcs8.as_ref()), pem("EC PRIVATE KEY", sec1.as_ref())]
            }
            Key::Ed25519(pair) => {
                [pair.to_pkcs8v1(), pair.to_pkcs8()].map(|der| pem("PRIVATE KEY", der.unwrap().as_ref())).into()
            }
        },
    }
}

/// The key inside of PKCS #8, where its length takes two bytes.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    &pkcs8[26..]
}

pub(super) fn small_rsa() -> [String; 2] {
    let der = STANDARD.decode(SMALL_RSA).unwrap();
    [pem("PRIVATE KEY", &der), pem("RSA PRIVATE KEY", pkcs1(&der))]
}

pub(super) fn foreign() -> [String; 2] {
    FOREIGN.map(|text| pem("PRIVATE KEY", &STANDARD.decode(text).unwrap()))
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(super) fn ec_jwk(curve: Curve, pair: &EcdsaKeyPair) -> String {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(curve.size());
    let [d, x, y] = [private_number(pair).as_slice(), x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    json!({ "kty": "EC", "crv": curve.name(), "x": x, "y": y, "d": d }).to_string()
}

pub(super) fn private_number(pair: &EcdsaKeyPair) -> Vec<u8> {
    let number: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
    number.as_ref().to_vec()
}
