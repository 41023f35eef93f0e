//! What of the configuration holds from the start to the end of the process.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::server::{Limits, ListenerSettings};

/// The keys in which `new` differs from what is running, and which it takes a restart to change.
pub(super) fn keys(running: &Config, new: &Config) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let (admin, log, drain) = (&running.admin, &running.log, &running.drain);
    for (key, differs) in [
        ("admin.address", admin.address != new.admin.address),
        ("admin.callers", admin.callers != new.admin.callers),
        ("log.level", log.level != new.log.level),
        ("log.format", log.format != new.log.format),
        ("log.access", log.access != new.log.access),
        ("drain.delay", drain.delay != new.drain.delay),
        ("drain.deadline", drain.deadline != new.drain.deadline),
        ("workers", running.workers != new.workers),
    ] {
        if differs {
            keys.insert(key.to_owned());
        }
    }
    limits(&running.limits, &new.limits, &mut keys);
    listeners(&running.listeners, &new.listeners, &mut keys);
    keys
}

/// Keeps what is running where `new` would need a restart.
pub(super) fn keep(running: &Config, new: &mut Config) {
    new.admin.clone_from(&running.admin);
    new.log.clone_from(&running.log);
    new.listeners.clone_from(&running.listeners);
    (new.drain, new.limits, new.workers) = (running.drain, running.limits, running.workers);
}

/// Written so that a new limit does not compile until it stands here.
fn limits(running: &Limits, new: &Limits, keys: &mut BTreeSet<String>) {
    let Limits {
        target,
        header,
        header_fields,
        // These three are parts of what is built anew: of named and external credentials, and of the metrics.
        body: _,
        token_answer: _,
        metric_credentials: _,
        connections,
        connections_per_caller,
        requests,
        tunnels,
        tunnel_idle_timeout,
        header_timeout,
        idle_timeout,
        body_timeout,
        body_rate,
        replay_memory,
        http2,
    } = *running;
    for (key, differs) in [
        ("target", target != new.target),
        ("header", header != new.header),
        ("header_fields", header_fields != new.header_fields),
        ("connections", connections != new.connections),
        ("connections_per_caller", connections_per_caller != new.connections_per_caller),
        ("requests", requests != new.requests),
        ("tunnels", tunnels != new.tunnels),
        ("tunnel_idle_timeout", tunnel_idle_timeout != new.tunnel_idle_timeout),
        ("header_timeout", header_timeout != new.header_timeout),
        ("idle_timeout", idle_timeout != new.idle_timeout),
        ("body_timeout", body_timeout != new.body_timeout),
        ("body_rate", body_rate != new.body_rate),
        ("replay_memory", replay_memory != new.replay_memory),
        ("h2_streams", http2.streams != new.http2.streams),
        ("h2_resets", http2.resets != new.http2.resets),
        ("h2_pings", http2.pings != new.http2.pings),
        ("h2_settings", http2.settings != new.http2.settings),
        ("h2_priorities", http2.priorities != new.http2.priorities),
        ("h2_window_updates", http2.window_updates != new.http2.window_updates),
        ("h2_tiny_data", http2.tiny_data != new.http2.tiny_data),
        ("h2_unknown", http2.unknown != new.http2.unknown),
    ] {
        if differs {
            keys.insert(format!("limits.{key}"));
        }
    }
}

fn listeners(running: &[ListenerSettings], new: &[ListenerSettings], keys: &mut BTreeSet<String>) {
    for each in running.iter().chain(new) {
        let of = |all: &[ListenerSettings]| all.iter().find(|other| other.name == each.name).cloned();
        let (Some(before), Some(after)) = (of(running), of(new)) else {
            keys.insert(format!("listeners.{}", each.name));
            continue;
        };
        let dangers = (before.dangerous_anonymous_callers, after.dangerous_anonymous_callers);
        for (key, differs) in [
            ("address", before.address != after.address),
            ("allowed_origins", before.allowed_origins != after.allowed_origins),
            ("callers", before.callers != after.callers),
            ("dangerous", dangers.0 != dangers.1),
            ("tls", before.tls != after.tls),
            ("forward_proxy", before.forward_proxy != after.forward_proxy),
        ] {
            if differs {
                keys.insert(format!("listeners.{}.{key}", each.name));
            }
        }
    }
}
