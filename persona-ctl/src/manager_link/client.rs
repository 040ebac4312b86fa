//! Three requests over HTTP/2: register, watch, report; the last two carry the bearer and the proof of the key.

use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use persona_core::wire::agent::{PROOF_HEADER, Register, Registered, Report};
use persona_core::wire::api::Problem;
use persona_core::wire::desired::Frame;
use reqwest::{Client, Method, Response, StatusCode};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::identity::{Identity, IdentityError};
use super::outbox::now_ms;

/// Connecting takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A registration or report is answered within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// The longest frame: a snapshot of an edge with a million leases stays below it.
const FRAME_BYTES_MAX: usize = 1 << 30;

/// A request to the manager that failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The URL is not one.
    #[error("manager URL {0:?} is not valid: use http://HOST:PORT")]
    Url(String),
    /// Identity trouble.
    #[error("identity")]
    Identity(#[from] IdentityError),
    /// It was not reached, or the connection broke.
    #[error("manager at {url} does not answer")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The bearer is not accepted (any more).
    #[error("manager does not accept this node's bearer")]
    Unauthorized,
    /// It said no.
    #[error("manager refuses {what}: {status} {detail}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The status.
        status: StatusCode,
        /// The reason it gave.
        detail: String,
    },
    /// The stream broke, or holds something else than frames.
    #[error("watch stream broke: {0}")]
    Stream(String),
    /// The stream is given up for a new one that begins with the whole state.
    #[error("whole state is asked for anew")]
    Refresh,
}

/// Speaks to one manager.
#[derive(Debug, Clone)]
pub(super) struct ManagerClient {
    url: String,
    http: Client,
}

impl ManagerClient {
    /// A client for the manager at `url`.
    pub(super) fn new(url: &str) -> Result<Self, LinkError> {
        let is_url =
            reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !is_url {
            return Err(LinkError::Url(url.to_owned()));
        }
        let url = url.trim_end_matches('/').to_owned();
        let http = Client::builder()
            .http2_prior_knowledge()
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .http2_keep_alive_while_idle(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|source| LinkError::Unreachable { url: url.clone(), source })?;
        Ok(Self { url, http })
    }

    /// Buys a bearer.
    pub(super) async fn register(&self, register: &Register) -> Result<Registered, LinkError> {
        let request = self.http.post(format!("{}/v1/register", self.url)).json(register).timeout(ANSWER_TIMEOUT);
        let answer = self.checked("registration", request.send().await).await?;
        answer.json().await.map_err(|source| self.unreachable(source))
    }

    /// Sends a report.
    pub(super) async fn report(&self, identity: &Identity, report: &Report) -> Result<(), LinkError> {
        let body = serde_json::to_vec(report).expect("a report has string keys only");
        let request = self.signed(identity, Method::POST, "/v1/agent/report", body).timeout(ANSWER_TIMEOUT);
        self.checked("report", request.send().await).await.map(drop)
    }

    /// Opens the watch stream: a snapshot, then deltas.
    pub(super) async fn watch(
        &self,
        identity: &Identity,
    ) -> Result<impl Stream<Item = Result<Frame, LinkError>> + Unpin + use<>, LinkError> {
        let request = self.signed(identity, Method::GET, "/v1/agent/watch", Vec::new());
        let answer = self.checked("watch", request.send().await).await?;
        let bytes = answer.bytes_stream().map_err(std::io::Error::other);
        let lines = FramedRead::new(StreamReader::new(bytes), LinesCodec::new_with_max_length(FRAME_BYTES_MAX));
        Ok(lines.map(|line| {
            let line = line.map_err(|error| LinkError::Stream(error.to_string()))?;
            serde_json::from_str(&line).map_err(|error| LinkError::Stream(error.to_string()))
        }))
    }

    fn signed(&self, identity: &Identity, method: Method, path: &str, body: Vec<u8>) -> reqwest::RequestBuilder {
        let proof = identity.prove(method.as_str(), path, now_ms(), &body);
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(identity.bearer().unwrap_or_default())
            .header(PROOF_HEADER, proof)
            .header("content-type", "application/json")
            .body(body)
    }

    async fn checked(
        &self,
        what: &'static str,
        answer: Result<Response, reqwest::Error>,
    ) -> Result<Response, LinkError> {
        let answer = answer.map_err(|source| self.unreachable(source))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status == StatusCode::UNAUTHORIZED && what != "registration" {
            return Err(LinkError::Unauthorized);
        }
        let text = answer.text().await.unwrap_or_default();
        let detail = serde_json::from_str::<Problem>(&text).map_or(text, |problem| problem.detail);
        Err(LinkError::Refused { what, status, detail })
    }

    fn unreachable(&self, source: reqwest::Error) -> LinkError {
        LinkError::Unreachable { url: self.url.clone(), source }
    }
}
