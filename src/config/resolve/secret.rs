//! References to secrets, followed.

use std::error::Error;

use super::context::Context;
use crate::config::Secrets;
use crate::config::document::{Literal, SecretReference, TextOrSecret, ValueReference};
use crate::config::field::Field;
use crate::config::tree::NodeId;
use crate::secret::{Secret, SecretError, SecretSource};

/// The keys of a reference to a secret.
pub(super) struct Keys<'a> {
    env: &'a Field<String>,
    file: &'a Field<String>,
    command: &'a Field<Vec<Field<String>>>,
    dangerous_literal: &'a Field<Literal>,
}

impl<'a> From<&'a SecretReference> for Keys<'a> {
    fn from(SecretReference { env, file, command, dangerous_literal }: &'a SecretReference) -> Self {
        Self { env, file, command, dangerous_literal }
    }
}

impl<'a> From<&'a ValueReference> for Keys<'a> {
    fn from(ValueReference { env, file, command, dangerous_literal, formula: _ }: &'a ValueReference) -> Self {
        Self { env, file, command, dangerous_literal }
    }
}

impl Keys<'_> {
    fn nodes(&self) -> [Option<NodeId>; 4] {
        [self.env.node(), self.file.node(), self.command.node(), self.dangerous_literal.node()]
    }

    /// Whether one of them is there.
    pub(super) fn is_any_there(&self) -> bool {
        self.nodes().iter().any(Option::is_some)
    }
}

/// The secret that a reference at `node` leads to.
pub(super) fn read<'a>(context: &Context<'_>, node: NodeId, reference: impl Into<Keys<'a>>) -> Option<Secret> {
    let source = source(context, node, reference)?;
    if context.secrets == Secrets::Leave {
        return Some(Secret::new(String::new()));
    }
    match source.read() {
        Ok(secret) => Some(secret),
        Err(error) => {
            context.findings.error(node, explain(&error), advice(&error));
            None
        }
    }
}

/// The secret of a key that takes nothing else.
pub(super) fn field(context: &Context<'_>, field: &Field<SecretReference>) -> Option<Secret> {
    field.get().and_then(|(node, reference)| read(context, node, reference))
}

/// A literal, or the secret that a reference leads to.
pub(super) fn text_or_secret(context: &Context<'_>, field: &Field<TextOrSecret>) -> Option<Secret> {
    match field.get()? {
        (_, TextOrSecret::Text(text)) => Some(Secret::new(text.clone())),
        (node, TextOrSecret::Table(reference)) => read(context, node, reference),
    }
}

/// The one source that a reference names, for secrets that are read later.
pub(super) fn source<'a>(context: &Context<'_>, node: NodeId, reference: impl Into<Keys<'a>>) -> Option<SecretSource> {
    let keys = reference.into();
    match keys.nodes().iter().flatten().count() {
        1 => {}
        0 => {
            let keys = ["env", "file", "command", "dangerous_literal", "formula"];
            if !keys.iter().any(|key| context.findings.is_misspelt(node, key)) {
                context.findings.error(node, "this reference leads nowhere", "write { env = \"NAME\" }");
            }
            return None;
        }
        _ => {
            context.findings.error(
                node,
                "a reference to a secret names one place, not several",
                "keep one of its keys",
            );
            return None;
        }
    }
    let Keys { env, file, command, dangerous_literal } = keys;
    if let Some((at, name)) = env.get() {
        return environment(context, at, name);
    }
    if let Some((at, path)) = file.get() {
        return Some(SecretSource::File(context.file(at, path)));
    }
    if let Some((_, words)) = command.get() {
        // A word that is no text has been reported; without it, it would be another command.
        return words.iter().map(|word| word.value().cloned()).collect::<Option<_>>().map(SecretSource::Command);
    }
    dangerous_literal.value().map(|literal| SecretSource::DangerousLiteral(literal.0.clone()))
}

/// A variable's name. What cannot be one is perhaps the secret itself, so it must not get into a message.
fn environment(context: &Context<'_>, node: NodeId, name: &str) -> Option<SecretSource> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Some(SecretSource::Env(name.to_owned()));
    }
    let help = "write the name of the variable that holds the secret: letters, digits and underscores";
    context.findings.error(node, "this is not the name of an environment variable", help);
    None
}

/// An error and its causes as one clause.
pub(super) fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn advice(error: &SecretError) -> &'static str {
    match error {
        SecretError::NotSet(_) => "set it in the environment the proxy is started with",
        SecretError::File(..) => {
            "the path is relative to the configuration file; check that the file is there and readable"
        }
        SecretError::NoCommand => "write the program and its arguments: command = [\"op\", \"read\", \"…\"]",
        SecretError::Spawn(..) => "give the full path of the program; no shell is involved",
        SecretError::Failed(..) => "run it by hand in the same environment to see what it says",
        SecretError::TimedOut(_) => "it must end by itself and not wait for input",
        SecretError::Empty | SecretError::TooLong | SecretError::NotText => "check what the reference leads to",
    }
}
