//! One message as strictly read as RFC 9112 allows, byte by byte and without the guard's own means. Reading fails where
//! it is not well-formed.

/// A message at the start of some bytes.
pub(super) struct Message {
    /// The length of its head, the empty line included.
    pub(super) head: usize,
    pub(super) body: Length,
    pub(super) asks_for_another_protocol: bool,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Whole(usize),
    /// There is less than the whole.
    More,
}

/// The length of the head at the start; one empty line may precede it (RFC 9112 2.2).
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    Some(start + bytes[start..].windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}

/// A head without its `Upgrade` fields.
pub(super) fn without_upgrade(head: &[u8]) -> Vec<u8> {
    let is_upgrade = |line: &&[u8]| line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"upgrade:"));
    let lines: Vec<&[u8]> = lines(head).filter(|line| !is_upgrade(line)).collect();
    lines.join(&b"\r\n"[..])
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes.windows(2).position(|window| window == b"\r\n");
        rest = end.map(|end| &bytes[end + 2..]);
        Some(&bytes[..end.unwrap_or(bytes.len())])
    })
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_~:[]%".contains(&byte)
}

fn elements(value: &[u8]) -> impl Iterator<Item = String> {
    value.split(|byte| *byte == b',').map(|element| String::from_utf8_lossy(element).trim().to_ascii_lowercase())
}

/// What the fields of a head say.
#[derive(Default)]
struct Fields {
    hosts: usize,
    length: Option<usize>,
    is_chunked: bool,
    content_types: usize,
    names_upgrade: bool,
    upgrades: Vec<String>,
}

impl Fields {
    fn read(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        assert!(is_token(name), "a name is a token: {}", line.escape_ascii());
        assert!(value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()), "{}", line.escape_ascii());
        let name = String::from_utf8(name.to_ascii_lowercase()).unwrap();
        let folded = name.replace(['_', '.'], "-");
        let weighty = ["content-length", "transfer-encoding", "x-api-key", "proxy-authorization"];
        assert!(name == folded || !weighty.contains(&folded.as_str()), "{name} could be taken for {folded}");
        let text = String::from_utf8_lossy(value).trim().to_ascii_lowercase();
        match name.as_str() {
            "host" => {
                self.hosts += 1;
                assert!(text.bytes().all(is_host_byte), "host {text}");
            }
            "content-length" => {
                assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "content-length {text}");
                assert!(self.length.replace(text.parse().unwrap()).is_none(), "two lengths");
            }
            "transfer-encoding" => {
                assert!(text == "chunked" && !self.is_chunked, "transfer-encoding {text}");
                self.is_chunked = true;
            }
            "content-type" => self.content_types += 1,
            "connection" => self.names_upgrade |= elements(value).any(|option| option == "upgrade"),
            "upgrade" => self.upgrades.extend(elements(value)),
            _ => {}
        }
    }
}

impl Message {
    /// Reads the message at the start of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let head = head_length(bytes).expect("a head is released whole");
        let text = bytes[..head - 4].strip_prefix(b"\r\n").unwrap_or(&bytes[..head - 4]);
        let mut lines = lines(text);
        let (is_connect, is_old) = request_line(lines.next().unwrap());
        let mut fields = Fields::default();
        let mut count = 0;
        for line in lines {
            fields.read(line);
            count += 1;
        }
        assert!(count <= super::limits().header_fields && text.len() <= 1_200, "the limits hold");
        assert!(fields.hosts == 1 || (fields.hosts == 0 && is_old), "one host");
        assert!(fields.content_types <= 1, "one content-type");
        assert!(!fields.is_chunked || (fields.length.is_none() && !is_old), "framed in one way");
        let has_no_body = !fields.is_chunked && fields.length.unwrap_or(0) == 0;
        let asks = fields.upgrades.iter().any(|protocol| !protocol.is_empty() && protocol != "h2c");
        let qualifies = !is_old && fields.names_upgrade && asks && has_no_body;
        assert!(fields.upgrades.is_empty() || qualifies || is_connect, "an upgrade that means nothing");
        assert!(!is_connect || has_no_body, "a CONNECT with content");
        let rest = &bytes[head..];
        let body = match fields.length {
            _ if fields.is_chunked => chunks(rest),
            Some(length) if length > rest.len() => Length::More,
            length => Length::Whole(length.unwrap_or(0)),
        };
        Self { head, body, asks_for_another_protocol: is_connect || !fields.upgrades.is_empty() }
    }
}

/// Whether it is a CONNECT, and whether it is one of HTTP/1.0.
fn request_line(line: &[u8]) -> (bool, bool) {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { panic!("three words: {}", line.escape_ascii()) };
    assert!(is_token(method) && !method.iter().any(u8::is_ascii_lowercase), "{}", line.escape_ascii());
    assert!(target.len() <= super::limits().target && target.iter().all(u8::is_ascii_graphic));
    assert!(!target.contains(&b'#'), "a fragment: {}", line.escape_ascii());
    assert!(version == b"HTTP/1.1" || version == b"HTTP/1.0", "{}", line.escape_ascii());
    let is_connect = method == b"CONNECT";
    let lower = target.to_ascii_lowercase();
    let is_absolute = lower.starts_with(b"http://") || lower.starts_with(b"https://");
    let authority = lower.split(|byte| *byte == b'/').nth(2).filter(|_| is_absolute).unwrap_or_default();
    let authority = authority.split(|byte| *byte == b'?').next().unwrap();
    assert!(authority.iter().copied().all(is_host_byte), "{}", line.escape_ascii());
    let is_asterisk = method == b"OPTIONS" && target == b"*";
    let has_port = target.rsplit(|byte| *byte == b':').next().is_some_and(|port| port.iter().all(u8::is_ascii_digit));
    let is_authority = is_connect && has_port && !target.iter().any(|byte| b"/?@,".contains(byte));
    let is_origin = target.starts_with(b"/") && !is_connect;
    assert!(is_origin || is_authority || is_asterisk || (is_absolute && !is_connect), "{}", line.escape_ascii());
    (is_connect, version == b"HTTP/1.0")
}

/// The length of a chunked body with its trailers (RFC 9112 7.1).
fn chunks(bytes: &[u8]) -> Length {
    let mut at = 0;
    loop {
        let Some(end) = line_end(&bytes[at..]) else { return Length::More };
        let line = &bytes[at..at + end];
        let size = line.split(|byte| *byte == b';').next().unwrap();
        assert!(size.iter().all(u8::is_ascii_hexdigit) && (1..16).contains(&size.len()), "{}", line.escape_ascii());
        assert!(line.iter().all(|byte| *byte == b'\t' || (b' '..=b'~').contains(byte)), "{}", line.escape_ascii());
        at += end + 2;
        let size = usize::from_str_radix(std::str::from_utf8(size).unwrap(), 16).unwrap();
        if size == 0 {
            return trailers(bytes, at);
        }
        if bytes.len() - at < size {
            return Length::More;
        }
        at += size;
        let ending = &bytes[at..bytes.len().min(at + 2)];
        assert!(b"\r\n".starts_with(ending), "a chunk ends with its line");
        if ending.len() < 2 {
            return Length::More;
        }
        at += 2;
    }
}

fn trailers(bytes: &[u8], mut at: usize) -> Length {
    while let Some(end) = line_end(&bytes[at..]) {
        let line = &bytes[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Length::Whole(at);
        }
        let colon = line.iter().position(|byte| *byte == b':').expect("a trailer has a colon");
        assert!(is_token(&line[..colon]), "a trailer's name is a token: {}", line.escape_ascii());
        assert!(line[colon..].iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()));
    }
    Length::More
}

/// The length of the first line, without its end; lines end with CRLF and hold neither CR nor LF.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    assert!(b"\r\n".starts_with(&bytes[end..bytes.len().min(end + 2)]), "a line ends with CRLF");
    (bytes.len() > end + 1).then_some(end)
}
