//! `keybearer import salesforce PATH…`: finds and reads the files, writes the configuration. What the files mean is the
//! concern of `import`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{FAILURE, Format, Global};
use crate::import::{self, File, Import, Place};

/// No metadata file is longer.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Folders in each other; a project has seven.
const DEEPEST: usize = 32;

/// Arguments of `keybearer import`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    Salesforce(Salesforce),
}

/// Turn Salesforce named and external credentials into a configuration
///
/// Reads metadata in source format (`*.namedCredential-meta.xml`, `*.externalCredential-meta.xml`,
/// `*.externalAuthIdentityProvider-meta.xml`, `*.permissionset-meta.xml`) or in the older format without `-meta.xml`,
/// as `sf project retrieve start` leaves it. The configuration goes to standard output or to FILE; a list of the
/// secrets to set, and of everything that is not carried over, with file and line, goes to standard error and into the
/// head of the configuration.
///
/// Metadata holds no secrets. Each becomes a reference to an environment variable, which you may change into
/// `{ file = "…" }` or `{ command = […] }`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0; 1 if a file had errors (what could be read is written all the same) or nothing \
                        was found; 2 for usage.\n\nExample:\n  keybearer import salesforce force-app --output proxy.toml\n  \
                        keybearer check"
)]
struct Salesforce {
    /// Files, or folders that are searched
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where to write the configuration; a file that exists is left alone
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> u8 {
    let From::Salesforce(arguments) = &arguments.from;
    let mut search = Search::default();
    for path in &arguments.paths {
        search.path(path);
    }
    let Search { mut found, faults } = search;
    for fault in &faults {
        anstream::eprintln!("keybearer: {fault}");
    }
    if found.is_empty() {
        if faults.is_empty() {
            let paths: Vec<String> = arguments.paths.iter().map(|path| path.display().to_string()).collect();
            anstream::eprintln!(
                "keybearer: no Salesforce metadata in {}: no file there ends in .namedCredential-meta.xml or \
                 .externalCredential-meta.xml",
                paths.join(", ")
            );
        }
        return FAILURE;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    let import = import::salesforce(&found);
    match write(&import, arguments.output.as_deref(), global.format) {
        Ok(()) if faults.is_empty() && !import.has_errors() => 0,
        Ok(()) => FAILURE,
        Err(message) => {
            anstream::eprintln!("keybearer: {message}");
            FAILURE
        }
    }
}

fn write(import: &Import, output: Option<&Path>, format: Format) -> Result<(), String> {
    if let Some(path) = output {
        let created = fs::OpenOptions::new().write(true).create_new(true).open(path);
        let written = created.and_then(|mut file| file.write_all(import.toml.as_bytes()));
        written.map_err(|error| {
            let path = path.display();
            if error.kind() == io::ErrorKind::AlreadyExists {
                return format!("{path} exists, and is left as it is; remove it or name another file");
            }
            format!("cannot write {path}: {error}")
        })?;
    }
    let text = match (format, output) {
        (Format::Text, Some(_)) => String::new(),
        (Format::Text, None) => import.toml.clone(),
        (Format::Json, _) => format!("{:#}\n", as_json(import, output.is_none())),
    };
    io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot write to standard output: {error}"))?;
    if format == Format::Text {
        anstream::eprint!("{}", import.report());
    }
    Ok(())
}

/// Everything for a script; the configuration too, where it goes nowhere else.
fn as_json(import: &Import, with_configuration: bool) -> Value {
    let todos = import.todos.iter().map(|todo| {
        let (kind, place) = match &todo.place {
            Place::Variable(name) => ("env", name),
            Place::File(path) => ("file", path),
        };
        json!({ (kind): place, "what": todo.what, "source": todo.source })
    });
    let notes = import.notes.iter().map(
        |note| json!({ "kind": note.kind.as_str(), "file": note.file, "line": note.line, "message": note.message }),
    );
    let mut whole = json!({ "to_do": todos.collect::<Vec<_>>(), "notes": notes.collect::<Vec<_>>() });
    if let Some(members) = whole.as_object_mut().filter(|_| with_configuration) {
        members.insert("configuration".to_owned(), Value::from(import.toml.as_str()));
    }
    whole
}

/// Looks for metadata; what cannot be read does not keep the rest from being found.
#[derive(Default)]
struct Search {
    found: Vec<File>,
    faults: Vec<String>,
}

impl Search {
    fn path(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path, DEEPEST),
            Ok(_) if is_metadata(path) => self.file(path),
            Ok(_) => self.faults.push(format!(
                "{} is no metadata of credentials: its name ends in none of .namedCredential, .externalCredential, \
                 .externalAuthIdentityProvider and .permissionset, with or without -meta.xml",
                path.display()
            )),
            Err(error) => self.faults.push(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// Links to folders are not followed, so there are no circles.
    fn folder(&mut self, folder: &Path, levels: usize) {
        let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.faults.push(format!("cannot read {}: {error}", folder.display())),
        };
        for entry in entries {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            match levels.checked_sub(1) {
                Some(levels) if is_folder => self.folder(&path, levels),
                None if is_folder => self.faults.push(format!("{} lies too deep and is not searched", path.display())),
                Some(_) | None if is_metadata(&path) => self.file(&path),
                Some(_) | None => {}
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let read = fs::metadata(path).and_then(|metadata| match metadata.len() {
            length if length > LONGEST => Err(io::Error::other("it is longer than any metadata")),
            _ => fs::read_to_string(path),
        });
        match read {
            Ok(text) => self.found.push(File { path: path.display().to_string(), text }),
            Err(error) => self.faults.push(format!("cannot read {}: {error}", path.display())),
        }
    }
}

fn is_metadata(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(import::is_metadata)
}
