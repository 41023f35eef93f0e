//! The principals of an external credential, with names that keybearer takes.

use super::metadata::Parameter;
use super::note::{Notes, shown};
use crate::name::Name;

/// A named principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principal {
    /// Its name here.
    pub(super) name: Name,
    /// Its name in Salesforce.
    pub(super) original: String,
    /// Its sequence number, where all have one.
    pub(super) sequence: Option<u64>,
}

/// All named principals in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Principals {
    pub(super) list: Vec<Principal>,
    /// Whether there are principals of the kind that each user has for themselves.
    pub(super) are_per_user: bool,
}

impl Principals {
    /// Reads `NamedPrincipal` and reports `PerUserPrincipal`.
    pub(super) fn read(parameters: &[Parameter<'_>], notes: &mut Notes) -> Self {
        let mut named: Vec<&Parameter<'_>> =
            parameters.iter().filter(|parameter| parameter.kind == "NamedPrincipal").collect();
        named.sort_by_key(|parameter| parameter.sequence.unwrap_or(u64::MAX));
        let mut numbers: Vec<Option<u64>> = named.iter().map(|parameter| parameter.sequence).collect();
        numbers.dedup();
        let are_numbered = numbers.len() == named.len() && numbers.iter().all(|number| number.is_some_and(|n| n > 0));
        let mut principals = Self::default();
        for parameter in named {
            if principals.named(&parameter.name).is_some() {
                notes.error(parameter.at, format!("the principal {} is there twice", shown(&parameter.name)));
                continue;
            }
            let Some(name) = principals.free_name(&parameter.name) else { continue };
            if name.as_str() != parameter.name {
                notes.remark(parameter.at, format!("the principal {} is called `{name}` here", shown(&parameter.name)));
            }
            let sequence = parameter.sequence.filter(|_| are_numbered);
            principals.list.push(Principal { name, original: parameter.name.clone(), sequence });
        }
        for parameter in parameters.iter().filter(|parameter| parameter.kind == "PerUserPrincipal") {
            principals.are_per_user = true;
            let message = format!(
                "the per-user principal {}: keybearer knows callers, not users; give each kind of caller a principal \
                 of its own",
                shown(&parameter.name)
            );
            notes.not_carried_over(parameter.at, message);
        }
        principals
    }

    /// The one principal of a credential that names none.
    pub(super) fn only_default() -> Vec<Principal> {
        let name = Name::parse("default").ok();
        name.map(|name| Principal { name, original: "default".to_owned(), sequence: None }).into_iter().collect()
    }

    /// The principal that Salesforce calls this.
    pub(super) fn named(&self, original: &str) -> Option<&Principal> {
        self.list.iter().find(|principal| principal.original == original)
    }

    /// A name as near to Salesforce's as our rule allows.
    fn free_name(&self, original: &str) -> Option<Name> {
        let letters = original.split(|letter: char| !letter.is_ascii_alphanumeric());
        let mut words = letters.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_");
        if !words.starts_with(|first: char| first.is_ascii_alphabetic()) {
            words = format!("principal_{words}");
        }
        words.truncate(70);
        let words = words.trim_end_matches('_');
        let candidates = (1_u32..).map(|n| if n == 1 { words.to_owned() } else { format!("{words}_{n}") });
        let mut free =
            candidates.filter(|name| !self.list.iter().any(|other| other.name.as_str().eq_ignore_ascii_case(name)));
        Name::parse(&free.next()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Principal, Principals};

    #[test]
    fn names_are_as_near_as_the_rule_allows_and_each_its_own() {
        let mut principals = Principals::default();
        for (original, name) in [
            ("Orders_Principal", "Orders_Principal"),
            ("Fresh works  user", "Fresh_works_user"),
            ("Fresh-works-user", "Fresh_works_user_2"),
            ("2nd", "principal_2nd"),
            ("日本", "principal"),
            ("_x_", "x"),
        ] {
            let free = principals.free_name(original).unwrap();
            assert_eq!(free.as_str(), name);
            principals.list.push(Principal { name: free, original: original.to_owned(), sequence: None });
        }
        assert!(principals.free_name(&"a ".repeat(200)).is_some());
    }
}
