//! What one successful call of the token endpoint brought. A refresh token is not among it: it stays with `refresh`,
//! and where the grant is another there is no use for one (RFC 6749 4.4.3), so it is never kept.

use std::fmt;

use super::lifetime::Lifetime;
use super::members::Members;
use crate::secret::Secret;

/// A token as it came from the endpoint, judged and bounded.
pub struct Minted {
    pub(super) value: Secret,
    pub(super) token_type: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) asked_scope: Option<String>,
    pub(super) lifetime: Lifetime,
    pub(super) members: Members,
}

impl Minted {
    /// The access token.
    #[must_use]
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// `token_type` as the endpoint wrote it; it never reaches an upstream.
    #[must_use]
    pub fn token_type(&self) -> Option<&str> {
        self.token_type.as_deref()
    }

    /// The scope granted, where the endpoint said so.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// How long it counts as good.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// What the endpoint said beside it, where a named credential asks for that.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// What was asked for and not granted. Empty where the endpoint named no scope: then it is what was asked for
    /// (RFC 6749 5.1).
    #[must_use]
    pub fn missing_scopes(&self) -> Vec<&str> {
        let (Some(asked), Some(granted)) = (&self.asked_scope, &self.scope) else {
            return Vec::new();
        };
        let granted: Vec<&str> = granted.split_ascii_whitespace().collect();
        asked.split_ascii_whitespace().filter(|scope| !granted.contains(scope)).collect()
    }
}

impl fmt::Debug for Minted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Minted").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Minted {
    /// A token of one hour, for the tests of other rooms.
    pub(crate) fn sample(value: &str, token_type: Option<&str>, scope: Option<&str>) -> Self {
        Self {
            value: Secret::new(value.to_owned()),
            token_type: token_type.map(str::to_owned),
            scope: scope.map(str::to_owned),
            asked_scope: None,
            lifetime: Lifetime {
                span: std::time::Duration::from_secs(3600),
                origin: super::lifetime::Origin::Endpoint,
            },
            members: Members::default(),
        }
    }

    pub(crate) fn set_asked_scope(&mut self, scope: &str) {
        self.asked_scope = Some(scope.to_owned());
    }
}
