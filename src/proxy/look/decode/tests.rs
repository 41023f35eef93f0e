use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::Decoder;

const TEXT: &str = r#"{"fault":{"faultstring":"Access Token expired","detail":{"errorcode":"keymanagement.service.access_token_expired"}}}"#;

/// [`TEXT`] in brotli.
const BROTLI: &[u8] = &[
    0x1b, 0x73, 0x00, 0x40, 0x1c, 0x07, 0x6e, 0x2c, 0xda, 0x9b, 0xe4, 0x12, 0x5b, 0x9e, 0xe5, 0x36, 0x36, 0x9f, 0xf3,
    0x0b, 0xea, 0xb1, 0xdb, 0x88, 0xb2, 0x4f, 0x87, 0xa5, 0x45, 0xbe, 0x5c, 0xe8, 0xba, 0xc1, 0x01, 0xf3, 0xf5, 0xf4,
    0x81, 0x8d, 0xd3, 0xe0, 0x8b, 0x0f, 0x6e, 0xb2, 0x46, 0x32, 0x14, 0x3f, 0x95, 0xec, 0xb8, 0x2f, 0xdc, 0xb9, 0xcb,
    0xef, 0xd4, 0x66, 0x1a, 0xff, 0xac, 0x23, 0x81, 0x60, 0x24, 0x13, 0xa2, 0x81, 0x74, 0x60, 0x4c, 0xaf, 0x3e, 0xac,
    0xc6, 0x2d, 0xac, 0x9d, 0x79, 0xa5, 0x42, 0x0c, 0x56, 0x00,
];

/// 64 MiB of zeros in brotli.
const BOMB: &[u8] = &[
    0xcf, 0xff, 0xff, 0x7f, 0xf8, 0x27, 0x00, 0xe2, 0xb1, 0x40, 0x20, 0xf7, 0xfe, 0x9f, 0xff, 0xff, 0xff, 0xf0, 0x4f,
    0x00, 0xc4, 0x61, 0x01, 0x80, 0xee, 0xfd, 0x3f, 0xff, 0xff, 0xff, 0xe1, 0x9f, 0x00, 0x88, 0xc3, 0x22, 0x00, 0xdd,
    0xfb, 0xff, 0xfc, 0xff, 0xff, 0xc7, 0x3f, 0x01, 0x10, 0x87, 0x05, 0x00, 0xba, 0xf7, 0xff,
];

/// [`TEXT`] in brotli with a window that RFC 7932 does not know.
const LARGE_WINDOW: &[u8] = &[
    0x11, 0x5c, 0xcc, 0x01, 0x00, 0x71, 0x1c, 0xb8, 0xb1, 0x68, 0x6f, 0x92, 0x4b, 0x6c, 0x79, 0x96, 0xdb, 0xd8, 0x7c,
    0xce, 0x2f, 0xa8, 0xc7, 0x6e, 0x23, 0xca, 0x3e, 0x1d, 0x96, 0x16, 0xf9, 0x72, 0xa1, 0xeb, 0x06, 0x07, 0xcc, 0xd7,
    0xd3, 0x07, 0x36, 0x4e, 0x83, 0x2f, 0x3e, 0xb8, 0xc9, 0x1a, 0xc9, 0x50, 0xfc, 0x54, 0xb2, 0xe3, 0xbe, 0x70, 0xe7,
    0x2e, 0xbf, 0x53, 0x9b, 0x69, 0xfc, 0xb3, 0x8e, 0x04, 0x82, 0x91, 0x4c, 0x88, 0x06, 0xd2, 0x81, 0x31, 0xbd, 0xfa,
    0xb0, 0x1a, 0xb7, 0xb0, 0x76, 0xe6, 0x95, 0x0a, 0x31, 0x58, 0x01,
];

fn headers(codings: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for coding in codings {
        headers.append(CONTENT_ENCODING, HeaderValue::from_str(coding).unwrap());
    }
    headers
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Decodes `bytes`, so many at a time; what came of it, and whether that is all.
fn decoded(coding: &str, bytes: &[u8], at_a_time: usize) -> (Vec<u8>, bool) {
    let mut decoder = Decoder::of(&headers(&[coding]), 16 * 1024, 64 * 1024).unwrap();
    for piece in bytes.chunks(at_a_time) {
        decoder.push(piece);
    }
    (decoder.decoded().to_vec(), decoder.is_whole())
}

#[test]
fn every_coding_is_removed_whole_and_in_pieces() {
    let two_members = [gzip(&TEXT.as_bytes()[..50]), gzip(&TEXT.as_bytes()[50..])].concat();
    for (coding, bytes) in [
        ("", TEXT.as_bytes().to_vec()),
        ("identity", TEXT.as_bytes().to_vec()),
        ("gzip", gzip(TEXT.as_bytes())),
        ("X-GZIP", gzip(TEXT.as_bytes())),
        ("gzip", two_members),
        ("deflate", zlib(TEXT.as_bytes())),
        ("deflate", bare(TEXT.as_bytes())),
        ("br", BROTLI.to_vec()),
        ("deflate , gzip", gzip(&zlib(TEXT.as_bytes()))),
        ("br,identity,, gzip", gzip(BROTLI)),
    ] {
        for at_a_time in [1, 2, 7, 10_000] {
            let (text, is_whole) = decoded(coding, &bytes, at_a_time);
            assert_eq!(String::from_utf8_lossy(&text), TEXT, "{coding} {at_a_time}");
            assert!(is_whole, "{coding} {at_a_time}");
        }
    }
    let over_lines = Decoder::of(&headers(&["deflate", "gzip"]), 1000, 1000).map(|mut decoder| {
        decoder.push(&gzip(&zlib(TEXT.as_bytes())));
        decoder.decoded().to_vec()
    });
    assert_eq!(over_lines.unwrap(), TEXT.as_bytes());
}

#[test]
fn what_came_can_be_read_before_the_rest() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"the token is expired").unwrap();
    encoder.flush().unwrap();
    let early = encoder.get_ref().clone();
    assert_eq!(decoded("gzip", &early, 5).0, b"the token is expired");
}

#[test]
fn nothing_decodes_to_more_than_is_asked_for() {
    let zeros = vec![0; 8 << 20];
    for (coding, bomb) in [
        ("", zeros.clone()),
        ("gzip", gzip(&zeros)),
        ("deflate", zlib(&zeros)),
        ("deflate", bare(&zeros)),
        ("br", BOMB.to_vec()),
        ("gzip, gzip", gzip(&gzip(&zeros))),
        ("br, gzip", gzip(BOMB)),
    ] {
        for at_a_time in [10, 10_000_000] {
            let (decoded, is_whole) = decoded(coding, &bomb, at_a_time);
            assert_eq!(decoded, vec![0; 16 * 1024], "{coding}");
            assert!(!is_whole, "{coding}");
        }
    }
}

#[test]
fn what_fits_exactly_is_whole() {
    let bytes = vec![b'x'; 16 * 1024];
    for (coding, bytes) in [("", bytes.clone()), ("gzip", gzip(&bytes)), ("deflate", bare(&bytes))] {
        let (decoded, is_whole) = decoded(coding, &bytes, 1000);
        assert_eq!((decoded.len(), is_whole), (16 * 1024, true), "{coding}");
    }
}

#[test]
fn what_cannot_be_decoded_ends_where_it_breaks() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(TEXT.as_bytes()).unwrap();
    encoder.flush().unwrap();
    // A block of the kind that does not exist.
    let broken = [encoder.get_ref().as_slice(), &[0xff; 20]].concat();
    for at_a_time in [1, 10] {
        assert_eq!(decoded("gzip", &broken, at_a_time), (TEXT.as_bytes().to_vec(), false), "{at_a_time}");
    }
    for coding in ["gzip", "deflate", "br"] {
        assert!(!decoded(coding, &[0xff; 100], 10).1, "{coding}");
    }
    assert_eq!(decoded("br", LARGE_WINDOW, 1000), (Vec::new(), false));
}

#[test]
fn unknown_codings_and_heaps_of_them_are_left_alone() {
    for coding in ["zstd", "compress", "gzip, zstd", "aes128gcm", "gzip;q=1", "gzip, gzip, gzip, gzip"] {
        assert!(Decoder::of(&headers(&[coding]), 100, 100).is_none(), "{coding}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at_a_time in 1_usize..50,
        coding in prop_oneof![Just("gzip"), Just("deflate"), Just("br"), Just("deflate, br")],
    ) {
        decoded(coding, &bytes, at_a_time);
    }

    #[test]
    fn any_damage_is_decoded_without_a_panic(
        at in 0_usize..200,
        with in any::<u8>(),
        at_a_time in 1_usize..50,
    ) {
        for (coding, mut bytes) in [("gzip", gzip(TEXT.as_bytes())), ("deflate", bare(TEXT.as_bytes())), ("br", BROTLI.to_vec())] {
            let length = bytes.len();
            bytes[at % length] = with;
            let (decoded, _) = decoded(coding, &bytes, at_a_time);
            prop_assert!(decoded.len() <= 16 * 1024);
        }
    }
}

/// Pins: the list was bounded only after a decoder had been made for each of its elements, gigabytes in all.
#[cfg(target_os = "linux")]
#[test]
fn a_long_list_of_codings_costs_no_memory() {
    let list = vec!["br"; 100_000].join(",");
    let before = most_memory();
    assert!(Decoder::of(&headers(&[list.as_str()]), 64, 64).is_none());
    let grown = most_memory() - before;
    // Other tests run beside this one.
    assert!(grown < 256 * 1024, "{grown} KiB");
}

/// The most memory that this process ever had, in KiB.
#[cfg(target_os = "linux")]
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
