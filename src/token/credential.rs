//! An external credential as the data plane sees it: which principal, which cell, how the token is attached, what goes
//! with it, and which answers are rejections.
//!
//! The settings are those that the minters have; what only a token request needs cannot be asked for here. A principal's
//! named `secrets` can: they exist for formulas alone, and header formulas of this and of every named credential that
//! uses it are evaluated by the workers.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};

use super::access_token::Token;
use super::cell::Cell;
use super::varying::{CellUnavailable, Varying};
use super::{HeaderValueSource, PrincipalSettings, RejectionRules, Settings};
use crate::formula::{Activation, PrincipalView};
use crate::name::Name;
use crate::secret::Secret;

/// How to authenticate, without anything secret but the live tokens and what formulas put into fields.
pub struct ExternalCredential {
    settings: Arc<Settings>,
    principals: Box<[Principal]>,
}

impl ExternalCredential {
    /// `tokens` are those of the settings' principals, in their order.
    pub(super) fn new(settings: &Arc<Settings>, tokens: impl Iterator<Item = Tokens>) -> Self {
        let principals = tokens.enumerate().filter_map(|(place, tokens)| Principal::new(settings, place, tokens));
        Self { settings: Arc::clone(settings), principals: principals.collect() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.settings.name
    }

    /// The field that carries the token.
    #[must_use]
    pub fn inject_header(&self) -> &HeaderName {
        &self.settings.inject.header
    }

    /// Further fields that go with the token, in order; each replaces a field of the same name.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValueSource)] {
        &self.settings.headers
    }

    /// Which answers say that the token is no longer good.
    #[must_use]
    pub fn rejection(&self) -> &RejectionRules {
        &self.settings.rejection
    }

    /// The first principal, by sequence, that admits a caller of these names.
    #[must_use]
    pub fn principal(&self, callers: &[Name]) -> Option<&Principal> {
        self.principals.iter().find(|principal| principal.admits(callers))
    }

    /// All principals, by sequence.
    #[must_use]
    pub fn principals(&self) -> &[Principal] {
        &self.principals
    }
}

/// One identity under an external credential.
pub struct Principal {
    name: Name,
    settings: Arc<Settings>,
    /// Which of the settings' principals.
    place: usize,
    tokens: Tokens,
    /// The field value of the token attached last: made once per token, then cloned.
    prepared: ArcSwapOption<Prepared>,
}

/// Where the tokens of a principal are.
pub(super) enum Tokens {
    /// The flow has none.
    None,
    /// In one cell.
    Fixed(Arc<Cell>),
    /// In one cell for each outcome of the formulas in scope and audience.
    Varying(Arc<Varying>),
}

struct Prepared {
    token: u64,
    value: HeaderValue,
}

impl Principal {
    fn new(settings: &Arc<Settings>, place: usize, tokens: Tokens) -> Option<Self> {
        let name = settings.principals.get(place)?.name.clone();
        let settings = Arc::clone(settings);
        Some(Self { name, settings, place, tokens, prepared: ArcSwapOption::empty() })
    }

    fn settings(&self) -> Option<&PrincipalSettings> {
        self.settings.principals.get(self.place)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The scheme before its tokens. The configuration refuses other bytes than these; asked here as well, so that no
    /// field value can fail to be made.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        let is_sendable = |scheme: &&str| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_graphic());
        self.settings.inject.scheme.as_deref().filter(is_sendable)
    }

    /// What formulas see of it.
    #[must_use]
    pub fn view(&self) -> PrincipalView<'_> {
        let settings = self.settings();
        PrincipalView {
            name: &self.name,
            client_id: settings.map_or("", |settings| &settings.client_id),
            username: settings.and_then(|settings| settings.username.as_deref()),
        }
    }

    /// Its named secrets, for formulas.
    #[must_use]
    pub fn secrets(&self) -> &[(String, Secret)] {
        self.settings().map_or(&[], |settings| &settings.secrets)
    }

    /// Whether it depends on the exchange which cell is meant.
    #[must_use]
    pub fn varies(&self) -> bool {
        matches!(self.tokens, Tokens::Varying(_))
    }

    /// Whether it depends on a secret which cell is meant.
    #[must_use]
    pub fn varies_with_secrets(&self) -> bool {
        match &self.tokens {
            Tokens::None | Tokens::Fixed(_) => false,
            Tokens::Varying(varying) => varying.uses_secrets(),
        }
    }

    /// Whether there is a token to attach.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        !matches!(self.tokens, Tokens::None)
    }

    /// Where its tokens are, if that is the same for every exchange.
    #[must_use]
    pub fn fixed_cell(&self) -> Option<&Arc<Cell>> {
        match &self.tokens {
            Tokens::Fixed(cell) => Some(cell),
            Tokens::None | Tokens::Varying(_) => None,
        }
    }

    /// Where the tokens for this exchange are; none where the flow has no token. Nothing is evaluated unless scope or
    /// audience have formulas.
    ///
    /// # Errors
    /// [`CellUnavailable`]
    pub fn cell(&self, activation: &Activation<'_>) -> Result<Option<Arc<Cell>>, CellUnavailable> {
        match &self.tokens {
            Tokens::None => Ok(None),
            Tokens::Fixed(cell) => Ok(Some(Arc::clone(cell))),
            Tokens::Varying(varying) => varying.cell(activation).map(Some),
        }
    }

    /// The value of the inject field for `token`, marked sensitive. What is sent is the configured scheme, never the
    /// endpoint's `token_type`.
    #[must_use]
    pub fn attachment(&self, token: &Token) -> HeaderValue {
        if let Some(prepared) = &*self.prepared.load()
            && prepared.token == token.id()
        {
            return prepared.value.clone();
        }
        let made = match self.scheme() {
            Some(scheme) => HeaderValue::try_from(format!("{scheme} {}", token.value().expose())),
            None => HeaderValue::try_from(token.value().expose()),
        };
        // Tokens are checked when they are minted, so the fallback is never sent; an empty one would only be refused.
        let mut value = made.unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        self.prepared.store(Some(Arc::new(Prepared { token: token.id(), value: value.clone() })));
        value
    }

    fn admits(&self, callers: &[Name]) -> bool {
        let among = |admitted: &Vec<Name>| admitted.iter().any(|name| callers.contains(name));
        self.settings().is_some_and(|settings| settings.callers.as_ref().is_none_or(among))
    }
}

impl std::fmt::Debug for ExternalCredential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ExternalCredential").field("name", self.name()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Principal").field("name", &self.name).finish_non_exhaustive()
    }
}
