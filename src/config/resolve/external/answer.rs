//! How the token endpoint's answer is read, and how long a token counts as good.

use std::sync::Arc;
use std::time::Duration;

use super::request::{self, Spaces};
use crate::config::document::{ExpiresUnit, ExternalCredential, RenewAhead as WrittenRenewAhead};
use crate::config::field::Field;
use crate::config::quantity;
use crate::config::resolve::context::Context;
use crate::config::tree::NodeId;
use crate::token::{ExpiryUnit, LifetimeRules, RenewAhead, ResponseRules};

/// None where something was reported.
pub(super) fn resolve(context: &Context<'_>, written: &ExternalCredential) -> Option<Arc<ResponseRules>> {
    let is_usual = matches!(written.accept_token_types, Field::Missing)
        && matches!(written.expires_unit, Field::Missing)
        && matches!(written.error, Field::Missing)
        && matches!(written.response, Field::Missing)
        && matches!(written.dpop, Field::Missing);
    if is_usual {
        return Some(ResponseRules::usual());
    }
    let usual = ResponseRules::default();
    let is_dpop = written.dpop.value().copied().unwrap_or(false);
    let accept_token_types = match &written.accept_token_types {
        Field::Missing if is_dpop => vec!["dpop".to_owned()],
        Field::Missing => usual.accept_token_types,
        list @ (Field::Wrong(_) | Field::Set(..)) => {
            Context::unique(Context::texts(list).map(|(_, text)| text.to_lowercase()))
        }
    };
    let expires_unit = match &written.expires_unit {
        Field::Missing => ExpiryUnit::default(),
        Field::Wrong(_) => return None,
        Field::Set(_, unit) => match **unit {
            ExpiresUnit::S => ExpiryUnit::Seconds,
            ExpiresUnit::Ms => ExpiryUnit::Milliseconds,
            ExpiresUnit::Epoch => ExpiryUnit::Epoch,
            ExpiresUnit::EpochMs => ExpiryUnit::EpochMilliseconds,
            ExpiresUnit::Rfc3339 => ExpiryUnit::Rfc3339,
        },
    };
    let error = match &written.error {
        Field::Missing => usual.error,
        Field::Wrong(_) => return None,
        Field::Set(node, _) => {
            let pointers = request::values(context, &written.error, Spaces::Allowed);
            judge_pointers(context, *node, &pointers)?;
            pointers
        }
    };
    let (token, expires_in, token_type) = match &written.response {
        Field::Missing => (usual.token, usual.expires_in, usual.token_type),
        Field::Wrong(_) => return None,
        Field::Set(_, response) => {
            let token = pointer_or(context, &response.token, usual.token);
            let expires_in = pointer_or(context, &response.expires_in, usual.expires_in);
            let token_type = pointer_or(context, &response.token_type, usual.token_type);
            (token?, expires_in?, token_type?)
        }
    };
    let members = Vec::new();
    let rules = ResponseRules { token, expires_in, token_type, expires_unit, error, accept_token_types, members };
    Some(Arc::new(rules))
}

fn judge_pointers(context: &Context<'_>, node: NodeId, pointers: &[String]) -> Option<()> {
    if pointers.is_empty() {
        context.findings.error(node, "this list holds no pointer", "write error = \"/error\", or leave the key out");
    }
    pointers.iter().map(|text| pointer(context, node, text)).collect::<Option<Vec<_>>>().map(drop)
}

fn pointer_or(context: &Context<'_>, field: &Field<String>, usual: String) -> Option<String> {
    match field {
        Field::Missing => Some(usual),
        Field::Wrong(_) => None,
        Field::Set(node, text) => pointer(context, *node, text),
    }
}

/// A JSON pointer (RFC 6901 3).
pub(in crate::config::resolve) fn pointer(context: &Context<'_>, node: NodeId, text: &str) -> Option<String> {
    let begins_well = text.is_empty() || text.starts_with('/');
    let escapes_well = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !begins_well || !escapes_well {
        let help = "write it like \"/data/0/token\"; within a name, ~1 stands for / and ~0 for ~";
        context.findings.error(node, "this is not a JSON pointer", help);
        return None;
    }
    Some(text.to_owned())
}

/// None where something was reported.
pub(super) fn lifetime(context: &Context<'_>, written: &ExternalCredential) -> Option<LifetimeRules> {
    let default = context.positive_or(&written.default_lifetime, 15 * 60);
    let max = context.positive_or(&written.max_lifetime, 24 * 60 * 60);
    if let (Some((node, default)), Some(max)) = (written.default_lifetime.get(), max)
        && default.0 > max
    {
        let message = "the default lifetime is longer than the longest one believed";
        context.findings.error(node, message, "shorten it, or raise `max_lifetime` (24h when it is not set)");
    }
    let expiry_margin = written.expiry_margin.value().map_or(Duration::from_secs(10), |margin| margin.0);
    let renew_ahead = renew_ahead(context, &written.renew_ahead);
    Some(LifetimeRules { default: default?, max: max?, renew_ahead: renew_ahead?, expiry_margin })
}

fn renew_ahead(context: &Context<'_>, field: &Field<WrittenRenewAhead>) -> Option<RenewAhead> {
    let (node, written) = match field {
        Field::Missing => return Some(RenewAhead::Share(0.2)),
        Field::Wrong(_) => return None,
        Field::Set(node, written) => (*node, &**written),
    };
    let renew_ahead = match written {
        WrittenRenewAhead::Boolean(flag) => Some(RenewAhead::Off).filter(|_| !flag),
        WrittenRenewAhead::Text(text) => match text.strip_suffix('%') {
            Some(share) => share_of(share).map(RenewAhead::Share),
            None => quantity::duration(text).filter(|duration| !duration.is_zero()).map(RenewAhead::Before),
        },
    };
    if renew_ahead.is_none() {
        let help = "write a share between 0% and 100% (\"20%\"), a duration (\"30s\"), or false";
        context.findings.error(node, "this is not a time to renew a token at", help);
    }
    renew_ahead
}

fn share_of(percent: &str) -> Option<f64> {
    let digits = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f64 = percent.parse().ok().filter(|_| digits)?;
    Some(percent / 100.0).filter(|share| *share > 0.0 && *share < 1.0)
}
