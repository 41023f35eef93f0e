//! Looks for secrets where none may be, in every form in which they are likely to turn up.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// How many characters in a row give a secret away; what masks a secret may show fewer.
const WINDOW: usize = 12;

/// How many characters of a secret's beginning are too many.
const BEGINNING: usize = 8;

/// The things that must not be found, with all their disguises.
#[derive(Default)]
pub(crate) struct Scanner {
    /// What it is, how it is disguised, and the text to look for.
    needles: Vec<(String, &'static str, String)>,
}

/// Every disguise of a secret.
pub(crate) fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let form = form_encoded(secret);
    let json = serde_json::to_string(secret).unwrap();
    let lower: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes = format!("{:?}", secret.as_bytes());
    let percent_all: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    vec![
        ("plain", secret.to_owned()),
        ("json", json.trim_matches('"').to_owned()),
        ("debug", format!("{secret:?}").trim_matches('"').to_owned()),
        ("percent", form.replace('+', "%20")),
        ("percent, lower case", encoded(secret, |byte| format!("%{byte:02x}"))),
        ("percent, every byte", percent_all),
        ("form", form.clone()),
        ("bytes", bytes.trim_matches(['[', ']']).to_owned()),
        ("hex", lower.clone()),
        ("hex, upper case", lower.to_uppercase()),
        ("base64", STANDARD_NO_PAD.encode(secret)),
        ("base64url", URL_SAFE_NO_PAD.encode(secret)),
        ("base64 of Basic", STANDARD_NO_PAD.encode(format!("client:{form}"))),
    ]
}

/// application/x-www-form-urlencoded, as RFC 6749 wants it in Basic.
pub(crate) fn form_encoded(text: &str) -> String {
    encoded(text, |byte| if byte == b' ' { "+".to_owned() } else { format!("%{byte:02X}") })
}

fn encoded(text: &str, escape: impl Fn(u8) -> String) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            other => escape(other),
        })
        .collect()
}

/// Base64 of `text` wherever it stands in a longer one: three alignments, their unsure ends cut off.
fn inside_base64(text: &[u8]) -> [String; 3] {
    [0, 1, 2].map(|shift| {
        let encoded = STANDARD_NO_PAD.encode([&[0; 2][..shift], text].concat());
        let begin = [0, 2, 3][shift];
        let end = (shift + text.len()) * 8 / 6;
        encoded[begin..end].to_owned()
    })
}

impl Scanner {
    /// Adds a secret. Of a long one, a piece of it is as bad: any stretch of one and a half windows is found.
    pub(crate) fn add(&mut self, what: &str, secret: &str) {
        let mut needles = BTreeSet::new();
        for (form, text) in forms(secret) {
            let width = match form {
                // Its beginning is that of the client id, which is no secret; the stretch below covers the rest.
                "base64 of Basic" => text.len(),
                "hex" | "hex, upper case" => WINDOW * 2,
                "percent, every byte" => WINDOW * 3,
                "base64" | "base64url" => WINDOW * 4 / 3,
                "bytes" => WINDOW * 4,
                _ => WINDOW,
            };
            let characters: Vec<char> = text.chars().collect();
            let width = width.min(characters.len());
            let windows = characters.windows(width).step_by(width.div_ceil(2));
            needles.extend(windows.map(|window| (form, window.iter().collect::<String>())));
        }
        // Its beginning is enough to tell it by; that of every JWT is the same.
        if secret.len() >= 2 * BEGINNING && !secret.starts_with("eyJ") {
            needles.insert(("beginning", secret[..BEGINNING].to_owned()));
        }
        for text in [secret.to_owned(), form_encoded(secret)] {
            needles.extend(inside_base64(text.as_bytes()).into_iter().map(|text| ("inside base64", text)));
        }
        self.needles.extend(needles.into_iter().map(|(form, text)| (what.to_owned(), form, text)));
    }

    /// Adds a secret that is no text, in every writing of bytes.
    pub(crate) fn add_bytes(&mut self, what: &str, secret: &[u8]) {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{secret:?}");
        let mut needles = vec![
            ("hex, upper case", hex.to_uppercase()),
            ("hex", hex),
            ("bytes", list.trim_matches(['[', ']']).to_owned()),
            ("base64url", URL_SAFE_NO_PAD.encode(secret)),
        ];
        needles.extend(inside_base64(secret).map(|text| ("inside base64", text)));
        self.needles.extend(needles.into_iter().map(|(form, text)| (what.to_owned(), form, text)));
    }

    /// What was found in `text`: which secret, in which form.
    pub(crate) fn find(&self, text: &str) -> BTreeSet<(&str, &str)> {
        let hit = self.needles.iter().filter(|(_, _, needle)| text.contains(needle.as_str()));
        hit.map(|(what, form, _)| (what.as_str(), *form)).collect()
    }

    /// Whether anything was found in `text`.
    fn finds(&self, text: &str) -> bool {
        self.needles.iter().any(|(_, _, needle)| text.contains(needle.as_str()))
    }

    /// The first lines in which something was found.
    fn excerpt(&self, text: &str) -> String {
        text.lines().filter(|line| !self.find(line).is_empty()).take(5).collect::<Vec<_>>().join("\n")
    }
}

/// What a program showed, by channel.
#[derive(Default)]
pub(crate) struct Channels(BTreeMap<&'static str, String>);

impl Channels {
    /// Adds what it showed there.
    pub(crate) fn add(&mut self, channel: &'static str, text: &str) {
        self.0.entry(channel).or_default().push_str(text);
    }

    /// Fails if anything was found, or if a channel has nothing in it, or if one of `secrets` would have been overlooked
    /// amid what a channel usually says.
    pub(crate) fn assert_silent(&self, scanner: &Scanner, secrets: &[&str]) {
        for (channel, text) in &self.0 {
            assert!(!text.is_empty(), "nothing was collected from {channel}");
            let found = scanner.find(text);
            assert!(found.is_empty(), "{channel} shows {found:?}; it says:\n{}", scanner.excerpt(text));
            let around: String = text.chars().take(200).collect();
            for secret in secrets {
                for (form, disguised) in forms(secret) {
                    let planted = format!("{around}{disguised}{around}");
                    assert!(scanner.finds(&planted), "{form} of a secret was overlooked in {channel}");
                }
            }
        }
    }
}
