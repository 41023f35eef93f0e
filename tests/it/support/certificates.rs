//! A certificate authority of the test's own, and the certificates it signs.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate and its key, both PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A private CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, PEM.
    pub(crate) certificate: String,
}

impl Authority {
    /// Makes a CA that nobody trusts yet.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = named(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A server on loopback, by name and by address.
    pub(crate) fn server(&self) -> Identity {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.sign(named("localhost", names), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A server of another name.
    pub(crate) fn named(&self, name: &str) -> Identity {
        self.sign(named(name, vec![name.to_owned()]), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A server on loopback whose certificate is of the last century's end.
    pub(crate) fn expired(&self) -> Identity {
        let mut params = named("localhost", vec!["localhost".to_owned()]);
        params.not_before = rcgen::date_time_ymd(1999, 1, 1);
        params.not_after = rcgen::date_time_ymd(1999, 12, 31);
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client of this name.
    pub(crate) fn client(&self, name: &str) -> Identity {
        self.sign(named(name, Vec::new()), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Identity {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

fn named(name: &str, subject_alternative_names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(subject_alternative_names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
