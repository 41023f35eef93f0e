//! Counts the instructions of one whole exchange, and holds them to `benches/instructions.toml`.
//!
//! The program given with `--proxy` runs under callgrind with one worker, in one setting with two; a caller asks it over
//! one connection per worker, one request after the other. Two runs of different length are counted and their difference
//! is divided by the difference in requests, so that starting, minting, connecting and ending cancel out. Instructions
//! of the kernel are not counted.
//!
//! `--functions FILE` adds what `benches/functions.rs` counted, as gungraun wrote it with `--output-format=json`;
//! `--update` writes the numbers down instead of comparing.

mod ledger;
mod origin;
mod proxy;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::ledger::{Ledger, Numbers, Verdict};
use crate::origin::Origin;
use crate::proxy::{AccessLog, Setting};

/// Requests in the two runs.
const SHORT: u32 = 500;
const LONG: u32 = 2_500;

/// What a caller's library sends with every request.
const FIELDS: &str = "Host: 127.0.0.1:8080\r\n\
    User-Agent: python-requests/2.32.3\r\n\
    Accept: application/json\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Connection: keep-alive\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

fn main() -> ExitCode {
    match run() {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("exchange: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Verdict, Box<dyn Error>> {
    let (mut update, mut proxy, mut functions) = (false, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--update" => update = true,
            "--proxy" => proxy = arguments.next().map(PathBuf::from),
            "--functions" => functions = arguments.next().map(PathBuf::from),
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let proxy = proxy.ok_or("--proxy FILE is missing")?.canonicalize()?;
    let ledger = Ledger::read()?;
    let mut measured = Numbers::new();
    if let Some(file) = functions {
        measured.insert("functions".to_owned(), counted_by_gungraun(&file)?);
    }
    measured.insert("exchange".to_owned(), exchanges(&proxy)?);
    if update {
        return ledger.update(measured).map(|()| Verdict::Passed);
    }
    Ok(ledger.compare(&measured))
}

/// Instructions of one exchange, in each setting.
fn exchanges(proxy: &Path) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let (plain, tls) = (Origin::plain()?, Origin::tls()?);
    let get = format!("GET /orders/42?fields=id,name,email HTTP/1.1\r\n{FIELDS}\r\n");
    let body = format!("{{\"order\":42,\"note\":\"{}\"}}", "n".repeat(231));
    let post = format!(
        "POST /orders HTTP/1.1\r\n{FIELDS}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let setting = |name, request: &String, access_log, upstream| Setting {
        name,
        proxy,
        workers: 1,
        request: request.clone(),
        access_log,
        upstream,
        issuer: &plain,
    };
    let settings = [
        setting("get", &get, AccessLog::Off, &plain),
        Setting { workers: 2, ..setting("get_two_workers", &get, AccessLog::Off, &plain) },
        setting("get_access_log", &get, AccessLog::File, &plain),
        setting("post_256_bytes", &post, AccessLog::Off, &plain),
        setting("get_tls_upstream", &get, AccessLog::Off, &tls),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/benches/exchange");
    settings.iter().map(|setting| Ok((setting.name.to_owned(), one_exchange(setting, &folder)?))).collect()
}

/// The difference of two runs, which have nothing to do with each other and so run at the same time.
fn one_exchange(setting: &Setting<'_>, folder: &Path) -> Result<u64, Box<dyn Error>> {
    let (short, long) = std::thread::scope(|scope| {
        let count = |requests| scope.spawn(move || setting.count(requests, folder).map_err(|error| error.to_string()));
        let (short, long) = (count(SHORT), count(LONG));
        (short.join(), long.join())
    });
    let counted = |run: std::thread::Result<Result<u64, String>>| run.map_err(|_| "a run panicked".to_owned())?;
    let in_setting = |error| format!("{}: {error}", setting.name);
    let (short, long) = (counted(short).map_err(in_setting)?, counted(long).map_err(in_setting)?);
    let difference = long.checked_sub(short).ok_or("the longer run took fewer instructions")?;
    Ok(difference / u64::from(LONG - SHORT))
}

/// What gungraun counted: one JSON object per line, one line per benchmark.
fn counted_by_gungraun(file: &Path) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let mut counted = BTreeMap::new();
    for line in std::fs::read_to_string(file)?.lines().filter(|line| line.starts_with('{')) {
        let summary: serde_json::Value = serde_json::from_str(line)?;
        let text = |name| summary.get(name).and_then(serde_json::Value::as_str);
        let function = text("function_name").ok_or("a summary without a function's name")?;
        let name = text("id").map_or_else(|| function.to_owned(), |id| format!("{function}_{id}"));
        let instructions = instructions(&summary).ok_or_else(|| format!("no instruction count for {name}"))?;
        counted.insert(name, instructions);
    }
    Ok(counted)
}

/// The `Ir` of a summary: what callgrind counted in this run.
fn instructions(summary: &serde_json::Value) -> Option<u64> {
    let profiles = summary.get("profiles")?.as_array()?;
    let callgrind = profiles.iter().find(|profile| profile.get("tool").is_some_and(|tool| tool == "Callgrind"))?;
    callgrind.pointer("/data/total/metrics/Ir/values/new")?.as_u64()
}
