//! The names in a caller's certificate (RFC 5280 4.1.2.6, 4.2.1.6). The certificate was verified before; a name that
//! cannot be read is left out, so that nothing is granted by it.

use std::fmt::Write as _;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::peer::Certificate;

/// The attribute types that RFC 4514 section 3 knows by a short name.
const TYPES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The names in a certificate; no names at all when it cannot be read to its end.
pub(super) fn of(der: &[u8]) -> Certificate {
    let Ok(([], certificate)) = X509Certificate::from_der(der) else {
        return Certificate::default();
    };
    // Two extensions of one kind are an error, and no name of either is taken.
    let Ok(alternative) = certificate.subject_alternative_name() else {
        return Certificate::default();
    };
    let mut names = Certificate { subject: subject(certificate.subject()), ..Certificate::default() };
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::DNSName(name) = name {
            names.dns.push((*name).to_owned());
        } else if let GeneralName::URI(uri) = name {
            names.uris.push((*uri).to_owned());
        } else if let GeneralName::RFC822Name(mail) = name {
            names.emails.push((*mail).to_owned());
        } else if let GeneralName::IPAddress(bytes) = name {
            names.addresses.extend(address(bytes));
        }
    }
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// RFC 4514 section 2: the last name first, names between commas, attributes of one name between plus signs.
fn subject(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let rdns: Vec<_> = name.iter_rdn().collect();
    for (place, rdn) in rdns.iter().rev().enumerate() {
        for (index, attribute) in rdn.iter().enumerate() {
            match (place, index) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            write(&mut text, attribute);
        }
    }
    text
}

fn write(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let short = TYPES.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    match (short, attribute.as_str()) {
        (Some(short), Ok(value)) => {
            let _ = write!(text, "{short}=");
            escape(text, value);
        }
        (short, _) => {
            let _ = write!(text, "{}=#", short.unwrap_or(&oid));
            for byte in attribute.as_slice() {
                let _ = write!(text, "{byte:02x}");
            }
        }
    }
}

/// RFC 4514 section 2.4.
fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, letter) in value.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.push('\\'),
            '#' | ' ' if index == 0 => text.push('\\'),
            ' ' if index == last => text.push('\\'),
            _ => {}
        }
        if letter.is_ascii_control() {
            let _ = write!(text, "\\{:02x}", u32::from(letter));
        } else {
            text.push(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::of;
    use crate::peer::Certificate;

    fn der(params: CertificateParams) -> Vec<u8> {
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_subject_is_told_as_rfc_4514_writes_it_and_alternative_names_by_their_kind() {
        let mut params = CertificateParams::new(vec!["billing.test".to_owned(), "192.0.2.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, " #billing+1 ");
        params.subject_alt_names.push(SanType::URI("spiffe://a.test/billing".try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("billing@a.test".try_into().unwrap()));
        let expected = Certificate {
            subject: "CN=\\ #billing\\+1\\ ,O=Example\\, Inc.".to_owned(),
            dns: vec!["billing.test".to_owned()],
            uris: vec!["spiffe://a.test/billing".to_owned()],
            emails: vec!["billing@a.test".to_owned()],
            addresses: vec!["192.0.2.1".parse().unwrap()],
        };
        assert_eq!(of(&der(params)), expected);
    }

    #[test]
    fn a_certificate_that_cannot_be_read_gives_no_names() {
        let good = der(CertificateParams::new(vec!["billing.test".to_owned()]).unwrap());
        let mut longer = good.clone();
        longer.push(0);
        for bytes in [&good[..good.len() - 1], &longer, b"", b"\x30\x03\x02\x01\x01"] {
            assert_eq!(of(bytes), Certificate::default());
        }
        assert_eq!(of(&good).dns, ["billing.test"]);
    }
}
