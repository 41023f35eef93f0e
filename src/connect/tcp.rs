//! TCP to a host: its addresses, those of them that are admitted, and the race between them.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tower_service::Service;

use super::{Addresses, ConnectError, Destination, NamedBy, authority, lookup, no_host};

/// A connection on which nothing was heard for this long is asked whether it is still one.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Connects. An address is judged before anything is sent to it, and once more on the connected socket.
pub(super) async fn open(destination: &Destination<'_>, within: Duration) -> Result<TcpStream, ConnectError> {
    let addresses = destination.addresses;
    let stream = match destination.host().parse::<IpAddr>() {
        Ok(address) if !addresses.admits(address) => return Err(ConnectError::Forbidden),
        // Nothing to look up, and no race: the deadline is the dialler's alone.
        Ok(address) => reach(SocketAddr::new(address, destination.port), destination).await.map_err(unreached)?,
        Err(_) => race(destination, within).await?,
    };
    match stream.peer_addr() {
        Ok(peer) if addresses.admits(peer.ip()) => Ok(stream),
        Ok(_) => Err(ConnectError::Forbidden),
        Err(error) => Err(unreached(error)),
    }
}

/// Connects to one address.
async fn reach(address: SocketAddr, destination: &Destination<'_>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let options = SockRef::from(&socket);
    options.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    options.set_tcp_user_timeout(destination.dead_after)?;
    if let Some(most) = destination.held_at_most {
        socket.set_recv_buffer_size(most)?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Connects to the first address of a name that answers.
async fn race(destination: &Destination<'_>, within: Duration) -> Result<TcpStream, ConnectError> {
    let (host, addresses) = (destination.host(), destination.addresses);
    let target = Uri::builder().scheme("http").authority(authority(host, destination.port)).path_and_query("/").build();
    let target = target.map_err(|_| no_host())?;
    let mut connector = HttpConnector::new_with_resolver(Resolver(addresses, destination.named_by));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // A tunnel may idle for as long as it pleases: whether its far end is still there is asked below HTTP.
    connector.set_keepalive(Some(KEEPALIVE));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    connector.set_tcp_user_timeout(destination.dead_after);
    connector.set_recv_buffer_size(destination.held_at_most.map(|most| most as usize));
    // The connector divides this among a host's addresses, so that one dead address leaves time for the next.
    connector.set_connect_timeout(Some(within));
    connector.call(target).await.map(TokioIo::into_inner).map_err(|error| classify(error.into()))
}

fn unreached(error: io::Error) -> ConnectError {
    if error.kind() == io::ErrorKind::TimedOut { ConnectError::Timeout } else { ConnectError::Refused(error.into()) }
}

/// The connector's own error type is private: what happened is told by the causes inside.
fn classify(error: Box<dyn Error + Send + Sync>) -> ConnectError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(current) = cause {
        match current.downcast_ref() {
            Some(Unresolved::Failed(inner)) => {
                return ConnectError::Dns(io::Error::new(inner.kind(), inner.to_string()));
            }
            Some(Unresolved::Forbidden) => return ConnectError::Forbidden,
            None => {}
        }
        if current.downcast_ref::<io::Error>().is_some_and(|inner| inner.kind() == io::ErrorKind::TimedOut) {
            return ConnectError::Timeout;
        }
        cause = current.source();
    }
    ConnectError::Refused(error)
}

/// Ours so that its failures can be told from a refused connection, and so that what is not admitted is left out.
#[derive(Clone, Debug)]
struct Resolver(Addresses, NamedBy);

#[derive(Debug, thiserror::Error)]
enum Unresolved {
    #[error("the resolver failed")]
    Failed(#[source] io::Error),
    #[error("no address of the host is allowed")]
    Forbidden,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self(admitted, named_by) = *self;
        Box::pin(async move {
            let mut addresses = lookup::lookup(name.as_str(), named_by).await.map_err(Unresolved::Failed)?;
            if addresses.is_empty() {
                return Err(Unresolved::Failed(io::Error::new(io::ErrorKind::NotFound, "no address")));
            }
            addresses.retain(|address| admitted.admits(address.ip()));
            if addresses.is_empty() { Err(Unresolved::Forbidden) } else { Ok(addresses.into_iter()) }
        })
    }
}
