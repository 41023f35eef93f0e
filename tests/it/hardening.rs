//! What the process keeps to itself: no core dump, no foreign look into its memory, no keys in files, and no system
//! call beyond those of deploy/seccomp.json.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use keybearer::demo::issuer::Issuer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::support::certificates::Authority;
use crate::support::http;
use crate::support::nginx::{Nginx, Tls};
use crate::support::process::Process;
use crate::support::proxy::{self, PROGRAM, Setup, path};
use crate::support::recorder::Recorder;
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, unavailable, within};

/// Whom a file of the running process belongs to.
fn owner(pid: i32, file: &str) -> u32 {
    fs::metadata(format!("/proc/{pid}/{file}")).unwrap().uid()
}

/// A core dump would be a file full of secrets.
#[tokio::test]
async fn the_running_program_dumps_no_core() {
    let stage = Stage::orders().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", stage.proxy.process.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "soft and hard: {limits}");
}

/// The kernel gives the memory and the environment of a process that is not dumpable to root alone; those of any other
/// belong to its user.
#[tokio::test]
async fn other_processes_of_the_same_user_cannot_look_into_the_program() {
    // Not root, so that there is a difference to see; and a copy, because nobody may look into every folder.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("keybearer");
    fs::copy(PROGRAM, &program).unwrap();
    let own = rustix::process::getuid().as_raw();
    let user = if own == 0 { 65534 } else { own };
    let mut command = Command::new(&program);
    command.arg("demo").env_clear().current_dir(folder.path());
    if own == 0 {
        command.uid(user).gid(user);
    }
    let demo = Process::start(&mut command).unwrap();
    let started = demo.stderr.find(|lines| lines.iter().any(|line| line.contains("curl -s")).then_some(()));
    within("the demo starts", PATIENCE, started).await.expect("the demo runs");
    assert_eq!(owner(demo.pid(), ""), user, "it runs as that user");
    for file in ["mem", "environ", "maps", "auxv"] {
        assert_eq!(owner(demo.pid(), file), 0, "{file}");
    }
}

/// The keys of a TLS connection are not written for whoever sets the variable that browsers honour.
#[tokio::test]
async fn the_keys_of_tls_connections_are_written_nowhere() {
    let Some((setup, _nginx)) = behind_tls("").await else { return };
    let log = setup.config().with_file_name("keys.log");
    let proxy = setup.env("SSLKEYLOGFILE", path(&log)).run().await;
    assert_eq!(http::get(proxy.address, "/orders/a").await.unwrap().status, 200);
    assert!(!log.exists());
}

/// A named credential whose upstream is an nginx with TLS before the stage's recorder, and everything it needs.
async fn behind_tls(head: &str) -> Option<(Setup, Kept)> {
    let authority = Authority::new("a private CA");
    let identity = authority.server();
    let head = if head.is_empty() { proxy::head("info") } else { head.to_owned() };
    let table =
        named("orders", "", "tls = { ca = \"ca.pem\" }").replace("http://{upstream}", "https://localhost:{tls}");
    let (_, _, recorder) = Stage::set_up(&head, "").await;
    let tls = Tls { identity: &identity, protocols: "TLSv1.3", client_authority: None };
    let nginx = Nginx::start(recorder.address, Some(tls)).await?;
    let table = table.replace("{tls}", &nginx.address.port().to_string());
    let (setup, issuer, _) = Stage::set_up(&head, &table).await;
    Some((setup.file("ca.pem", &authority.certificate), Kept { _nginx: nginx, _recorder: recorder, _issuer: issuer }))
}

/// What has to live as long as the proxy is used.
struct Kept {
    _nginx: Nginx,
    _recorder: Recorder,
    _issuer: Issuer,
}

/// The profile of system calls, and every name in it.
fn profile() -> (Value, BTreeSet<String>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/seccomp.json");
    let profile: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let rules = profile["syscalls"].as_array().unwrap();
    let names = rules.iter().flat_map(|rule| rule["names"].as_array().unwrap());
    let names: Vec<String> = names.map(|name| name.as_str().unwrap().to_owned()).collect();
    let unique: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(names.len(), unique.len(), "no name twice");
    (profile, unique)
}

/// The system calls in what strace wrote.
fn traced(trace: &str) -> BTreeSet<String> {
    let calls = trace.lines().filter_map(|line| {
        let (_, call) = line.split_once(' ')?;
        let (name, _) = call.trim_start().split_once('(')?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        (is_name && !name.is_empty()).then(|| name.to_owned())
    });
    calls.collect()
}

/// What the program does from start to end is in the profile of system calls that deploy/ ships.
#[tokio::test]
async fn no_system_call_beyond_the_profile_is_made() {
    if Command::new("strace").arg("--version").output().await.is_err() {
        unavailable::<()>("strace is not installed");
        return;
    }
    let head = proxy::head("info").replace("access = \"stdout\"", "access = { file = \"access.log\" }")
        + "[listeners.local]\naddress = \"unix:local.sock\"\n";
    let Some((setup, _kept)) = behind_tls(&head).await else { return };
    let trace = setup.config().with_file_name("trace");
    // -D: the program is our child and strace a stranger to it, so that signals reach the program.
    let setup = setup.under(&["strace", "-D", "-f", "-qq", "-o", path(&trace)]);
    let socket = setup.config().with_file_name("local.sock");
    let mut proxy = setup.run().await;
    for target in ["/orders/a", "/orders/b", "/nowhere"] {
        http::get(proxy.address, target).await.unwrap();
        http::post(proxy.address, target, &[7; 100_000]).await.unwrap();
    }
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(&http::request("GET", "/orders/c", &[("Connection", "close")], b"")).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    proxy.admin("/metrics").await.unwrap();
    proxy.process.terminate();
    assert!(proxy.process.exit().await.success(), "{}", proxy.process.stderr.text());

    let calls = traced(&fs::read_to_string(&trace).unwrap());
    assert!(["accept4", "epoll_wait", "openat", "socket"].iter().any(|name| calls.contains(*name)), "{calls:?}");
    let (_, known) = profile();
    let unknown: Vec<_> = calls.difference(&known).collect();
    assert!(unknown.is_empty(), "not in deploy/seccomp.json: {unknown:?}");
}

/// The profile refuses what it does not name, new processes among it, and nothing dangerous stands in it.
#[test]
fn the_profile_lets_nothing_through_that_the_program_does_not_need() {
    let (profile, names) = profile();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    for name in [
        "fork",
        "vfork",
        "execveat",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "pidfd_getfd",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "mount",
        "unshare",
        "setns",
        "pivot_root",
        "chroot",
        "keyctl",
        "add_key",
        "request_key",
        "init_module",
        "finit_module",
        "kexec_load",
        "memfd_create",
        "personality",
    ] {
        assert!(!names.contains(name), "{name}");
    }
    let rule = |name: &str| {
        let rules = profile["syscalls"].as_array().unwrap();
        rules.iter().find(|rule| rule["names"].as_array().unwrap().contains(&name.into())).unwrap().clone()
    };
    // CLONE_THREAD of sched.h: what is made is a thread of this process.
    assert_eq!(rule("clone")["args"][0]["value"], 0x1_0000);
    assert_eq!((&rule("clone3")["action"], &rule("clone3")["errnoRet"]), (&"SCMP_ACT_ERRNO".into(), &38.into()));
}
