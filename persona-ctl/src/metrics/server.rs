//! `GET /metrics`. Plain HTTP, meant for a loopback or management address.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::snapshot::Snapshot;
use super::text::render;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where a role puts its newest snapshot; it is served until `stop` is cancelled if the role was told where.
pub async fn start(listen: Option<SocketAddr>, stop: &CancellationToken) -> anyhow::Result<watch::Sender<Snapshot>> {
    let (snapshots, receiver) = watch::channel(Snapshot::default());
    if let Some(listen) = listen {
        let address = serve(listen, receiver, stop.clone()).await?;
        tracing::info!(%address, "metrics are served");
    }
    Ok(snapshots)
}

/// Serves the newest snapshot until `stop` is cancelled. Returns the address that is listened on.
pub async fn serve(
    listen: SocketAddr,
    snapshots: watch::Receiver<Snapshot>,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("metrics cannot be served on {listen}"))?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/metrics", get(scrape)).with_state(snapshots);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scraper_gets_the_newest() {
        let (sender, snapshots) = watch::channel(Snapshot::default());
        let stop = CancellationToken::new();
        let address = serve(([127, 0, 0, 1], 0).into(), snapshots, stop.clone()).await.unwrap();
        sender.send_modify(|snapshot| snapshot.generation = 5);
        let http = crate::trust::plain_http().build().unwrap();
        let answer = http.get(format!("http://{address}/metrics")).send().await.unwrap();
        assert_eq!(answer.headers()[CONTENT_TYPE], OPENMETRICS);
        assert!(answer.text().await.unwrap().contains("persona_generation 5"));
        let nothing = http.get(format!("http://{address}/")).send().await.unwrap();
        assert_eq!(nothing.status(), 404);
        stop.cancel();
    }
}
