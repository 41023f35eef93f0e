//! Instruction counts of the parts that every exchange passes through, each called a hundred times with its inputs
//! prepared beforehand, so that what only the first call costs hardly shows.
//!
//! `benches/gate.sh` compares the counts with `benches/instructions.toml`. The guard's head check is private to
//! `server`; it is counted with the whole exchange (`benches/exchange`).

#![expect(missing_docs, reason = "gungraun's macros make public items of every benchmark")]

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use gungraun::prelude::*;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use keybearer::access_log::{AccessLog, Asked, Record, RequestId, Target, Writer};
use keybearer::header::{self, CredentialFields, Presence, Pseudonym};
use keybearer::name::Name;
use keybearer::route::{HostPattern, Match, Route, Router};
use keybearer::target;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Calls that are counted together.
const CALLS: usize = 100;

/// A path of the usual kind, and its query.
const PATH: &str = "/credential_7/customers/4711/orders/42";
const QUERY: Option<&str> = Some("fields=id,name,email&limit=50");

/// A setup that fails ends the benchmark with its reason.
fn made<T>(result: Result<T, impl Into<Box<dyn Error>>>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            eprintln!("functions: {}", error.into());
            std::process::exit(1)
        }
    }
}

/// Routers that share the calls. A hash table is seeded anew each time, and in some a look-up takes one step more.
const ROUTERS: usize = 20;

/// Routers over `count` paths, as named credentials without a `match` have them.
fn paths(count: usize) -> Vec<Router<usize>> {
    let rule = |number| Match { host: None, path: format!("/credential_{number}"), methods: None };
    (0..ROUTERS).map(|_| made(Router::build((0..count).map(|number| (rule(number), number)).collect()))).collect()
}

/// Routers over `count` hosts, every tenth of them a wildcard.
fn hosts(count: usize) -> Vec<Router<usize>> {
    let pattern = |number| match number % 10 {
        9 => HostPattern::Suffix(format!(".api-{number}.internal")),
        _ => HostPattern::Exact(format!("api-{number}.internal")),
    };
    let rule = |number| Match { host: Some(pattern(number)), path: "/".to_owned(), methods: None };
    (0..ROUTERS).map(|_| made(Router::build((0..count).map(|number| (rule(number), number)).collect()))).collect()
}

#[library_benchmark]
#[bench::of_10(args = (10), setup = paths)]
#[bench::of_1000(args = (1000), setup = paths)]
fn route_by_path(routers: Vec<Router<usize>>) -> (usize, Vec<Router<usize>>) {
    let mut found = 0;
    for router in routers.iter().cycle().take(CALLS) {
        let route = router.route(black_box(Some("127.0.0.1:8080")), black_box(PATH), black_box(&Method::GET));
        found += usize::from(matches!(route, Route::Found { value: 7, .. }));
    }
    (found, routers)
}

#[library_benchmark]
#[bench::of_10(args = (10), setup = hosts)]
#[bench::of_1000(args = (1000), setup = hosts)]
fn route_by_host(routers: Vec<Router<usize>>) -> (usize, Vec<Router<usize>>) {
    let mut found = 0;
    for router in routers.iter().cycle().take(CALLS) {
        let route = router.route(black_box(Some("eu.api-9.internal:8080")), black_box(PATH), black_box(&Method::GET));
        found += usize::from(matches!(route, Route::Found { value: 9, .. }));
    }
    (found, routers)
}

#[library_benchmark]
#[bench::plain(PATH)]
#[bench::with_escapes("/credential_7/customers/J%C3%BCrgen%20M/orders/4.2")]
fn inspect_target(path: &str) -> usize {
    (0..CALLS).filter(|_| target::inspect(black_box(path)).is_ok()).count()
}

#[library_benchmark]
fn outgoing_target() -> usize {
    let outgoing = |_: &usize| target::outgoing(black_box("/v1"), black_box(PATH), black_box(13), QUERY).is_ok();
    (0..CALLS).filter(outgoing).count()
}

/// What a head needs to become an outgoing one.
struct Heads {
    heads: Vec<HeaderMap>,
    pseudonym: Pseudonym,
    injected: HeaderName,
    credential: HeaderValue,
}

/// Heads of a caller that is a script: eight fields, a cookie and an API key among them.
fn heads() -> Heads {
    let mut head = HeaderMap::new();
    for (name, value) in [
        ("host", "127.0.0.1:8080"),
        ("user-agent", "python-requests/2.32.3"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("connection", "keep-alive"),
        ("cookie", "session=0123456789abcdef"),
        ("x-api-key", "0123456789abcdef0123456789abcdef"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        head.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let mut credential = made(HeaderValue::try_from(format!("Bearer {}", "x".repeat(800))));
    credential.set_sensitive(true);
    Heads {
        heads: vec![head; CALLS],
        pseudonym: Pseudonym::default(),
        injected: http::header::AUTHORIZATION,
        credential,
    }
}

#[library_benchmark(setup = heads)]
fn outgoing_head(mut heads: Heads) -> (usize, Heads) {
    let api_key = [HeaderName::from_static("x-api-key")];
    let fields =
        CredentialFields { injected: &heads.injected, attached: &[], set: &[], api_key: &api_key, keep_cookies: false };
    let mut good = 0;
    for head in &mut heads.heads {
        let present = Presence::of(head);
        let is_odd = (present.has(Presence::VIA) && header::via_names(head, &heads.pseudonym))
            || (present.has(Presence::FOLDING) && header::ambiguous_name(head, fields).is_some())
            || header::strip_hop_by_hop((head, present)).is_err();
        header::strip_caller_credentials((head, present), fields);
        if present.has(Presence::FORWARDED) {
            header::strip_forwarded(head);
        }
        header::append_via(head, Version::HTTP_11, &heads.pseudonym);
        head.insert(heads.injected.clone(), heads.credential.clone());
        good += usize::from(!is_odd);
    }
    (good, heads)
}

/// A log that goes nowhere, and what an ordinary exchange leaves.
fn log() -> (AccessLog, Writer, Record) {
    let name = |text| made(Name::parse(text));
    let (log, writer) = made(AccessLog::open(&Target::File(PathBuf::from("/dev/null")), Default::default()));
    let asked = Asked {
        time: SystemTime::UNIX_EPOCH,
        listener: name("default"),
        caller: Some(name("billing")),
        named_credential: Some(name("orders")),
        external_credential: Some(name("apigee")),
        principal: Some(name("default")),
        method: Method::GET,
        path: PATH.to_owned(),
    };
    let record = Record {
        took: Duration::from_micros(1_234),
        id: RequestId::numbered("0198c5f2a6e1", 0x1000_0000_0001),
        asked: Some(Box::new(asked)),
        status: 200,
        upstream_status: Some(200),
        rejected: false,
        renewed: false,
        replayed: false,
        not_replayed_reason: None,
        bytes_in: 0,
        bytes_out: 140,
        error: None,
    };
    log.write(&record);
    (log, writer, record)
}

#[library_benchmark(setup = log)]
fn access_log_line((log, writer, record): (AccessLog, Writer, Record)) -> (AccessLog, Writer, Record) {
    for _ in 0..CALLS {
        log.write(black_box(&record));
    }
    (log, writer, record)
}

library_benchmark_group!(
    name = every_exchange,
    benchmarks = [route_by_path, route_by_host, inspect_target, outgoing_target, outgoing_head, access_log_line]
);
main!(library_benchmark_groups = every_exchange);
