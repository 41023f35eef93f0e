//! All minters of the process, as the control side holds them: external credentials become what the data plane sees.
//!
//! A cell that no plan holds any more ends its minter; a cell that a new plan asks for again keeps its live token.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::credential::{ExternalCredential, Tokens};
use super::minter::Start;
use super::registry::{Recipe, Registry};
use super::varying::Varying;
use super::{Flow, RequestSettings, Settings, Values};
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

    /// The data plane's view of an external credential. Principals whose token requests are equal to ones already known
    /// share their cells. A cell gets its minter when it is first asked.
    pub fn external_credential(&mut self, settings: &Settings) -> Arc<ExternalCredential> {
        self.shared(&Arc::new(settings.clone()))
    }

    /// The same, of settings that others hold as well.
    pub fn shared(&mut self, settings: &Arc<Settings>) -> Arc<ExternalCredential> {
        let tokens = (0..settings.principals.len()).map(|principal| self.tokens(settings, principal));
        Arc::new(ExternalCredential::new(settings, tokens))
    }

    fn tokens(&self, settings: &Arc<Settings>, principal: usize) -> Tokens {
        let Some(recipe) = Recipe::new(settings, principal) else { return Tokens::None };
        match &settings.flow {
            Flow::Request(request) => self.asked_for(request, &recipe, start(settings)),
            Flow::SignedJwt(_) | Flow::Basic | Flow::Static => {
                Tokens::Fixed(self.registry.own(&recipe, start(settings)))
            }
            Flow::None => Tokens::None,
        }
    }

    /// Tokens of a token endpoint.
    fn asked_for(&self, request: &RequestSettings, recipe: &Recipe, start: Start) -> Tokens {
        if let Some(values) = Values::fixed(request) {
            return self.registry.fixed(recipe, &values, start).map_or(Tokens::None, Tokens::Fixed);
        }
        let varying = Arc::new(Varying::new(Arc::downgrade(&self.registry), recipe.clone()));
        if let Some(before) = self.registry.remember(recipe, &varying) {
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
