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

/// Every duty has a test, and the table of them is up to date.
mod conformance;

/// The servers and tools used below do what the other tests take for granted.
mod ground;

/// Every kind of exchange with a certified OAuth server and a resource server that checks each token.
mod exchange;

/// Every way in which a client proves who it is, before a certified OAuth server.
mod client_authentication;

/// Tokens that are worth nothing without a key of ours: DPoP and certificate-bound ones.
mod bound_tokens;

/// Every flow on the wire, from the first token to the next.
mod flows;

/// What an OAuth client owes to servers, callers and tokens.
mod client_duties;

/// Refresh tokens that change at every use, over a restart too.
mod refresh_tokens;

/// What is attached without asking a server: a JWT of our own, an API key, a password, nothing.
mod own_tokens;

/// Token endpoints that are reached through a proxy.
mod way_out;

/// Values that are computed for each exchange.
mod formulas;

/// Who acts for whom under one external credential.
mod principals;

/// Every preset, with what it needs and nothing else.
mod presets;

/// Fifty providers as they were recorded, each driven through the whole program.
mod zoo;

/// The configuration, changed while the proxy serves.
mod reload;

/// What callers and upstreams may use up: rates, lengths, numbers, times.
mod limits;

/// What an intermediary owes to the fields it passes on, in both directions.
mod hygiene;

/// Where a request may lead: the target as it came, and never outside the prefix.
mod targets;

/// Callers that have keybearer as their proxy.
mod forward_proxy;

/// Tunnels that callers ask their proxy for.
mod tunnels;

/// What an upstream says about the length of its answers, and bytes that nobody asked for.
mod answers;

/// Upstreams that the token endpoint names.
mod from_token;

/// Upstreams that answer oddly, or not at all.
mod upstreams;

/// Who may call, by which proof.
mod callers;

/// Callers that prove who they are with a JWT.
mod callers_jwt;

/// Callers that are known by their certificate.
mod callers_mtls;

/// Callers on a Unix socket.
mod callers_unix;

/// Web pages are no callers.
mod browser;

/// Requests that no intermediary may guess the meaning of.
mod malformed;

/// Bodies and connections of callers: whole, in pieces, cut short, left open.
mod connections;

/// Callers that speak HTTP/2, with deadlines and bounds of its own.
mod http2;

/// Bodies over HTTP/2: what is held of them, how slow they may be, how they end.
mod http2_bodies;

/// Floods of HTTP/2 frames are ended; fast callers are not.
mod floods;

/// Callers that wait to be asked for their body.
mod expect;

/// Listeners with TLS: versions of HTTP, callers' certificates, files that change.
mod listener_tls;

/// Answers before the answer.
mod interim;

/// Fields behind a body, in both directions.
mod trailers;

/// Connections that become something else than HTTP.
mod websocket;

/// Answers that go on for as long as they please.
mod event_stream;

/// gRPC calls, from the first frame to the last trailer.
mod grpc;

/// A thousand callers and no token yet.
mod cold_start;

/// Tokens revoked in the middle of heavy traffic.
mod revocation;

/// A provider whose new token ends the old one.
mod only_token;

/// Tokens that live ten seconds, one second, or nobody knows how long.
mod short_lives;

/// The token endpoint goes away, and comes back.
mod outage;

/// The issuer knows us, but not by this secret.
mod wrong_secret;

/// Whatever a token endpoint may answer: what becomes of it, and that nothing goes out without a token.
mod token_endpoint;

/// What counts as a rejection, what is renewed and replayed, and the brakes on both.
mod rejection;

/// Every combination of refusal, method, body and setting, against a model of the rules.
mod replay_matrix;

/// Rules on status, fields and bodies that say when a token is no longer good, and nonces for proofs.
mod renewal_rules;

/// Pooled connections that the upstream closes at the wrong moment.
mod pool;

/// An upstream that dies after each single byte of a request and of an answer.
mod cut_short;

/// What the caller gets when we fail.
mod failures;

/// Upstreams that speak HTTP/2: many exchanges over few connections, and what is sent again.
mod upstream_http2;

/// Addresses to which no connection is made, whoever names them.
mod destinations;

/// An upstream with TLS: private authority, client certificate, versions.
mod tls_upstream;

/// WebSocket, event streams and gRPC with the clients that people use.
mod stream_clients;

/// A real squid on the way out.
mod squid;

/// Callers with the HTTP clients of their time.
mod legacy;

/// What `demo` prints can be run as it stands.
mod demo;

/// Mistakes in a configuration.
mod check;

/// What would become of a request.
mod explain;

/// Metadata of Salesforce becomes a configuration.
mod import;

/// Typical mistakes, and how `doctor` explains them.
mod doctor;

/// Nobody looks into the process, and it does nothing it does not need.
mod hardening;

/// The end of the process, in order.
mod drain;

/// Secrets and tokens turn up nowhere.
mod canary;

/// Every kind of secret at once, and everything that can fail.
mod leaks;

/// The documents tell what the program does, and every example in them is good.
mod documents;
