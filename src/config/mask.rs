//! Hides what could be a secret in a configuration text, so that its lines can be shown.
//!
//! It works on the text and not on the parsed tree, because a text that cannot be parsed is shown too. A value is
//! shown only where the key before it is known to be harmless; comments, multi-line texts, the user part and the
//! query of a URL never are. Bytes and lines stay where they are. Mistaking harmless text for a secret is fine here,
//! the opposite is not.

/// Keys whose values are no secrets.
const HARMLESS: [&str; 97] = [
    "accept_token_types",
    "access",
    "actor_token_type",
    "additional_refresh_status_codes",
    "address",
    "algorithm",
    "allowed_origins",
    "anonymous_callers",
    "audience",
    "basic_encoding",
    "body_contains",
    "body_rate",
    "body_timeout",
    "ca",
    "callers",
    "certificate",
    "client_authentication",
    "client_ca",
    "client_certificate",
    "client_id",
    "connect",
    "connections",
    "deadline",
    "default_lifetime",
    "delay",
    "description",
    "enabled",
    "error",
    "expires_in",
    "expires_unit",
    "expiry_margin",
    "external_credential",
    "file",
    "first_byte",
    "flow",
    "format",
    "forwarded",
    "generate_authorization_header",
    "grant_type",
    "h2_pings",
    "h2_priorities",
    "h2_resets",
    "h2_settings",
    "h2_streams",
    "h2_tiny_data",
    "h2_unknown",
    "h2_window_updates",
    "header",
    "header_timeout",
    "host",
    "host_header",
    "http",
    "idle",
    "idle_timeout",
    "in",
    "issuer",
    "keep_cookies",
    "key_id",
    "label",
    "level",
    "lifetime",
    "link_local",
    "max_lifetime",
    "method",
    "methods",
    "mint",
    "name",
    "networks",
    "no_proxy",
    "path",
    "plain_http",
    "pointer",
    "preset",
    "private",
    "readiness",
    "refresh_token_store",
    "remove_headers",
    "renew_ahead",
    "replay",
    "replay_limit",
    "replay_memory",
    "requested_token_type",
    "resource",
    "scheme",
    "scope",
    "sequence",
    "status",
    "subject",
    "subject_token_type",
    "target",
    "timeout",
    "token_endpoint",
    "token_type",
    "total",
    "tunnel_idle_timeout",
    "tunnels",
    "url",
];

/// Keys whose values are secrets, or lead to one. They are known only so that a value on the next line is found too.
const SECRET: [&str; 8] =
    ["actor_token", "client_secret", "key", "password", "refresh_token", "secrets", "subject_token", "token"];

/// The text with everything hidden that could be a secret.
pub(crate) fn mask(text: &str) -> String {
    let mut masker = Masker {
        rest: text,
        out: String::with_capacity(text.len()),
        key: None,
        at_key: true,
        begins_line: true,
        wants_value: false,
        open: vec![],
    };
    while masker.step() {}
    masker.out
}

struct Masker<'a> {
    rest: &'a str,
    out: String,
    /// The key whose value comes; none: not known.
    key: Option<&'a str>,
    /// Whether a key may come next.
    at_key: bool,
    /// Whether nothing but space came before on this line.
    begins_line: bool,
    /// Whether a `=` came last.
    wants_value: bool,
    /// Brackets that are open.
    open: Vec<char>,
}

impl<'a> Masker<'a> {
    /// Takes one token; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        if first.is_whitespace() && first != '\n' {
            let white = self.take(first.len_utf8());
            self.out.push_str(white);
            return true;
        }
        match first {
            '#' => self.comment(),
            '"' | '\'' => self.quoted(first),
            '[' if self.at_key && self.open.is_empty() => self.header(),
            '[' | '{' => self.open_bracket(first),
            ']' | '}' => self.close_bracket(first),
            ',' | '=' | '\n' => self.separator(first),
            _ => self.word(),
        }
        self.begins_line = first == '\n';
        self.wants_value = first == '=';
        true
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn take_line(&mut self) -> &'a str {
        self.take(self.rest.find('\n').unwrap_or(self.rest.len()))
    }

    fn comment(&mut self) {
        let comment = self.take_line();
        self.out.extend(comment.chars().flat_map(|letter| std::iter::repeat_n(' ', letter.len_utf8())));
    }

    /// `[a.b]`; what is quoted in it is hidden.
    fn header(&mut self) {
        let line = self.take_line();
        let (names, rest) =
            line.split_at_checked(line.find(['"', '\'', '#', '=']).unwrap_or(line.len())).unwrap_or_default();
        self.out.push_str(names);
        self.hide(rest);
    }

    fn open_bracket(&mut self, bracket: char) {
        self.open.push(bracket);
        self.at_key = bracket == '{';
        if bracket == '{' {
            self.key = None;
        }
        self.take(1);
        self.out.push(bracket);
    }

    fn close_bracket(&mut self, bracket: char) {
        self.open.pop();
        self.at_key = false;
        if bracket == '}' {
            self.key = None;
        }
        self.take(1);
        self.out.push(bracket);
    }

    fn separator(&mut self, separator: char) {
        self.take(1);
        self.out.push(separator);
        match separator {
            // A value that is missing at the end of its line may stand on the next.
            '\n' if self.open.is_empty() && !self.wants_value => {
                self.at_key = true;
                self.key = None;
            }
            ',' if self.open.last() == Some(&'{') => {
                self.at_key = true;
                self.key = None;
            }
            '=' => self.at_key = false,
            _ => {}
        }
    }

    fn quoted(&mut self, quote: char) {
        let triple = if quote == '"' { "\"\"\"" } else { "'''" };
        if self.rest.starts_with(triple) {
            let end = self.rest.get(3..).and_then(|rest| rest.find(triple)).map_or(self.rest.len(), |end| end + 6);
            let text = self.take(end);
            self.hide(text);
            return;
        }
        let length = quoted_length(self.rest, quote);
        let text = self.take(length);
        if self.at_key { self.hide(text) } else { self.value(text) }
    }

    /// A bare word: a key, or a value without quotes.
    fn word(&mut self) {
        let ends = |letter: char| letter.is_whitespace() || "#\"'[]{},=".contains(letter);
        let word = self.take(self.rest.find(ends).unwrap_or(self.rest.len()));
        // Within a list no key comes; one that does means that the list was not closed.
        let may_be_key = self.at_key || (self.begins_line && !self.open.is_empty());
        let name = word.rsplit('.').next().unwrap_or(word);
        let is_known = HARMLESS.contains(&name) || SECRET.contains(&name);
        if may_be_key && (is_known || is_followed_by_value(self.rest)) {
            self.key = Some(name);
            self.out.push_str(word);
        } else if self.at_key {
            self.hide(word);
        } else {
            self.value(word);
        }
    }

    /// A value, shown as far as its key lets it be.
    fn value(&mut self, text: &'a str) {
        let is_flag = matches!(text, "true" | "false");
        if !is_flag && !self.key.is_some_and(|key| HARMLESS.contains(&key) || (key == "env" && is_variable(text))) {
            return self.hide(text);
        }
        let Some(start) = text.find("://").map(|at| at + 3) else { return self.out.push_str(text) };
        let user_end = text.rfind('@').filter(|at| *at > start).unwrap_or(start);
        let query = text.find('?').filter(|at| *at >= user_end).map_or(text.len(), |at| at + 1);
        self.out.push_str(text.get(..start).unwrap_or_default());
        self.hide(text.get(start..user_end).unwrap_or_default());
        self.out.push_str(text.get(user_end..query).unwrap_or_default());
        self.hide(text.get(query..).unwrap_or_default());
    }

    /// Hides a text; quotes and line ends stay. Each character becomes one of its own length, so that columns in
    /// bytes and in characters stay what they were.
    fn hide(&mut self, text: &str) {
        self.out.extend(text.chars().map(|letter| match letter {
            '"' | '\'' | '\n' | '\r' | ' ' | '\t' => letter,
            _ => match letter.len_utf8() {
                1 => '*',
                2 => '\u{b7}',
                3 => '\u{2022}',
                _ => '\u{1d7f6}',
            },
        }));
    }
}

/// Whether this is the name of an environment variable; anything else after `env` is perhaps the secret itself.
fn is_variable(text: &str) -> bool {
    text.trim_matches(['"', '\'']).bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// How long the quoted text at the beginning is, at most to the end of its line.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a `=` and something like a value come next on the line.
fn is_followed_by_value(rest: &str) -> bool {
    let line = rest.split('\n').next().unwrap_or_default().trim_start();
    line.strip_prefix('=').map(str::trim).is_some_and(|value| !value.is_empty() && !value.starts_with('='))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{HARMLESS, mask};

    #[test]
    fn the_list_of_harmless_keys_is_sorted_and_names_no_secret() {
        assert!(HARMLESS.is_sorted());
        assert!(HARMLESS.iter().all(|key| !key.contains("secret") && !key.contains("password")));
    }

    #[test]
    fn only_values_of_harmless_keys_are_shown() {
        for (text, masked) in [
            ("url = \"https://a/b\"", "url = \"https://a/b\""),
            ("url = \"https://me:pw@a/b?k=v\"", "url = \"https://*****@a/b?***\""),
            ("client_secret = \"abc\"", "client_secret = \"***\""),
            ("client_sceret = 'abc'", "client_sceret = '***'"),
            ("client_secret = abc", "client_secret = ***"),
            ("client_secret = \"abc", "client_secret = \"***"),
            ("client_secret = { env = \"X\" }", "client_secret = { env = \"X\" }"),
            ("client_secret = { dangerous_literal = \"abc\" }", "client_secret = { dangerous_literal = \"***\" }"),
            ("client_id = \"me\" # abc", "client_id = \"me\"      "),
            ("a.b.client_secret = \"abc\"", "a.b.client_secret = \"***\""),
            ("scope = [\n\"a\",\n\"b\"]\nx = \"abc\"", "scope = [\n\"a\",\n\"b\"]\nx = \"***\""),
            ("scope = [\nclient_secret = \"abc\"", "scope = [\nclient_secret = \"***\""),
            ("label = \"\"\"\nabc\"\"\"", "label = \"\"\"\n***\"\"\""),
            ("[named_credentials.a]\nurl = \"x\"", "[named_credentials.a]\nurl = \"x\""),
            ("client_secret =\nabc", "client_secret =\n***"),
            ("scope = [\npassword =\nabc", "scope = [\npassword =\n***"),
            ("username = \"abc\"", "username = \"***\""),
            ("issuer = \"https://a/b\"", "issuer = \"https://a/b\""),
            ("x = { formula = \"abc\" }", "x = { formula = \"***\" }"),
            ("client_secret = abc=def", "client_secret = ***=***"),
            ("client_secret =\nabc=def", "client_secret =\n***=***"),
            ("x = \"é€𝄞\"", "x = \"·•𝟶\""),
            ("\"client_id\" = \"abc\"", "\"*********\" = \"***\""),
            ("headers = [{ name = \"a\", value = \"abc\" }]", "headers = [{ name = \"a\", value = \"***\" }]"),
        ] {
            assert_eq!(mask(text), masked);
        }
    }

    proptest! {
        #[test]
        fn bytes_and_lines_stay_where_they_are(text in "[a-c=\"'#\\[\\]{},.\n é€\\\\]{0,60}") {
            let masked = mask(&text);
            prop_assert_eq!(masked.len(), text.len());
            prop_assert_eq!(masked.lines().count(), text.lines().count());
        }
    }
}
