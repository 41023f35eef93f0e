//! `unix` of a caller: a user, a group or both; names are looked up in the files that passwd(5) and group(5) describe.

use std::path::Path;

use crate::caller::Proof;
use crate::config::document::{CallerUnix, Id};
use crate::config::field::Field;
use crate::config::resolve::context::Context;

/// None where something was reported.
pub(super) fn resolve(context: &Context<'_>, field: &Field<CallerUnix>) -> Option<Proof> {
    let (node, written) = field.get()?;
    if written.uid.node().is_none() && written.gid.node().is_none() {
        if !["uid", "gid"].iter().any(|key| context.findings.is_misspelt(node, key)) {
            let help = "write unix = { uid = 1000 }, { gid = \"billing\" } or both; of both, both must hold";
            context.findings.error(node, "this names neither a user nor a group", help);
        }
        return None;
    }
    let uid = id(context, &written.uid, "user", Path::new("/etc/passwd"));
    let gid = id(context, &written.gid, "group", Path::new("/etc/group"));
    Some(Proof::Unix { uid: uid?, gid: gid? })
}

/// None where something was reported.
fn id(context: &Context<'_>, field: &Field<Id>, what: &str, file: &Path) -> Option<Option<u32>> {
    let (node, id) = match field {
        Field::Missing => return Some(None),
        Field::Wrong(_) => return None,
        Field::Set(node, id) => (*node, &**id),
    };
    let found = match id {
        // The highest number means nobody to the system calls that take one.
        Id::Integer(number) => u32::try_from(number.0).ok().filter(|id| *id != u32::MAX),
        Id::Text(name) => {
            let database = std::fs::read(file).unwrap_or_default();
            let found = find(&String::from_utf8_lossy(&database), name);
            if found.is_none() {
                let message = format!("there is no {what} of this name in {}", file.display());
                context.findings.error(node, message, "write its number instead, or add it where the process runs");
                return None;
            }
            found
        }
    };
    if found.is_none() {
        context.findings.error(node, format!("this is not the number of a {what}"), "write it like 1000");
    }
    found.map(Some)
}

/// The number in the line of this name. Both files begin with name, password and number.
fn find(database: &str, name: &str) -> Option<u32> {
    database.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (found, _password, id) = (fields.next()?, fields.next()?, fields.next()?);
        (found == name && !name.is_empty()).then(|| id.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_number_stands_in_the_third_field_of_the_line_with_the_name() {
        let database = "root:x:0:0:root:/root:/bin/sh\n\nbilling2:x:7:7::/:\nbilling:x:1004:1005::/home:\nodd:x:y:\n";
        for (name, expected) in
            [("root", Some(0)), ("billing", Some(1004)), ("bill", None), ("odd", None), ("", None), ("x", None)]
        {
            assert_eq!(find(database, name), expected, "{name}");
        }
    }
}
