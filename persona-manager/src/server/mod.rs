//! The listeners: TLS on the network, where a client certificate may or may not come, and a Unix socket on the host.
//!
//! Both serve the same router over HTTP/1 and HTTP/2, tell it who is at the other end, and end in good order.

mod connection;
mod cut;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::access::{Origin, Peer};
use crate::authority::Tls;
use crate::store::Snapshot;
use connection::Server;

pub(crate) use socket::AdminSocket;
pub use socket::SocketError;

/// Connections at a time.
const CONNECTION_COUNT_MAX: usize = 8_192;

/// How long open requests may take to end after a stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// How long an accept that failed (no file descriptors) is waited out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is listened on.
pub(crate) struct Listeners {
    /// The network.
    pub network: TcpListener,
    /// TLS on the network. None: plain HTTP, as was asked for.
    pub tls: Option<Arc<Tls>>,
    /// The host's own.
    pub socket: AdminSocket,
}

/// Serves until `stop`, then lets open requests end.
pub(crate) async fn serve(
    listeners: Listeners,
    router: Router,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let server = Server { router, tls: listeners.tls, snapshots };
    let slots = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
    loop {
        // People on the host get in even while the network holds every slot.
        let accepted = tokio::select! {
            accepted = accept(&listeners.network, &slots) => accepted,
            accepted = accept_local(&listeners.socket.listener) => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => server.clone().spawn(accepted, graceful.watcher()),
            Err(error) => {
                tracing::warn!(error.cause = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listeners.socket);
    drop(listeners.network);
    if tokio::time::timeout(STOP_TIME_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still open when the manager stopped");
    }
}

/// A connection that was accepted.
pub(in crate::server) enum Accepted {
    /// From the network, with the slot that it holds.
    Network(TcpStream, Peer, OwnedSemaphorePermit),
    /// From the host.
    Local(tokio::net::UnixStream, Peer),
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, address) = listener.accept().await?;
    Ok(Accepted::Network(stream, Peer { origin: Origin::Network(address), certificate: None, is_manager: false }, slot))
}

async fn accept_local(listener: &UnixListener) -> std::io::Result<Accepted> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    Ok(Accepted::Local(stream, Peer { origin: Origin::Socket { uid }, certificate: None, is_manager: false }))
}
