//! One exchange as one line of JSON. The fields and their order are a contract; what is absent is null.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Asked, NotReplayed, Record};
use crate::name::Name;

/// Appends the line of `record`, with its line end. On an error the buffer is as it was.
pub(super) fn append((record, asked): (&Record, &Asked), buffer: &mut Vec<u8>) -> serde_json::Result<()> {
    let before = buffer.len();
    let written = write(record, asked, &mut Line(buffer));
    if written.is_err() {
        buffer.truncate(before);
    }
    written
}

fn write(record: &Record, asked: &Asked, line: &mut Line<'_>) -> serde_json::Result<()> {
    fn name(name: &Option<Name>) -> Option<&str> {
        name.as_ref().map(Name::as_str)
    }
    // Whoever fills the record leaves the query out; a query may carry what must not be logged, so we look again.
    let path = asked.path.split('?').next().filter(|path| !path.is_empty());
    line.time(r#"{"time":"#, asked.time)?;
    line.text(r#","id":"#, Some(&record.id))?;
    line.text(r#","listener":"#, Some(asked.listener.as_str()))?;
    line.text(r#","caller":"#, name(&asked.caller))?;
    line.text(r#","named_credential":"#, name(&asked.named_credential))?;
    line.text(r#","external_credential":"#, name(&asked.external_credential))?;
    line.text(r#","principal":"#, name(&asked.principal))?;
    line.text(r#","method":"#, path.map(|_| asked.method.as_str()))?;
    line.text(r#","path":"#, path)?;
    line.value(r#","status":"#, Some(record.status).filter(|status| *status != 0))?;
    line.value(r#","upstream_status":"#, record.upstream_status)?;
    line.value(r#","renewed":"#, record.renewed)?;
    line.value(r#","replayed":"#, record.replayed)?;
    line.text(r#","not_replayed_reason":"#, record.not_replayed_reason.map(NotReplayed::as_str))?;
    line.value(r#","duration_ms":"#, milliseconds(record.took))?;
    line.value(r#","bytes_in":"#, record.bytes_in)?;
    line.value(r#","bytes_out":"#, record.bytes_out)?;
    line.text(r#","error":"#, record.error)?;
    line.0.extend_from_slice(b"}\n");
    Ok(())
}

/// What is written of a line. Each field is given with all that stands before its value: as a struct for serde the names
/// of the fields were looked through for what needs an escape, line by line, which was a third of the work.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn value(&mut self, field: &str, value: impl Serialize) -> serde_json::Result<()> {
        self.0.extend_from_slice(field.as_bytes());
        serde_json::to_writer(&mut *self.0, &value)
    }

    fn text(&mut self, field: &str, value: Option<&str>) -> serde_json::Result<()> {
        let plain = |text: &&str| text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
        let Some(plain) = value.filter(plain) else { return self.value(field, value) };
        for part in [field, "\"", plain, "\""] {
            self.0.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }

    fn time(&mut self, field: &str, time: SystemTime) -> serde_json::Result<()> {
        // The formatter knows no time before 1970; a clock that says so is wrong anyway.
        let time = humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH));
        write!(self.0, "{field}\"{time}\"").map_err(serde_json::Error::io)
    }
}

/// Milliseconds with three decimals.
fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).map_or(duration.as_secs_f64() * 1e6, f64::from);
    micros.round() / 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime};

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
            took: Duration::from_nanos(12_345_678),
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
        append((record, asked), &mut buffer).unwrap();
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
