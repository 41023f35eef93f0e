//! `AdditionalRefreshStatusCode` → `additional_refresh_status_codes` and `refresh_when`.
//!
//! Whether the parameter holds one code or several is not documented, so all that can be meant is read: one code,
//! several with commas or spaces, classes such as `4xx`, and the parameter more than once.

use super::metadata::Parameter;
use super::note::{Notes, shown};
use super::output::Value;

/// What the parameters of a credential add up to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Codes {
    single: Vec<u64>,
    classes: Vec<String>,
}

impl Codes {
    pub(super) fn read<'a, 'f: 'a>(parameters: impl Iterator<Item = &'a Parameter<'f>>, notes: &mut Notes) -> Self {
        let mut codes = Self::default();
        for parameter in parameters {
            let text = parameter.value.as_ref().map_or(parameter.name.as_str(), |value| value.text.as_str());
            for word in text.split([',', ';', ' ', '\n', '\t']).filter(|word| !word.is_empty()) {
                if !codes.add(word) {
                    let message = format!(
                        "`AdditionalRefreshStatusCode` holds {}; it is a code from 400 to 999 or a class such as `4xx`",
                        shown(word)
                    );
                    notes.error(parameter.at, message);
                }
            }
        }
        codes
    }

    /// The entries of the external credential.
    pub(super) fn into_entries(self) -> Vec<(String, Value)> {
        let mut entries = Vec::new();
        if !self.single.is_empty() {
            let list = Value::List(self.single.into_iter().map(Value::Number).collect());
            entries.push(("additional_refresh_status_codes".to_owned(), list));
        }
        if !self.classes.is_empty() {
            let rule = Value::Inline(vec![("status".to_owned(), Value::texts(self.classes))]);
            entries.push(("refresh_when".to_owned(), Value::List(vec![rule])));
        }
        entries
    }

    fn add(&mut self, word: &str) -> bool {
        let lower = word.to_ascii_lowercase();
        let class = lower.strip_suffix("xx").filter(|digit| matches!(*digit, "4" | "5" | "6" | "7" | "8" | "9"));
        if class.is_some() {
            if !self.classes.contains(&lower) {
                self.classes.push(lower);
            }
            return true;
        }
        let is_number = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
        match word.parse().ok().filter(|code| is_number && (400..1000).contains(code)) {
            // 401 always means that.
            Some(401) => true,
            Some(code) => {
                if !self.single.contains(&code) {
                    self.single.push(code);
                }
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Codes;

    #[test]
    fn codes_lists_and_classes_are_read() {
        let mut codes = Codes::default();
        for good in ["403", "401", "403", "612", "4xx", "7XX"] {
            assert!(codes.add(good), "{good}");
        }
        assert_eq!(codes, Codes { single: vec![403, 612], classes: vec!["4xx".to_owned(), "7xx".to_owned()] });
        for bad in ["200", "3xx", "40", "4031", "+403", "x", "400-403"] {
            assert!(!codes.add(bad), "{bad}");
        }
    }
}
