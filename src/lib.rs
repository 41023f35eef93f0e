//! Keybearer: an authenticating egress proxy.
//!
//! A caller sends plain HTTP; keybearer matches the request to a *named credential*, attaches a live OAuth 2.0 access
//! token, forwards it, and when the upstream refuses the token it renews it and sends the request again.
//!
//! The modules read downwards are the life of a request; imports go downwards only (the table is in ARCHITECTURE.md
//! and a test holds the code to it).

pub mod cli;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

pub mod app;

pub mod admin;
pub mod demo;
pub mod import;

pub mod config;

pub mod proxy;

pub mod caller;
pub mod route;
pub mod server;
pub mod token;
pub mod upstream;

pub mod fetch;

pub mod connect;

pub mod access_log;
pub mod answer;
pub mod formula;
pub mod limit;
pub mod metrics;
pub mod process;
pub mod readiness;
pub mod sign;
pub mod telemetry;
pub mod tls;

pub mod body;
pub mod header;
pub mod name;
pub mod peer;
pub mod secret;
pub mod target;
