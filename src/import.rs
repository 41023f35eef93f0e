//! Salesforce metadata → a configuration, with a list of what somebody has to bring and of what is not carried over.
//!
//! Pure: takes the texts of files, touches neither disk nor network. Nothing is guessed: what is not understood is named
//! with file and line, and its file is left out. Secrets are never in this metadata by design, and where a file holds
//! one all the same it is not repeated. The vocabulary is that of the Metadata API guide, releases 56.0 to 67.0.

mod access;
mod claims;
mod draft;
mod external;
mod flow;
mod formula;
mod header;
mod legacy;
mod merge;
mod metadata;
mod named;
mod note;
mod output;
mod principal;
mod provider;
mod report;
mod status;
#[cfg(test)]
mod tests;
mod todo;
mod url;

use self::external::External;
use self::flow::{Carrier, Outcome};
use self::metadata::Element;
use self::named::Named;
use self::note::{Notes, shown};
use self::output::Table;
use self::provider::Provider;
use self::todo::ToDos;
use crate::name::Name;

pub use self::note::{Kind, Note};
pub use self::todo::{Place, ToDo};

/// A file of metadata.
#[derive(Clone, Debug)]
pub struct File {
    /// What notes call it: the path as it was given or found. The credential's name is its last part.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// What became of the files.
#[derive(Clone, Debug)]
pub struct Import {
    /// The configuration; its head repeats the lists below as comments.
    pub toml: String,
    /// What somebody has to bring: every variable and file that the configuration refers to.
    pub todos: Vec<ToDo>,
    /// What there is to say, worst first.
    pub notes: Vec<Note>,
}

/// What a file holds, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Component {
    Provider,
    External,
    Named,
    PermissionSet,
}

const COMPONENTS: [(Component, &str, &str); 4] = [
    (Component::Provider, "externalAuthIdentityProvider", "ExternalAuthIdentityProvider"),
    (Component::External, "externalCredential", "ExternalCredential"),
    (Component::Named, "namedCredential", "NamedCredential"),
    (Component::PermissionSet, "permissionset", "PermissionSet"),
];

/// Whether a file of this name is one that can be imported.
#[must_use]
pub fn is_metadata(file_name: &str) -> bool {
    component(file_name).is_some()
}

impl Import {
    /// Whether a file was left out because it is not what it should be.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.notes.iter().any(|note| note.kind == Kind::Error)
    }

    /// The lists in lines, for people.
    #[must_use]
    pub fn report(&self) -> String {
        report::lines(self).iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Imports metadata of Salesforce. The order of the files does not matter.
#[must_use]
pub fn salesforce(files: &[File]) -> Import {
    let mut notes = Notes::default();
    let mut todos = ToDos::default();
    let sources = sources(files, &mut notes);
    let tables = tables(&sources, &mut notes, &mut todos);
    let mut notes = notes.into_sorted();
    notes.dedup();
    let mut import = Import { toml: String::new(), todos: todos.into_sorted(), notes };
    let mut head = vec!["Imported from Salesforce metadata by `keybearer import salesforce`.".to_owned()];
    let lines = report::lines(&import);
    if !lines.is_empty() {
        head.push(String::new());
        head.extend(lines);
    }
    import.toml = output::render(&head, &tables);
    import
}

/// A well-formed file with a good name.
struct Source<'f> {
    component: Component,
    name: &'f str,
    file: note::Place<'f>,
    elements: Vec<Element<'f>>,
}

/// The files that can be read, in the order in which they are looked at.
fn sources<'f>(files: &'f [File], notes: &mut Notes) -> Vec<Source<'f>> {
    let mut sources: Vec<Source<'f>> = Vec::new();
    for file in files {
        let at = note::Place { file: &file.path, line: 1 };
        let file_name = file.path.rsplit(['/', '\\']).next().unwrap_or_default();
        let Some((component, name, root)) = component(file_name) else {
            notes.error(at, "the name of the file does not say what metadata it holds");
            continue;
        };
        // Only credentials give their names to something of ours.
        if matches!(component, Component::External | Component::Named)
            && let Err(error) = Name::parse(name)
        {
            notes.error(at, format!("the name of the file makes the credential {}: {error}", shown(name)));
            continue;
        }
        let Some(elements) = metadata::read(&file.path, &file.text, root, notes) else { continue };
        let is_same = |other: &&Source<'_>| other.component == component && other.name.eq_ignore_ascii_case(name);
        if let Some(other) = sources.iter().find(is_same) {
            notes.error(at, format!("{} is in {} already", shown(name), other.file.file));
            continue;
        }
        sources.push(Source { component, name, file: at, elements });
    }
    sources.sort_by(|a, b| (a.component, a.name).cmp(&(b.component, b.name)));
    sources
}

fn component(file_name: &str) -> Option<(Component, &str, &'static str)> {
    let plain = file_name.strip_suffix("-meta.xml").unwrap_or(file_name);
    COMPONENTS.into_iter().find_map(|(component, suffix, root)| {
        let name = plain.strip_suffix(suffix)?.strip_suffix('.')?;
        Some((component, name, root))
    })
}

/// External credentials, then named ones: the order in which they refer to each other is the other way round, so named
/// credentials are read before external ones are finished.
fn tables(sources: &[Source<'_>], notes: &mut Notes, todos: &mut ToDos) -> Vec<Table> {
    let of = |component: Component| sources.iter().filter(move |source| source.component == component);
    let providers: Vec<Provider<'_>> = of(Component::Provider)
        .filter_map(|source| sound(notes, |notes| Provider::read(source.name, source.file, &source.elements, notes)))
        .collect();
    let mut externals: Vec<(String, Outcome)> = Vec::new();
    for source in of(Component::External) {
        let read = sound(notes, |notes| External::read(source.name, source.file, &source.elements, notes));
        let outcome = match &read {
            Some(external) => Carrier { external, providers: &providers, notes, todos }.carry_over(),
            None => Outcome::Left(flow::HAS_ERRORS),
        };
        externals.push((source.name.to_owned(), outcome));
    }
    let mut named = Vec::new();
    for Source { name, file, elements, .. } in of(Component::Named) {
        let file = *file;
        named.extend(Named { name, file, elements, externals: &mut externals, notes, todos }.carry_over());
    }
    for source in of(Component::PermissionSet) {
        access::propose(source.name, &source.elements, &externals, notes);
    }
    let mut tables = Vec::new();
    for (_, outcome) in externals {
        if let Outcome::Carried(draft) = outcome {
            tables.extend(draft.finish(todos));
        }
    }
    tables.extend(named);
    tables
}

/// What was read, if reading it found no error.
fn sound<T>(notes: &mut Notes, read: impl FnOnce(&mut Notes) -> Option<T>) -> Option<T> {
    let errors = notes.errors();
    let value = read(notes);
    value.filter(|_| notes.errors() == errors)
}

/// Where a certificate's private key is.
fn key_source(certificate: &str) -> String {
    format!("Setup > Certificate and Key Management > {}, Export to Keystore", note::one_line(certificate))
}
