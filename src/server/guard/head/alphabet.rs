//! Which bytes may stand where in a head (RFC 9110 5.5, 5.6.2, 9.1; RFC 3986).

/// What a byte may be part of, as a set of bits.
pub(super) type Class = u8;

/// RFC 9110 5.6.2 `tchar`.
pub(super) const TOKEN: Class = 1;
/// A token in upper case.
pub(super) const METHOD: Class = 1 << 1;
/// A target that `http::Uri` keeps as it is.
pub(super) const TARGET: Class = 1 << 2;
/// Names, addresses and ports.
pub(super) const HOST: Class = 1 << 3;
/// A token without what some servers take for a hyphen.
pub(super) const NAME: Class = 1 << 4;

const CLASSES: [Class; 256] = {
    let mut classes = [0; 256];
    classes = allow(classes, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", TOKEN | METHOD | NAME | TARGET | HOST);
    classes = allow(classes, b"abcdefghijklmnopqrstuvwxyz", TOKEN | NAME | TARGET | HOST);
    classes = allow(classes, b"!#$%&'*+-^`|~", TOKEN | METHOD | NAME);
    classes = allow(classes, b"._", TOKEN | METHOD);
    classes = allow(classes, b"-._~/%?=&+,:;@!$'()*", TARGET);
    allow(classes, b".-_~:[]%", HOST)
};

#[expect(clippy::indexing_slicing, reason = "evaluated when compiling, where an index out of range is an error")]
const fn allow(mut classes: [Class; 256], bytes: &[u8], class: Class) -> [Class; 256] {
    let mut index = 0;
    while index < bytes.len() {
        classes[bytes[index] as usize] |= class;
        index += 1;
    }
    classes
}

/// All that `byte` may be part of.
fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Whether all of `bytes` may be part of `wanted`.
pub(super) fn are(bytes: &[u8], wanted: Class) -> bool {
    run(bytes, wanted) == bytes.len()
}

/// How many bytes at the start may be part of `wanted`.
pub(super) fn run(bytes: &[u8], wanted: Class) -> usize {
    let mut length = 0;
    while bytes.get(length).is_some_and(|byte| class(*byte) & wanted != 0) {
        length += 1;
    }
    length
}

/// How many bytes at the start may be part of a field's value: visible ones, space, tab and obs-text, but no other
/// control byte. They are looked at eight at a time.
pub(super) fn value_run(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((eight, behind)) = rest.split_first_chunk() {
        let controls = controls(u64::from_le_bytes(*eight));
        if controls == 0 {
            rest = behind;
            continue;
        }
        let (_, from) = rest.split_at(controls.trailing_zeros() as usize / 8);
        match from.strip_prefix(b"\t") {
            Some(behind) => rest = behind,
            None => return bytes.len() - from.len(),
        }
    }
    let is_end = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    bytes.len() - rest.len() + rest.iter().position(is_end).unwrap_or(rest.len())
}

/// The highest bit of each of the eight bytes that is a control byte. Without its highest bit a byte can be added to, and
/// tells by that bit whether the sum reaches 0x80; no sum reaches into the next byte.
fn controls(eight: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = eight & (EACH * 0x7f);
    let is_visible = low + EACH * (0x80 - 0x20);
    let is_delete = low + EACH;
    (!is_visible | is_delete) & !eight & (EACH * 0x80)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_byte_may_stand_where_the_standards_say() {
        for byte in 0..=255_u8 {
            let is = |class| are(&[byte], class);
            let alphanumeric = byte.is_ascii_alphanumeric();
            assert_eq!(is(TOKEN), alphanumeric || b"!#$%&'*+-.^_`|~".contains(&byte));
            assert_eq!(is(METHOD), is(TOKEN) && !byte.is_ascii_lowercase());
            assert_eq!(is(TARGET), alphanumeric || b"-._~/%?=&+,:;@!$'()*".contains(&byte));
            assert_eq!(is(HOST), alphanumeric || b".-_~:[]%".contains(&byte));
            assert_eq!(is(NAME), is(TOKEN) && !b"_.".contains(&byte));
        }
    }

    proptest! {
        #[test]
        fn a_value_ends_at_the_first_control_byte(
            bytes in proptest::collection::vec(prop_oneof![8 => 0x20..=0xff_u8, 1 => Just(b'\t'), 1 => any::<u8>()], 0..60),
        ) {
            let end = bytes.iter().position(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f);
            prop_assert_eq!(value_run(&bytes), end.unwrap_or(bytes.len()));
        }
    }
}
