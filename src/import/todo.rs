//! What the metadata does not hold and somebody has to bring: secrets as environment variables, keys and certificates
//! as files.

use std::collections::BTreeSet;

use super::output::Value;

/// One thing to bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToDo {
    /// Where keybearer will look for it.
    pub place: Place,
    /// What it is.
    pub what: String,
    /// Where it is now.
    pub source: String,
}

/// Where keybearer will look for what is to be brought.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An environment variable of this name.
    Variable(String),
    /// A file of this name, relative to the configuration.
    File(String),
}

/// The list, which gives each variable a name of its own.
#[derive(Debug, Default)]
pub(super) struct ToDos {
    taken: BTreeSet<String>,
    list: Vec<ToDo>,
}

impl ToDos {
    /// A secret: the reference to its variable, whose name is made of `parts`.
    pub(super) fn secret(&mut self, parts: &[&str], what: String, source: String) -> Value {
        let wanted = parts.join("_").to_ascii_uppercase();
        let mut name = wanted.clone();
        for number in 2_u32.. {
            if self.taken.insert(name.clone()) {
                break;
            }
            name = format!("{wanted}_{number}");
        }
        self.list.push(ToDo { place: Place::Variable(name.clone()), what, source });
        Value::reference("env", name)
    }

    /// A secret that several principals share: the same reference for the same thing.
    pub(super) fn shared(&mut self, parts: &[&str], what: String, source: String) -> Value {
        let known = self.list.iter().find_map(|todo| match &todo.place {
            Place::Variable(name) if todo.what == what && todo.source == source => Some(name.clone()),
            Place::Variable(_) | Place::File(_) => None,
        });
        match known {
            Some(name) => Value::reference("env", name),
            None => self.secret(parts, what, source),
        }
    }

    /// A file, said once however many use it.
    pub(super) fn file(&mut self, path: &str, what: String, source: String) -> Value {
        if self.taken.insert(path.to_owned()) {
            self.list.push(ToDo { place: Place::File(path.to_owned()), what, source });
        }
        Value::text(path)
    }

    /// Variables by name, which keeps those of a credential together, then files.
    pub(super) fn into_sorted(mut self) -> Vec<ToDo> {
        self.list.sort_by(|a, b| a.place.cmp(&b.place));
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::{ToDos, Value};

    #[test]
    fn each_secret_has_a_variable_of_its_own_and_each_file_one_line() {
        let mut todos = ToDos::default();
        let mut secret = |parts: &[&str]| todos.secret(parts, String::new(), String::new());
        assert_eq!(secret(&["Orders", "A_B", "key"]), Value::reference("env", "ORDERS_A_B_KEY"));
        assert_eq!(secret(&["Orders_A", "B", "key"]), Value::reference("env", "ORDERS_A_B_KEY_2"));
        assert_eq!(secret(&["orders_a", "b", "key"]), Value::reference("env", "ORDERS_A_B_KEY_3"));
        for _ in 0..2 {
            todos.file("certificates/a.pem", String::new(), String::new());
        }
        assert_eq!(todos.into_sorted().len(), 4);
    }
}
