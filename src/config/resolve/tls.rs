//! `tls` tables: checked, and read into profiles that equal tables share, or into what ends TLS for a listener.

use std::path::PathBuf;
use std::sync::Arc;

use super::context::Context;
use super::secret::explain;
use crate::config::Secrets;
use crate::config::document::{self, ListenerTls, Tls};
use crate::config::field::Field;
use crate::config::tree::NodeId;
use crate::tls::{ClientCertificate, Clients, ListenerSettings, Profile, Settings, Terminator};

/// The profile for an endpoint that speaks TLS. `node` is what to point at when there is no table.
pub(super) fn profile(context: &Context<'_>, node: NodeId, field: &Field<Tls>) -> Option<Arc<Profile>> {
    profile_as(context, node, field, None)
}

/// As [`profile`], with the certificate and key of `identity` where the table names none of its own.
pub(super) fn profile_as(
    context: &Context<'_>,
    node: NodeId,
    field: &Field<Tls>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> Option<Arc<Profile>> {
    let (node, mut settings) = match field {
        Field::Missing => (node, Settings::default()),
        Field::Wrong(_) => return None,
        Field::Set(node, tls) => (*node, settings(context, *node, tls)?),
    };
    settings.identity = settings.identity.or_else(|| identity.cloned());
    if let Some(known) = context.profiles.borrow().get(&settings) {
        return known.clone();
    }
    let profile = load(context, node, &settings);
    context.profiles.borrow_mut().insert(settings, profile.clone());
    profile
}

/// The profile for an endpoint that is plain HTTP. It is never used; a `tls` table there is a mistake.
pub(super) fn none(context: &Context<'_>, field: &Field<Tls>) -> Option<Arc<Profile>> {
    if let Some((node, _)) = field.get() {
        context.findings.key_error(node, "`tls` has no effect on a URL that begins with `http://`", "write https://");
    }
    nobody(context)
}

/// One for all: each costs 28 KiB.
fn nobody(context: &Context<'_>) -> Option<Arc<Profile>> {
    context.nobody.get_or_init(|| Profile::trusting_nobody().ok().map(Arc::new)).clone()
}

fn settings(context: &Context<'_>, node: NodeId, tls: &Tls) -> Option<Settings> {
    let path = |field: &Field<String>| field.get().map(|(node, text)| context.file(node, text));
    let findings = context.findings;
    let identity = match (tls.certificate.node(), tls.key.node()) {
        (None, None) => None,
        (Some(_), Some(_)) => Some((path(&tls.certificate)?, path(&tls.key)?)),
        (Some(at), None) if !findings.is_misspelt(node, "key") => {
            findings.key_error(
                at,
                "a client certificate needs its key",
                "add `key`, the PEM file with the private key",
            );
            return None;
        }
        (None, Some(at)) if !findings.is_misspelt(node, "certificate") => {
            let help = "add `certificate`, the PEM file with the certificate chain";
            findings.key_error(at, "a key needs its client certificate", help);
            return None;
        }
        (Some(_), None) | (None, Some(_)) => return None,
    };
    if tls.ca.is_wrong() {
        return None;
    }
    Some(Settings { ca: path(&tls.ca), identity })
}

/// What ends TLS for a listener; none also where there was something to report.
pub(super) fn terminator(context: &Context<'_>, field: &Field<ListenerTls>) -> Option<Arc<Terminator>> {
    let (node, table) = field.get()?;
    let settings = listener(context, node, table)?;
    match Terminator::load(settings.clone()) {
        Ok(terminator) => Some(Arc::new(terminator)),
        // Without secrets at hand nobody is served either.
        Err(_) if context.secrets == Secrets::Leave => Some(Arc::new(Terminator::unloaded(settings))),
        Err(error) => {
            let help = "paths are relative to the configuration file; certificates and keys are PEM files";
            context.findings.error(node, explain(&error), help);
            None
        }
    }
}

fn listener(context: &Context<'_>, node: NodeId, tls: &ListenerTls) -> Option<ListenerSettings> {
    let required = |field, key, help| context.findings.required(field, node, key, help);
    let certificate =
        required(&tls.certificate, "certificate", "name the PEM file with the listener's certificate chain");
    let key = required(&tls.key, "key", "name the PEM file with the private key of the certificate");
    let presence = match &tls.client_certificate {
        Field::Missing => Some(ClientCertificate::Required),
        Field::Wrong(_) => None,
        Field::Set(_, presence) => Some(match **presence {
            document::ClientCertificate::Required => ClientCertificate::Required,
            document::ClientCertificate::Optional => ClientCertificate::Optional,
        }),
    };
    let clients = match &tls.client_ca {
        Field::Missing => {
            if let Some(at) = tls.client_certificate.node().filter(|_| !context.findings.is_misspelt(node, "client_ca"))
            {
                let message = "`client_certificate` has no effect without `client_ca`";
                let help = "add `client_ca`, the PEM file with the authorities that sign callers' certificates";
                context.findings.key_error(at, message, help);
            }
            None
        }
        Field::Wrong(_) => return None,
        Field::Set(at, path) => Some(Clients { ca: context.path(*at, path), certificate: presence? }),
    };
    let path = |(at, text): (NodeId, &String)| context.path(at, text);
    Some(ListenerSettings { certificate: path(certificate?), key: path(key?), clients })
}

fn load(context: &Context<'_>, node: NodeId, settings: &Settings) -> Option<Arc<Profile>> {
    match Profile::load(settings) {
        Ok(profile) => Some(Arc::new(profile)),
        // Without secrets at hand nothing is sent either.
        Err(_) if context.secrets == Secrets::Leave => nobody(context),
        Err(error) => {
            let help = "paths are relative to the configuration file; certificates and keys are PEM files";
            context.findings.error(node, explain(&error), help);
            None
        }
    }
}
