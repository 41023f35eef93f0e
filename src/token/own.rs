//! Tokens that no server is asked for: a JWT that we sign ourselves, user name and password (RFC 7617), a fixed token.
//!
//! They live in cells like all others, so that readers, rejections and metrics need not know them apart. A fixed one
//! that is rejected comes again as the same token, which the cell answers as it does for a server that repeats itself.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::assertion::{About, Assertion, Purpose};
use super::backoff::Pace;
use super::failure::{MintError, MintFailureKind};
use super::lifetime::{Lifetime, Origin};
use super::members::Members;
use super::minted::Minted;
use super::source::{Kind, Mint, Source};
use super::{Flow, PrincipalSettings, Settings};
use crate::formula::{Activation, PrincipalView};
use crate::secret::Secret;

/// Bound on making a token. Nothing is waited for; signing with a large key takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the principal's tokens are made; none where the flow asks a token endpoint, or has no token.
pub(super) fn source(settings: &Settings, principal: &PrincipalSettings) -> Option<Source> {
    let (mint, kind): (Box<dyn Mint>, Kind) = match &settings.flow {
        Flow::SignedJwt(assertion) => (Box::new(Arc::new(SignedJwt::new(assertion, principal))), Kind::Minted),
        Flow::Basic => (Box::new(Fixed(basic(principal))), Kind::Fixed),
        Flow::Static => (Box::new(Fixed(fixed(principal))), Kind::Fixed),
        Flow::Request(_) | Flow::None => return None,
    };
    Some(Source {
        external_credential: settings.name.clone(),
        principal: principal.name.clone(),
        mint,
        kind,
        lifetime: settings.lifetime.clone(),
        patience: PATIENCE,
    })
}

/// A mint that never succeeds, for what can go wrong before there is anything to ask with.
pub(super) fn failing(cause: &'static str) -> Box<dyn Mint> {
    Box::new(Fixed(Err(cause)))
}

/// The flow `signed_jwt`.
struct SignedJwt {
    assertion: Assertion,
    principal: PrincipalSettings,
}

impl SignedJwt {
    fn new(assertion: &Assertion, principal: &PrincipalSettings) -> Self {
        Self { assertion: assertion.clone(), principal: principal.clone() }
    }

    fn sign(&self) -> Result<Minted, MintError> {
        let principal = &self.principal;
        let view = PrincipalView {
            name: &principal.name,
            client_id: &principal.client_id,
            username: principal.username.as_deref(),
        };
        let about = About {
            client_id: &principal.client_id,
            client_secret: principal.client_secret.as_ref(),
            // No server is asked, so there is none that could be meant.
            audience: "",
            activation: Activation { principal: Some(view), secrets: &principal.secrets, ..Activation::default() },
        };
        let value = self.assertion.sign(Purpose::Bearer, &about).map_err(|error| {
            MintError::new(MintFailureKind::Unavailable, Pace::Permanent, "the token cannot be signed")
                .with_detail(error.to_string())
        })?;
        Ok(minted(value, Lifetime { span: self.assertion.lifetime, origin: Origin::Endpoint }))
    }
}

impl Mint for Arc<SignedJwt> {
    fn mint(&self) -> BoxFuture<'static, Result<Minted, MintError>> {
        let own = Self::clone(self);
        // RSA takes long enough to be in the way of the other minters.
        let signing = tokio::task::spawn_blocking(move || own.sign());
        async move { signing.await.unwrap_or_else(|_| Err(misconfigured("signing failed"))) }.boxed()
    }
}

/// The flows `basic` and `static`: the token, or what is wrong with it.
struct Fixed(Result<Secret, &'static str>);

impl Mint for Fixed {
    fn mint(&self) -> BoxFuture<'static, Result<Minted, MintError>> {
        let minted = match &self.0 {
            Ok(value) => Ok(minted(value.clone(), Lifetime::ENDLESS)),
            Err(problem) => Err(misconfigured(problem)),
        };
        ready(minted).boxed()
    }
}

/// RFC 7617 2: the user name holds no colon. Both are sent as UTF-8, which is what servers that say anything say.
fn basic(principal: &PrincipalSettings) -> Result<Secret, &'static str> {
    let username = principal.username.as_deref().ok_or("there is no user name")?;
    if username.contains(':') {
        return Err("the user name holds a colon");
    }
    let password = principal.password.as_ref().map_or("", Secret::expose);
    Ok(Secret::new(STANDARD.encode(format!("{username}:{password}"))))
}

/// What is sent is a part of a field value.
fn fixed(principal: &PrincipalSettings) -> Result<Secret, &'static str> {
    let token = principal.token.as_ref().ok_or("there is no token")?;
    match token.expose() {
        "" => Err("the token is empty"),
        text if text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => Ok(token.clone()),
        _ => Err("the token holds bytes that cannot be in a header"),
    }
}

fn minted(value: Secret, lifetime: Lifetime) -> Minted {
    Minted { value, token_type: None, scope: None, asked_scope: None, lifetime, members: Members::default() }
}

fn misconfigured(problem: &str) -> MintError {
    MintError::new(MintFailureKind::Refused, Pace::Permanent, format!("misconfigured: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::{basic, fixed};
    use crate::secret::Secret;
    use crate::token::PrincipalSettings;

    fn principal(username: Option<&str>, password: Option<&str>, token: Option<&str>) -> PrincipalSettings {
        let secret = |text: &str| Secret::new(text.to_owned());
        PrincipalSettings {
            username: username.map(str::to_owned),
            password: password.map(secret),
            token: token.map(secret),
            ..PrincipalSettings::sample("default")
        }
    }

    /// RFC 7617 2 and 2.1: its two examples.
    #[test]
    fn basic_credentials_are_those_of_the_rfc() {
        for (username, password, expected) in [
            (Some("Aladdin"), Some("open sesame"), Ok("QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
            (Some("test"), Some("123\u{a3}"), Ok("dGVzdDoxMjPCow==")),
            (Some("key"), None, Ok("a2V5Og==")),
            (Some("a:b"), Some("c"), Err("the user name holds a colon")),
            (None, Some("c"), Err("there is no user name")),
        ] {
            let made = basic(&principal(username, password, None));
            assert_eq!(made.as_ref().map(Secret::expose).map_err(|error| *error), expected);
        }
    }

    #[test]
    fn a_fixed_token_is_sent_as_it_is_or_not_at_all() {
        for (token, expected) in [
            (Some("abc.def"), Ok("abc.def")),
            (Some("token=\"a b\""), Ok("token=\"a b\"")),
            (Some(""), Err("the token is empty")),
            (Some("a\nb"), Err("the token holds bytes that cannot be in a header")),
            (Some("\u{e9}"), Err("the token holds bytes that cannot be in a header")),
            (None, Err("there is no token")),
        ] {
            let made = fixed(&principal(None, None, token));
            assert_eq!(made.as_ref().map(Secret::expose).map_err(|error| *error), expected);
        }
    }
}
