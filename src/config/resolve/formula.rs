//! Formulas: compiled, and held against what is there when they are evaluated.

use std::sync::Arc;

use super::context::Context;
use crate::config::document::FormulaTable;
use crate::config::nearest::nearest;
use crate::config::tree::NodeId;
use crate::formula::{Formula, Uses};
use crate::token::PrincipalSettings;

/// When a formula is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// For every exchange.
    Exchange,
    /// For every mint, whose token all callers share.
    Mint,
}

/// What a formula can see.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) when: When,
    /// The principals it may be evaluated for; empty where there is no external credential, none where nothing can be
    /// said about them.
    pub(super) principals: Option<&'a [PrincipalSettings]>,
}

/// The formula at `node`.
pub(super) fn compile(context: &Context<'_>, node: NodeId, text: &str, sight: Sight<'_>) -> Option<Arc<Formula>> {
    let formula = match Formula::compile(text) {
        Ok(formula) => formula,
        Err(error) => {
            let at = text.get(..error.offset).map_or(0, |before| before.chars().count()) + 1;
            let help =
                "formulas are written in CEL: caller.name, request.headers[\"x-a\"], \"a\" + principal.client_id";
            context.findings.error(node, format!("this is no formula: {}, at character {at}", error.message), help);
            return None;
        }
    };
    for (message, help) in judge(&formula.uses(), sight) {
        context.findings.error(node, message, help);
    }
    Some(Arc::new(formula))
}

/// The formula of a table that holds nothing else.
pub(super) fn table(
    context: &Context<'_>,
    node: NodeId,
    written: &FormulaTable,
    sight: Sight<'_>,
) -> Option<Arc<Formula>> {
    let (at, text) = context.findings.required(&written.formula, node, "formula", "write { formula = \"…\" }")?;
    compile(context, at, text, sight)
}

/// What a formula refers to that will not be there, each with what to do.
fn judge(uses: &Uses, sight: Sight<'_>) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    if sight.when == When::Mint {
        for name in [("caller", uses.caller), ("request", uses.request)].iter().filter(|(_, is_used)| *is_used) {
            let help = "refer to `principal` and `secrets` only; what depends on the caller belongs in a header";
            let message = format!("`{}` is not known here: the token is made once, for all callers", name.0);
            faults.push((message, help.to_owned()));
        }
    }
    let Some(principals) = sight.principals else { return faults };
    if principals.is_empty() && uses.principal {
        let help = "add `external_credential`: it says who the principals are";
        faults.push(("there is no principal without an external credential".to_owned(), help.to_owned()));
    }
    for name in uses.secrets.iter().flatten() {
        faults.extend(secret(name, principals));
    }
    faults
}

/// What is wrong with `secrets.NAME`, if anything.
fn secret(name: &str, principals: &[PrincipalSettings]) -> Option<(String, String)> {
    let has = |principal: &&PrincipalSettings| principal.secrets.iter().any(|(known, _)| known == name);
    let without = principals.iter().find(|principal| !has(principal));
    if principals.iter().any(|principal| has(&principal)) {
        let without = without?;
        let message = format!("the principal {} has no secret `{name}`", without.name);
        return Some((
            message,
            "add it to `secrets` of the principal, or of the external credential for all".to_owned(),
        ));
    }
    let mut known: Vec<&str> =
        principals.iter().flat_map(|principal| &principal.secrets).map(|(name, _)| name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    let help = match (nearest(name, known.iter().copied()), known.as_slice()) {
        (Some(meant), _) => format!("did you mean `secrets.{meant}`?"),
        (None, []) => format!("add it to the external credential: secrets = {{ {name} = {{ env = \"NAME\" }} }}"),
        (None, known) => format!("the secrets known here are `{}`", known.join("`, `")),
    };
    Some((format!("there is no secret `{name}`"), help))
}

#[cfg(test)]
mod tests {
    use super::{Sight, When, judge};
    use crate::formula::Uses;
    use crate::secret::Secret;
    use crate::token::PrincipalSettings;

    fn principal(name: &str, secrets: &[&str]) -> PrincipalSettings {
        let secrets = secrets.iter().map(|name| ((*name).to_owned(), Secret::new("canary".to_owned()))).collect();
        PrincipalSettings { secrets, ..PrincipalSettings::sample(name) }
    }

    fn faults(uses: &Uses, when: When, principals: Option<&[PrincipalSettings]>) -> String {
        judge(uses, Sight { when, principals }).iter().map(|(message, help)| format!("{message} | {help}\n")).collect()
    }

    #[test]
    fn what_is_made_once_for_all_callers_does_not_depend_on_one() {
        let uses = Uses { caller: true, request: true, secrets: Some(Vec::new()), ..Uses::default() };
        let found = faults(&uses, When::Mint, None);
        assert!(
            found.contains("`caller` is not known here") && found.contains("`request` is not known here"),
            "{found}"
        );
        assert_eq!(faults(&uses, When::Exchange, None), "");
    }

    #[test]
    fn a_secret_that_nobody_has_is_named_with_those_that_are_known() {
        let uses = |name: &str| Uses { secrets: Some(vec![name.to_owned()]), ..Uses::default() };
        let both = [principal("a", &["hmac_key", "pin"]), principal("b", &["hmac_key"])];
        for (name, principals, expected) in [
            ("hmac_key", &both[..], ""),
            ("hmac_kye", &both, "there is no secret `hmac_kye` | did you mean `secrets.hmac_key`?"),
            ("other", &both, "the secrets known here are `hmac_key`, `pin`"),
            ("pin", &both, "the principal b has no secret `pin`"),
            ("x", &both[..0], "there is no secret `x` | add it to the external credential: secrets = { x ="),
        ] {
            let found = faults(&uses(name), When::Mint, Some(principals));
            assert_eq!(found.is_empty(), expected.is_empty(), "{name}: {found}");
            assert!(found.contains(expected), "{name}: {found}");
            assert!(!found.contains("canary"));
        }
        assert_eq!(faults(&uses("x"), When::Mint, None), "");
        assert_eq!(faults(&Uses::default(), When::Mint, Some(&both)), "", "a computed name cannot be judged");
    }

    #[test]
    fn without_an_external_credential_there_is_no_principal() {
        let uses = Uses { principal: true, ..Uses::default() };
        assert!(faults(&uses, When::Exchange, Some(&[])).contains("no principal without an external credential"));
    }
}
