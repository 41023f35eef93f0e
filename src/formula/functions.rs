//! The functions of formulas: the standard's, and ours for signatures and encodings.
//!
//! What our functions say of a failure is a fixed text, never a value; that is why `value` may pass it on.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cel::common::functions::Function;
use cel::common::types::{CelBytes, CelString, DYN_TYPE};
use cel::common::value::CowVal;
use cel::{Env, ExecutionError};

use super::algorithm::{self, Form};
use crate::secret::Secret;
use crate::sign::{self, Signer};

/// Longest argument, in bytes: encodings within encodings must not fill the memory.
const LONGEST_ARGUMENT: usize = 1024 * 1024;

type Evaluated<T> = Result<T, ExecutionError>;

/// What formulas can call. One for the process: it never changes.
pub(super) fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(with_functions(Env::stdlib())));
    &ENVIRONMENT
}

fn with_functions(mut env: Env) -> Env {
    let functions: [(&str, usize, Function); 7] = [
        ("base64_decode", 1, base64_decode),
        ("base64_encode", 1, base64_encode),
        ("blob", 1, blob),
        ("hash", 2, hash),
        ("hex", 1, hex),
        ("hmac", 3, hmac),
        ("sign", 3, sign),
    ];
    for (name, arguments, function) in functions {
        env.add_overload(name, name, (0..arguments).map(|_| DYN_TYPE).collect(), function)
            .unwrap_or_else(|_| unreachable!("the standard has no function of this name"));
    }
    env
}

fn base64_encode<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Evaluated<CowVal<'b, 'v>> {
    Ok(string(STANDARD.encode(bytes("base64_encode", &arguments, 0)?)))
}

/// Both alphabets of RFC 4648, with padding or without.
fn base64_decode<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Evaluated<CowVal<'b, 'v>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const PLAIN: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let encoded = text("base64_decode", &arguments, 0)?;
    let decoded = if encoded.contains(['-', '_']) { URL_SAFE.decode(encoded) } else { PLAIN.decode(encoded) };
    decoded.map(octets).map_err(|_| refuse("base64_decode", "its argument is not base64"))
}

fn blob<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Evaluated<CowVal<'b, 'v>> {
    Ok(octets(text("blob", &arguments, 0)?.as_bytes().to_vec()))
}

fn hex<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Evaluated<CowVal<'b, 'v>> {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    let bytes = bytes("hex", &arguments, 0)?;
    Ok(string(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()))
}

fn hash<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Evaluated<CowVal<'b, 'v>> {
    let algorithm = algorithm::hash(text("hash", &arguments, 0)?).ok_or_else(|| unknown_algorithm("hash"))?;
    Ok(octets(sign::digest(algorithm, bytes("hash", &arguments, 1)?)))
}

fn hmac<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Evaluated<CowVal<'b, 'v>> {
    let algorithm = algorithm::hash(text("hmac", &arguments, 0)?).ok_or_else(|| unknown_algorithm("hmac"))?;
    let (message, key) = (bytes("hmac", &arguments, 1)?, bytes("hmac", &arguments, 2)?);
    Ok(octets(sign::hmac(algorithm, key, message)))
}

fn sign<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Evaluated<CowVal<'b, 'v>> {
    let name = text("sign", &arguments, 0)?;
    let (algorithm, form) = algorithm::signature(name).ok_or_else(|| unknown_algorithm("sign"))?;
    let message = bytes("sign", &arguments, 1)?;
    let key = Secret::new(text("sign", &arguments, 2)?.to_owned());
    // The errors of `sign` are ours and name no part of a key.
    let signer = Signer::load(&key, Some(algorithm), None, None).map_err(|error| refuse("sign", error.to_string()))?;
    let signature = signer.signature(message).map_err(|error| refuse("sign", error.to_string()))?;
    Ok(octets(match form {
        Form::Jose => signature,
        Form::Der => algorithm::to_der(&signature),
    }))
}

fn text<'a>(function: &str, arguments: &'a [CowVal<'_, '_>], at: usize) -> Evaluated<&'a str> {
    let text = arguments.get(at).and_then(|value| value.downcast_ref::<CelString>()).map(CelString::inner);
    let text = text.ok_or_else(|| refuse(function, format!("argument {} is not a text", at + 1)))?;
    if text.len() > LONGEST_ARGUMENT { Err(too_long(function)) } else { Ok(text) }
}

fn bytes<'a>(function: &str, arguments: &'a [CowVal<'_, '_>], at: usize) -> Evaluated<&'a [u8]> {
    let Some(bytes) = arguments.get(at).and_then(|value| value.downcast_ref::<CelBytes>()) else {
        let text = arguments.get(at).and_then(|value| value.downcast_ref::<CelString>());
        let text = text.ok_or_else(|| refuse(function, format!("argument {} is neither bytes nor a text", at + 1)))?;
        return if text.inner().len() > LONGEST_ARGUMENT { Err(too_long(function)) } else { Ok(text.as_bytes()) };
    };
    if bytes.inner().len() > LONGEST_ARGUMENT { Err(too_long(function)) } else { Ok(bytes.inner()) }
}

fn string<'b, 'v>(text: String) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(text))
}

fn octets<'b, 'v>(bytes: Vec<u8>) -> CowVal<'b, 'v> {
    CowVal::owned(CelBytes::from(bytes))
}

fn refuse(function: &str, clause: impl ToString) -> ExecutionError {
    ExecutionError::function_error(function, clause)
}

fn too_long(function: &str) -> ExecutionError {
    refuse(function, "an argument is longer than 1 MiB")
}

fn unknown_algorithm(function: &str) -> ExecutionError {
    refuse(function, format!("the algorithm is not known; {}", algorithm::known(function)))
}
