//! All minters of the process, as the control side holds them: external credentials become what the data plane sees.
//!
//! A cell that no plan holds any more ends its minter; a cell that a new plan asks for again keeps its live token.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::credential::{ExternalCredential, Tokens};
use super::minter::Start;
use super::own;
use super::registry::{Recipe, Registry};
use super::varying::Varying;
use super::{PrincipalSettings, RequestSettings, Settings, Values};
use crate::metrics::Metrics;

/// Starts and finds minters. Dropping it ends them all.
pub struct Minters {
    /// Others hold it only weakly.
    registry: Arc<Registry>,
}

impl Minters {
    /// Minters that run on `control`.
    #[must_use]
    pub fn new(control: Handle, metrics: Metrics) -> Self {
        Self { registry: Arc::new(Registry::new(control, metrics)) }
    }

    /// The data plane's view of an external credential, with a minter for each of its principals. Principals whose
    /// token requests are equal to ones already known share their cells.
    pub fn external_credential(&mut self, settings: &Settings) -> Arc<ExternalCredential> {
        self.shared(&Arc::new(settings.clone()))
    }

    /// The same, of settings that others hold as well.
    pub fn shared(&mut self, shared: &Arc<Settings>) -> Arc<ExternalCredential> {
        let settings = &**shared;
        let request = settings.request().map(|request| Arc::new(request.clone()));
        let tokens = settings.principals.iter().map(|principal| match &request {
            Some(request) => self.asked_for(shared, request, principal),
            None => match own::source(settings, principal) {
                Some(source) => Tokens::Fixed(self.registry.own(source, start(settings))),
                None => Tokens::None,
            },
        });
        Arc::new(ExternalCredential::new(settings, tokens.collect()))
    }

    /// Tokens of a token endpoint.
    fn asked_for(
        &self,
        settings: &Arc<Settings>,
        request: &Arc<RequestSettings>,
        principal: &PrincipalSettings,
    ) -> Tokens {
        let recipe = Recipe::new(Arc::clone(settings), Arc::clone(request), principal.clone());
        if let Some(values) = Values::fixed(request) {
            return Tokens::Fixed(self.registry.cell(&recipe, &values, start(settings)));
        }
        let varying = Arc::new(Varying::new(Arc::downgrade(&self.registry), recipe.clone()));
        if let Some(before) = self.registry.remember(&recipe, &varying) {
            varying.inherit(&before, &self.registry);
        }
        Tokens::Varying(varying)
    }
}

fn start(settings: &Settings) -> Start {
    if settings.mint_at_start { Start::Soon } else { Start::OnDemand }
}

impl std::fmt::Debug for Minters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Minters").field("cells", &self.registry.cells()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
