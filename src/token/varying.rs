//! The cells of a principal whose scope or audience depends on the exchange: one for each distinct outcome of the
//! formulas, made when it is first met, on whichever worker that is.
//!
//! A caller can often influence a formula, so the number of cells is bounded, and so is the pace at which they can
//! follow each other: a value that was met less than [`IDLE`] ago is in use and keeps its place.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Values;
use super::cell::Cell;
use super::registry::{Recipe, Registry};
use crate::formula::{Activation, EvaluationError, Formula};

/// Most distinct values of one principal.
pub(super) const MOST: usize = 256;
/// A value that was not met for so long gives way to a new one. An exchange that lasts longer holds its cell itself.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// Why there is no cell for an exchange.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CellUnavailable {
    /// A formula of scope or audience gives no value.
    #[error(transparent)]
    Formula(#[from] EvaluationError),
    /// Too many distinct scopes or audiences are in use at once.
    #[error("too many different scopes or audiences are in use")]
    TooManyValues {
        /// When the first of them may give way.
        retry_after: Duration,
    },
    /// The minters have ended.
    #[error("the minters have ended")]
    Ended,
}

/// Cells by what their tokens are asked for.
pub(super) struct Varying {
    /// Weak: tokens are minted as long as the control side wants them to be, and not as long as a plan is held.
    registry: Weak<Registry>,
    recipe: Recipe,
    cells: Mutex<HashMap<Values, Entry>>,
}

struct Entry {
    cell: Arc<Cell>,
    met: Instant,
}

impl Varying {
    pub(super) fn new(registry: Weak<Registry>, recipe: Recipe) -> Self {
        Self { registry, recipe, cells: Mutex::new(HashMap::new()) }
    }

    /// Whether a secret decides what is asked for.
    pub(super) fn uses_secrets(&self) -> bool {
        self.recipe.request().is_some_and(|request| request.formulas().any(Formula::uses_secrets))
    }

    /// The cell for this exchange.
    pub(super) fn cell(&self, activation: &Activation<'_>) -> Result<Arc<Cell>, CellUnavailable> {
        let request = self.recipe.request().ok_or(CellUnavailable::Ended)?;
        let values = Values::evaluate(request, activation)?;
        let now = Instant::now();
        let mut cells = self.cells.lock();
        if !cells.contains_key(&values) && cells.len() >= MOST {
            make_room(&mut cells, now)?;
        }
        match cells.entry(values) {
            Place::Occupied(mut known) => {
                known.get_mut().met = now;
                Ok(Arc::clone(&known.get().cell))
            }
            Place::Vacant(place) => {
                let registry = self.registry.upgrade().ok_or(CellUnavailable::Ended)?;
                let cell = registry.cell(&self.recipe, place.key()).ok_or(CellUnavailable::Ended)?;
                place.insert(Entry { cell: Arc::clone(&cell), met: now });
                Ok(cell)
            }
        }
    }

    /// Takes over those cells of `before` whose token requests are still the same, with their live tokens.
    pub(super) fn inherit(&self, before: &Self, registry: &Registry) {
        let values: Vec<(Values, Instant)> =
            before.cells.lock().iter().map(|(values, entry)| (values.clone(), entry.met)).collect();
        let kept = values.into_iter().filter_map(|(values, met)| {
            let cell = registry.known(&self.recipe, &values)?;
            Some((values, Entry { cell, met }))
        });
        self.cells.lock().extend(kept);
    }
}

/// Lets the value go that was not met for longest, if that is long enough.
fn make_room(cells: &mut HashMap<Values, Entry>, now: Instant) -> Result<(), CellUnavailable> {
    let Some((values, met)) = cells.iter().min_by_key(|(_, entry)| entry.met).map(|(v, entry)| (v.clone(), entry.met))
    else {
        return Ok(());
    };
    let idle = now.saturating_duration_since(met);
    if idle < IDLE {
        return Err(CellUnavailable::TooManyValues { retry_after: IDLE.saturating_sub(idle) });
    }
    cells.remove(&values);
    Ok(())
}

#[cfg(test)]
mod tests;
