//! Why a handshake failed, in terms that somebody can act on. For the commands that explain a failure; the data path
//! needs to know only that it failed.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// What is behind a failed handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No authority that we trust has signed the certificate.
    #[error("no authority that we trust has signed the certificate")]
    UnknownIssuer,
    /// The certificate is for other names, listed where they are known.
    #[error("the certificate is for another name{}{}", if .0.is_empty() { "" } else { ": " }, .0.join(", "))]
    OtherName(Vec<String>),
    /// The certificate's time is over.
    #[error("the certificate has expired")]
    Expired,
    /// The certificate's time has not begun.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// What came back is no TLS: most likely plain HTTP.
    #[error("what came back is no TLS")]
    NotTls,
    /// The server wants a client certificate, or another one.
    #[error("the server wants a client certificate that it knows")]
    ClientCertificate,
    /// There is no version or cipher suite that both sides accept.
    #[error("the server knows no version or cipher suite of ours")]
    NothingInCommon,
    /// The connection was closed in the middle: often a firewall, or a server that does not know the name.
    #[error("the connection was closed in the middle")]
    Closed,
    /// Anything else, in the library's words.
    #[error("{0}")]
    Other(String),
}

impl Fault {
    /// What is behind `error`, which came out of a handshake.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::of_transport(error);
        };
        if let Error::InvalidCertificate(problem) = cause {
            return Self::of_certificate(problem);
        }
        if let Error::AlertReceived(alert) = cause {
            return Self::of_alert(*alert);
        }
        if matches!(cause, Error::InvalidMessage(_)) {
            return Self::NotTls;
        }
        if matches!(cause, Error::PeerIncompatible(_)) {
            return Self::NothingInCommon;
        }
        Self::Other(cause.to_string())
    }

    fn of_transport(error: &io::Error) -> Self {
        let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        if closed.contains(&error.kind()) { Self::Closed } else { Self::Other(error.to_string()) }
    }

    fn of_certificate(problem: &CertificateError) -> Self {
        if let CertificateError::NotValidForNameContext { presented, .. } = problem {
            return Self::OtherName(presented.iter().map(|name| bare(name).to_owned()).collect());
        }
        if matches!(problem, CertificateError::NotValidForName) {
            return Self::OtherName(Vec::new());
        }
        if matches!(problem, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
            return Self::Expired;
        }
        if matches!(problem, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) {
            return Self::NotYetValid;
        }
        if matches!(problem, CertificateError::UnknownIssuer) {
            return Self::UnknownIssuer;
        }
        Self::Other(format!("invalid certificate: {problem}"))
    }

    fn of_alert(alert: AlertDescription) -> Self {
        let ours = [
            AlertDescription::CertificateRequired,
            AlertDescription::NoCertificate,
            AlertDescription::BadCertificate,
            AlertDescription::CertificateUnknown,
            AlertDescription::CertificateExpired,
            AlertDescription::UnknownCA,
            AlertDescription::AccessDenied,
        ];
        if ours.contains(&alert) {
            return Self::ClientCertificate;
        }
        if [AlertDescription::ProtocolVersion, AlertDescription::InsufficientSecurity].contains(&alert) {
            return Self::NothingInCommon;
        }
        Self::Other(format!("the server answered with the alert {alert:?}"))
    }
}

/// The library writes names as `DnsName("a.test")`.
fn bare(name: &str) -> &str {
    name.split_once('"').and_then(|(_, rest)| rest.split_once('"')).map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

    use super::{Fault, bare};

    #[test]
    fn what_can_be_acted_on_is_told_apart() {
        for (error, fault) in [
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), Fault::UnknownIssuer),
            (Error::InvalidCertificate(CertificateError::Expired), Fault::Expired),
            (Error::InvalidCertificate(CertificateError::NotValidYet), Fault::NotYetValid),
            (Error::InvalidCertificate(CertificateError::NotValidForName), Fault::OtherName(Vec::new())),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), Fault::NotTls),
            (Error::AlertReceived(AlertDescription::CertificateRequired), Fault::ClientCertificate),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), Fault::NothingInCommon),
        ] {
            assert_eq!(Fault::of(&io::Error::new(io::ErrorKind::InvalidData, error)), fault);
        }
        assert_eq!(Fault::of(&io::Error::from(io::ErrorKind::UnexpectedEof)), Fault::Closed);
        assert!(matches!(Fault::of(&io::Error::other("x")), Fault::Other(_)));
        assert_eq!((bare("DnsName(\"a.test\")"), bare("a.test")), ("a.test", "a.test"));
    }
}
