//! What a token endpoint answered, read for the rules: code, words, fields, and what kind of answer it is.

use serde_json::Value;

use super::Mint;
use crate::token::{
    AssertionSource, BasicEncoding, ClientAuthentication, Flow, GrantKind, Received, RequestSettings, Sighting, Text,
    USUAL_DESCRIPTIONS,
};

/// A failed mint, read.
pub(super) struct Heard<'a> {
    pub(super) mint: &'a Mint<'a>,
    /// Status of the last answer; none: there was none.
    pub(super) status: Option<u16>,
    /// The error code; empty where none was found.
    pub(super) code: String,
    /// The server's own sentence; empty where there is none.
    pub(super) words: String,
    /// The body, where it is JSON.
    pub(super) document: Option<Value>,
    last: Option<&'a Sighting>,
    /// Code and words in lower case, to be searched.
    said: String,
}

impl<'a> Heard<'a> {
    pub(super) fn new(mint: &'a Mint<'a>) -> Self {
        let last = mint.sightings.last();
        let answer = last.and_then(|sighting| sighting.received.as_ref().ok());
        let document = answer.and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok());
        let error = mint.error;
        // The masked body may have been cut; then what the mint understood of it is what there is.
        let (code, words) = match (&document, answer) {
            (Some(document), _) => (code(mint, document), sentence(document)),
            (None, Some(answer)) => (parameter(answer, "error"), parameter(answer, "error_description")),
            (None, None) => (None, None),
        };
        // Beside an answer that was read, what the mint adds is our own words, and no rule may take them for the
        // server's.
        let unread = answer.is_none_or(|answer| answer.body.ends_with('…'));
        let cause = Some(error.cause()).filter(|cause| unread && last.is_some() && !cause.contains(' '));
        let code = code.or_else(|| cause.map(str::to_owned)).unwrap_or_default();
        let words = words.or_else(|| error.detail().filter(|_| unread).map(str::to_owned)).unwrap_or_default();
        let said = format!("{code} {words}").to_lowercase();
        Self { mint, status: answer.map(|answer| answer.status), code, words, document, last, said }
    }

    pub(super) fn answer(&self) -> Option<&'a Received> {
        self.last.and_then(|sighting| sighting.received.as_ref().ok())
    }

    /// The settings of the token request; none for flows without one.
    pub(super) fn request(&self) -> Option<&'a RequestSettings> {
        self.mint.settings.request()
    }

    pub(super) fn authentication(&self) -> Option<&'a ClientAuthentication> {
        self.request().and_then(|request| request.client_authentication.as_ref())
    }

    /// Its code is one of these.
    pub(super) fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }

    /// Code or words contain one of these, which are lower case.
    pub(super) fn says(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.said.contains(part))
    }

    /// The value of a field of the answer.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        field(self.answer()?, name)
    }

    /// Whether the answer is a web page.
    pub(super) fn is_page(&self) -> bool {
        self.answer().is_some_and(is_page)
    }

    /// The table to change.
    pub(super) fn table(&self) -> String {
        format!("[external_credentials.{}]", self.mint.settings.name)
    }

    /// A key of the principal, and where it stands.
    pub(super) fn principal_key(&self, key: &str) -> String {
        let name = &self.mint.principal.name;
        if name.as_str() == "default" && self.mint.settings.principals.len() == 1 {
            return format!("{key} in {}", self.table());
        }
        format!("{key} of the principal \"{name}\" in {}", self.table())
    }

    /// Whether the token endpoint was discovered.
    pub(super) fn is_discovered(&self) -> bool {
        self.request().is_some_and(|request| request.endpoint.url.is_none())
    }

    /// Whether anything of the request was signed by us, so that clocks matter.
    pub(super) fn is_signed(&self) -> bool {
        let client = self.authentication().is_some_and(|authentication| {
            matches!(
                authentication,
                ClientAuthentication::ClientSecretJwt(_)
                    | ClientAuthentication::PrivateKeyJwt(AssertionSource::Signed(_))
                    | ClientAuthentication::BearerJwt(_)
            )
        });
        let grant = self.request().is_some_and(|request| {
            request.dpop || matches!(request.grant.kind, GrantKind::JwtBearer(AssertionSource::Signed(_)))
        });
        client || grant || matches!(self.mint.settings.flow, Flow::SignedJwt(_))
    }

    /// The configured scope, as text where it is one.
    pub(super) fn scope(&self) -> Option<&'a str> {
        match self.request()?.scope.as_ref()? {
            Text::Literal(text) => Some(text),
            Text::Formula(formula) => Some(formula.source()),
        }
    }

    /// How Basic credentials were encoded, where they were sent.
    pub(super) fn basic_encoding(&self) -> Option<BasicEncoding> {
        if let Some(configured) = self.authentication() {
            return if let ClientAuthentication::ClientSecretBasic(encoding) = configured {
                Some(*encoding)
            } else {
                None
            };
        }
        // Chosen by the issuer's metadata.
        let sent = self.last?.sent.headers.iter().find(|(name, _)| name == "authorization")?;
        sent.1.starts_with("Basic ").then_some(BasicEncoding::Form)
    }

    /// What was sent, as a sentence.
    pub(super) fn sent(&self) -> String {
        let Some(Sighting { sent, .. }) = self.last else { return "Nothing was sent.".to_owned() };
        let shown = |name: &str| name == "authorization" || name == "dpop";
        let mut parts: Vec<String> = Vec::new();
        for (name, value) in sent.headers.iter().filter(|(name, _)| shown(name)) {
            parts.push(if name == "dpop" { "a DPoP proof".to_owned() } else { format!("Authorization: {value}") });
        }
        parts.extend(sent.body.lines().map(|line| cut(line, 400)));
        let with = if parts.is_empty() { String::new() } else { format!(" with {}", parts.join(", ")) };
        format!("Sent: {} {}{with}.", sent.method, sent.url)
    }

    /// What came back, as a sentence.
    pub(super) fn received(&self) -> String {
        let Some(answer) = self.answer() else {
            return match self.last.map(|sighting| &sighting.received) {
                Some(Err(causes)) => format!("No answer came back: {causes}."),
                Some(Ok(_)) | None => format!("The mint ended with: {}.", self.mint.error),
            };
        };
        let status = answer.status;
        if let (300..=399, Some(to)) = (status, self.field("location")) {
            return format!("Received: {status}, a redirect to {}.", to.split('?').next().unwrap_or_default());
        }
        if is_page(answer) {
            let title = title(&answer.body).map(|title| format!(" titled \"{title}\"")).unwrap_or_default();
            return format!("Received: {status} with a web page{title}.");
        }
        let code = if self.code.is_empty() { String::new() } else { format!(" {}", self.code) };
        let body = cut(answer.body.trim(), 200).replace('\n', ", ");
        match (self.words.is_empty(), body.is_empty()) {
            (false, _) => format!("Received: {status}{code}, \"{}\".", cut(self.words.trim_end_matches('.'), 300)),
            (true, false) if code.is_empty() => format!("Received: {status} with {body}."),
            (true, false) => format!("Received: {status}{code}."),
            (true, true) => format!("Received: {status} with an empty body."),
        }
    }
}

/// The value of a field.
pub(super) fn field<'r>(answer: &'r Received, name: &str) -> Option<&'r str> {
    answer.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether it is a web page.
pub(super) fn is_page(answer: &Received) -> bool {
    let declared = field(answer, "content-type").is_some_and(|media| media.to_ascii_lowercase().contains("html"));
    let start = answer.body.trim_start().to_ascii_lowercase();
    declared || start.starts_with("<!doctype html") || start.starts_with("<html")
}

/// The title of a web page.
pub(super) fn title(page: &str) -> Option<String> {
    let (_, rest) = page.split_once("<title>").or_else(|| page.split_once("<TITLE>"))?;
    let title = rest.split('<').next()?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then(|| cut(&title, 80))
}

/// A sentence for people in one of the usual places.
pub(super) fn sentence(document: &Value) -> Option<String> {
    let found = USUAL_DESCRIPTIONS.iter().find_map(|pointer| document.pointer(pointer)?.as_str());
    found.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// At most so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most).collect();
    format!("{kept}…")
}

fn code(mint: &Mint<'_>, document: &Value) -> Option<String> {
    let configured = mint.settings.request().map(|request| request.response.error.as_slice()).unwrap_or_default();
    let usual = ["/error", "/errorCode", "/errors/0/code", "/error/status", "/error/code"];
    configured.iter().map(String::as_str).chain(usual).find_map(|pointer| document.pointer(pointer)?.as_str()).map(
        |code| {
            // Some servers put the sentence where the code belongs.
            code.trim().to_owned()
        },
    )
}

/// A parameter of an answer that is a form; the masking wrote one on each line.
fn parameter(answer: &Received, name: &str) -> Option<String> {
    answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}
