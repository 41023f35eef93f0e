//! Scripts for Node and the packages they need, in a folder of the build's own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};

/// The folder `name` with these files, the two that npm reads first, and their packages; installed on first use, once
/// for all test processes. Says what is missing where that cannot be done.
pub(crate) fn install(name: &str, files: &[(&str, &str)]) -> Result<PathBuf, String> {
    for tool in ["node", "npm"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return Err(format!("{tool} is not installed"));
        }
    }
    let all: String = files.iter().map(|(name, text)| format!("{name}\n{text}\n")).collect();
    let hash: String = digest(&SHA256, all.as_bytes()).as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join(name);
    let folder = build.join(hash);
    fs::create_dir_all(&folder).unwrap();

    let lock = File::create(build.join("lock")).unwrap();
    lock.lock().unwrap();
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(folder);
    }
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
    let output = npm.output().unwrap();
    if !output.status.success() {
        return Err(format!("npm ci failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    File::create(complete).unwrap();
    Ok(folder)
}
