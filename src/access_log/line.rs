//! One exchange as one line of JSON. The fields and their order are a contract; what is absent is null.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Asked, NotReplayed, Record};
use crate::name::Name;

/// What a thread writes its lines with.
#[derive(Debug)]
pub(super) struct Pen {
    /// The line at hand.
    pub(super) line: Vec<u8>,
    /// The last second that was written, since 1970, and its text up to the fraction.
    second: (u64, String),
}

impl Pen {
    pub(super) fn new() -> Self {
        Self { line: Vec::with_capacity(1024), second: (0, "1970-01-01T00:00:00".to_owned()) }
    }

    /// Writes the line of `record`, with its line end, in place of the one before.
    pub(super) fn write(&mut self, record: &Record, asked: &Asked) -> serde_json::Result<()> {
        fn name(name: &Option<Name>) -> Option<&str> {
            name.as_ref().map(Name::as_str)
        }
        // Whoever fills the record leaves the query out; a query may carry what must not be logged, so we look again.
        let path = asked.path.split('?').next().filter(|path| !path.is_empty());
        self.line.clear();
        self.time(r#"{"time":"#, asked.time);
        self.token(r#","id":"#, Some(&record.id));
        self.token(r#","listener":"#, Some(asked.listener.as_str()));
        self.token(r#","caller":"#, name(&asked.caller));
        self.token(r#","named_credential":"#, name(&asked.named_credential));
        self.token(r#","external_credential":"#, name(&asked.external_credential));
        self.token(r#","principal":"#, name(&asked.principal));
        self.token(r#","method":"#, path.map(|_| asked.method.as_str()));
        self.text(r#","path":"#, path)?;
        self.value(r#","status":"#, Some(record.status).filter(|status| *status != 0))?;
        self.value(r#","upstream_status":"#, record.upstream_status)?;
        self.value(r#","renewed":"#, record.renewed)?;
        self.value(r#","replayed":"#, record.replayed)?;
        self.token(r#","not_replayed_reason":"#, record.not_replayed_reason.map(NotReplayed::as_str));
        self.milliseconds(r#","duration_ms":"#, record.took)?;
        self.value(r#","bytes_in":"#, record.bytes_in)?;
        self.value(r#","bytes_out":"#, record.bytes_out)?;
        self.token(r#","error":"#, record.error);
        self.line.extend_from_slice(b"}\n");
        Ok(())
    }

    // Each field is given with all that stands before its value: as a struct for serde the names of the fields were
    // looked through for what needs an escape, line by line, which was a third of the work.

    fn value(&mut self, field: &str, value: impl Serialize) -> serde_json::Result<()> {
        self.line.extend_from_slice(field.as_bytes());
        serde_json::to_writer(&mut self.line, &value)
    }

    /// What needs no escape, whatever its value: a name, an id, a method, a word of ours.
    fn token(&mut self, field: &str, value: Option<&str>) {
        self.line.extend_from_slice(field.as_bytes());
        match value {
            None => self.line.extend_from_slice(b"null"),
            Some(value) => {
                self.line.push(b'"');
                self.line.extend_from_slice(value.as_bytes());
                self.line.push(b'"');
            }
        }
    }

    fn text(&mut self, field: &str, value: Option<&str>) -> serde_json::Result<()> {
        let is_plain = |text: &str| text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
        if value.is_none_or(is_plain) {
            self.token(field, value);
            return Ok(());
        }
        self.value(field, value)
    }

    fn time(&mut self, field: &str, time: SystemTime) {
        // The formatter knows no time before 1970; a clock that says so is wrong anyway.
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (second, text) = &mut self.second;
        if *second != since.as_secs() {
            *second = since.as_secs();
            let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(*second);
            *text = humantime::format_rfc3339_seconds(whole).to_string();
            // The `Z`, which stands behind the fraction.
            text.pop();
        }
        self.line.extend_from_slice(field.as_bytes());
        self.line.push(b'"');
        self.line.extend_from_slice(text.as_bytes());
        self.fraction(since.subsec_millis());
        self.line.extend_from_slice(b"Z\"");
    }

    fn milliseconds(&mut self, field: &str, duration: Duration) -> serde_json::Result<()> {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.value(field, micros / 1000)?;
        self.fraction((micros % 1000) as u32);
        Ok(())
    }

    /// The thousandths behind a number.
    fn fraction(&mut self, thousandths: u32) {
        let digit = |value: u32| b'0' + (value % 10) as u8;
        let digits = [b'.', digit(thousandths / 100), digit(thousandths / 10), digit(thousandths)];
        self.line.extend_from_slice(&digits);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, SystemTime};

    use super::Pen;
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
        let mut pen = Pen::new();
        pen.write(record, record.asked.as_ref().unwrap()).unwrap();
        String::from_utf8(pen.line).unwrap()
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
    fn every_line_has_its_own_time() {
        let mut pen = Pen::new();
        for (milliseconds, text) in [
            (999, "1970-01-01T00:00:00.999Z"),
            (1_793_275_200_000, "2026-10-29T12:00:00.000Z"),
            (1_793_275_200_007, "2026-10-29T12:00:00.007Z"),
            (1_793_275_199_970, "2026-10-29T11:59:59.970Z"),
            (1_793_318_399_999, "2026-10-29T23:59:59.999Z"),
            (1_793_318_400_000, "2026-10-30T00:00:00.000Z"),
        ] {
            let asked = Asked { time: SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds), ..asked() };
            pen.write(&record(), &asked).unwrap();
            let line: serde_json::Value = serde_json::from_slice(&pen.line).unwrap();
            assert_eq!(line["time"], text);
        }
    }

    #[test]
    fn a_duration_is_milliseconds_with_three_decimals() {
        for (nanos, expected) in
            [(0, "0.000"), (999, "0.000"), (1_000, "0.001"), (5_000_000, "5.000"), (90_061_001_000, "90061.001")]
        {
            let line = written(&Record { took: Duration::from_nanos(nanos), ..record() });
            assert!(line.contains(&format!(r#""duration_ms":{expected},"#)), "{line}");
        }
    }

    #[test]
    fn a_clock_before_1970_does_not_lose_the_line() {
        let line = written(&with(Asked { time: SystemTime::UNIX_EPOCH - Duration::from_secs(1), ..asked() }));
        assert!(line.contains(r#""time":"1970-01-01T00:00:00.000Z""#), "{line}");
    }
}
