//! The fields of a request head that decide what follows it: framing (RFC 9112 6), `Host`, and another protocol
//! (RFC 9110 7.8). Every other field is only checked for its syntax (RFC 9110 5).

use super::super::framing::Framing;
use super::alphabet::{self, NAME, TOKEN};
use super::{Head, RequestLine, Upgrade, Version, check_host};
use crate::answer::Failure;
use crate::header;

/// The fields that decide what follows the head, as far as they were read.
#[derive(Default)]
pub(super) struct Fields {
    count: usize,
    hosts: usize,
    content_length: Option<u64>,
    content_types: usize,
    transfer_encoding: Option<Coding>,
    /// Whether `Connection` names `upgrade`.
    names_upgrade: bool,
    /// Whether it names `close`.
    names_close: bool,
    /// Whether there is an `Upgrade`, and whether it offers more than `h2c`.
    upgrade: Option<bool>,
}

/// RFC 9112 6.1
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    /// Well-formed, and in it a coding that is not known here.
    Unknown,
}

impl Fields {
    /// Checks the line at the start of `bytes` and notes what it decides; what follows it. A line that is not whole fails.
    pub(super) fn read<'a>(&mut self, bytes: &'a [u8], most: usize) -> Result<&'a [u8], Failure> {
        let plain = alphabet::run(bytes, NAME);
        let is_plain = bytes.get(plain) == Some(&b':');
        let (name, rest) = bytes.split_at(if is_plain { plain } else { alphabet::run(bytes, TOKEN) });
        let rest = rest.strip_prefix(b":").filter(|_| !name.is_empty()).ok_or(Failure::BadRequest)?;
        let (value, rest) = rest.split_at(alphabet::value_run(rest));
        let rest = rest.strip_prefix(b"\r\n").ok_or(Failure::BadRequest)?;
        self.count += 1;
        if self.count > most {
            return Err(Failure::TooManyFields);
        }
        if !is_plain && std::str::from_utf8(name).is_ok_and(header::is_ambiguous_name) {
            return Err(Failure::BadRequest);
        }
        self.note(name, value).map(|()| rest)
    }

    /// Notes what a field decides.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Failure> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value.trim_ascii()),
            12 if name.eq_ignore_ascii_case(b"content-type") => self.content_type(),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value.trim_ascii()),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(value),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection(value.trim_ascii());
                Ok(())
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                let mut offers = elements(value).filter(|protocol| !protocol.is_empty());
                let more = offers.any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"));
                self.upgrade = Some(more || self.upgrade == Some(true));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn connection(&mut self, value: &[u8]) {
        if !value.eq_ignore_ascii_case(b"keep-alive") {
            for option in elements(value) {
                self.names_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                self.names_close |= option.eq_ignore_ascii_case(b"close");
            }
        }
    }

    /// RFC 9112 3.2: exactly one, and a valid one.
    fn host(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.hosts += 1;
        if self.hosts == 1 && check_host(value) { Ok(()) } else { Err(Failure::BadRequest) }
    }

    /// RFC 9110 5.3, 8.3: one value, so one line; of two, each server behind would choose its own.
    fn content_type(&mut self) -> Result<(), Failure> {
        self.content_types += 1;
        if self.content_types == 1 { Ok(()) } else { Err(Failure::BadRequest) }
    }

    /// RFC 9112 6.3: digits only, once; even the same value twice is refused.
    fn length(&mut self, value: &[u8]) -> Result<(), Failure> {
        if self.content_length.is_some() || value.is_empty() || value.len() > 19 {
            return Err(Failure::BadRequest);
        }
        let mut length = 0_u64;
        for byte in value {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(Failure::BadRequest);
            }
            length = length * 10 + u64::from(digit);
        }
        self.content_length = Some(length);
        Ok(())
    }

    /// RFC 9112 6.1, 6.3: one line, a list of bare codings in which `chunked` stands once, at the end. A coding that only
    /// resembles it is refused like a broken list: others may take it for the real one.
    fn coding(&mut self, value: &[u8]) -> Result<(), Failure> {
        if self.transfer_encoding.is_some() {
            return Err(Failure::BadRequest);
        }
        if value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            self.transfer_encoding = Some(Coding::Chunked);
            return Ok(());
        }
        let mut last_was_chunked = false;
        for element in elements(value) {
            let is_token = !element.is_empty() && alphabet::are(element, TOKEN);
            let is_chunked = element.eq_ignore_ascii_case(b"chunked");
            let resembles = element.to_ascii_lowercase().windows(7).any(|window| window == b"chunked");
            if !is_token || last_was_chunked || (resembles && !is_chunked) {
                return Err(Failure::BadRequest);
            }
            last_was_chunked = is_chunked;
        }
        self.transfer_encoding = Some(Coding::Unknown);
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Framing, Failure> {
        if self.hosts == 0 && version == Version::Http11 {
            return Err(Failure::BadRequest);
        }
        match (self.transfer_encoding, self.content_length) {
            // RFC 9112 6.1: both, or a coding in HTTP/1.0, is how requests are smuggled.
            (Some(_), Some(_)) => Err(Failure::BadRequest),
            (Some(_), None) if version == Version::Http10 => Err(Failure::BadRequest),
            (Some(Coding::Unknown), None) => Err(Failure::UnknownTransferCoding),
            (Some(Coding::Chunked), None) => Ok(Framing::chunked()),
            (None, Some(length)) => Ok(Framing::length(length)),
            (None, None) => Ok(Framing::none()),
        }
    }

    /// What all of them together say in a head of this length.
    pub(super) fn head(&self, line: RequestLine, length: usize) -> Result<Head, Failure> {
        let framing = self.framing(line.version)?;
        let is_last = self.names_close;
        if !line.is_connect && self.upgrade.is_none() {
            return Ok(Head { length, framing, upgrade: Upgrade::None, is_last });
        }
        let upgrade = match (line.is_connect, framing.is_done()) {
            (true, true) => Upgrade::Asked,
            // RFC 9110 9.3.6: content of a CONNECT means nothing, and would be taken for the tunnel's.
            (true, false) => return Err(Failure::BadRequest),
            (false, no_body) => {
                let asked = line.version == Version::Http11 && self.names_upgrade && self.upgrade == Some(true);
                if asked && no_body { Upgrade::Asked } else { Upgrade::Void }
            }
        };
        Ok(Head { length, framing, upgrade, is_last })
    }
}

/// RFC 9110 5.6.1: the elements of a list, empty ones included.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
