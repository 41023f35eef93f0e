//! Which token requests are equal: SHA-256 over everything that reaches the token endpoint, the secret included.
//!
//! Left out is what does not reach it: names, lifetime rules, time-outs, how the token is attached. Digests stay in
//! memory and are never shown: that of a weak secret could be guessed.

use aws_lc_rs::digest::{self, Context};

use super::{BasicEncoding, ClientAuthentication, PrincipalSettings, Settings};
use crate::secret::Secret;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// The key of a token cell.
pub(super) fn token_request(settings: &Settings, principal: &PrincipalSettings) -> Digest {
    let mut fields = Fields::new("token request");
    fields.text(&settings.endpoint.url.to_string());
    fields.bytes(settings.endpoint.tls.fingerprint());
    fields.text(match settings.client_authentication {
        ClientAuthentication::ClientSecretBasic(BasicEncoding::Form) => "basic, form",
        ClientAuthentication::ClientSecretBasic(BasicEncoding::Raw) => "basic, raw",
        ClientAuthentication::ClientSecretPost => "post",
    });
    fields.text(&principal.client_id);
    fields.text(principal.client_secret.expose());
    fields.text(settings.scope.as_deref().unwrap_or(""));
    fields.list(settings.audience.iter().map(String::as_str));
    fields.list(settings.resource.iter().map(String::as_str));
    let pair = |(name, value): &'_ (String, Secret)| [name.clone(), value.expose().to_owned()];
    for pairs in [&settings.parameters.body, &settings.parameters.query] {
        let pairs: Vec<String> = pairs.iter().flat_map(pair).collect();
        fields.list(pairs.iter().map(String::as_str));
    }
    fields.list(settings.parameters.headers.iter().flat_map(|(name, value)| [name.as_str(), value.expose()]));
    fields.finish()
}

/// The key of a client's back-off.
pub(super) fn client(settings: &Settings, principal: &PrincipalSettings) -> Digest {
    let mut fields = Fields::new("client");
    fields.text(&settings.endpoint.url.to_string());
    fields.text(&principal.client_id);
    fields.finish()
}

/// Tells a changed secret from an unchanged one.
pub(super) fn secret(principal: &PrincipalSettings) -> Digest {
    let mut fields = Fields::new("secret");
    fields.text(principal.client_secret.expose());
    fields.finish()
}

/// Fields with their lengths, so that no two different sequences run together to the same bytes.
struct Fields(Context);

impl Fields {
    fn new(purpose: &str) -> Self {
        let mut fields = Self(Context::new(&digest::SHA256));
        fields.text(purpose);
        fields
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&bytes.len().to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        let mut count = 0_usize;
        for text in texts {
            self.text(text);
            count += 1;
        }
        self.0.update(&count.to_be_bytes());
    }

    fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        bytes
    }
}
