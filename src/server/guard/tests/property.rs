//! The property of `fuzzing` on streams made of pieces of messages.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::fuzzing::same_however_cut;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// B3, B6, B16 to B20, B23: nothing ambiguous or malformed gets through, in whatever pieces it comes.
    #[test]
    fn hyper_is_given_well_formed_messages_and_nothing_else(
        pieces in vec(prop_oneof![select(&PIECES[..]).prop_map(str::to_owned), composed()], 1..8),
        sizes in vec(1_u8..40, 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        same_however_cut(pieces.concat().as_bytes(), &sizes, 23);
    }

    #[test]
    fn no_bytes_make_the_guard_panic(bytes in vec(any::<u8>(), 0..300), sizes in vec(1_u8..40, 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        same_however_cut(&bytes, &sizes, 23);
    }
}
