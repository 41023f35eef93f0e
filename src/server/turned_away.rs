//! Connections over the limit: each is told so and closed, in a way that lets the answer arrive (RFC 9112 9.6).
//!
//! No request is read, so there is no request id and no line in the access log. All of this happens beside the accepting
//! loop, on its runtime.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::socket::Accepted;
use crate::answer::Failure;

/// How many may be on their way out at once; more are closed at once, and may miss their answer.
const LINGERING: usize = 256;
/// How much of what each sends is read and dropped, and for how long.
const BYTES: u64 = 64 * 1024;
const TIME: Duration = Duration::from_secs(1);

/// Connections on their way out. Dropped, they are closed.
#[derive(Debug, Default)]
pub(super) struct TurnedAway(JoinSet<()>);

impl TurnedAway {
    /// Answers 503 and closes; returns at once.
    pub(super) fn answer(&mut self, accepted: Accepted) {
        while self.0.try_join_next().is_some() {}
        if self.0.len() < LINGERING {
            self.0.spawn(async move {
                let _ = tokio::time::timeout(TIME, leave(accepted)).await;
            });
        }
    }
}

async fn leave(accepted: Accepted) -> std::io::Result<()> {
    let (mut socket, _) = accepted.register()?;
    socket.write_all(&over_capacity()).await?;
    socket.shutdown().await?;
    tokio::io::copy(&mut socket.take(BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

fn over_capacity() -> Vec<u8> {
    let (status, error, title) = Failure::OverCapacity.row();
    let code = status.as_u16();
    let problem =
        serde_json::json!({ "type": "about:blank", "title": title, "status": code, "error": error }).to_string();
    let length = problem.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nProxy-Status: keybearer; error={error}\r\n\
         Retry-After: 1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{problem}"
    )
    .into_bytes()
}
