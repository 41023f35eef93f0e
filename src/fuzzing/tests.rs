//! The properties on random bytes, and on every seed of the fuzz targets.

use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A property by the name of its fuzz target.
type Property = (&'static str, fn(&[u8]));

const PROPERTIES: [Property; 6] = [
    ("target", target),
    ("fields", fields),
    ("challenge", challenge),
    ("configuration", configuration),
    ("salesforce", salesforce),
    ("token_answer", token_answer),
];

#[test]
fn every_target_has_seeds_and_they_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, property) in PROPERTIES {
        let mut seeds = 0;
        for seed in std::fs::read_dir(folder.join("seeds").join(name)).unwrap() {
            property(&std::fs::read(seed.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 0, "no seeds for {name}");
        assert!(folder.join("fuzz_targets").join(format!("{name}.rs")).is_file(), "no target {name}");
    }
    let targets = std::fs::read_dir(folder.join("fuzz_targets")).unwrap().count();
    assert_eq!(targets, PROPERTIES.len(), "every target is a property here");
}

proptest! {
    #[test]
    fn targets_of_suspicious_pieces_stay_within(pieces in proptest::collection::vec(
        prop_oneof!["/", "\\.", "%2e", "%2F", "%5c", "%25", "2e", ";", "a", "%c0%ae", "\\\\", "%00", "\\?"], 1..16,
    )) {
        target(format!("/{}", pieces.concat()).as_bytes());
    }

    #[test]
    fn fields_of_suspicious_pieces_are_cleaned(lines in proptest::collection::vec(
        "(?i)(connection|x-a|te|authorization|x_token|keep-alive|cookie|x-forwarded-for|via): ?(x-a|close|te|, |a){0,3}", 0..8,
    )) {
        fields(lines.join("\n").as_bytes());
    }

    #[test]
    fn no_bytes_break_a_property(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (_, property) in PROPERTIES {
            property(&bytes);
        }
    }
}
