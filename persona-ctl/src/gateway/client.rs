//! Speaks to the running gateway over its Unix socket.

use std::path::{Path, PathBuf};

use persona_core::wire::api::Problem;
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::view::{InstanceChange, InstanceView, ServiceView};

/// The gateway did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GatewayClientError {
    /// Nobody answers, or not as a gateway does.
    #[error("no gateway answers on {socket}: is `persona-ctl gateway` running, and may you use its socket?")]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// Why it failed.
        source: reqwest::Error,
    },
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

/// A client of one gateway.
#[derive(Debug, Clone)]
pub struct GatewayClient {
    http: reqwest::Client,
    socket: PathBuf,
}

impl GatewayClient {
    /// A client of the gateway on this socket.
    pub fn new(socket: &Path) -> Result<Self, GatewayClientError> {
        let built = crate::trust::plain_http().unix_socket(socket).build();
        match built {
            Ok(http) => Ok(Self { http, socket: socket.to_owned() }),
            Err(source) => Err(GatewayClientError::Unreachable { socket: socket.to_owned(), source }),
        }
    }

    /// Every service with its instances.
    pub async fn services(&self) -> Result<Vec<ServiceView>, GatewayClientError> {
        self.ask(Method::GET, "services", None::<&()>).await
    }

    /// Changes an instance; gives it as it is then.
    pub async fn change(
        &self,
        service: &str,
        instance: &str,
        change: &InstanceChange,
    ) -> Result<InstanceView, GatewayClientError> {
        self.ask(Method::PATCH, &format!("services/{service}/instances/{instance}"), Some(change)).await
    }

    /// Has it read its configuration again; gives what is in force then.
    pub async fn reload(&self) -> Result<Vec<ServiceView>, GatewayClientError> {
        self.ask(Method::POST, "reload", None::<&()>).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, GatewayClientError> {
        let unreachable = |source| GatewayClientError::Unreachable { socket: self.socket.clone(), source };
        let mut request = self.http.request(method, format!("http://gateway/v1/{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response: Response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return response.json().await.map_err(unreachable);
        }
        let problem: Problem = response.json().await.map_err(unreachable)?;
        Err(GatewayClientError::Refused(problem.detail))
    }
}
