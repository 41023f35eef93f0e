//! Why something failed, in one paragraph: what was sent, what came back, what that most likely means, and which key
//! to change to what. Pure: from the configuration and what was seen to a text; nothing is asked here.
//!
//! `heard` reads what a token endpoint answered; `endpoint`, `refusal` and `unusable` are the rules over it, in the
//! order in which they are tried. `reach` explains connections that did not come about, `upstream` an API that refuses
//! a fresh token. Everything shown of a request or an answer was masked before it came here.

mod endpoint;
mod heard;
mod metadata;
mod reach;
mod refusal;
#[cfg(test)]
mod tests;
mod unusable;
mod upstream;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use self::heard::Heard;
use crate::token::{ClientAuthentication, Flow, GrantKind, MintError, PrincipalSettings, Settings, Sighting};

pub use self::metadata::metadata;
pub use self::reach::{Target, Unreached, unreached};
pub use self::upstream::{Probed, refused};

/// A clock that is wrong by more than this is worth a word.
pub const NOTABLE_SKEW: Duration = Duration::from_secs(5);

/// A clock that is wrong by more than this makes servers refuse what we sign.
pub const HARMFUL_SKEW: Duration = Duration::from_secs(30);

/// Why something failed, each part one or more whole sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was sent, masked.
    pub sent: String,
    /// What came back, masked.
    pub received: String,
    /// What it most likely means.
    pub meaning: String,
    /// What to change: key and value.
    pub change: String,
}

/// What most likely is the matter, and what to do about it.
struct Finding {
    meaning: String,
    change: String,
}

/// A mint that failed.
#[derive(Clone, Copy, Debug)]
pub struct Mint<'a> {
    /// How it was authenticated.
    pub settings: &'a Settings,
    /// As whom.
    pub principal: &'a PrincipalSettings,
    /// What was seen of it.
    pub sightings: &'a [Sighting],
    /// What came of it.
    pub error: &'a MintError,
    /// The server's clock against ours.
    pub skew: Option<Skew>,
}

/// How far another clock is from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// By how much.
    pub by: Duration,
    /// Which way.
    pub ours: Ours,
}

/// How our clock compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// Ours shows an earlier time.
    Behind,
    /// Ours shows a later time.
    Ahead,
}

impl Diagnosis {
    /// All of it as one paragraph, no line longer than `width` unless a word is.
    #[must_use]
    pub fn paragraph(&self, width: usize) -> String {
        wrapped(&format!("{} {} {} {}", self.sent, self.received, self.meaning, self.change), width)
    }

    /// The same for scripts.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"sent": self.sent, "received": self.received, "meaning": self.meaning, "change": self.change})
    }
}

impl Skew {
    /// What `date`, the `Date` field of an answer that came at `now`, says.
    #[must_use]
    pub fn of(date: &str, now: SystemTime) -> Option<Self> {
        let theirs = httpdate::parse_http_date(date).ok()?;
        Some(match theirs.duration_since(now) {
            Ok(by) => Self { by, ours: Ours::Behind },
            Err(error) => Self { by: error.duration(), ours: Ours::Ahead },
        })
    }

    /// As in `42s behind` or `about 1h ahead of`: whole seconds, and minutes beyond the first.
    #[must_use]
    pub fn told(&self) -> String {
        let seconds = self.by.as_secs();
        let by = match seconds {
            0..60 => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
            60.. => format!("about {}", humantime::format_duration(Duration::from_secs((seconds + 30) / 60 * 60))),
        };
        match self.ours {
            Ours::Behind => format!("{by} behind"),
            Ours::Ahead => format!("{by} ahead of"),
        }
    }

    /// Whether it makes servers refuse what we sign.
    #[must_use]
    pub fn is_harmful(&self) -> bool {
        self.by > HARMFUL_SKEW
    }
}

/// Why a mint failed whose token endpoint, if one was asked, answered.
#[must_use]
pub fn mint(mint: &Mint<'_>) -> Diagnosis {
    let heard = Heard::new(mint);
    let rules = endpoint::RULES.iter().chain(&refusal::RULES).chain(&unusable::RULES);
    let found = rules.filter_map(|rule| rule(&heard)).next().unwrap_or_else(|| anything_else(&heard));
    Diagnosis { sent: heard.sent(), received: heard.received(), meaning: found.meaning, change: found.change }
}

fn anything_else(heard: &Heard<'_>) -> Finding {
    if heard.status.is_none() && heard.mint.sightings.is_empty() {
        return Finding {
            meaning: "It failed before anything was sent.".to_owned(),
            change: format!("Correct what the message names in {}, then run doctor again.", heard.table()),
        };
    }
    Finding {
        meaning: "The server does not say more, and this is none of the usual mistakes.".to_owned(),
        change: format!(
            "Compare the request with the provider's documentation of its token endpoint, above all grant type, \
             client authentication, scope and audience in {}; the provider's own log has the reason.",
            heard.table()
        ),
    }
}

fn finding(meaning: impl Into<String>, change: impl Into<String>) -> Option<Finding> {
    Some(Finding { meaning: meaning.into(), change: change.into() })
}

/// A client authentication as the configuration calls it.
#[must_use]
pub fn authentication_name(authentication: Option<&ClientAuthentication>) -> &'static str {
    match authentication {
        None => "whatever the issuer's metadata allow",
        Some(ClientAuthentication::ClientSecretBasic(_)) => "client_secret_basic",
        Some(ClientAuthentication::ClientSecretPost) => "client_secret_post",
        Some(ClientAuthentication::Query) => "query",
        Some(ClientAuthentication::Json) => "json",
        Some(ClientAuthentication::ClientSecretJwt(_)) => "client_secret_jwt",
        Some(ClientAuthentication::PrivateKeyJwt(_)) => "private_key_jwt",
        Some(ClientAuthentication::TlsClientAuth) => "tls_client_auth",
        Some(ClientAuthentication::BearerJwt(_)) => "bearer_jwt",
        Some(ClientAuthentication::None) => "none",
    }
}

/// A flow as the configuration calls it.
#[must_use]
pub fn flow_name(flow: &Flow) -> &'static str {
    match flow {
        Flow::Request(request) => grant_name(&request.grant.kind),
        Flow::SignedJwt(_) => "signed_jwt",
        Flow::Basic => "basic",
        Flow::Static => "static",
        Flow::None => "none",
    }
}

fn grant_name(grant: &GrantKind) -> &'static str {
    match grant {
        GrantKind::ClientCredentials => "client_credentials",
        GrantKind::JwtBearer(_) => "jwt_bearer",
        GrantKind::Password => "password",
        GrantKind::RefreshToken { .. } => "refresh_token",
        GrantKind::TokenExchange(_) => "token_exchange",
    }
}

/// `text` in lines of `width` characters, broken at spaces.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> String {
    let (mut all, mut used) = (String::new(), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            all.push('\n');
            used = 0;
        } else if used > 0 {
            all.push(' ');
            used += 1;
        }
        all.push_str(word);
        used += length;
    }
    all
}
