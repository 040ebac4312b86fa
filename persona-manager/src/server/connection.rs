//! One connection: the TLS handshake within a time limit, then requests, each with the peer beside it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::{ServiceExt as _, service_fn};

use super::Accepted;
use super::cut::reason_to_cut;
use crate::access::Peer;
use crate::authority::{AgentCertificate, Tls, is_manager, issuer_of};
use crate::clock::now_ms;
use crate::store::Snapshot;

/// How long a handshake, and the headers of a request, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves connections; clones share all.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) router: Router,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Server {
    /// Serves a connection on a task of its own.
    pub(super) fn spawn(self, accepted: Accepted, watcher: Watcher) {
        tokio::spawn(async move {
            let (Accepted::Local(_, peer) | Accepted::Network(_, peer, _)) = &accepted;
            let from = peer.origin;
            let outcome = match accepted {
                Accepted::Local(stream, peer) => self.talk(stream, peer, None, watcher).await,
                Accepted::Network(stream, peer, _slot) => self.greet(stream, peer, watcher).await,
            };
            if let Err(error) = outcome {
                tracing::debug!(connection.from = %from, error.cause = %error, "a connection ended early");
            }
        });
    }

    async fn greet(self, stream: TcpStream, peer: Peer, watcher: Watcher) -> anyhow::Result<()> {
        // Frames of a watch stream are small and must not wait for an acknowledgement; best effort.
        _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.talk(stream, peer, None, watcher).await };
        let stream = tokio::time::timeout(PATIENCE, tls.acceptor(now_ms()).accept(stream)).await??;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = certificates.first().and_then(|certificate| AgentCertificate::read(certificate));
        let is_manager = certificates.first().is_some_and(|certificate| is_manager(certificate));
        let issuer = certificates.first().and_then(|certificate| issuer_of(certificate));
        self.talk(stream, Peer { certificate, is_manager, ..peer }, issuer, watcher).await
    }

    async fn talk<S>(self, stream: S, peer: Peer, issuer: Option<String>, watcher: Watcher) -> anyhow::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router;
        let cut = reason_to_cut(peer.certificate.clone(), issuer, self.snapshots);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let router = router.clone();
            async move {
                Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        builder.http2().timer(TokioTimer::new());
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::select! {
            ended = watcher.watch(connection.into_owned()) => ended.map_err(anyhow::Error::from_boxed),
            reason = cut => Err(anyhow::anyhow!("{reason}")),
        }
    }
}
