//! The program as its users meet it: the built binary between real servers on loopback.
//!
//! The table of contents; each file is one subject and reads on its own. `KEYBEARER_REQUIRE_TOOLS=1` makes a missing
//! nginx or Node a failure instead of a skipped test, `KEYBEARER_LOAD_SECONDS` says how long load lasts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and stops"
)]

mod support;

/// Imports go downwards only.
mod layering;

/// The servers and tools used below do what the other tests take for granted.
mod ground;

/// Every kind of exchange with a certified OAuth server and a resource server that checks each token.
mod exchange;

/// What an intermediary owes to the fields it passes on, in both directions.
mod hygiene;

/// Where a request may lead: the target as it came, and never outside the prefix.
mod targets;

/// Upstreams that answer oddly, or not at all.
mod upstreams;

/// Who may call, by which proof.
mod callers;

/// Web pages are no callers.
mod browser;

/// Requests that no intermediary may guess the meaning of.
mod malformed;

/// Bodies and connections of callers: whole, in pieces, cut short, left open.
mod connections;

/// A thousand callers and no token yet.
mod cold_start;

/// Tokens revoked in the middle of heavy traffic.
mod revocation;

/// The token endpoint goes away, and comes back.
mod outage;

/// The issuer knows us, but not by this secret.
mod wrong_secret;

/// Whatever a token endpoint may answer: what becomes of it, and that nothing goes out without a token.
mod token_endpoint;

/// What counts as a rejection, what is renewed and replayed, and the brakes on both.
mod rejection;

/// Pooled connections that the upstream closes at the wrong moment.
mod pool;

/// What the caller gets when we fail.
mod failures;

/// An upstream with TLS: private authority, client certificate, versions.
mod tls_upstream;

/// What `demo` prints can be run as it stands.
mod demo;

/// Mistakes in a configuration.
mod check;

/// The end of the process, in order.
mod drain;

/// Secrets and tokens turn up nowhere.
mod canary;

/// The documents tell what the program does, and every example in them is good.
mod documents;
