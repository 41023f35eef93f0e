//! A server that completes handshakes and says nothing more.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::Identity;

/// Ends when dropped.
pub(crate) struct TlsServer {
    pub(crate) address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl TlsServer {
    /// Shows this certificate, on a free port.
    pub(crate) async fn start(identity: &Identity) -> Self {
        let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let _ = acceptor.accept(socket).await;
            }
        });
        Self { address, _accepting: accepting }
    }
}
