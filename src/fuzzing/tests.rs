//! The properties on random bytes, and on every seed of the fuzz targets.

use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A property by the name of its fuzz target.
type Property = (&'static str, fn(&[u8]));

const PROPERTIES: [Property; 12] = [
    ("target", target),
    ("fields", fields),
    ("challenge", challenge),
    ("configuration", configuration),
    ("salesforce", salesforce),
    ("token_answer", token_answer),
    ("guard", guard),
    ("frames", frames),
    ("mapping", mapping),
    ("jwt", jwt),
    ("answer_head", answer_head),
    ("answer", answer),
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

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    std::fs::read_dir(folder).unwrap().map(|seed| std::fs::read(seed.unwrap().path()).unwrap()).collect()
}

proptest! {
    #[test]
    fn seeds_that_were_changed_a_little_hold(
        which in any::<prop::sample::Index>(),
        (one, other) in any::<(prop::sample::Index, prop::sample::Index)>(),
        (end, begin) in any::<(prop::sample::Index, prop::sample::Index)>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..3, any::<u8>()), 0..4),
    ) {
        let (name, property) = PROPERTIES[which.index(PROPERTIES.len())];
        let seeds = seeds(name);
        let (one, other) = (one.get(&seeds), other.get(&seeds));
        let mut bytes = [&one[..end.index(2 * one.len()).min(one.len())], &other[begin.index(other.len())..]].concat();
        for (at, change, byte) in changes {
            let at = at.index(bytes.len());
            match change {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        property(&bytes);
    }

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
