//! An external credential as the data plane sees it: which principal, which cell, how the token is attached, what goes
//! with it, and which answers are rejections.
//!
//! What only a token request needs stays with the minters. A principal's named `secrets` are here: they exist for
//! formulas alone, and header formulas of this and of every named credential that uses it are evaluated by the workers.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};

use super::access_token::Token;
use super::cell::Cell;
use super::varying::{CellUnavailable, Varying};
use super::{HeaderValueSource, Inject, PrincipalSettings, RejectionRules, Settings};
use crate::formula::{Activation, PrincipalView};
use crate::name::Name;
use crate::secret::Secret;

/// How to authenticate, without anything secret but the live tokens and what formulas put into fields.
pub struct ExternalCredential {
    name: Name,
    inject_header: HeaderName,
    headers: Vec<(HeaderName, HeaderValueSource)>,
    rejection: RejectionRules,
    principals: Vec<Principal>,
}

impl ExternalCredential {
    /// `tokens` are those of the settings' principals, in their order.
    pub(super) fn new(settings: &Settings, tokens: Vec<Tokens>) -> Self {
        let principals = settings.principals.iter().zip(tokens);
        Self {
            name: settings.name.clone(),
            inject_header: settings.inject.header.clone(),
            headers: settings.headers.clone(),
            rejection: settings.rejection.clone(),
            principals: principals
                .map(|(principal, tokens)| Principal::new(principal, &settings.inject, tokens))
                .collect(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The field that carries the token.
    #[must_use]
    pub fn inject_header(&self) -> &HeaderName {
        &self.inject_header
    }

    /// Further fields that go with the token, in order; each replaces a field of the same name.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValueSource)] {
        &self.headers
    }

    /// Which answers say that the token is no longer good.
    #[must_use]
    pub fn rejection(&self) -> &RejectionRules {
        &self.rejection
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
    client_id: String,
    username: Option<String>,
    secrets: Vec<(String, Secret)>,
    callers: Option<Vec<Name>>,
    tokens: Tokens,
    scheme: Option<String>,
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
    fn new(settings: &PrincipalSettings, inject: &Inject, tokens: Tokens) -> Self {
        // The configuration refuses other bytes; filtered here as well, so that no field value can fail to be made.
        let graphic = |scheme: &String| scheme.chars().filter(char::is_ascii_graphic).collect::<String>();
        Self {
            name: settings.name.clone(),
            client_id: settings.client_id.clone(),
            username: settings.username.clone(),
            secrets: settings.secrets.clone(),
            callers: settings.callers.clone(),
            tokens,
            scheme: inject.scheme.as_ref().map(graphic).filter(|scheme| !scheme.is_empty()),
            prepared: ArcSwapOption::empty(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The scheme before its tokens.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// What formulas see of it.
    #[must_use]
    pub fn view(&self) -> PrincipalView<'_> {
        PrincipalView { name: &self.name, client_id: &self.client_id, username: self.username.as_deref() }
    }

    /// Its named secrets, for formulas.
    #[must_use]
    pub fn secrets(&self) -> &[(String, Secret)] {
        &self.secrets
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
        let made = match &self.scheme {
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
        self.callers.as_ref().is_none_or(|admitted| admitted.iter().any(|name| callers.contains(name)))
    }
}

impl std::fmt::Debug for ExternalCredential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ExternalCredential").field("name", &self.name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Principal").field("name", &self.name).finish_non_exhaustive()
    }
}
