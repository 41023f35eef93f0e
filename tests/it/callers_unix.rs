//! Callers that are known by the user and group of their process, on a Unix socket.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::proxy::{head, path};
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, within};

/// The status of `GET /NAME/x` over the socket.
async fn status(stage: &Stage, name: &str) -> u16 {
    let socket = stage.proxy.setup.config().with_file_name("keybearer.sock");
    let mut caller = UnixStream::connect(&socket).await.unwrap();
    let request = format!("GET /{name}/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    caller.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", PATIENCE, caller.read_to_string(&mut answer)).await.unwrap();
    answer.get(9..12).unwrap().parse().unwrap()
}

/// Which user and group this is.
fn ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

async fn stage(callers: &str, listener: &str) -> Stage {
    let unix = format!("{}[listeners.local]\naddress = \"unix:./keybearer.sock\"\n{listener}\n", head("info"));
    let tables = named("orders", "", "") + &named("own", "", "callers = [\"own\"]") + callers;
    Stage::listening(&unix, &tables).await
}

#[tokio::test]
async fn a_process_is_known_by_its_user_and_group() {
    let (uid, gid) = ids();
    for (unix, is_known) in [
        (format!("uid = {uid}"), true),
        (format!("gid = {gid}"), true),
        (format!("uid = {uid}, gid = {gid}"), true),
        (format!("uid = {}", uid + 1), false),
        (format!("gid = {}", gid + 1), false),
        (format!("uid = {uid}, gid = {}", gid + 1), false),
        (format!("uid = {}, gid = {gid}", uid + 1), false),
    ] {
        let stage = stage(&format!("[callers.own]\nunix = {{ {unix} }}\n"), "callers = [\"own\"]").await;
        if is_known {
            assert_eq!(status(&stage, "own").await, 200, "{unix}");
            assert_eq!(stage.proxy.exchanges(1).await[0]["caller"], "own", "{unix}");
        } else {
            assert_eq!(status(&stage, "orders").await, 403, "{unix}");
            assert_eq!(status(&stage, "own").await, 403, "{unix}");
            stage.assert_untouched();
        }
    }
}

#[tokio::test]
async fn a_user_proves_nothing_over_tcp() {
    let (uid, _) = ids();
    let stage = stage(&format!("[callers.own]\nunix = {{ uid = {uid} }}\n"), "").await;
    stage.exchange("GET /own/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.assert_problem(403, "over TCP");
    stage.assert_untouched();
    assert_eq!(status(&stage, "own").await, 200);
}

#[tokio::test]
async fn users_and_groups_are_known_by_name_too() {
    let (setup, ..) = Stage::set_up(&head("info"), "[callers.own]\nunix = { uid = \"root\", gid = \"root\" }\n").await;
    let config = setup.config();
    let output = setup.output(&["check", "-c", path(&config)]).await;
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{printed}");
}
