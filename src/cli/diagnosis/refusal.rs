//! Refusals of an authorization server, RFC 6749 5.2 and what providers made of it: from code and words to the key
//! that is wrong. The most telling rule comes first; a plain wrong secret is near the end, because servers say
//! `invalid_client` for much else.

use super::heard::Heard;
use super::{Finding, NOTABLE_SKEW, authentication_name, finding, grant_name};
use crate::token::{AssertionSource, BasicEncoding, ClientAuthentication, GrantKind};

/// In the order in which they are tried.
pub(super) const RULES: [fn(&Heard<'_>) -> Option<Finding>; 15] = [
    scope_not_taken,
    clock,
    possession,
    proof,
    authentication,
    grant_type,
    audience,
    scope,
    assertion,
    encoding,
    client_grant,
    client,
    grant,
    denied,
    request,
];

/// Names of client authentications, as servers and our configuration spell them.
const METHODS: [&str; 5] =
    ["private_key_jwt", "client_secret_basic", "client_secret_post", "client_secret_jwt", "tls_client_auth"];

/// Salesforce takes no `scope` with client credentials.
fn scope_not_taken(heard: &Heard<'_>) -> Option<Finding> {
    heard.says(&["scope parameter not supported", "scope is not supported"]).then(|| Finding {
        meaning: "This server takes no scope with this grant; what the client may do is set up at the provider."
            .to_owned(),
        change: format!("Remove scope from {}.", heard.table()),
    })
}

fn clock(heard: &Heard<'_>) -> Option<Finding> {
    let refused = heard.is(&["invalid_client", "invalid_grant", "invalid_dpop_proof", "invalid_request"]);
    let skew = heard.mint.skew.filter(|_| heard.is_signed() && refused);
    let told = skew.filter(|skew| skew.by > NOTABLE_SKEW);
    let about_time = heard.says(&["reasonable timeframe", "iat", "expired", "not yet valid", "in the future", "clock"]);
    let skew = told.filter(|skew| skew.is_harmful() || about_time)?;
    finding(
        format!(
            "The clock of this machine is {} the server's. What we sign carries our time, so the server takes it for \
             expired or not yet valid.",
            skew.told()
        ),
        "Set this machine's clock: start a time service such as chronyd or systemd-timesyncd, or resume the host's. \
         Nothing needs to change in the configuration.",
    )
}

fn possession(heard: &Heard<'_>) -> Option<Finding> {
    let request = heard.request()?;
    let wanted = heard.is(&["use_dpop_nonce", "invalid_dpop_proof"]) || heard.says(&["dpop"]);
    (wanted && !request.dpop).then(|| Finding {
        meaning: "The server gives this client only tokens that are bound to a key (DPoP).".to_owned(),
        change: format!("Write dpop = true in {}.", heard.table()),
    })
}

fn proof(heard: &Heard<'_>) -> Option<Finding> {
    if heard.is(&["use_dpop_nonce"]) {
        return finding(
            "The server asked for a nonce in the DPoP proof, got it, and asks again: several servers behind one \
             name may not share their nonces.",
            "Try again; if it stays, ask the provider.",
        );
    }
    heard.is(&["invalid_dpop_proof"]).then(|| Finding {
        meaning: "The server cannot take our DPoP proof, although the clocks agree: it may expect another URL than \
                  the one we ask, behind a gateway, or not know ES256."
            .to_owned(),
        change: format!(
            "Write the token_endpoint in {} exactly as the issuer's metadata have it, or remove dpop.",
            heard.table()
        ),
    })
}

/// The server names a client authentication, and it is not ours.
fn authentication(heard: &Heard<'_>) -> Option<Finding> {
    let ours = authentication_name(heard.request()?.client_authentication.as_ref());
    let named = METHODS.iter().find(|method| **method != ours && heard.says(&[method]));
    if let Some(wanted) = named {
        let key = match *wanted {
            "private_key_jwt" => {
                ", with signing = { algorithm = \"RS256\", key = { file = \"client.key\" }, key_id = \"…\" }"
            }
            "tls_client_auth" => ", with tls = { certificate = \"client.pem\", key = \"client.key\" }",
            _ => "",
        };
        return finding(
            format!("The server wants this client to prove itself by {wanted}, and we use {ours}."),
            format!(
                "Write client_authentication = \"{wanted}\" in {}{key}; or change the client's setting at the \
                 provider.",
                heard.table()
            ),
        );
    }
    let vague = ["authentication method", "auth method", "authentication is not supported", "no client authentication"];
    heard.says(&vague).then(|| Finding {
        meaning: format!("The server does not take {ours} from this client."),
        change: format!(
            "Look up the client's authentication method at the provider and write it as client_authentication in {}: \
             {}.",
            heard.table(),
            METHODS.join(", ")
        ),
    })
}

fn grant_type(heard: &Heard<'_>) -> Option<Finding> {
    if !heard.is(&["unsupported_grant_type"]) && !heard.says(&["grant type not supported", "unsupported grant"]) {
        return None;
    }
    let request = heard.request()?;
    let ours = request.grant.grant_type.as_deref().unwrap_or_else(|| grant_name(&request.grant.kind));
    finding(
        format!("This endpoint does not know the grant {ours}, or did not find grant_type where it looks for it."),
        format!(
            "Write in {} the flow that the provider documents (client_credentials, jwt_bearer, password, \
             refresh_token, token_exchange), or grant_type = \"…\" if its name on the wire is another. A server that \
             reads only the query: put grant_type into the query of token_endpoint.",
            heard.table()
        ),
    )
}

/// Auth0 and others give a token for an API only to those who say which.
fn audience(heard: &Heard<'_>) -> Option<Finding> {
    let request = heard.request()?;
    let about = heard.says(&["audience", "resource parameter", "resource indicator"]);
    let code = heard.code.is_empty()
        || heard.is(&["access_denied", "invalid_request", "invalid_target", "unauthorized_client", "forbidden"]);
    if !(heard.is(&["invalid_target"]) || (about && code)) {
        return None;
    }
    if request.audience.is_empty() && request.resource.is_empty() {
        let key = if heard.says(&["resource"]) && !heard.says(&["audience"]) { "resource" } else { "audience" };
        return finding(
            "The server does not know which API the token is for.",
            format!(
                "Write {key} = \"…\" in {}: the identifier of the API as the provider lists it, often its URL, to \
                 the letter.",
                heard.table()
            ),
        );
    }
    finding(
        "The server does not know the API that audience or resource names, or this client may not call it.",
        format!(
            "Compare audience or resource in {} letter by letter, trailing slash included, with the API's identifier \
             at the provider, and allow the client to use that API.",
            heard.table()
        ),
    )
}

fn scope(heard: &Heard<'_>) -> Option<Finding> {
    let about = heard.is(&["invalid_request", "unauthorized_client", "invalid_client", ""]) && heard.says(&["scope"]);
    if !heard.is(&["invalid_scope"]) && !about {
        return None;
    }
    let Some(asked) = heard.scope() else {
        return finding(
            "The server wants a scope, and none was asked for.",
            format!("Write scope = \"…\" in {}, as the API's documentation names it.", heard.table()),
        );
    };
    let entra = heard.says(&["aadsts", ".default"]);
    let hint = if entra { " With Entra it is the API's identifier and \"/.default\"." } else { "" };
    finding(
        format!("The server does not know the scope \"{asked}\", or does not grant it to this client."),
        format!(
            "Correct scope in {}, or remove it to get the client's default; or grant it to the client at the \
             provider.{hint}",
            heard.table()
        ),
    )
}

/// What we signed was not believed, and it is not the clock.
fn assertion(heard: &Heard<'_>) -> Option<Finding> {
    let request = heard.request()?;
    let granted = matches!(request.grant.kind, GrantKind::JwtBearer(_));
    let proven = matches!(
        request.client_authentication,
        Some(
            ClientAuthentication::PrivateKeyJwt(_)
                | ClientAuthentication::ClientSecretJwt(_)
                | ClientAuthentication::BearerJwt(_)
        )
    );
    let refused = (granted && heard.is(&["invalid_grant", "invalid_request"])) || (proven && heard.is_about_client());
    if !refused {
        return None;
    }
    let file = matches!(
        (&request.grant.kind, &request.client_authentication),
        (GrantKind::JwtBearer(AssertionSource::File(_)), _)
            | (_, Some(ClientAuthentication::PrivateKeyJwt(AssertionSource::File(_))))
    );
    if file {
        return finding(
            "The server does not accept the assertion in the file: it may have expired, or iss, sub or aud are not \
             those that the server was told to trust.",
            format!(
                "Compare the claims that were sent with the provider's trust settings for this client, and see that \
                 whoever writes the file of assertion.file in {} still does.",
                heard.table()
            ),
        );
    }
    if heard.says(&["signature", "key"]) {
        return finding(
            "The server cannot verify the signature: it knows another public key for this client, or looks for \
             another key id.",
            format!(
                "Register the public key of signing.key at the provider, and write its id there as signing.key_id in \
                 {}.",
                heard.table()
            ),
        );
    }
    finding(
        "The server does not accept what we signed: most often aud is not what it expects, iss or sub are not the \
         client or user it knows, or the public key was not registered.",
        format!(
            "Compare the claims that were sent with the provider's documentation; then write assertion = {{ audience = \
             \"…\", issuer = \"…\", subject = \"…\" }} or signing.key_id in {}.",
            heard.table()
        ),
    )
}

/// Servers disagree on what Basic credentials are before base64.
fn encoding(heard: &Heard<'_>) -> Option<Finding> {
    let principal = heard.mint.principal;
    let secret = principal.client_secret.as_ref()?;
    let special = |text: &str| !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte));
    let encoding = heard.basic_encoding()?;
    if !heard.is_about_client() || !(special(secret.expose()) || special(&principal.client_id)) {
        return None;
    }
    let (ours, other) = match encoding {
        BasicEncoding::Form => ("form-encoded, as RFC 6749 says", "raw"),
        BasicEncoding::Percent => ("percent-encoded", "raw"),
        BasicEncoding::Raw => ("sent as they are", "form"),
    };
    let which = if special(secret.expose()) { "The client secret" } else { "The client id" };
    finding(
        format!(
            "{which} holds characters that servers read in different ways in Basic credentials; ours are {ours}. \
             The server may have read another secret than you meant. Or the secret is simply wrong."
        ),
        format!(
            "Write basic_encoding = \"{other}\" in {}, or avoid the question with client_authentication = \
             \"client_secret_post\". If neither helps, check {}.",
            heard.table(),
            heard.principal_key("client_secret")
        ),
    )
}

/// The client is who it says, and may not do this.
fn client_grant(heard: &Heard<'_>) -> Option<Finding> {
    let request = heard.request()?;
    let about_grant = heard.says(&["grant", "flow", "not allowed", "not authorized", "disabled", "not enabled"]);
    (heard.is(&["unauthorized_client"]) && about_grant).then(|| Finding {
        meaning: format!(
            "The server knows the client, and does not let it use the grant {}.",
            grant_name(&request.grant.kind)
        ),
        change: format!(
            "Allow that grant for the client \"{}\" at the provider, or write another flow in {}.",
            heard.mint.principal.client_id,
            heard.table()
        ),
    })
}

fn client(heard: &Heard<'_>) -> Option<Finding> {
    if !heard.is_about_client() {
        return None;
    }
    let principal = heard.mint.principal;
    if matches!(heard.authentication(), Some(ClientAuthentication::TlsClientAuth)) {
        return finding(
            "The server does not accept the client certificate for this client id.",
            format!(
                "Check that tls.certificate in {} is the one registered for \"{}\".",
                heard.table(),
                principal.client_id
            ),
        );
    }
    if principal.client_secret.is_none() {
        return finding(
            format!("The server does not let the client \"{}\" in without a proof.", principal.client_id),
            format!("Write client_secret = {{ env = \"…\" }}, or signing, in {}.", heard.table()),
        );
    }
    finding(
        format!(
            "The client \"{}\" does not exist there, or its secret is another: rotated, expired, of another \
             environment, or cut when it was copied.",
            principal.client_id
        ),
        format!(
            "Check {} and what client_secret refers to; compare the secret with the provider's, or make a new one \
             there. {}",
            heard.principal_key("client_id"),
            post_hint(heard)
        ),
    )
}

fn post_hint(heard: &Heard<'_>) -> String {
    match heard.authentication() {
        Some(ClientAuthentication::ClientSecretBasic(_)) => {
            "If both are right, the server may want client_authentication = \"client_secret_post\".".to_owned()
        }
        _ => "If both are right, the server may want client_authentication = \"client_secret_basic\".".to_owned(),
    }
}

fn grant(heard: &Heard<'_>) -> Option<Finding> {
    if !heard.is(&["invalid_grant"]) {
        return None;
    }
    match &heard.request()?.grant.kind {
        GrantKind::ClientCredentials => finding(
            "The client is known, and the provider has nothing to grant it: with Salesforce, the app has no user to \
             run as.",
            "Finish the client's set-up for client credentials at the provider; with Salesforce, set \"Run As\" in \
             the app's policies.",
        ),
        GrantKind::Password => finding(
            "User name or password is wrong, the account is locked, or it needs a second factor.",
            format!(
                "Check {} and password; with Salesforce the security token follows the password.",
                heard.principal_key("username")
            ),
        ),
        GrantKind::RefreshToken { .. } => finding(
            "The refresh token has expired, was revoked, or was used before: many servers take each only once.",
            format!(
                "Get a new one and put it where {} refers to; with a server that rotates them, write \
                 refresh_token_store = \"…\" in {} and let no other program use it.",
                heard.principal_key("refresh_token"),
                heard.table()
            ),
        ),
        GrantKind::TokenExchange(_) => finding(
            "The server does not accept the subject token: expired, of another issuer, or not meant for it.",
            format!("Check what subject_token refers to, and subject_token_type, in {}.", heard.table()),
        ),
        GrantKind::JwtBearer(_) => None,
    }
}

fn denied(heard: &Heard<'_>) -> Option<Finding> {
    (heard.is(&["access_denied", "forbidden"]) || heard.status == Some(403)).then(|| Finding {
        meaning: "The credentials may be right; the provider does not let this client have a token: a policy, a \
                  missing consent, or the address it comes from."
            .to_owned(),
        change: format!(
            "At the provider, allow the client \"{}\" to use this API, and this machine's address if there is a \
             list.",
            heard.mint.principal.client_id
        ),
    })
}

fn request(heard: &Heard<'_>) -> Option<Finding> {
    heard.is(&["invalid_request"]).then(|| Finding {
        meaning: "The server misses a parameter, or does not take one that we send.".to_owned(),
        change: format!(
            "Compare what was sent with the provider's documentation. What is missing goes into {}: audience, \
             resource, scope, or parameters = {{ body = {{ NAME = \"value\" }} }}; a form that repeats what stands \
             in the URL's query is refused by some.",
            heard.table()
        ),
    })
}

impl Heard<'_> {
    /// Whether the server refuses the client itself.
    fn is_about_client(&self) -> bool {
        let codes = ["invalid_client", "unauthorized_client", "InvalidClientIdentifier", "unauthorized"];
        self.is(&codes) || (self.status == Some(401) && !self.is(&["invalid_grant", "access_denied"]))
    }
}
