//! How a server behind us may read a path: as it came, or decoded any number of times, with backslashes for slashes and
//! parameters cut off. Written apart from `target`, which it judges.

/// Decodings tried; a path that changes on must have shown what it hides by then.
const LEVELS: usize = 8;

/// Panics unless every reading of `path` stays below `prefix`.
pub(super) fn assert_within(path: &[u8], prefix: &[u8]) {
    let mut reading = path.to_vec();
    for level in 0..LEVELS {
        for form in forms(&reading) {
            assert!(
                is_within(&form, prefix),
                "{} leaves {} when decoded {level} times",
                path.escape_ascii(),
                prefix.escape_ascii()
            );
        }
        let decoded = decode(&reading);
        if decoded == reading {
            return;
        }
        reading = decoded;
    }
}

fn forms(reading: &[u8]) -> [Vec<u8>; 2] {
    let slashes: Vec<u8> = reading.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    let without_parameters: Vec<&[u8]> = slashes
        .split(|byte| *byte == b'/')
        .map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default())
        .collect();
    let joined = without_parameters.join(&b'/');
    [slashes, joined]
}

fn is_within(path: &[u8], prefix: &[u8]) -> bool {
    let depth_of_prefix = prefix.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).count();
    let mut depth = 0_usize;
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." if depth <= depth_of_prefix => return false,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

fn decode(path: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        let escape = match after {
            [high, low, ..] if *byte == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    decoded
}
