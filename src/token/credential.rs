//! An external credential as the data plane sees it: which principal, which cell, how the token is attached, and which
//! answers are rejections. Client ids and secrets stay with the minters.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue, StatusCode};

use super::access_token::Token;
use super::cell::Cell;
use super::{Inject, PrincipalSettings, Settings};
use crate::name::Name;

/// How to authenticate, without anything secret but the live tokens.
pub struct ExternalCredential {
    name: Name,
    inject_header: HeaderName,
    additional_refresh_status_codes: Vec<StatusCode>,
    principals: Vec<Principal>,
}

impl ExternalCredential {
    /// `cells` are those of the settings' principals, in their order.
    pub(super) fn new(settings: &Settings, cells: Vec<Arc<Cell>>) -> Self {
        let principals = settings.principals.iter().zip(cells);
        Self {
            name: settings.name.clone(),
            inject_header: settings.inject.header.clone(),
            additional_refresh_status_codes: settings.additional_refresh_status_codes.clone(),
            principals: principals.map(|(principal, cell)| Principal::new(principal, &settings.inject, cell)).collect(),
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

    /// Whether an answer of this status says that the token is no longer good: 401 and the listed codes.
    #[must_use]
    pub fn is_rejection(&self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED || self.additional_refresh_status_codes.contains(&status)
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
    callers: Option<Vec<Name>>,
    cell: Arc<Cell>,
    scheme: Option<String>,
    /// The field value of the token attached last: made once per token, then cloned.
    prepared: ArcSwapOption<Prepared>,
}

struct Prepared {
    token: u64,
    value: HeaderValue,
}

impl Principal {
    fn new(settings: &PrincipalSettings, inject: &Inject, cell: Arc<Cell>) -> Self {
        // The configuration refuses other bytes; filtered here as well, so that no field value can fail to be made.
        let graphic = |scheme: &String| scheme.chars().filter(char::is_ascii_graphic).collect::<String>();
        Self {
            name: settings.name.clone(),
            callers: settings.callers.clone(),
            cell,
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

    /// Where its tokens are.
    #[must_use]
    pub fn cell(&self) -> &Arc<Cell> {
        &self.cell
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
