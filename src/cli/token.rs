//! `keybearer token NAME`: mints once, away from any running process, and says what came back.

mod describe;
mod jwt;

use clap::Args;

use super::{FAILURE, Format, Global, doctor, failed};
use crate::config::{Config, Secrets};
use crate::token::{Flow, Observed, PrincipalSettings, RequestSettings, Settings, mint_observed};

pub use self::describe::{Show, describe, describe_json};
pub(super) use self::jwt::Jwt;

/// Arguments of `keybearer token`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A named credential, or an external credential
    name: String,
    /// The principal to mint for; the first in sequence otherwise
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Print the token itself
    #[arg(long)]
    show: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> u8 {
    let config = match global.load(Secrets::Read) {
        Ok(loaded) => loaded.config,
        Err(status) => return status,
    };
    let (settings, principal) = match find(&config, &arguments.name, arguments.principal.as_deref()) {
        Ok(found) => found,
        Err(reason) => {
            anstream::eprintln!("keybearer: {reason}");
            return FAILURE;
        }
    };
    if matches!(settings.flow, Flow::None) {
        anstream::eprintln!("keybearer: the flow of `{}` is `none`: there is no token to describe", settings.name);
        return FAILURE;
    }
    if settings.request().is_some_and(RequestSettings::depends_on_request) {
        let name = &settings.name;
        anstream::eprintln!(
            "keybearer: scope or audience of `{name}` depends on the caller's request, and here is none"
        );
        return FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let show = if arguments.show { Show::Token } else { Show::Masked };
    let Observed { sightings, outcome, .. } = runtime.block_on(mint_observed(settings, principal, &[]));
    match (outcome, global.format) {
        (Ok(minted), Format::Text) => {
            anstream::print!("{}", describe(&minted, show));
            0
        }
        (Ok(minted), Format::Json) => {
            anstream::println!("{:#}", describe_json(&minted, show));
            0
        }
        (Err(error), format) => {
            let diagnosis = runtime.block_on(doctor::explain(settings, principal, &sightings, &error));
            match format {
                Format::Text => anstream::eprintln!("keybearer: {error}\n\n{}", doctor::told(&diagnosis)),
                Format::Json => anstream::println!(
                    "{:#}",
                    serde_json::json!({"error": error.to_string(), "diagnosis": diagnosis.to_json()})
                ),
            }
            FAILURE
        }
    }
}

/// The external credential behind a name, and one of its principals.
pub(super) fn find<'a>(
    config: &'a Config,
    name: &str,
    principal: Option<&str>,
) -> Result<(&'a Settings, &'a PrincipalSettings), String> {
    let named = config.named_credentials.iter().find(|named| named.name.as_str() == name);
    let external = match named {
        None => name,
        Some(named) => match &named.external_credential {
            Some(external) => external.as_str(),
            None => return Err(format!("named credential `{name}` has no external credential, so it needs no token")),
        },
    };
    let settings = config.external_credentials.iter().find(|settings| settings.name.as_str() == external);
    let settings = settings.ok_or_else(|| {
        let known: Vec<&str> = config.named_credentials.iter().map(|named| named.name.as_str()).collect();
        format!("there is no named or external credential `{name}`; named credentials: {}", known.join(", "))
    })?;
    let principal = match principal {
        None => settings.principals.first(),
        Some(wanted) => settings.principals.iter().find(|principal| principal.name.as_str() == wanted),
    };
    let known: Vec<&str> = settings.principals.iter().map(|principal| principal.name.as_str()).collect();
    let principal =
        principal.ok_or_else(|| format!("`{external}` has no such principal; it has: {}", known.join(", ")))?;
    Ok((settings, principal))
}
