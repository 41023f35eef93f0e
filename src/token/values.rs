//! Scope and audience of one token request, where formulas make them depend on caller, principal or request.

use super::settings::{RequestSettings, Text};
use crate::formula::{Activation, EvaluationError};

/// What a token is asked for, all formulas evaluated. Distinct values have cells of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Values {
    /// `scope` as sent.
    pub scope: Option<String>,
    /// `audience` values.
    pub audience: Vec<String>,
}

impl Values {
    /// The values where no formula is among them.
    #[must_use]
    pub fn fixed(settings: &RequestSettings) -> Option<Self> {
        let literal = |text: &Text| match text {
            Text::Literal(text) => Some(text.clone()),
            Text::Formula(_) => None,
        };
        Some(Self {
            scope: match &settings.scope {
                None => None,
                Some(scope) => Some(literal(scope)?),
            },
            audience: settings.audience.iter().map(literal).collect::<Option<_>>()?,
        })
    }

    /// Evaluates every formula; an empty result counts as omitted (RFC 6749 3.2).
    ///
    /// # Errors
    /// [`EvaluationError`] when a formula cannot be evaluated for this exchange.
    pub fn evaluate(settings: &RequestSettings, activation: &Activation<'_>) -> Result<Self, EvaluationError> {
        let text = |text: &Text| match text {
            Text::Literal(text) => Ok(text.clone()),
            Text::Formula(formula) => formula.text(activation),
        };
        let scope = settings.scope.as_ref().map(text).transpose()?;
        let audience = settings.audience.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            scope: scope.filter(|scope| !scope.is_empty()),
            audience: audience.into_iter().filter(|audience| !audience.is_empty()).collect(),
        })
    }
}
