//! `GET /metrics`, `/healthz` and `/readyz`. Plain HTTP, meant for a loopback or management address.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::snapshot::Snapshot;
use super::text::render;
use crate::supervisor::Readiness;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where a role puts its newest snapshot; it is served until `stop` is cancelled if the role was told where.
pub async fn start(
    listen: Option<SocketAddr>,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> anyhow::Result<watch::Sender<Snapshot>> {
    let (snapshots, receiver) = watch::channel(Snapshot::default());
    if let Some(listen) = listen {
        let address = serve(listen, receiver, readiness.clone(), stop.clone()).await?;
        tracing::info!(%address, "metrics are served");
    }
    Ok(snapshots)
}

/// Serves the newest snapshot until `stop` is cancelled. Returns the address that is listened on.
pub async fn serve(
    listen: SocketAddr,
    snapshots: watch::Receiver<Snapshot>,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("metrics cannot be served on {listen}"))?;
    let address = listener.local_addr()?;
    let health = Router::new().route("/readyz", get(ready)).with_state(readiness);
    let router = Router::new().route("/metrics", get(scrape)).with_state(snapshots);
    let router = router.route("/healthz", get(async || "alive\n")).merge(health);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(address)
}

async fn scrape(State(snapshots): State<watch::Receiver<Snapshot>>) -> impl IntoResponse {
    let text = render(&snapshots.borrow());
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}

/// Whether the role serves, as it tells the service manager.
async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.judge(Instant::now()) {
        Ok(status) => (StatusCode::OK, format!("ready: {status}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scraper_gets_the_newest() {
        let (sender, snapshots) = watch::channel(Snapshot::default());
        let (stop, readiness) = (CancellationToken::new(), Readiness::default());
        let address = serve(([127, 0, 0, 1], 0).into(), snapshots, readiness.clone(), stop.clone()).await.unwrap();
        sender.send_modify(|snapshot| snapshot.generation = 5);
        let http = crate::trust::plain_http().build().unwrap();
        let answer = http.get(format!("http://{address}/metrics")).send().await.unwrap();
        assert_eq!(answer.headers()[CONTENT_TYPE], OPENMETRICS);
        assert!(answer.text().await.unwrap().contains("persona_generation 5"));
        let ask = async |path: &str| {
            let answer = http.get(format!("http://{address}{path}")).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        assert_eq!(ask("/healthz").await, (200, "alive\n".to_owned()));
        assert_eq!(ask("/readyz").await, (503, "not ready: it is starting\n".to_owned()));
        crate::supervisor::Supervisor::from_environment(&readiness).turn("generation 5 is in force".to_owned());
        assert_eq!(ask("/readyz").await, (200, "ready: generation 5 is in force\n".to_owned()));
        let nothing = http.get(format!("http://{address}/")).send().await.unwrap();
        assert_eq!(nothing.status(), 404);
        stop.cancel();
    }
}
