//! One check of one instance: a TCP connection, or an HTTP request on one.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::HOST;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is tried, where, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckSpec {
    pub(super) kind: CheckKind,
    pub(super) target: SocketAddr,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckKind {
    /// A TCP connection is accepted.
    Tcp,
    /// A GET is answered.
    Http {
        path: String,
        host: Option<String>,
        /// What counts as well; empty: 200 to 399.
        statuses: Vec<u16>,
    },
}

/// Whose check it was.
pub(super) type InstanceName = (String, String);

/// How a check ended: passed, or why it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) instance: InstanceName,
    pub(super) result: Result<(), String>,
}

/// A task that checks again and again; dropping it ends the task.
#[derive(Debug)]
pub(super) struct Checker {
    pub(super) spec: CheckSpec,
    _stop: DropGuard,
}

impl Checker {
    /// Starts checking at once.
    pub(super) fn start(spec: CheckSpec, instance: InstanceName, outcomes: mpsc::Sender<Outcome>) -> Self {
        let stop = CancellationToken::new();
        let (stopped, task_spec) = (stop.clone(), spec.clone());
        tokio::spawn(async move {
            let mut ticks = interval(task_spec.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let work = async {
                loop {
                    ticks.tick().await;
                    let result = run(&task_spec).await;
                    if outcomes.send(Outcome { instance: instance.clone(), result }).await.is_err() {
                        break; // the gateway has ended
                    }
                }
            };
            stopped.run_until_cancelled(work).await;
        });
        Self { spec, _stop: stop.drop_guard() }
    }
}

/// One check.
async fn run(spec: &CheckSpec) -> Result<(), String> {
    let attempt = async {
        match &spec.kind {
            CheckKind::Tcp => TcpStream::connect(spec.target).await.map(drop).map_err(|error| error.to_string()),
            CheckKind::Http { path, host, statuses } => ask(spec.target, path, host.as_deref(), statuses).await,
        }
    };
    match timeout(spec.timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} ms", spec.timeout.as_millis())),
    }
}

/// A GET over a connection of its own: a kept one would prove less.
async fn ask(target: SocketAddr, path: &str, host: Option<&str>, statuses: &[u16]) -> Result<(), String> {
    let told = |error: reqwest::Error| crate::host::error_chain(&error);
    let builder = crate::trust::plain_http().redirect(reqwest::redirect::Policy::none());
    let client = builder.pool_max_idle_per_host(0).build().map_err(told)?;
    let mut request = client.get(format!("http://{target}{path}"));
    if let Some(host) = host {
        request = request.header(HOST, host);
    }
    let status = request.send().await.map_err(told)?.status().as_u16();
    let is_well = if statuses.is_empty() { (200..400).contains(&status) } else { statuses.contains(&status) };
    if is_well { Ok(()) } else { Err(format!("HTTP status {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::net::TcpListener;

    fn spec(target: SocketAddr, kind: CheckKind) -> CheckSpec {
        CheckSpec { kind, target, interval: Duration::from_millis(10), timeout: Duration::from_secs(5) }
    }

    #[tokio::test]
    async fn connections_and_answers_are_judged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/ok", get(|| async { "ok" }))
            .route("/moved", get(|| async { (StatusCode::FOUND, [("location", "/nowhere")]) }));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let http = |path: &str, statuses: &[u16]| CheckKind::Http {
            path: path.into(),
            host: Some("example.org".into()),
            statuses: statuses.to_vec(),
        };
        for (kind, expected) in [
            (CheckKind::Tcp, Ok(())),
            (http("/ok", &[]), Ok(())),
            (http("/moved", &[]), Ok(())),
            (http("/moved", &[200]), Err("HTTP status 302".to_owned())),
            (http("/nothing", &[]), Err("HTTP status 404".to_owned())),
            (http("/nothing", &[404]), Ok(())),
        ] {
            assert_eq!(run(&spec(target, kind.clone())).await, expected, "{kind:?}");
        }
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(run(&spec(closed, CheckKind::Tcp)).await.is_err());
    }

    #[tokio::test]
    async fn silence_fails_after_its_time() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kind = CheckKind::Http { path: "/".into(), host: None, statuses: vec![] };
        let mut spec = spec(silent.local_addr().unwrap(), kind);
        spec.timeout = Duration::from_millis(50);
        assert_eq!(run(&spec).await, Err("no answer within 50 ms".to_owned()));
    }

    #[tokio::test]
    async fn a_checker_checks_until_it_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, mut outcomes) = mpsc::channel(1);
        let name = ("web".to_owned(), "a".to_owned());
        let checker = Checker::start(spec(listener.local_addr().unwrap(), CheckKind::Tcp), name.clone(), sender);
        for _ in 0..3 {
            assert_eq!(outcomes.recv().await, Some(Outcome { instance: name.clone(), result: Ok(()) }));
        }
        drop(checker);
        while outcomes.recv().await.is_some() {}
    }
}
