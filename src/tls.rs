//! rustls stays in this room: trust roots and client certificates become a [`Profile`], what a listener shows and asks
//! for a [`Terminator`].
//!
//! Not here: dialling (`connect`), and serving what is inside (`server`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs as provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

pub use self::fault::Fault;
pub use self::terminator::{
    Agreed, ClientCertificate, Clients, ListenerSettings, Reloaded, Shaken, Stream, Terminator, Trust,
};

mod fault;
mod names;
mod terminator;

/// A `tls` table as configured; paths already resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// PEM file of certificate authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What one kind of outgoing TLS connection trusts and presents: rustls `ClientConfig`s of its own, so that session
/// resumption never crosses identities.
pub struct Profile {
    settings: Settings,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    fingerprint: [u8; 32],
}

/// Which protocol is offered within TLS (RFC 7301). One at a time: who opens a connection knows what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
}

impl Alpn {
    /// The protocol's identification sequence.
    #[must_use]
    pub fn id(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Whether a failed handshake failed because the server speaks none of the protocols that were offered
/// (RFC 7301 3.2: `no_application_protocol`).
#[must_use]
pub fn speaks_another_protocol(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)))
}

/// Why a `tls` table is no [`Profile`]. Names the file and what is wrong with it, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file was read and is not what it should be.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as one clause.
        problem: &'static str,
    },
    /// The system offers no certificate authority: usual in an image built from scratch.
    #[error(
        "the system has no trusted certificate authorities; install its CA bundle, set SSL_CERT_FILE, or name a `ca` file"
    )]
    NoSystemRoots,
    /// The TLS library refuses the combination.
    #[error("the TLS library refuses these settings")]
    Refused(#[source] rustls::Error),
}

impl Profile {
    /// Reads the files of `settings` and builds the profile. Blocks on the file system.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read or used, or when no certificate authority is left to trust.
    pub fn load(settings: &Settings) -> Result<Self, TlsError> {
        let mut fingerprint = digest::Context::new(&digest::SHA256);
        let roots = match &settings.ca {
            Some(path) => {
                let pem = read(path)?;
                absorb(&mut fingerprint, &pem);
                Arc::new(roots_of(path, &pem)?)
            }
            None => system_roots()?,
        };
        let identity = match &settings.identity {
            Some((chain, key)) => {
                let (chain_pem, key_pem) = (read(chain)?, read(key)?);
                absorb(&mut fingerprint, &chain_pem);
                absorb(&mut fingerprint, &key_pem);
                Some((certificates(chain, &chain_pem)?, private_key(key, &key_pem)?, key.as_path()))
            }
            None => None,
        };
        Self::build(settings.clone(), roots, identity, fingerprint)
    }

    /// The system's trust roots and no client certificate.
    ///
    /// # Errors
    /// [`TlsError::NoSystemRoots`]
    pub fn system() -> Result<Self, TlsError> {
        Self::load(&Settings::default())
    }

    /// Trusts nobody, reads nothing: for an endpoint that is plain HTTP on a machine without a CA bundle.
    ///
    /// # Errors
    /// [`TlsError::Refused`], which would be a defect of ours.
    pub fn trusting_nobody() -> Result<Self, TlsError> {
        let mut fingerprint = digest::Context::new(&digest::SHA256);
        absorb(&mut fingerprint, b"nobody");
        Self::build(Settings::default(), Arc::new(RootCertStore::empty()), None, fingerprint)
    }

    /// What rustls needs for a connection of this profile that offers `alpn`.
    #[must_use]
    pub fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        Arc::clone(match alpn {
            Alpn::Http1 => &self.http1,
            Alpn::Http2 => &self.http2,
        })
    }

    /// The table this profile was made from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// SHA-256 over the contents of the files read: a rotated certificate is another identity although its path is
    /// the same.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    fn build(
        settings: Settings,
        roots: Arc<RootCertStore>,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, &Path)>,
        fingerprint: digest::Context,
    ) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Refused)?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key, path)) => builder.with_client_auth_cert(chain, key).map_err(|_| TlsError::Content {
                path: path.to_owned(),
                problem: "this key cannot be used with the certificate chain",
            })?,
            None => builder.with_no_client_auth(),
        };
        // Verifier and client certificate are shared; sessions are not, because a session remembers its protocol.
        let mut http2 = config.clone();
        http2.resumption = Resumption::default();
        http2.alpn_protocols = vec![Alpn::Http2.id().to_vec()];
        config.alpn_protocols = vec![Alpn::Http1.id().to_vec()];
        let digest = fingerprint.finish();
        let mut fingerprint = [0; 32];
        fingerprint.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Ok(Self { settings, http1: Arc::new(config), http2: Arc::new(http2), fingerprint })
    }
}

/// Two profiles are equal when they were made from the same files with the same contents.
impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.settings == other.settings
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Profile").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The system's roots, read once in the life of the process: parsing a CA bundle takes tens of milliseconds.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    });
    if roots.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(Arc::clone(roots)) }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    std::fs::read(path).map(Zeroizing::new).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// Length first, so that bytes cannot move from one file to the next unnoticed.
fn absorb(fingerprint: &mut digest::Context, bytes: &[u8]) {
    fingerprint.update(&bytes.len().to_be_bytes());
    fingerprint.update(bytes);
}

fn roots_of(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        store.add(certificate).map_err(|_| TlsError::Content {
            path: path.to_owned(),
            problem: "holds a certificate that cannot be a trust root",
        })?;
    }
    Ok(store)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    // The parser's errors quote the line they stumbled over, so they end here.
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Content { path: path.to_owned(), problem: "is not well-formed PEM" })?;
    if chain.is_empty() {
        return Err(TlsError::Content { path: path.to_owned(), problem: "holds no certificate in PEM" });
    }
    Ok(chain)
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::Content {
        path: path.to_owned(),
        problem: "holds no private key in PEM (PKCS #8, PKCS #1 or SEC 1, without a passphrase)",
    })
}

#[cfg(test)]
mod tests {
    use super::{Alpn, Profile, Settings, TlsError};
    use std::path::PathBuf;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn identity(&self, name: &str) -> (PathBuf, PathBuf) {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            (
                self.write(&format!("{name}.pem"), &made.cert.pem()),
                self.write(&format!("{name}.key"), &made.signing_key.serialize_pem()),
            )
        }
    }

    #[test]
    fn a_ca_file_and_an_identity_make_a_profile_for_http_1_1() {
        let files = Files::new();
        let (chain, key) = files.identity("a");
        let settings = Settings { ca: Some(chain.clone()), identity: Some((chain, key)) };
        let profile = Profile::load(&settings).unwrap();
        assert_eq!(profile.settings(), &settings);
        assert_eq!(profile.config(Alpn::Http1).alpn_protocols, [b"http/1.1".to_vec()]);
        assert_eq!(profile.config(Alpn::Http2).alpn_protocols, [b"h2".to_vec()]);
        assert!(profile.config(Alpn::Http1).client_auth_cert_resolver.has_certs());
    }

    #[test]
    fn a_rotated_certificate_changes_the_fingerprint() {
        let files = Files::new();
        let (chain, _) = files.identity("a");
        let settings = Settings { ca: Some(chain.clone()), identity: None };
        let before = *Profile::load(&settings).unwrap().fingerprint();
        assert_eq!(before, *Profile::load(&settings).unwrap().fingerprint());
        files.identity("a");
        assert_ne!(before, *Profile::load(&settings).unwrap().fingerprint());
    }

    #[test]
    fn errors_name_the_file_and_never_its_contents() {
        let files = Files::new();
        let (chain, key) = files.identity("a");
        let (_, foreign_key) = files.identity("b");
        let broken = files.write("broken.pem", "-----BEGIN CERTIFICATE-----\ncanary!\n-----END CERTIFICATE-----\n");
        let empty = files.write("empty.pem", "canary");
        let missing = files.folder.path().join("missing.pem");
        let ca = |path: &PathBuf| Settings { ca: Some(path.clone()), identity: None };
        let identity = |chain: &PathBuf, key: &PathBuf| Settings {
            ca: Some(chain.clone()),
            identity: Some((chain.clone(), key.clone())),
        };
        for (settings, file) in [
            (ca(&broken), "broken.pem"),
            (ca(&empty), "empty.pem"),
            (ca(&missing), "missing.pem"),
            (ca(&key), "a.key"),
            (identity(&chain, &empty), "empty.pem"),
            (identity(&chain, &foreign_key), "b.key"),
        ] {
            let error = Profile::load(&settings).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(error.to_string().contains(file), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
        assert!(matches!(Profile::load(&ca(&missing)).unwrap_err(), TlsError::Read { .. }));
    }

    #[test]
    fn trusting_nobody_needs_no_system_roots() {
        assert!(!Profile::trusting_nobody().unwrap().config(Alpn::Http1).client_auth_cert_resolver.has_certs());
    }
}
