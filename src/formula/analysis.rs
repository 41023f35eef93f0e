//! What a tree may hold, and what it refers to.
//!
//! Everything a formula can name is known beforehand, so a misspelt name is an error when the configuration is read
//! and not when a request comes. Two forms are rewritten on the way: `secrets["NAME"]` and `request.headers["name"]`
//! become members, which the variables answer one by one; and `sign_with_certificate` becomes `sign` with the secret
//! that it names.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use super::compile::Places;
use super::{FormulaError, Uses, algorithm};

/// The variables that have fixed members, and these.
const MEMBERS: [(&str, &[&str]); 3] = [
    ("caller", &["name", "names"]),
    ("principal", &["name", "client_id", "username"]),
    ("request", &["method", "host", "path", "query", "headers"]),
];

const VARIABLES: &str = "`caller`, `principal`, `request`, `secrets` and `now`";

/// Names of types, for `type(x) == string`.
const TYPES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

const OPERATORS: [&str; 21] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::OPT_INDEX,
    operators::OPT_SELECT,
    operators::NOT_STRICTLY_FALSE,
    operators::IN,
];

/// The standard's functions.
const STANDARD: [&str; 10] = ["bool", "bytes", "double", "dyn", "int", "matches", "size", "string", "type", "uint"];
/// The standard's functions that are called on a value.
const METHODS: [&str; 9] =
    ["contains", "endsWith", "hasValue", "matches", "or", "orValue", "size", "startsWith", "value"];
/// The functions of the namespace `optional`.
const OPTIONAL: [&str; 3] = ["none", "of", "ofNonZeroValue"];
/// Our own, and how many arguments they take.
const OWN: [(&str, usize); 8] = [
    ("base64_decode", 1),
    ("base64_encode", 1),
    ("blob", 1),
    ("hash", 2),
    ("hex", 1),
    ("hmac", 3),
    ("sign", 3),
    ("sign_with_certificate", 3),
];

/// Whether `name` is one of our own functions.
pub(super) fn is_own(name: &str) -> bool {
    OWN.iter().any(|(own, _)| *own == name)
}

/// A walk over a tree.
pub(super) struct Analysis<'a> {
    places: &'a Places<'a>,
    uses: Uses,
    /// Names that a macro such as `map` brought in.
    scope: Vec<String>,
    levels_left: usize,
}

impl<'a> Analysis<'a> {
    pub(super) fn new(places: &'a Places<'a>, deepest: usize) -> Self {
        let uses = Uses { secrets: Some(Vec::new()), ..Uses::default() };
        Self { places, uses, scope: Vec::new(), levels_left: deepest }
    }

    /// Walks and rewrites `expression`.
    pub(super) fn judge(mut self, expression: &mut IdedExpr) -> Result<Uses, FormulaError> {
        self.walk(expression)?;
        Ok(self.uses)
    }

    fn walk(&mut self, node: &mut IdedExpr) -> Result<(), FormulaError> {
        let Some(left) = self.levels_left.checked_sub(1) else {
            return Err(self.places.error(node.id, "the formula is nested too deeply"));
        };
        self.levels_left = left;
        rewrite_index(node);
        let id = node.id;
        match &mut node.expr {
            Expr::Literal(_) => {}
            Expr::Ident(name) => self.variable(id, name)?,
            Expr::Select(select) => self.member(id, select)?,
            Expr::Call(call) => self.call(id, call)?,
            Expr::List(list) => self.all(&mut list.elements)?,
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => self.walk(&mut entry.key).and_then(|()| self.walk(&mut entry.value)),
                EntryExpr::StructField(_) => Err(self.places.error(id, "messages cannot be used here")),
            })?,
            Expr::Comprehension(comprehension) => self.comprehension(id, comprehension)?,
            Expr::Struct(_) => return Err(self.places.error(id, "messages cannot be used here")),
            Expr::Unspecified => return Err(self.places.error(id, "this is not a CEL expression")),
        }
        self.levels_left = left + 1;
        Ok(())
    }

    fn all(&mut self, nodes: &mut [IdedExpr]) -> Result<(), FormulaError> {
        nodes.iter_mut().try_for_each(|node| self.walk(node))
    }

    fn variable(&mut self, id: u64, name: &str) -> Result<(), FormulaError> {
        if self.is_local(name) || name == "now" || TYPES.contains(&name) {
            return Ok(());
        }
        if name == "secrets" {
            self.uses.secrets = None;
            return Ok(());
        }
        Err(match MEMBERS.iter().find(|(variable, _)| *variable == name) {
            Some((_, members)) => {
                self.places.error(id, format!("`{name}` is not a value; write {}", listed(name, members)))
            }
            None => self.places.error(id, format!("there is no variable `{name}`; there are {VARIABLES}")),
        })
    }

    fn member(&mut self, id: u64, select: &mut SelectExpr) -> Result<(), FormulaError> {
        let field = select.field.as_str();
        if let Some(variable) = self.global(&select.operand) {
            if variable == "secrets" {
                self.secret(field);
                return Ok(());
            }
            if let Some((variable, members)) = MEMBERS.iter().find(|(known, _)| *known == variable) {
                self.fixed_member(id, variable, members, select)?;
                return Ok(());
            }
        }
        if is_headers(&select.operand) {
            self.field_name(id, field)?;
        }
        self.walk(&mut select.operand)
    }

    fn fixed_member(
        &mut self,
        id: u64,
        variable: &str,
        members: &[&str],
        select: &SelectExpr,
    ) -> Result<(), FormulaError> {
        let field = select.field.as_str();
        if !members.contains(&field) {
            let message = format!("`{variable}` has no member `{field}`; there are {}", listed(variable, members));
            return Err(self.places.error(id, message));
        }
        if select.test {
            return Err(self.places.error(id, format!("`{variable}.{field}` is always there")));
        }
        match variable {
            "caller" => self.uses.caller = true,
            "principal" => self.uses.principal = true,
            _ => self.uses.request = true,
        }
        Ok(())
    }

    fn secret(&mut self, name: &str) {
        if let Some(names) = &mut self.uses.secrets
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }

    fn field_name(&self, id: u64, name: &str) -> Result<(), FormulaError> {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let message = format!("the names in `request.headers` are in lower case: `{}`", name.to_ascii_lowercase());
            return Err(self.places.error(id, message));
        }
        Ok(())
    }

    fn call(&mut self, id: u64, call: &mut CallExpr) -> Result<(), FormulaError> {
        let name = call.func_name.as_str();
        if let Some(target) = &mut call.target {
            if self.is_optional(target) && OPTIONAL.contains(&name) {
                return self.all(&mut call.args);
            }
            if !METHODS.contains(&name) {
                return Err(self.unknown_function(id, name));
            }
            let Some(target) = &mut call.target else { return Ok(()) };
            self.walk(target)?;
            return self.all(&mut call.args);
        }
        if let Some((_, wanted)) = OWN.iter().find(|(own, _)| *own == name) {
            self.own_function(id, *wanted, call)?;
        } else if !STANDARD.contains(&name) && !OPERATORS.contains(&name) {
            return Err(self.unknown_function(id, name));
        }
        if call.func_name == operators::IN
            && let [sought, place] = call.args.as_slice()
            && let (Some(name), true) = (literal(sought), is_headers(place))
        {
            self.field_name(sought.id, name)?;
        }
        self.all(&mut call.args)
    }

    fn unknown_function(&self, id: u64, name: &str) -> FormulaError {
        let own: Vec<String> = OWN.iter().map(|(own, _)| format!("`{own}`")).collect();
        let message = format!("there is no function `{name}`; beside those of CEL there are {}", own.join(", "));
        self.places.error(id, message)
    }

    /// Checks what can be checked before there are values.
    fn own_function(&mut self, id: u64, wanted: usize, call: &mut CallExpr) -> Result<(), FormulaError> {
        let name = call.func_name.clone();
        if call.args.len() != wanted {
            let arguments = if wanted == 1 { "argument" } else { "arguments" };
            return Err(self.places.error(id, format!("`{name}` takes {wanted} {arguments}")));
        }
        if let Some(first) = call.args.first()
            && let Some(algorithm) = literal(first)
        {
            let known = match name.as_str() {
                "hash" | "hmac" => algorithm::hash(algorithm).is_some(),
                "sign" | "sign_with_certificate" => algorithm::signature(algorithm).is_some(),
                _ => true,
            };
            if !known {
                let help = algorithm::known(&name);
                return Err(self.places.error(first.id, format!("`{name}` does not know `{algorithm}`; {help}")));
            }
        }
        if name == "sign_with_certificate"
            && let Some(last) = call.args.last_mut()
        {
            let Some(secret) = literal(last).map(str::to_owned) else {
                let message = "the last argument of `sign_with_certificate` is the name of a secret, as a plain text";
                return Err(self.places.error(last.id, message));
            };
            let operand = Box::new(IdedExpr { id: last.id, expr: Expr::Ident("secrets".to_owned()) });
            last.expr = Expr::Select(SelectExpr { operand, field: secret, test: false });
            call.func_name = "sign".to_owned();
        }
        Ok(())
    }

    /// What a macro became. One within another is refused: the time an evaluation takes stays linear.
    fn comprehension(&mut self, id: u64, node: &mut ComprehensionExpr) -> Result<(), FormulaError> {
        self.walk(&mut node.iter_range)?;
        self.walk(&mut node.accu_init)?;
        if !self.scope.is_empty() {
            return Err(self.places.error(id, "a macro such as `map` or `exists` cannot stand within another"));
        }
        let names = [Some(&node.iter_var), node.iter_var2.as_ref(), Some(&node.accu_var)];
        for name in names.into_iter().flatten() {
            if name == "secrets" || name == "now" || MEMBERS.iter().any(|(variable, _)| variable == name) {
                return Err(self.places.error(id, format!("`{name}` is a variable already")));
            }
            self.scope.push(name.clone());
        }
        self.walk(&mut node.loop_cond)?;
        self.walk(&mut node.loop_step)?;
        self.walk(&mut node.result)?;
        self.scope.clear();
        Ok(())
    }

    fn is_local(&self, name: &str) -> bool {
        self.scope.iter().any(|local| local == name)
    }

    /// The name of a variable that no macro brought in.
    fn global<'n>(&self, node: &'n IdedExpr) -> Option<&'n str> {
        let Expr::Ident(name) = &node.expr else { return None };
        Some(name.as_str()).filter(|name| !self.is_local(name))
    }

    fn is_optional(&self, node: &IdedExpr) -> bool {
        self.global(node) == Some("optional")
    }
}

fn listed(variable: &str, members: &[&str]) -> String {
    let members: Vec<String> = members.iter().map(|member| format!("`{variable}.{member}`")).collect();
    members.join(", ")
}

fn literal(node: &IdedExpr) -> Option<&str> {
    let Expr::Literal(LiteralValue::String(text)) = &node.expr else { return None };
    Some(text.inner())
}

fn is_variable(node: &IdedExpr, name: &str) -> bool {
    matches!(&node.expr, Expr::Ident(known) if known == name)
}

fn is_headers(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Select(select)
        if !select.test && select.field == "headers" && is_variable(&select.operand, "request"))
}

/// `secrets["NAME"]` and `request.headers["name"]` as members, whatever characters are in the name.
fn rewrite_index(node: &mut IdedExpr) {
    let Expr::Call(call) = &mut node.expr else { return };
    if call.func_name != operators::INDEX || call.target.is_some() {
        return;
    }
    let [place, key] = call.args.as_mut_slice() else { return };
    if !is_variable(place, "secrets") && !is_headers(place) {
        return;
    }
    let Some(field) = literal(key).map(str::to_owned) else { return };
    let operand = Box::new(std::mem::take(place));
    node.expr = Expr::Select(SelectExpr { operand, field, test: false });
}
