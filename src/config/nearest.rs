//! The known word nearest to an unknown one.

/// The candidate that `word` was probably meant to be; none when nothing is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = normal(word);
    let reach = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &normal(candidate)), candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case and the choice between `-` and `_` make no distance.
fn normal(word: &str) -> String {
    word.chars().take(64).map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_finds_the_word_and_a_stranger_does_not() {
        let known = ["client_id", "client_secret", "scope", "url"];
        for (word, meant) in [
            ("client_sceret", Some("client_secret")),
            ("Client-Secret", Some("client_secret")),
            ("scopes", Some("scope")),
            ("uri", Some("url")),
            ("certificate", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
