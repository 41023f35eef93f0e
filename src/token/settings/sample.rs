//! What tests begin with.

use super::*;

impl Settings {
    /// Client credentials with `client_secret_basic` at `url`, and one principal named `default`.
    pub(crate) fn sample(url: Uri) -> Self {
        let profile = tls::Profile::trusting_nobody().unwrap();
        let request = RequestSettings {
            endpoint: Endpoint {
                url: Some(url),
                issuer: None,
                dangerous_plain_http: false,
                tls: Arc::new(profile),
                http_proxy: None,
                addresses: crate::connect::Addresses::CONFIGURED,
                timeout: Duration::from_secs(20),
                longest_answer: 64 * 1024,
            },
            grant: Grant { kind: GrantKind::ClientCredentials, grant_type: None },
            method: Method::POST,
            client_authentication: Some(ClientAuthentication::ClientSecretBasic(BasicEncoding::Form)),
            scope: None,
            audience: Vec::new(),
            resource: Vec::new(),
            parameters: Parameters::default(),
            response: ResponseRules::usual(),
            dpop: false,
        };
        Self {
            name: Name::parse("apigee").unwrap(),
            flow: Flow::Request(Box::new(request)),
            lifetime: LifetimeRules {
                default: Duration::from_secs(900),
                max: Duration::from_secs(86_400),
                renew_ahead: RenewAhead::Share(0.2),
                expiry_margin: Duration::from_secs(10),
            },
            mint_at_start: false,
            required_for_readiness: false,
            rejection: RejectionRules::default(),
            inject: Inject { header: http::header::AUTHORIZATION, scheme: Some("Bearer".to_owned()) },
            headers: Vec::new(),
            principals: vec![PrincipalSettings::sample("default")],
        }
    }
}

impl PrincipalSettings {
    /// A principal whose client id is its name, and whose secret is `secret`.
    pub(crate) fn sample(name: &str) -> Self {
        Self {
            name: Name::parse(name).unwrap(),
            client_id: name.to_owned(),
            client_secret: Some(Secret::new("secret".to_owned())),
            username: None,
            password: None,
            refresh_token: None,
            token: None,
            secrets: Vec::new(),
            callers: None,
        }
    }
}
