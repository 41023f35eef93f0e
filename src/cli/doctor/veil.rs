//! What an upstream says, without what it repeats of our secrets.

use crate::secret::Secret;

/// So many characters in a row give a secret away.
const TELLING: usize = 8;

/// In place of what is hidden.
pub(super) const HIDDEN: &str = "********";

/// `text` with every run of [`TELLING`] bytes of a secret, and every whole shorter one, hidden; and without what a
/// terminal would obey.
pub(super) fn veiled(text: &str, secrets: &[Secret]) -> String {
    let bytes = text.as_bytes();
    let mut hidden = vec![false; bytes.len()];
    for secret in secrets.iter().map(|secret| secret.expose().as_bytes()) {
        let length = secret.len().min(TELLING);
        if length < 3 {
            continue;
        }
        let telling: std::collections::HashSet<&[u8]> = secret.windows(length).collect();
        for (at, _) in bytes.windows(length).enumerate().filter(|(_, part)| telling.contains(part)) {
            hidden.iter_mut().skip(at).take(length).for_each(|hidden| *hidden = true);
        }
    }
    let (mut shown, mut covered) = (String::new(), false);
    for (at, character) in text.char_indices() {
        let cover = hidden.iter().skip(at).take(character.len_utf8()).any(|hidden| *hidden);
        match (cover, covered) {
            (true, false) => shown.push_str(HIDDEN),
            (true, true) => {}
            (false, _) => shown.push(visible(character)),
        }
        covered = cover;
    }
    shown
}

fn visible(character: char) -> char {
    let tricky =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    match character {
        '\n' | '\t' | '\r' => ' ',
        character if character.is_control() || tricky => '\u{fffd}',
        character => character,
    }
}

#[cfg(test)]
mod tests {
    use super::veiled;
    use crate::secret::Secret;

    #[test]
    fn whatever_repeats_a_secret_is_hidden() {
        let secrets = ["token-canary-0123456789", "short", "x"].map(|text| Secret::new(text.to_owned()));
        for (text, shown) in [
            ("no token-canary-0123456789!", "no ********!"),
            ("no n-canary-0 here", "no ******** here"),
            ("a short one, x", "a ******** one, x"),
            ("ä\u{1b}[31m\n", "ä\u{fffd}[31m "),
            ("", ""),
        ] {
            assert_eq!(veiled(text, &secrets), shown);
        }
    }
}
