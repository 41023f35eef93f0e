//! Callers known by the names in their certificate (RFC 5280 4.2.1.6, RFC 4514, SPIFFE X.509-SVID). That it was verified,
//! and that the caller owns its key, is the listener's concern.

use crate::peer::Certificate;

/// The names that a certificate must carry: each of those that are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRule {
    /// The whole subject (RFC 4514), such as `CN=billing,O=Example`.
    pub subject: Option<String>,
    /// One of its DNS names; their case does not count.
    pub dns: Option<String>,
    /// One of its URIs.
    pub uri: Option<UriPattern>,
    /// One of its mail addresses; the case of the domain does not count.
    pub email: Option<String>,
}

/// A URI, or all SPIFFE ids below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriPattern {
    /// Exactly this one.
    Exact(String),
    /// A SPIFFE id that goes on after this one and a slash. The text has no slash at its end.
    SpiffeBelow(String),
}

impl CertificateRule {
    /// Whether `certificate` carries all these names. A rule without names fits nobody.
    #[must_use]
    pub fn fits(&self, certificate: &Certificate) -> bool {
        let holds = [
            self.subject.as_ref().map(|subject| same_subject(subject, &certificate.subject)),
            self.dns.as_ref().map(|dns| certificate.dns.iter().any(|name| same_dns(dns, name))),
            self.uri.as_ref().map(|uri| uri.fits_one_of(&certificate.uris)),
            self.email.as_ref().map(|email| certificate.emails.iter().any(|address| same_email(email, address))),
        ];
        holds.iter().any(Option::is_some) && holds.into_iter().flatten().all(|holds| holds)
    }
}

impl UriPattern {
    /// Reads a URI; `/*` at the end of a SPIFFE id stands for all ids below it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let graphic = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !graphic || !text.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()) {
            return Err("this is not a URI");
        }
        if !is_spiffe(text) {
            return if text.contains('*') {
                Err("only a SPIFFE id may end in `/*`")
            } else {
                Ok(Self::Exact(text.to_owned()))
            };
        }
        let base = text.strip_suffix("/*");
        if !is_spiffe_id(base.unwrap_or(text)) {
            return Err("this is not a SPIFFE id");
        }
        Ok(base.map_or_else(|| Self::Exact(text.to_owned()), |base| Self::SpiffeBelow(base.to_owned())))
    }

    /// Whether `uri` is meant.
    #[must_use]
    pub fn fits(&self, uri: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == uri,
            Self::SpiffeBelow(base) => {
                is_spiffe_id(uri) && uri.strip_prefix(base.as_str()).is_some_and(|rest| rest.starts_with('/'))
            }
        }
    }

    fn fits_one_of(&self, uris: &[String]) -> bool {
        match uris {
            [uri] => self.fits(uri),
            // X.509-SVID 2: a certificate with further URIs is no proof of a SPIFFE id.
            _ => !self.is_spiffe() && uris.iter().any(|uri| self.fits(uri)),
        }
    }

    fn is_spiffe(&self) -> bool {
        match self {
            Self::Exact(text) => is_spiffe(text),
            Self::SpiffeBelow(_) => true,
        }
    }
}

fn is_spiffe(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe"))
}

/// SPIFFE-ID 2: a trust domain in lower case, and segments that are neither empty nor dots; nothing is encoded.
fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let mut parts = rest.split('/');
    let is_domain = |domain: &str| {
        let fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        !domain.is_empty() && domain.bytes().all(fit)
    };
    let is_segment = |segment: &str| {
        let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(fit)
    };
    parts.next().is_some_and(is_domain) && parts.all(is_segment)
}

/// Compares two subjects; spaces after the separators and the case of attribute types do not count.
fn same_subject(one: &str, other: &str) -> bool {
    !one.is_empty() && attributes(one) == attributes(other)
}

/// The attributes of a subject in their order: the type in upper case, and the value as it is written. Separators stay
/// with what they end, so that `CN=a+O=b` is not `CN=a,O=b`.
fn attributes(subject: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    let mut current = String::new();
    let mut escaped = false;
    for letter in subject.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' | '+' => {
                attributes.push(attribute(&current, letter));
                current.clear();
                continue;
            }
            _ => {}
        }
        current.push(letter);
    }
    attributes.push(attribute(&current, ','));
    attributes
}

fn attribute(text: &str, separator: char) -> (String, String) {
    let (kind, value) = text.split_once('=').unwrap_or((text, ""));
    // A space before an end that is escaped belongs to the value.
    let value = value.trim_start();
    let trimmed = value.trim_end();
    let value = if trimmed.ends_with('\\') { value } else { trimmed };
    (kind.trim().to_ascii_uppercase(), format!("{value}{separator}"))
}

fn same_dns(one: &str, other: &str) -> bool {
    let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    bare(one) == bare(other)
}

fn same_email(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((local, domain)), Some((other_local, other_domain))) => {
            local == other_local && domain.eq_ignore_ascii_case(other_domain)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{CertificateRule, UriPattern};
    use crate::peer::Certificate;

    fn certificate() -> Certificate {
        Certificate {
            subject: "CN=billing,OU=Books\\, old,O=Example".to_owned(),
            dns: vec!["Billing.Internal".to_owned(), "*.wild.internal".to_owned()],
            uris: vec!["spiffe://example.org/ns/prod/sa/billing".to_owned()],
            emails: vec!["Jo.Doe@Example.org".to_owned()],
            addresses: Vec::new(),
        }
    }

    #[test]
    fn every_name_that_is_given_must_stand_in_the_certificate() {
        let uri = |text: &str| Some(UriPattern::parse(text).unwrap());
        let text = |text: &str| Some(text.to_owned());
        let none = CertificateRule::default();
        for (rule, expected) in [
            (none.clone(), false),
            (CertificateRule { subject: text("CN=billing,OU=Books\\, old,O=Example"), ..none.clone() }, true),
            (CertificateRule { subject: text("cn=billing, ou=Books\\, old, o=Example"), ..none.clone() }, true),
            (CertificateRule { subject: text("CN=Billing,OU=Books\\, old,O=Example"), ..none.clone() }, false),
            (CertificateRule { subject: text("CN=billing"), ..none.clone() }, false),
            (CertificateRule { subject: text("O=Example,OU=Books\\, old,CN=billing"), ..none.clone() }, false),
            (CertificateRule { subject: text("CN=billing+OU=Books\\, old,O=Example"), ..none.clone() }, false),
            (CertificateRule { dns: text("billing.internal"), ..none.clone() }, true),
            (CertificateRule { dns: text("a.wild.internal"), ..none.clone() }, false),
            (CertificateRule { dns: text("internal"), ..none.clone() }, false),
            (CertificateRule { email: text("Jo.Doe@example.org"), ..none.clone() }, true),
            (CertificateRule { email: text("jo.doe@example.org"), ..none.clone() }, false),
            (CertificateRule { uri: uri("spiffe://example.org/ns/prod/sa/billing"), ..none.clone() }, true),
            (CertificateRule { uri: uri("spiffe://example.org/ns/prod/*"), ..none.clone() }, true),
            (CertificateRule { uri: uri("spiffe://example.org/*"), dns: text("other"), ..none.clone() }, false),
        ] {
            assert_eq!(rule.fits(&certificate()), expected, "{rule:?}");
        }
    }

    #[test]
    fn a_spiffe_prefix_means_whole_segments_below_it() {
        let below = UriPattern::parse("spiffe://example.org/ns/prod/*").unwrap();
        for (uri, expected) in [
            ("spiffe://example.org/ns/prod/sa/billing", true),
            ("spiffe://example.org/ns/prod/x", true),
            ("spiffe://example.org/ns/prod", false),
            ("spiffe://example.org/ns/prod/", false),
            ("spiffe://example.org/ns/production", false),
            ("spiffe://example.org/ns/prod/../test/x", false),
            ("spiffe://example.org/ns/prod/%2e%2e/x", false),
            ("spiffe://example.org/ns/prod//x", false),
            ("spiffe://example.org/ns/prod/x?y", false),
            ("spiffe://example.org.evil/ns/prod/x", false),
            ("SPIFFE://example.org/ns/prod/x", false),
            ("https://example.org/ns/prod/x", false),
        ] {
            assert_eq!(below.fits(uri), expected, "{uri}");
        }
        let all = UriPattern::parse("spiffe://example.org/*").unwrap();
        assert!(all.fits("spiffe://example.org/x") && !all.fits("spiffe://example.org"));
        assert!(!all.fits("spiffe://example.organic/x"));
    }

    #[test]
    fn two_uris_prove_no_spiffe_id() {
        let two = Certificate {
            uris: vec!["spiffe://example.org/a".to_owned(), "https://example.org/a".to_owned()],
            ..Certificate::default()
        };
        let rule = |uri: &str| CertificateRule { uri: Some(UriPattern::parse(uri).unwrap()), ..Default::default() };
        assert!(!rule("spiffe://example.org/a").fits(&two));
        assert!(!rule("spiffe://example.org/*").fits(&two));
        assert!(rule("https://example.org/a").fits(&two));
    }

    #[test]
    fn what_is_no_uri_or_no_spiffe_id_is_refused() {
        for bad in ["", "x", "spiffe://", "spiffe://Example.org/x", "spiffe://example.org/", "spiffe://e.org/a/*/b"] {
            assert!(UriPattern::parse(bad).is_err(), "{bad}");
        }
        for bad in ["https://example.org/*", "spiffe://*/x", "spiffe:///x", "a b:c", "spiffe://example.org/a*"] {
            assert!(UriPattern::parse(bad).is_err(), "{bad}");
        }
        assert!(UriPattern::parse("urn:example:billing").is_ok());
    }
}
