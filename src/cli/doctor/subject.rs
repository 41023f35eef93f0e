//! What is examined: a named credential with its external one, or an external credential alone; as whom, for whom.

use super::Arguments;
use crate::cli::diagnosis::{authentication_name, flow_name};
use crate::config::Config;
use crate::name::Name;
use crate::proxy::settings::NamedCredential;
use crate::token::{PrincipalSettings, Settings};

/// What the arguments mean in this configuration.
pub(super) struct Subject<'a> {
    pub(super) config: &'a Config,
    pub(super) named: Option<&'a NamedCredential>,
    /// None where requests are forwarded without a credential.
    pub(super) external: Option<(&'a Settings, &'a PrincipalSettings)>,
    /// The caller, where one was named.
    pub(super) callers: Vec<Name>,
    /// What follows the named credential's URL.
    pub(super) path: String,
}

impl<'a> Subject<'a> {
    pub(super) fn find(config: &'a Config, arguments: &Arguments) -> Result<Self, String> {
        let name = arguments.name.as_str();
        let named = config.named_credentials.iter().find(|named| named.name.as_str() == name);
        let external = match named {
            Some(named) => named.external_credential.as_ref().map(Name::as_str),
            None => Some(name),
        };
        let callers = callers(config, arguments)?;
        if let Some(allowed) = named.and_then(|named| named.callers.as_ref())
            && !callers.is_empty()
            && !callers.iter().any(|caller| allowed.contains(caller))
        {
            return Err(format!("callers of `{name}` does not list this caller, so it gets 403 and nothing is sent"));
        }
        let external = match external {
            None => None,
            Some(external) => Some(principal(config, external, arguments, &callers)?),
        };
        let path = match arguments.path.as_str() {
            "" => String::new(),
            path if path.starts_with(['/', '?']) => path.to_owned(),
            path => format!("/{path}"),
        };
        Ok(Self { config, named: named.map(|named| &**named), external, callers, path })
    }

    /// The steps that lie ahead, in their order.
    pub(super) fn steps(&self) -> Vec<&'static str> {
        let mut steps = vec!["configuration"];
        if let Some((settings, _)) = self.external {
            if let Some(request) = settings.request() {
                if request.endpoint.url.is_none() {
                    steps.push("issuer metadata");
                }
                steps.extend(["token endpoint: DNS", "token endpoint: connection", "token endpoint: TLS"]);
            }
            steps.extend(["token", "claims"]);
            if settings.request().is_some() {
                steps.push("clock");
            }
        }
        if self.named.is_some() {
            steps.extend(["upstream: DNS", "upstream: connection", "upstream: TLS", "probe"]);
        }
        steps
    }

    /// In one line.
    pub(super) fn told(&self) -> String {
        let upstream = match self.named {
            Some(named) if named.enabled => format!("{} to {}", named.name, named.url()),
            Some(named) => format!("{} (enabled = false) to {}", named.name, named.url()),
            None => String::new(),
        };
        let credential = self.external.map(|(settings, principal)| {
            let client = match settings.request() {
                Some(request) => format!(", {}", authentication_name(request.client_authentication.as_ref())),
                None => String::new(),
            };
            let flow = flow_name(&settings.flow);
            format!("{}: {flow}{client}, principal {}", settings.name, principal.name)
        });
        match (upstream.is_empty(), credential) {
            (false, Some(credential)) => format!("{upstream} with {credential}"),
            (false, None) => format!("{upstream} without a credential"),
            (true, credential) => credential.unwrap_or_default(),
        }
    }
}

fn callers(config: &Config, arguments: &Arguments) -> Result<Vec<Name>, String> {
    let Some(wanted) = &arguments.caller else { return Ok(Vec::new()) };
    let found = config.callers.iter().map(|caller| &caller.name).find(|name| name.as_str() == wanted);
    found.map(|name| vec![name.clone()]).ok_or_else(|| format!("there is no [callers.{wanted}]"))
}

fn principal<'a>(
    config: &'a Config,
    external: &str,
    arguments: &Arguments,
    callers: &[Name],
) -> Result<(&'a Settings, &'a PrincipalSettings), String> {
    let found = crate::cli::token::find(config, &arguments.name, arguments.principal.as_deref())?;
    if arguments.principal.is_some() || callers.is_empty() {
        return Ok(found);
    }
    let admits = |principal: &&PrincipalSettings| {
        principal.callers.as_ref().is_none_or(|admitted| admitted.iter().any(|name| callers.contains(name)))
    };
    let admitting = found.0.principals.iter().find(admits);
    let admitting = admitting.ok_or_else(|| format!("no principal of `{external}` admits this caller"))?;
    Ok((found.0, admitting))
}
