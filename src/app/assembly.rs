//! From resolved settings to the plan that workers hold; what has not changed since the plan before is taken from there.

use std::collections::HashMap;
use std::sync::Arc;

use super::AppError;
use crate::caller::Callers;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::name::Name;
use crate::proxy::plan::{NamedCredential, Plan};
use crate::token::ExternalCredential;

/// What a plan is made of.
pub(super) struct Assembly<'a> {
    pub(super) config: &'a Config,
    pub(super) externals: HashMap<&'a Name, &'a Arc<ExternalCredential>>,
    pub(super) callers: Callers,
    pub(super) metrics: &'a Metrics,
}

impl Assembly<'_> {
    /// The plan. A named credential that is the same as in `before` is the very same one, with its state.
    ///
    /// # Errors
    /// Only what the configuration should have refused.
    pub(super) fn plan(self, before: Option<&Plan>) -> Result<Plan, AppError> {
        let known: HashMap<&Name, &Arc<NamedCredential>> = before
            .into_iter()
            .flat_map(|plan| plan.routes.values())
            .map(|named| (&named.settings.name, named))
            .collect();
        let mut all = Vec::with_capacity(self.config.named_credentials.len());
        for settings in &self.config.named_credentials {
            let external = match &settings.external_credential {
                None => None,
                Some(name) => {
                    let found = self.externals.get(name).copied();
                    Some(Arc::clone(found.ok_or_else(|| AppError::Dangling(settings.name.clone()))?))
                }
            };
            all.push(match known.get(&settings.name) {
                Some(named) if Arc::ptr_eq(&named.settings, settings) && is_same(&named.external, &external) => {
                    Arc::clone(named)
                }
                Some(named) => Arc::new(named.succeeded_by(Arc::clone(settings), external)),
                None => {
                    let metrics = self.metrics.named_credential(&settings.name);
                    Arc::new(NamedCredential::new(Arc::clone(settings), external, metrics))
                }
            });
        }
        let plan = Plan::new(all, self.callers).map_err(AppError::Conflict)?;
        let plan = plan.with_caller_rates(&self.config.caller_rates, before);
        if self.config.listeners.iter().all(|listener| listener.forward_proxy.is_none()) {
            return Ok(plan);
        }
        plan.with_forward_proxy(self.metrics.unmatched()).map_err(AppError::Conflict)
    }
}

fn is_same(one: &Option<Arc<ExternalCredential>>, other: &Option<Arc<ExternalCredential>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
