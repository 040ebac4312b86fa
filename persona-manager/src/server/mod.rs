//! The listeners: TLS on the network, where a client certificate may or may not come, and a Unix socket on the host.
//!
//! Both serve the same router over HTTP/1 and HTTP/2, tell it who is at the other end, and end in good order. Idle connections
//! and crowds give way, so that a node or an edge always gets in.

mod activity;
mod connection;
mod cut;
mod places;
mod socket;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Origin, Peer, site_of};
use crate::authority::Tls;
use crate::metrics::Metrics;
use crate::store::Trust;
use connection::Server;
use places::{Place, Places};

pub(crate) use socket::AdminSocket;
pub use socket::SocketError;

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
    connections_max: NonZeroU32,
    router: Router,
    trust: watch::Receiver<Trust>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let (places, tasks) = (Places::new(connections_max), TaskTracker::new());
    let handshakes = connection::handshakes();
    let server = Server { router, tls: listeners.tls, handshakes, trust, metrics, stop: stop.clone() };
    loop {
        let accepted = tokio::select! {
            accepted = listeners.network.accept() => accepted.map(|(stream, address)| {
                let place = places.take(site_of(address.ip()), Instant::now());
                place.map(|place| network(stream, address, place))
            }),
            accepted = accept_local(&listeners.socket.listener) => accepted.map(Some),
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(Some(accepted)) => _ = tasks.spawn(server.clone().serve(accepted)),
            // Nothing can be said before the handshake; whoever was refused tries again.
            Ok(None) => server.metrics.turned_away(),
            Err(error) => {
                tracing::warn!(error.cause = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listeners.socket);
    drop(listeners.network);
    tasks.close();
    if tokio::time::timeout(STOP_TIME_MAX, tasks.wait()).await.is_err() {
        tracing::warn!("requests were still open when the manager stopped");
    }
}

/// A connection that was accepted.
pub(in crate::server) enum Accepted {
    /// From the network, with the place that it holds.
    Network(TcpStream, Peer, Place),
    /// From the host: people there get in even while the network holds every place.
    Local(tokio::net::UnixStream, Peer),
}

fn network(stream: TcpStream, address: SocketAddr, place: Place) -> Accepted {
    let peer = Peer { origin: Origin::Network(address), certificate: None, is_manager: false };
    Accepted::Network(stream, peer, place)
}

async fn accept_local(listener: &UnixListener) -> std::io::Result<Accepted> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    Ok(Accepted::Local(stream, Peer { origin: Origin::Socket { uid }, certificate: None, is_manager: false }))
}
