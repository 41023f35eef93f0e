//! Formulas: header values, scopes, audiences and claims that depend on caller, principal or request, in CEL. The
//! library's types stay in this room. Compiled when the configuration is read, evaluated only where used.
//!
//! `compile` parses within bounds and hands the tree to `analysis`, which refuses what is not known and notes what is
//! used; `variables` shows the activation to the library piece by piece, as the formula asks for it; `functions` are
//! those beyond the standard's; `value` turns results and errors into ours.

mod algorithm;
mod analysis;
mod compile;
mod functions;
mod value;
mod variables;

use std::sync::Arc;

use cel::{Context, IdedExpr};
use http::{HeaderMap, Method};

use self::variables::Variables;
use crate::name::Name;
use crate::secret::Secret;

/// A compiled formula.
pub struct Formula {
    text: String,
    expression: IdedExpr,
    uses: Uses,
}

/// What a formula refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// `caller`
    pub caller: bool,
    /// `principal`
    pub principal: bool,
    /// `request`
    pub request: bool,
    /// `secrets.NAME`, each name once; none: the whole of `secrets`, or a name that is computed.
    pub secrets: Option<Vec<String>>,
}

/// What a formula is evaluated over. Parts that it does not refer to cost nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activation<'a> {
    /// The names of the callers that gave their proof: `caller.name` is the first or empty, `caller.names` all.
    pub callers: &'a [Name],
    /// `principal.name`, `principal.client_id`, `principal.username`
    pub principal: Option<PrincipalView<'a>>,
    /// `request.method`, `.host`, `.path`, `.query`, `.headers["name"]` in lower case
    pub request: Option<RequestView<'a>>,
    /// `secrets.NAME`
    pub secrets: &'a [(String, Secret)],
}

/// What formulas see of a principal.
#[derive(Clone, Copy, Debug)]
pub struct PrincipalView<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its client id.
    pub client_id: &'a str,
    /// Its user name.
    pub username: Option<&'a str>,
}

/// What formulas see of a request; the caller's own credentials are not in it.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its `Host`.
    pub host: &'a str,
    /// Its path as it came.
    pub path: &'a str,
    /// Its query as it came, without `?`; empty where there is none.
    pub query: &'a str,
    /// Its fields. Lines of one name are one value, joined with `, ` (RFC 9110 5.3); a field that is not UTF-8 is
    /// not there.
    pub headers: &'a HeaderMap,
}

/// Why a text is no formula: one clause, and where, as a byte offset into the text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct FormulaError {
    /// What is wrong; quotes the formula's own text at most.
    pub message: String,
    /// Where.
    pub offset: usize,
}

/// Why a formula gives no value for this exchange. Holds no value of anything, and no name of a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the formula gives no value: {0}")]
pub struct EvaluationError(pub String);

impl Formula {
    /// Compiles; unknown variables, functions and members are errors.
    ///
    /// # Errors
    /// [`FormulaError`]
    pub fn compile(text: &str) -> Result<Self, FormulaError> {
        let (expression, uses) = compile::compile(text)?;
        Ok(Self { text: text.to_owned(), expression, uses })
    }

    /// As written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.text
    }

    /// What it refers to.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.uses.clone()
    }

    /// Whether a secret can be in its value.
    #[must_use]
    pub fn uses_secrets(&self) -> bool {
        self.uses.secrets.as_ref().is_none_or(|names| !names.is_empty())
    }

    /// Its value as text: a string as it is, bytes where they are UTF-8, numbers and booleans as JSON writes them.
    ///
    /// # Errors
    /// [`EvaluationError`]
    pub fn text(&self, activation: &Activation<'_>) -> Result<String, EvaluationError> {
        value::text(self.value(activation)?)
    }

    /// Its value as JSON, for claims. Bytes become text where they are UTF-8.
    ///
    /// # Errors
    /// [`EvaluationError`]
    pub fn json(&self, activation: &Activation<'_>) -> Result<serde_json::Value, EvaluationError> {
        value::json(&self.value(activation)?)
    }

    fn value(&self, activation: &Activation<'_>) -> Result<cel::Value, EvaluationError> {
        let variables = Variables(activation);
        let mut context = Context::with_env(Arc::clone(functions::environment()));
        context.set_variable_resolver(&variables);
        cel::Value::resolve(&self.expression, &context).map_err(|error| value::clause(&error, self))
    }
}

/// Two formulas are equal when they are written alike.
impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Formula {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Formula").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
