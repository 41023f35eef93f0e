//! One exchange as one line of JSON. The fields and their order are a contract; what is absent is null.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Asked, Record};
use crate::name::Name;

/// The line, in the order in which it is written. Borrowed: nothing is copied but into the buffer.
#[derive(Serialize)]
struct Line<'a> {
    time: Text<humantime::Rfc3339Timestamp>,
    id: &'a str,
    listener: &'a str,
    caller: Option<&'a str>,
    named_credential: Option<&'a str>,
    external_credential: Option<&'a str>,
    principal: Option<&'a str>,
    method: Option<&'a str>,
    path: Option<&'a str>,
    status: Option<u16>,
    upstream_status: Option<u16>,
    renewed: bool,
    replayed: bool,
    not_replayed_reason: Option<&'static str>,
    duration_ms: f64,
    bytes_in: u64,
    bytes_out: u64,
    error: Option<&'static str>,
}

/// Appends the line of `record`, with its line end. On an error the buffer is as it was.
pub(super) fn append(
    (record, asked): (&Record, &Asked),
    duration: Duration,
    buffer: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let before = buffer.len();
    let written = serde_json::to_writer(&mut *buffer, &line(record, asked, duration));
    match written {
        Ok(()) => buffer.push(b'\n'),
        Err(_) => buffer.truncate(before),
    }
    written
}

fn line<'a>(record: &'a Record, asked: &'a Asked, duration: Duration) -> Line<'a> {
    fn name(name: &Option<Name>) -> Option<&str> {
        name.as_ref().map(Name::as_str)
    }
    // Whoever fills the record leaves the query out; a query may carry what must not be logged, so we look again.
    let path = asked.path.split('?').next().filter(|path| !path.is_empty());
    Line {
        // The formatter knows no time before 1970; a clock that says so is wrong anyway.
        time: Text(humantime::format_rfc3339_millis(asked.time.max(SystemTime::UNIX_EPOCH))),
        id: &record.id,
        listener: asked.listener.as_str(),
        caller: name(&asked.caller),
        named_credential: name(&asked.named_credential),
        external_credential: name(&asked.external_credential),
        principal: name(&asked.principal),
        method: path.map(|_| asked.method.as_str()),
        path,
        status: Some(record.status).filter(|status| *status != 0),
        upstream_status: record.upstream_status,
        renewed: record.renewed,
        replayed: record.replayed,
        not_replayed_reason: record.not_replayed_reason.map(super::NotReplayed::as_str),
        duration_ms: milliseconds(duration),
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        error: record.error,
    }
}

/// Milliseconds with three decimals.
fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).map_or(duration.as_secs_f64() * 1e6, f64::from);
    micros.round() / 1e3
}

/// A value written as the string of its `Display`.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::append;
    use crate::access_log::{Asked, NotReplayed, Record, RequestId};
    use crate::name::Name;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn asked() -> Asked {
        Asked {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_793_275_200_123),
            listener: name("default"),
            caller: Some(name("billing")),
            named_credential: Some(name("orders")),
            external_credential: Some(name("apigee")),
            principal: Some(name("main")),
            method: http::Method::POST,
            path: "/orders/42".to_owned(),
        }
    }

    pub(in super::super) fn record() -> Record {
        Record {
            started: Instant::now(),
            id: RequestId::numbered("0191", 0x2a),
            asked: Some(Box::new(asked())),
            status: 200,
            upstream_status: Some(200),
            rejected: true,
            renewed: true,
            replayed: true,
            not_replayed_reason: None,
            bytes_in: 3,
            bytes_out: 512,
            error: None,
        }
    }

    fn written(record: &Record) -> String {
        let mut buffer = Vec::new();
        let asked = record.asked.as_ref().unwrap();
        append((record, asked), Duration::from_nanos(12_345_678), &mut buffer).unwrap();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn the_line_has_exactly_the_fields_of_the_contract_in_order() {
        assert_eq!(
            written(&record()),
            concat!(
                r#"{"time":"2026-10-29T12:00:00.123Z","id":"0191-2a","listener":"default","caller":"billing","#,
                r#""named_credential":"orders","external_credential":"apigee","principal":"main","method":"POST","#,
                r#""path":"/orders/42","status":200,"upstream_status":200,"renewed":true,"replayed":true,"#,
                r#""not_replayed_reason":null,"duration_ms":12.345,"bytes_in":3,"bytes_out":512,"error":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_absent_is_null() {
        let nobody =
            Asked { caller: None, named_credential: None, external_credential: None, principal: None, ..asked() };
        let bare = Record {
            asked: Some(Box::new(nobody)),
            status: 0,
            upstream_status: None,
            renewed: false,
            replayed: false,
            not_replayed_reason: Some(NotReplayed::BodyTooLarge),
            error: Some("destination_not_found"),
            ..record()
        };
        let line = written(&bare);
        for part in [
            r#""caller":null,"named_credential":null,"external_credential":null,"principal":null"#,
            r#""status":null,"upstream_status":null,"renewed":false,"replayed":false,"not_replayed_reason":"body_too_large""#,
            r#""error":"destination_not_found"}"#,
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    fn with(asked: Asked) -> Record {
        Record { asked: Some(Box::new(asked)), ..record() }
    }

    #[test]
    fn a_head_that_could_not_be_read_has_no_method_and_no_path() {
        let line = written(&with(Asked { path: String::new(), ..asked() }));
        assert!(line.contains(r#""method":null,"path":null,"status":200"#), "{line}");
    }

    #[test]
    fn a_path_cannot_break_out_of_its_field_or_carry_a_query() {
        let line = written(&with(Asked { path: "/a\"b\n\u{1b}[31m\\?canary=1".to_owned(), ..asked() }));
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["path"], "/a\"b\n\u{1b}[31m\\");
        assert!(!line.contains("canary") && !line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn a_clock_before_1970_does_not_lose_the_line() {
        let line = written(&with(Asked { time: SystemTime::UNIX_EPOCH - Duration::from_secs(1), ..asked() }));
        assert!(line.contains(r#""time":"1970-01-01T00:00:00.000Z""#), "{line}");
    }
}
