//! Lists of hosts with ports: what a caller or a token endpoint may name.

use super::context::Context;
use crate::config::field::Field;
use crate::config::tree::NodeId;
use crate::target::{HostPattern, HostRule};

/// The rules of a list; what is none of them has been reported.
pub(super) fn rules(context: &Context<'_>, list: &Field<Vec<Field<String>>>) -> Vec<HostRule> {
    let rules = Context::texts(list).filter_map(|(node, text)| {
        let rule = rule(text);
        match &rule {
            None => {
                let help = "write a host, and a port where it is not the usual one: \"api.example.com\", \
                            \"*.example.com\" or \"api.example.com:8443\"; no scheme, no path";
                context.findings.error(node, "this is not a host", help);
            }
            Some(rule) => warn(context, node, rule),
        }
        rule
    });
    Context::unique(rules.collect::<Vec<_>>())
}

fn rule(text: &str) -> Option<HostRule> {
    // The last colon of an IPv6 address stands within brackets.
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, Some(port.parse::<u16>().ok().filter(|port| *port != 0)?))
        }
        Some(_) => return None,
        None => (text, None),
    };
    Some(HostRule { host: HostPattern::parse(host)?, port })
}

/// A whole top-level domain belongs to nobody in particular.
fn warn(context: &Context<'_>, node: NodeId, rule: &HostRule) {
    if let HostPattern::Suffix(suffix) = &rule.host
        && !suffix.trim_start_matches('.').contains('.')
    {
        let message = "this means every host of a top-level domain, whoever it belongs to";
        context.findings.warning(node, message, "name the domain that is meant: \"*.example.com\"");
    }
}

#[cfg(test)]
mod tests {
    use super::rule;
    use crate::target::HostPattern::{Exact, Suffix};

    #[test]
    fn a_rule_is_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("API.example.com", Exact("api.example.com".to_owned()), None),
            ("api.example.com:8443", Exact("api.example.com".to_owned()), Some(8443)),
            ("*.example.com:80", Suffix(".example.com".to_owned()), Some(80)),
            ("127.0.0.1:1", Exact("127.0.0.1".to_owned()), Some(1)),
            ("[::1]", Exact("[::1]".to_owned()), None),
            ("[::1]:443", Exact("[::1]".to_owned()), Some(443)),
        ] {
            let rule = rule(text).unwrap();
            assert_eq!((rule.host, rule.port), (host, port), "{text}");
        }
        for text in ["", "*", "a:", "a:0", "a:99999", "a:b", "https://a", "a/b", "::1", "a:1:2", "u@a"] {
            assert!(rule(text).is_none(), "{text}");
        }
    }
}
