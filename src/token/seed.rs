//! What a cell is made of when somebody first asks it. Of a hundred thousand credentials most are idle, and an idle
//! cell costs no more than this: no task, no channels, no copy of its settings.

use std::sync::Weak;

use super::cell::Made;
use super::minter::Start;
use super::registry::{Recipe, Registry};

/// Who asks for the same token, and who makes what a cell needs to fetch it.
pub(super) struct Seed {
    /// Weak: tokens are minted as long as the control side wants them to be, and not as long as a plan is held.
    registry: Weak<Registry>,
    /// Never empty; the newest is the last, and its rules count. Those before only hear of it.
    recipes: Vec<Recipe>,
}

impl Seed {
    pub(super) fn new(registry: Weak<Registry>, recipe: Recipe) -> Self {
        Self { registry, recipes: vec![recipe] }
    }

    /// Another recipe of the same token request, in place of an older one of the same names.
    pub(super) fn add(&mut self, recipe: &Recipe) {
        self.recipes.retain(|known| !known.has_names_of(recipe));
        self.recipes.push(recipe.clone());
    }

    /// None when the minters have ended.
    pub(super) fn grow(&self, start: Start) -> Option<Made> {
        self.registry.upgrade()?.make(&self.recipes, start)
    }
}
