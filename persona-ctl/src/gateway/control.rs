//! The control socket: HTTP over a Unix socket that only its owner may use.
//!
//! `GET /v1/services`, `PATCH /v1/services/S/instances/I`, `POST /v1/reload`. Each request is a command for the gateway's
//! one loop, which alone knows what is in force.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use persona_core::wire::api::Problem;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::view::{InstanceChange, InstanceView, ServiceView};

/// Commands that wait for the loop.
const COMMAND_COUNT_MAX: usize = 64;

/// What the loop is asked.
#[derive(Debug)]
pub(super) enum Command {
    /// Every service.
    List(Reply<Vec<ServiceView>>),
    /// Something is to be different about an instance.
    Change { service: String, instance: String, change: InstanceChange, reply: Reply<InstanceView> },
    /// The configuration is to be read again.
    Reload(Reply<Vec<ServiceView>>),
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such service or instance; the text names those that there are.
    Unknown(String),
    /// What it says is wrong; the text says what would be valid.
    Invalid(String),
    /// The gateway could not do it.
    Failed(String),
}

/// The socket; its file goes when this is dropped.
pub(super) struct ControlSocket {
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A file that is left is taken over by the next process.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves the socket until `stop` is cancelled. Refuses where another gateway answers on it.
pub(super) async fn serve(
    path: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<(ControlSocket, mpsc::Receiver<Command>)> {
    let failed = || format!("control socket {} cannot be served", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failed)?;
    }
    if UnixStream::connect(path).await.is_ok() {
        anyhow::bail!("another gateway answers on {}: stop it first, or give this one another socket", path.display());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(failed),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(failed)?;
    let (commands, receiver) = mpsc::channel(COMMAND_COUNT_MAX);
    let router = Router::new()
        .route("/v1/services", get(list))
        .route("/v1/services/{service}/instances/{instance}", patch(change))
        .route("/v1/reload", post(reload))
        .fallback(async || Refusal::Unknown("the gateway has /v1/services and /v1/reload".into()))
        .with_state(commands);
    let stopped = stop.clone();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await {
            tracing::error!(%error, "the control socket is no longer served");
        }
    });
    Ok((ControlSocket { path: path.to_owned() }, receiver))
}

async fn list(State(commands): State<mpsc::Sender<Command>>) -> Result<Json<Vec<ServiceView>>, Refusal> {
    ask(&commands, Command::List).await
}

async fn reload(State(commands): State<mpsc::Sender<Command>>) -> Result<Json<Vec<ServiceView>>, Refusal> {
    ask(&commands, Command::Reload).await
}

async fn change(
    State(commands): State<mpsc::Sender<Command>>,
    UrlPath((service, instance)): UrlPath<(String, String)>,
    change: Result<Json<InstanceChange>, JsonRejection>,
) -> Result<Json<InstanceView>, Refusal> {
    let Json(change) = change.map_err(|rejection| Refusal::Invalid(rejection.body_text()))?;
    ask(&commands, |reply| Command::Change { service, instance, change, reply }).await
}

async fn ask<T>(commands: &mpsc::Sender<Command>, make: impl FnOnce(Reply<T>) -> Command) -> Result<Json<T>, Refusal> {
    let ended = || Refusal::Failed("the gateway is about to end".into());
    let (reply, answer) = oneshot::channel();
    commands.send(make(reply)).await.map_err(|_| ended())?;
    answer.await.map_err(|_| ended())?.map(Json)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind, title, detail) = match self {
            Self::Unknown(detail) => (StatusCode::NOT_FOUND, "unknown", "there is no such thing", detail),
            Self::Invalid(detail) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the request is not valid", detail),
            Self::Failed(detail) => (StatusCode::INTERNAL_SERVER_ERROR, "failed", "it could not be done", detail),
        };
        let problem = Problem {
            kind: format!("/problems/{kind}"),
            title: title.into(),
            status: status.as_u16(),
            detail,
            errors: Vec::new(),
        };
        (status, [(CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::{GatewayClient, GatewayClientError};
    use super::*;

    #[tokio::test]
    async fn commands_reach_the_loop_and_answers_the_client() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/gateway.sock");
        let stop = CancellationToken::new();
        let (socket, mut commands) = serve(&path, &stop).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let answering = tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                match command {
                    Command::List(reply) | Command::Reload(reply) => reply.send(Ok(Vec::new())).unwrap(),
                    Command::Change { service, instance, change, reply } => {
                        let told = format!("{service} {instance} {:?}", change.draining);
                        reply.send(Err(Refusal::Unknown(told))).unwrap();
                    }
                }
            }
        });
        let client = GatewayClient::new(&path).unwrap();
        assert_eq!(client.services().await.unwrap(), []);
        assert_eq!(client.reload().await.unwrap(), []);
        let change = InstanceChange { draining: Some(true), weight: None };
        let error = client.change("web", "a", &change).await.unwrap_err();
        assert!(matches!(&error, GatewayClientError::Refused(detail) if detail == "web a Some(true)"), "{error}");
        let second = serve(&path, &stop).await.err().unwrap().to_string();
        assert!(second.contains("another gateway answers"), "{second}");
        stop.cancel();
        answering.await.unwrap();
        drop(socket);
        assert!(!path.exists());
        assert!(matches!(client.services().await, Err(GatewayClientError::Unreachable { .. })));
    }
}
