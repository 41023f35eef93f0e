//! TLS of our own listeners (RFC 8446, RFC 5246): the certificate we show, whom we let in by theirs, and both made
//! anew when their files change.
//!
//! Not here: when files are looked at again (`app`), and what a caller may do by its certificate (`caller`).

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs as provider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{TlsError, absorb, certificates, names, private_key, read, roots_of};
use crate::peer::Certificate;

/// `tls` of a listener as configured; paths already resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// PEM file of our certificate chain.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// Whom we ask for a certificate, and by whom it has to be signed; none: nobody is asked.
    pub clients: Option<Clients>,
}

/// Callers that prove who they are by a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM file of the certificate authorities that sign theirs.
    pub ca: PathBuf,
    /// Whether a caller without a certificate is turned away in the handshake.
    pub certificate: ClientCertificate,
}

/// `client_certificate`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// No handshake without one.
    Required,
    /// One is asked for; a caller that has none is let in without.
    Optional,
}

/// Ends TLS for one listener. Its files can be read again at any time; connections that are open go on with what they
/// were accepted with, unless the authorities that vouch for callers are others now.
pub struct Terminator {
    settings: ListenerSettings,
    current: ArcSwapOption<Loaded>,
}

/// What one reading of the files came to.
struct Loaded {
    config: Arc<ServerConfig>,
    /// SHA-256 over the contents of all files.
    fingerprint: [u8; 32],
    /// SHA-256 over the contents of the file of authorities.
    authorities: [u8; 32],
    /// Gone once other authorities vouch for callers.
    trusted: Arc<watch::Sender<()>>,
}

/// What reading the files again came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Nothing: their contents are the same.
    Unchanged,
    /// Another certificate or key.
    Certificate,
    /// Other authorities vouch for callers; connections under the old ones end.
    Authorities,
}

/// Tells when the authorities under which a connection was accepted no longer vouch for callers.
#[derive(Clone, Debug)]
pub struct Trust(watch::Receiver<()>);

impl Trust {
    /// Whether they still do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// One that lasts until what comes with it is dropped.
    #[cfg(test)]
    pub(crate) fn example() -> (watch::Sender<()>, Self) {
        let (sender, receiver) = watch::channel(());
        (sender, Self(receiver))
    }

    /// Resolves once they no longer do.
    pub async fn over(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// The protocol agreed on in the handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// `h2`
    Http2,
    /// `http/1.1`
    Http1,
    /// The caller named none.
    None,
}

/// What a handshake came to.
#[derive(Debug)]
pub struct Shaken<IO> {
    /// The stream inside.
    pub stream: Stream<IO>,
    /// What is to be spoken.
    pub alpn: Agreed,
    /// The caller's certificate, verified.
    pub certificate: Option<Arc<Certificate>>,
    /// How long it counts; none where callers are not asked for one.
    pub trust: Option<Trust>,
}

/// A stream inside TLS.
#[derive(Debug)]
pub struct Stream<IO>(TlsStream<IO>);

/// Two are equal when they are configured alike; what is in their files is read again by itself.
impl PartialEq for Terminator {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Terminator {
    /// Reads the files. Blocks on the file system.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read or used.
    pub fn load(settings: ListenerSettings) -> Result<Self, TlsError> {
        let loaded = Loaded::read(&settings, None)?;
        Ok(Self { settings, current: ArcSwapOption::from_pointee(loaded) })
    }

    /// With no files read: for commands that only look at what a configuration says. No handshake succeeds.
    #[must_use]
    pub fn unloaded(settings: ListenerSettings) -> Self {
        Self { settings, current: ArcSwapOption::empty() }
    }

    /// The table this was made from.
    #[must_use]
    pub fn settings(&self) -> &ListenerSettings {
        &self.settings
    }

    /// Reads the files again and, where they are good and others than before, uses them for new connections. Blocks
    /// on the file system. Contents count, not times: what Kubernetes mounts is swapped as a whole.
    ///
    /// # Errors
    /// [`TlsError`]; what was in use stays in use.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let before = self.current.load_full();
        let loaded = Loaded::read(&self.settings, before.as_deref())?;
        let reloaded = match &before {
            Some(before) if before.fingerprint == loaded.fingerprint => return Ok(Reloaded::Unchanged),
            Some(before) if before.authorities == loaded.authorities => Reloaded::Certificate,
            Some(_) | None => Reloaded::Authorities,
        };
        self.current.store(Some(Arc::new(loaded)));
        Ok(reloaded)
    }

    /// The handshake. It has no deadline of its own.
    ///
    /// # Errors
    /// What went wrong; [`super::Fault::of`] explains it.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) -> io::Result<Shaken<IO>> {
        let loaded = self.current.load_full().ok_or_else(|| io::Error::other("no certificate was read"))?;
        let trust = self.settings.clients.is_some().then(|| Trust(loaded.trusted.subscribe()));
        let stream = TlsAcceptor::from(Arc::clone(&loaded.config)).accept(io).await?;
        let (_, session) = stream.get_ref();
        let alpn = match session.alpn_protocol() {
            Some(b"h2") => Agreed::Http2,
            Some(_) => Agreed::Http1,
            None => Agreed::None,
        };
        let certificate =
            session.peer_certificates().and_then(<[_]>::first).map(|first| Arc::new(names::of(first.as_ref())));
        Ok(Shaken { stream: Stream(stream), alpn, certificate, trust })
    }
}

impl std::fmt::Debug for Terminator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Terminator").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Loaded {
    fn read(settings: &ListenerSettings, before: Option<&Self>) -> Result<Self, TlsError> {
        let (chain_pem, key_pem) = (read(&settings.certificate)?, read(&settings.key)?);
        let chain = certificates(&settings.certificate, &chain_pem)?;
        let key = private_key(&settings.key, &key_pem)?;
        let (mut all, mut authorities) = (digest::Context::new(&digest::SHA256), digest::Context::new(&digest::SHA256));
        absorb(&mut all, &chain_pem);
        absorb(&mut all, &key_pem);
        let provider = Arc::new(provider::default_provider());
        let verifier = match &settings.clients {
            None => Arc::new(NoClientAuth) as Arc<dyn ClientCertVerifier>,
            Some(clients) => {
                let pem = read(&clients.ca)?;
                absorb(&mut all, &pem);
                absorb(&mut authorities, &pem);
                verifier(clients, &pem, &provider)?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|_| TlsError::Content {
                path: settings.key.clone(),
                problem: "this key cannot be used with the certificate chain",
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // RFC 8470: nothing is taken from a caller before its handshake is complete.
        config.max_early_data_size = 0;
        if settings.clients.is_some() {
            // A resumed session would skip the check of the certificate.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = provider::Ticketer::new().map_err(TlsError::Refused)?;
        }
        let authorities = bytes(authorities);
        let trusted = match before {
            Some(before) if before.authorities == authorities => Arc::clone(&before.trusted),
            Some(_) | None => Arc::new(watch::Sender::new(())),
        };
        Ok(Self { config: Arc::new(config), fingerprint: bytes(all), authorities, trusted })
    }
}

fn verifier(
    clients: &Clients,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots_of(&clients.ca, pem)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = match clients.certificate {
        ClientCertificate::Required => builder,
        ClientCertificate::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|_| TlsError::Content {
        path: clients.ca.clone(),
        problem: "cannot be used to verify the certificates of callers",
    })
}

fn bytes(digest: digest::Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(digest.finish().as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
