//! Whatever bytes come, in whatever pieces: what hyper is given is a sequence of strictly well-formed messages, byte for
//! byte from the start of what was sent, and nothing else but one harmless head at its end.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Pieces of messages, good and bad; the streams under test are made of them.
const PIECES: [&str; 40] = [
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n",
    "GET /d HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /e HTTP/1.1\r\n",
    "POST /f HTTP/1.1\r\n",
    "Host: a\r\n",
    "Host: b\r\n",
    "Content-Length: 4\r\n",
    "Content-Length: 4, 4\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "X: y\r\n",
    "X: y\n",
    " folded\r\n",
    "X : y\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "4\r\nwiki\r\n",
    "4\r\nwiki\n",
    "0\r\n\r\n",
    "0\r\nTrailer: x\r\n\r\n",
    "5;ext=1\r\nhello\r\n",
    "ffffffffffffffffff\r\n",
    "abcd",
    "GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /x HTTP/3.0\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: refused\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "GET /h2c HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    "GET /old HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "\u{16}\u{3}\u{1}",
];

/// A whole message made of such pieces, often a good one: with a host, some fields, and a body that may fit them.
fn composed() -> impl Strategy<Value = String> {
    let fields = vec(select(&PIECES[7..16]), 0..4);
    let body = select(&["", "abcd", "4\r\nwiki\r\n0\r\n\r\n", "4\r\nwiki\r\n0\r\nX: y\r\n\r\n", "4\r\nwikiX"][..]);
    (select(&PIECES[5..7]), fields, body)
        .prop_map(|(line, fields, body)| format!("{line}Host: a\r\n{}\r\n{body}", fields.concat()))
}

/// The first message of `bytes`, read as strictly as can be: its length, or none when there is no whole one. Fails when
/// it is not well-formed.
fn message(bytes: &[u8]) -> Option<usize> {
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let end = start + bytes[start..].windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = std::str::from_utf8(&bytes[start..end]).expect("text");
    let mut lines = head.split("\r\n");
    let words: Vec<_> = lines.next().unwrap().split(' ').collect();
    assert_eq!(words.len(), 3, "{head:?}");
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    assert!(token(words[0]) && words[1].bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{head:?}");
    assert!(matches!(words[2], "HTTP/1.1" | "HTTP/1.0"), "{head:?}");
    let (mut hosts, mut length, mut chunked) = (0, None, false);
    for line in lines {
        let (name, value) = line.split_once(':').expect("a field");
        assert!(token(name) && value.chars().all(|c| !c.is_control()), "{line:?}");
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => assert!(length.replace(value.trim().parse::<usize>().unwrap()).is_none(), "{head:?}"),
            "transfer-encoding" => {
                assert!(!chunked && value.trim() == "chunked" && words[2] == "HTTP/1.1", "{head:?}");
                chunked = true;
            }
            _ => {}
        }
    }
    assert!(hosts == 1 || (hosts == 0 && words[2] == "HTTP/1.0"), "{head:?}");
    assert!(!chunked || length.is_none(), "{head:?}");
    let body = end + 4;
    let whole = if chunked { chunks(&bytes[body..])? } else { length.unwrap_or(0) };
    (bytes.len() - body >= whole).then_some(body + whole)
}

/// The length of a chunked body, or none when it is not whole.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = at + bytes[at..].windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..line]).unwrap().split(';').next().unwrap();
        let size = usize::from_str_radix(size, 16).expect("a size");
        at = line + 2;
        if size == 0 {
            let rest = &bytes[at..];
            let trailers = rest.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4);
            return if rest.starts_with(b"\r\n") { Some(at + 2) } else { Some(at + trailers?) };
        }
        at += size;
        assert!(bytes.len() < at + 2 || &bytes[at..at + 2] == b"\r\n", "a chunk's end");
        at = Some(at + 2).filter(|next| *next <= bytes.len())?;
    }
}

/// What hyper is given of `bytes`, sent in pieces of these sizes; and the connection.
async fn given(bytes: &[u8], sizes: &[usize]) -> (Vec<u8>, Arc<Connection>) {
    let (mut caller, mut guard, connection) = guarded();
    let (mut given, mut rest, mut sizes) =
        (Vec::new(), bytes, sizes.iter().copied().chain(std::iter::repeat(usize::MAX)));
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
        caller.write_all(piece).await.unwrap();
        rest = later;
        // Small buffers, as hyper's are when a body is nearly full.
        let mut buffer = [0_u8; 23];
        while let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(1), guard.read(&mut buffer)).await
            && length > 0
        {
            given.extend_from_slice(&buffer[..length]);
        }
    }
    (given, connection)
}

/// The end of what hyper was given is no harmless head, or it is one and the rest is not.
fn without_refusal(given: &[u8], connection: &Connection) -> Vec<u8> {
    let is_refused = (0..100).any(|_| connection.called().is_some());
    if !is_refused {
        return given.to_vec();
    }
    given.strip_suffix(HARMLESS).expect("a refused head is replaced").to_vec()
}

/// What the guard takes out.
fn without_void_upgrades(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.replace("Connection: upgrade\r\nUpgrade: h2c\r\n", "Connection: upgrade\r\n")
        .replace("HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n", "HTTP/1.0\r\nConnection: upgrade\r\n")
        .into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// B3, B6, B16 to B20, B23: nothing ambiguous or malformed gets through, in whatever pieces it comes.
    #[test]
    fn hyper_is_given_well_formed_messages_and_nothing_else(
        pieces in vec(prop_oneof![select(&PIECES[..]).prop_map(str::to_owned), composed()], 1..8),
        sizes in vec(1_usize..40, 0..12),
    ) {
        let sent = pieces.concat().into_bytes();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (given, connection) = runtime.block_on(given(&sent, &sizes));
        let given = without_refusal(&given, &connection);
        let expected = without_void_upgrades(&sent);
        prop_assert!(expected.starts_with(&given), "{:?} of {:?}", given.escape_ascii().to_string(), pieces);
        let mut rest = &given[..];
        while !rest.is_empty() {
            let Some(length) = message(rest) else { break };
            if rest.starts_with(b"CONNECT ") || rest.starts_with(b"GET /ws ") {
                prop_assert_eq!(rest.len(), length, "nothing behind a request for another protocol");
            }
            rest = &rest[length..];
        }
    }

    #[test]
    fn no_bytes_make_the_guard_panic(bytes in vec(any::<u8>(), 0..300), sizes in vec(1_usize..40, 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (given, connection) = runtime.block_on(given(&bytes, &sizes));
        prop_assert!(bytes.starts_with(&without_refusal(&given, &connection)));
    }
}
