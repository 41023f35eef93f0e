//! What an external credential comes to: the token request as it will be sent, and how the token is attached. Names of
//! parameters and fields are shown, and those values that are written in keys of their own; no secret and no value that
//! could be one.

use http::Uri;
use serde_json::{Value, json};

use crate::token::{
    AssertionSource, BasicEncoding, ClientAuthentication, Endpoint, Flow, Grant, GrantKind, RequestSettings, Settings,
    Text,
};

/// What stands in place of a value that is not shown.
const HIDDEN: &str = "…";

/// `apigee for default: client_credentials: POST https://… with grant_type="client_credentials"; …`
pub(super) fn line(settings: &Settings) -> String {
    let principals: Vec<&str> = settings.principals.iter().map(|principal| principal.name.as_str()).collect();
    let mut parts = vec![format!("{} for {}: {}", settings.name, principals.join(", "), flow(settings))];
    if let Some(request) = settings.request() {
        parts.push(client(request.client_authentication.as_ref(), &request.endpoint));
        parts.extend(request.dpop.then(|| "bound to a key of its own (DPoP)".to_owned()));
    }
    let attached = attached(settings);
    if !attached.is_empty() {
        parts.push(format!("attached as {}", attached.join(", ")));
    }
    parts.join("; ")
}

/// The same as an object.
pub(super) fn object(settings: &Settings) -> Value {
    let principals: Vec<&str> = settings.principals.iter().map(|principal| principal.name.as_str()).collect();
    json!({
        "name": settings.name.as_str(),
        "flow": flow_name(&settings.flow),
        "principals": principals,
        "token_request": settings.request().map(request_object),
        "attached": attached(settings),
    })
}

fn request_object(request: &RequestSettings) -> Value {
    let parameters: Vec<Value> =
        parameters(request).into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let authentication = request.client_authentication.as_ref();
    json!({
        "method": request.method.as_str(),
        "token_endpoint": request.endpoint.url.as_ref().map(url),
        "issuer": request.endpoint.issuer,
        "http_proxy": request.endpoint.proxy().map(|proxy| format!("{}:{}", proxy.host, proxy.port)),
        "parameters": parameters,
        "query": request.parameters.query.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "headers": request.parameters.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "client_authentication": authentication.map(client_name),
        "client_proof": client(authentication, &request.endpoint),
        "dpop": request.dpop,
    })
}

fn flow(settings: &Settings) -> String {
    let name = flow_name(&settings.flow);
    match &settings.flow {
        Flow::Request(request) => format!("{name}: {}", asked(request)),
        Flow::SignedJwt(_) => format!("{name}: a JWT that is signed here is the token"),
        Flow::Basic => format!("{name}: user name and password"),
        Flow::Static => format!("{name}: a fixed token"),
        Flow::None => format!("{name}: no token"),
    }
}

fn flow_name(flow: &Flow) -> &'static str {
    match flow {
        Flow::Request(request) => match request.grant.kind {
            GrantKind::ClientCredentials => "client_credentials",
            GrantKind::JwtBearer(_) => "jwt_bearer",
            GrantKind::Password => "password",
            GrantKind::RefreshToken { .. } => "refresh_token",
            GrantKind::TokenExchange(_) => "token_exchange",
        },
        Flow::SignedJwt(_) => "signed_jwt",
        Flow::Basic => "basic",
        Flow::Static => "static",
        Flow::None => "none",
    }
}

/// `POST https://login.example.com/token with grant_type="client_credentials" scope="a b" company=…`
fn asked(request: &RequestSettings) -> String {
    let endpoint = match (&request.endpoint.url, &request.endpoint.issuer) {
        (Some(uri), _) => url(uri),
        (None, issuer) => format!("to the token endpoint of {}", issuer.as_deref().unwrap_or_default()),
    };
    let mut words = vec![format!("{} {endpoint}", request.method)];
    words.extend(request.endpoint.proxy().map(|proxy| format!("through the proxy {}:{}", proxy.host, proxy.port)));
    let parameters = parameters(request);
    if !parameters.is_empty() {
        words.push("with".to_owned());
    }
    words.extend(parameters.into_iter().map(|(name, value)| match value {
        Some(value) => format!("{name}=\"{value}\""),
        None => format!("{name}={HIDDEN}"),
    }));
    let query = request.parameters.query.iter().map(|(name, _)| format!("?{name}={HIDDEN}"));
    let headers = request.parameters.headers.iter().map(|(name, _)| format!("{name}: {HIDDEN}"));
    words.extend(query.chain(headers));
    words.join(" ")
}

/// What is sent besides the client's proof; none in place of a value that is not shown.
fn parameters(request: &RequestSettings) -> Vec<(&str, Option<String>)> {
    let mut parameters = Vec::new();
    if let Some(name) = grant_type(&request.grant) {
        parameters.push(("grant_type", Some(name.to_owned())));
    }
    parameters.extend(request.scope.iter().map(|scope| ("scope", text(scope))));
    parameters.extend(request.audience.iter().map(|audience| ("audience", text(audience))));
    parameters.extend(request.resource.iter().map(|resource| ("resource", Some(resource.clone()))));
    let hidden: &[&str] = match &request.grant.kind {
        GrantKind::ClientCredentials => &[],
        GrantKind::JwtBearer(_) => &["assertion"],
        GrantKind::Password => &["username", "password"],
        GrantKind::RefreshToken { .. } => &["refresh_token"],
        GrantKind::TokenExchange(exchange) => {
            parameters.push(("subject_token_type", Some(exchange.subject_token_type.clone())));
            let actor = exchange.actor_token.as_ref();
            parameters.extend(actor.map(|(_, kind)| ("actor_token_type", Some(kind.clone()))));
            let requested = exchange.requested_token_type.as_ref();
            parameters.extend(requested.map(|kind| ("requested_token_type", Some(kind.clone()))));
            if actor.is_some() { &["subject_token", "actor_token"] } else { &["subject_token"] }
        }
    };
    let written: Vec<&str> = request.parameters.body.iter().map(|(name, _)| name.as_str()).collect();
    let hidden = hidden.iter().copied().filter(|name| !written.contains(name));
    parameters.extend(hidden.chain(written.iter().copied()).map(|name| (name, None)));
    parameters
}

fn grant_type(grant: &Grant) -> Option<&str> {
    let usual = match grant.kind {
        GrantKind::ClientCredentials => "client_credentials",
        GrantKind::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
        GrantKind::Password => "password",
        GrantKind::RefreshToken { .. } => "refresh_token",
        GrantKind::TokenExchange(_) => "urn:ietf:params:oauth:grant-type:token-exchange",
    };
    Some(grant.grant_type.as_deref().unwrap_or(usual)).filter(|name| !name.is_empty())
}

/// None where a formula decides.
fn text(text: &Text) -> Option<String> {
    match text {
        Text::Literal(text) => Some(text.clone()),
        Text::Formula(_) => None,
    }
}

/// A URL, of whose query only the names are shown.
fn url(uri: &Uri) -> String {
    let text = uri.to_string();
    let Some((before, query)) = text.split_once('?') else { return text };
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| pair.split_once('=').map_or_else(|| HIDDEN.to_owned(), |(name, _)| format!("{name}={HIDDEN}")))
        .collect();
    format!("{before}?{}", pairs.join("&"))
}

fn client_name(authentication: &ClientAuthentication) -> &'static str {
    match authentication {
        ClientAuthentication::ClientSecretBasic(_) => "client_secret_basic",
        ClientAuthentication::ClientSecretPost => "client_secret_post",
        ClientAuthentication::Query => "query",
        ClientAuthentication::Json => "json",
        ClientAuthentication::ClientSecretJwt(_) => "client_secret_jwt",
        ClientAuthentication::PrivateKeyJwt(_) => "private_key_jwt",
        ClientAuthentication::TlsClientAuth => "tls_client_auth",
        ClientAuthentication::BearerJwt(_) => "bearer_jwt",
        ClientAuthentication::None => "none",
    }
}

/// How the client proves itself, and where its secret goes.
fn client(authentication: Option<&ClientAuthentication>, endpoint: &Endpoint) -> String {
    let Some(authentication) = authentication else {
        return "client_secret_basic or client_secret_post, as the issuer's metadata say".to_owned();
    };
    let how = match authentication {
        ClientAuthentication::ClientSecretBasic(encoding) => {
            let encoding = match encoding {
                BasicEncoding::Form => "",
                BasicEncoding::Raw => ", not encoded",
                BasicEncoding::Percent => ", percent-encoded",
            };
            format!("id and secret in the authorization field{encoding}")
        }
        ClientAuthentication::ClientSecretPost => "id and secret in the body".to_owned(),
        ClientAuthentication::Query => "id and secret in the URL".to_owned(),
        ClientAuthentication::Json => "all parameters, id and secret among them, in a JSON body".to_owned(),
        ClientAuthentication::ClientSecretJwt(_) => "a JWT in the body, signed with the client secret".to_owned(),
        ClientAuthentication::PrivateKeyJwt(AssertionSource::Signed(_)) => {
            "a JWT in the body, signed with our key".to_owned()
        }
        ClientAuthentication::PrivateKeyJwt(AssertionSource::File(path)) => {
            format!("the JWT of {} in the body", path.display())
        }
        ClientAuthentication::TlsClientAuth => match &endpoint.tls.settings().identity {
            Some((certificate, _)) => format!("the client certificate {}", certificate.display()),
            None => "the client certificate".to_owned(),
        },
        ClientAuthentication::BearerJwt(_) => "a JWT in the authorization field, signed with our key".to_owned(),
        ClientAuthentication::None => "no client secret is sent".to_owned(),
    };
    format!("{}: {how}", client_name(authentication))
}

/// `authorization: Bearer …`, and the fields that go with it.
fn attached(settings: &Settings) -> Vec<String> {
    let token = match (&settings.flow, &settings.inject.scheme) {
        (Flow::None, _) => None,
        (_, Some(scheme)) => Some(format!("{}: {scheme} {HIDDEN}", settings.inject.header)),
        (_, None) => Some(format!("{}: {HIDDEN}", settings.inject.header)),
    };
    let fields = settings.headers.iter().map(|(name, _)| format!("{name}: {HIDDEN}"));
    token.into_iter().chain(fields).collect()
}
