//! One connection: the TLS handshake within a time limit, then requests, each with the peer beside it, until one side has
//! enough, nothing goes on for too long, or its place is given to another.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};

use super::activity::{Activity, HeldOpen};
use super::cut::reason_to_cut;
use super::places::{Member, Place};
use super::{Accepted, STOP_TIME_MAX};
use crate::access::{Peer, Shown};
use crate::authority::{AgentCertificate, Tls, is_manager, issuer_of};
use crate::clock::now_ms;
use crate::metrics::{Metrics, Whose};
use crate::store::Trust;

/// How long a handshake, the headers of a request, and a stranger's first request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Handshakes that are worked on at a time, as far as it is us they wait for. When a whole fleet comes back, requests of those who are
/// there go on in between; more would only all take longer, and be given up half-way.
const HANDSHAKES_MAX: usize = 128;

/// A handshake that has not ended after this time waits for the peer and goes on beside those: some 640 begin in a second at least, which
/// is as many as a processor can do, whatever others leave unfinished.
const HANDSHAKE_TURN: Duration = Duration::from_millis(200);

/// How long strangers may keep a connection on which nothing goes on.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// HTTP/2 connections on which nothing comes are asked for a sign of life this often, and given up as long after.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What was sent has to be acknowledged within this time, and a peer that reads nothing reads again.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Serves connections; clones share all.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) router: Router,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) trust: watch::Receiver<Trust>,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
}

/// Turns for handshakes.
pub(super) fn handshakes() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(HANDSHAKES_MAX))
}

impl Server {
    /// Serves a connection until it ends.
    pub(super) async fn serve(self, accepted: Accepted) {
        let (Accepted::Local(_, peer) | Accepted::Network(_, peer, _)) = &accepted;
        let from = peer.origin;
        let outcome = match accepted {
            Accepted::Local(stream, peer) => {
                let _counted = self.metrics.connected(Whose::Local);
                self.talk(stream, peer, None, None).await
            }
            Accepted::Network(stream, peer, place) => self.greet(stream, peer, place).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(connection.from = %from, error.cause = %error, "a connection ended early");
        }
    }

    async fn greet(self, stream: TcpStream, peer: Peer, place: Place) -> anyhow::Result<()> {
        prepare(&stream);
        let mut counted = self.metrics.connected(Whose::Stranger);
        let Some(tls) = &self.tls else { return self.talk(stream, peer, None, Some(place)).await };
        let stream = tokio::select! {
            stream = self.shake_hands(tls, stream, &place) => stream?,
            () = place.taken() => anyhow::bail!("its place was given to another"),
            () = self.stop.cancelled() => anyhow::bail!("the manager stops"),
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = certificates.first().and_then(|certificate| AgentCertificate::read(certificate));
        let is_manager = certificates.first().is_some_and(|certificate| is_manager(certificate));
        let issuer = certificates.first().and_then(|certificate| issuer_of(certificate));
        let member = match &certificate {
            Some(certificate) => Some(Member::Agent(certificate.id.clone())),
            None => is_manager.then_some(Member::Manager),
        };
        if let Some(member) = member {
            anyhow::ensure!(place.join(member), "there is no place left for another client certificate");
            counted = self.metrics.connected(Whose::Member);
        }
        let outcome = self.talk(stream, Peer { certificate, is_manager, ..peer }, issuer, Some(place)).await;
        drop(counted);
        outcome
    }

    /// The handshake, in its turn, which comes once the peer's whole first message is there.
    async fn shake_hands(&self, tls: &Tls, stream: TcpStream, place: &Place) -> anyhow::Result<TlsStream<TcpStream>> {
        let hello = tokio::time::timeout(PATIENCE, LazyConfigAcceptor::new(Acceptor::default(), stream)).await??;
        place.wait();
        let turn = self.handshakes.acquire().await?;
        place.go_on(Instant::now());
        let config = Arc::clone(tls.acceptor(now_ms()).config());
        let mut handshake = pin!(tokio::time::timeout(PATIENCE, hello.into_stream(config)));
        let shaken = match tokio::time::timeout(HANDSHAKE_TURN, handshake.as_mut()).await {
            Ok(shaken) => shaken,
            Err(_) => {
                drop(turn);
                handshake.await
            }
        };
        Ok(shaken??)
    }

    async fn talk<S>(self, stream: S, peer: Peer, issuer: Option<String>, place: Option<Place>) -> anyhow::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { router, trust, stop, tls: _, handshakes: _, metrics: _ } = self;
        let is_stranger = place.is_some() && peer.certificate.is_none() && !peer.is_manager;
        let (activity, place) = (Activity::new(), place.map(Arc::new));
        let cut = reason_to_cut(peer.certificate.clone(), issuer, trust);
        let (of_requests, of_answers) = (activity.clone(), place.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let (router, busy, place) = (router.clone(), of_requests.begin(), of_answers.clone());
            async move {
                let answered = router.oneshot(request.map(Body::new)).await;
                let answer = answered.unwrap_or_else(|never| match never {});
                if let Some(place) = place.filter(|_| answer.extensions().get::<Shown>().is_some()) {
                    place.know();
                }
                Ok::<_, Infallible>(answer.map(|body| Body::new(HeldOpen::new(body, busy))))
            }
        });
        let builder = builder();
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
        let mut cut = pin!(cut);
        let mut taken = pin!(async {
            match &place {
                Some(place) => place.taken().await,
                None => std::future::pending().await,
            }
        });
        let mut enough = pin!(async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = activity.idle(PATIENCE, IDLE_TIME_MAX), if is_stranger => {}
            }
        });
        let mut last_word = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(anyhow::Error::from_boxed),
                reason = &mut cut => anyhow::bail!("{reason}"),
                () = &mut taken => anyhow::bail!("its place was given to another"),
                () = &mut enough, if last_word.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    last_word = Some(tokio::time::Instant::now() + STOP_TIME_MAX);
                }
                () = tokio::time::sleep_until(last_word.unwrap_or_else(tokio::time::Instant::now)),
                    if last_word.is_some() => anyhow::bail!("it was to end and did not"),
            }
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// Frames of a watch stream are small and must not wait for an acknowledgement; a peer that vanished is noticed also where
/// nothing asks for signs of life. All of it is best effort: without it a connection still works.
fn prepare(stream: &TcpStream) {
    _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(UNREAD_TIME_MAX).with_interval(KEEP_ALIVE).with_retries(3);
    _ = socket.set_tcp_keepalive(&keep_alive);
    _ = socket.set_tcp_user_timeout(Some(UNREAD_TIME_MAX));
}
