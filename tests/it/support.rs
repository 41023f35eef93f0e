//! The ground the tests stand on: real servers on loopback, a caller, and the proxy under test.

pub(crate) mod byte_exact;
pub(crate) mod canary;
pub(crate) mod certificates;
pub(crate) mod frames;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod load;
pub(crate) mod metrics;
pub(crate) mod mortal;
pub(crate) mod nginx;
pub(crate) mod npm;
pub(crate) mod oidc;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod recorder;
pub(crate) mod scene;
pub(crate) mod scripted;
pub(crate) mod servers;
pub(crate) mod squid;
pub(crate) mod stage;

use std::env;
use std::io::Write as _;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

/// How long anything that should simply happen may take before a test calls it hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A tool this test cannot do without is not there. With `KEYBEARER_REQUIRE_TOOLS=1`, as in the gate, that is a
/// failure; otherwise the test ends here, and says so past libtest, which swallows what a passing test prints.
pub(crate) fn unavailable<T>(why: &str) -> Option<T> {
    assert!(env::var_os("KEYBEARER_REQUIRE_TOOLS").is_none_or(|value| value != "1"), "required here: {why}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let mut past_libtest = std::io::stderr();
    writeln!(past_libtest, "\n*** SKIPPED {test}: {why}\n").unwrap();
    None
}

/// How long tests under load run: `KEYBEARER_LOAD_SECONDS`, 3 unless told.
pub(crate) fn load_time() -> Duration {
    Duration::from_secs(env::var("KEYBEARER_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3))
}

/// Asks again and again until there is something, for what announces itself in no other way.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        tick.tick().await;
    }
}

/// Awaits what must come to an end by itself.
pub(crate) async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("took over {limit:?}: {what}"))
}

/// Lets this process, and those it starts, hold the sockets of a thousand callers at once.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map(|maximum| maximum.min(16_384)).or(Some(16_384));
    setrlimit(Resource::Nofile, limit).unwrap();
}
