//! Results and errors of the library as ours. Its errors carry values, secrets among them: they are told apart by
//! kind, and of what they hold only what stands in the formula itself is repeated.

use cel::objects::Key;
use cel::{ExecutionError, Value};

use super::{EvaluationError, Formula, analysis};

/// Longest result, in bytes.
const LONGEST: usize = 64 * 1024;

/// As text.
pub(super) fn text(value: Value) -> Result<String, EvaluationError> {
    let text = match value {
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => utf8(&bytes)?.to_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Float(number) => float(number)?.to_string(),
        Value::Null => return Err(error("its value is null")),
        Value::List(_) | Value::Map(_) => return Err(error("its value is a list or a map")),
        Value::Function(..) | Value::Opaque(_) | Value::Struct(_) => return Err(error("its value is no text")),
    };
    if text.len() > LONGEST { Err(too_long()) } else { Ok(text) }
}

/// As JSON.
pub(super) fn json(value: &Value) -> Result<serde_json::Value, EvaluationError> {
    let mut left = LONGEST;
    let json = convert(value, &mut left)?;
    Ok(json)
}

/// Converts; `left` is what is left of [`LONGEST`], texts by their length and everything else by one.
fn convert(value: &Value, left: &mut usize) -> Result<serde_json::Value, EvaluationError> {
    let mut spend = |bytes: usize| left.checked_sub(bytes.max(1)).map(|rest| *left = rest).ok_or_else(too_long);
    Ok(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => float(*number)?.into(),
        Value::String(text) => {
            spend(text.len())?;
            text.as_str().into()
        }
        Value::Bytes(bytes) => {
            spend(bytes.len())?;
            utf8(bytes)?.into()
        }
        Value::List(list) => {
            spend(list.len())?;
            list.iter().map(|value| convert(value, left)).collect::<Result<Vec<_>, _>>()?.into()
        }
        Value::Map(map) => {
            let mut members = serde_json::Map::new();
            for (key, value) in map.map.iter() {
                let Key::String(key) = key else { return Err(error("a key of its value is no text")) };
                *left = left.checked_sub(key.len().max(1)).ok_or_else(too_long)?;
                members.insert(key.to_string(), convert(value, left)?);
            }
            members.into()
        }
        Value::Function(..) | Value::Opaque(_) | Value::Struct(_) => return Err(error("its value is not JSON")),
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, EvaluationError> {
    std::str::from_utf8(bytes).map_err(|_| error("its value is bytes that are no text; encode them"))
}

/// A number as JSON has it; no fraction is written where there is none.
fn float(number: f64) -> Result<serde_json::Number, EvaluationError> {
    #[expect(clippy::cast_possible_truncation, reason = "guarded by the range in which every whole float is exact")]
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return Ok((number as i64).into());
    }
    serde_json::Number::from_f64(number).ok_or_else(|| error("its value is not a finite number"))
}

/// One clause for an error of the library.
pub(super) fn clause(failure: &ExecutionError, formula: &Formula) -> EvaluationError {
    let known = |name: &str| !name.is_empty() && formula.text.contains(name);
    if let ExecutionError::UndeclaredReference(name) = failure {
        return match name.as_str() {
            "request" => error("there is no request here"),
            "principal" => error("there is no principal here"),
            _ => error("it uses something that is not there"),
        };
    }
    if let ExecutionError::NoSuchKey(key) = failure {
        return match &formula.uses.secrets {
            Some(names) if names.iter().any(|name| name == key.as_str()) => {
                error("the principal has no secret of the name that it asks for")
            }
            Some(_) if known(key) => error(format!("there is no `{key}`")),
            Some(_) | None => error("there is no such key"),
        };
    }
    if let ExecutionError::FunctionError { function, message } = failure {
        return match function.as_str() {
            own if analysis::is_own(own) => error(format!("`{own}`: {message}")),
            standard if known(standard) => error(format!("`{standard}` refuses its argument")),
            _ => error("a function refuses its argument"),
        };
    }
    if matches!(failure, ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_)) {
        return error("it divides by zero");
    }
    if matches!(failure, ExecutionError::Overflow(..)) {
        return error("a number is too large");
    }
    if matches!(failure, ExecutionError::IndexOutOfBounds(_)) {
        return error("a list is too short");
    }
    error("a value is of the wrong type")
}

fn error(clause: impl Into<String>) -> EvaluationError {
    EvaluationError(clause.into())
}

fn too_long() -> EvaluationError {
    error("its value is longer than 64 KiB")
}
