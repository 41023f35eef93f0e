//! What is asked for a token: `grant_type` and the parameters that go with it. RFC 6749 4.3, 4.4 and 6, RFC 7523 2.1,
//! RFC 8693 2.1.
//!
//! Tokens and assertions that others write are read anew each time: they are rotated while we run.

use super::assertion::{About, Purpose};
use super::backoff::Pace;
use super::failure::{MintError, MintFailureKind, told};
use super::settings::{Grant, GrantKind, PrincipalSettings, TokenExchange};
use super::wire::Form;
use crate::secret::{Secret, SecretSource};

/// Fills `form`, which the `oauth2` crate made for client credentials, for the grant. `refresh_token` is the current
/// one, where that is the grant.
///
/// # Errors
/// [`MintError`] when an assertion cannot be made or a token cannot be read.
pub(super) async fn fill(
    form: &mut Form,
    grant: &Grant,
    principal: &PrincipalSettings,
    about: &About<'_>,
    refresh_token: Option<&Secret>,
) -> Result<(), MintError> {
    match grant.grant_type.as_deref().unwrap_or_else(|| grant_type(&grant.kind)) {
        "" => form.remove("grant_type"),
        name => form.put_text("grant_type", name),
    }
    match &grant.kind {
        GrantKind::ClientCredentials => {}
        GrantKind::JwtBearer(source) => {
            let assertion = source.obtain(Purpose::Grant, about).await;
            form.put("assertion", assertion.map_err(|error| no_assertion(&error))?);
        }
        GrantKind::Password => {
            form.put_text("username", principal.username.as_deref().unwrap_or_default());
            if let Some(password) = &principal.password {
                form.put("password", password.clone());
            }
        }
        GrantKind::RefreshToken { .. } => {
            if let Some(token) = refresh_token {
                form.put("refresh_token", token.clone());
            }
        }
        GrantKind::TokenExchange(exchange) => fill_exchange(form, exchange).await?,
    }
    Ok(())
}

fn grant_type(kind: &GrantKind) -> &'static str {
    match kind {
        GrantKind::ClientCredentials => "client_credentials",
        GrantKind::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
        GrantKind::Password => "password",
        GrantKind::RefreshToken { .. } => "refresh_token",
        GrantKind::TokenExchange(_) => "urn:ietf:params:oauth:grant-type:token-exchange",
    }
}

async fn fill_exchange(form: &mut Form, exchange: &TokenExchange) -> Result<(), MintError> {
    form.put("subject_token", read(&exchange.subject_token, "the subject token cannot be read").await?);
    form.put_text("subject_token_type", &exchange.subject_token_type);
    if let Some((source, token_type)) = &exchange.actor_token {
        form.put("actor_token", read(source, "the actor token cannot be read").await?);
        form.put_text("actor_token_type", token_type);
    }
    if let Some(token_type) = &exchange.requested_token_type {
        form.put_text("requested_token_type", token_type);
    }
    Ok(())
}

/// Follows a reference off the runtime: files and commands block.
async fn read(source: &SecretSource, failed: &'static str) -> Result<Secret, MintError> {
    let source = source.clone();
    let read = tokio::task::spawn_blocking(move || source.read().map_err(|error| told(&error))).await;
    let unreadable = |told: String| {
        // Somebody else writes it, so that it may be there at the next try.
        MintError::new(MintFailureKind::Unavailable, Pace::Transient, failed).with_detail(told)
    };
    match read {
        Ok(read) => read.map_err(unreadable),
        Err(_) => Err(unreadable("reading it was cut short".to_owned())),
    }
}

/// An assertion that cannot be had. Its text says what is wrong and names no key and no claim's value.
pub(super) fn no_assertion(error: &impl std::fmt::Display) -> MintError {
    MintError::new(MintFailureKind::Unavailable, Pace::Transient, "the assertion cannot be made")
        .with_detail(error.to_string())
}
