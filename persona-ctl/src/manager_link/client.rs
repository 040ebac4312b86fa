//! Four requests over HTTP/2 and TLS: register, renew, watch, report; all but the first show the client certificate.

use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use persona_core::wire::agent::{
    REPORT_INTERVAL_HEADER, ROOTS_HEADER, Register, Registered, Renew, Report, ReportTaken,
};
use persona_core::wire::api::{Problem, ProblemPart};
use persona_core::wire::ask::{AgentAsk, Refused, Told};
use persona_core::wire::contents::Contents;
use persona_core::wire::desired::Frame;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Serialize;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::identity::IdentityError;
use super::managers::{Manager, Managers};
use crate::trust::{ClientIdentity, Trust, TrustError};

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
    #[error("manager URL {0:?} is not valid for a node or an edge: use https://HOST:PORT")]
    Url(String),
    /// Nobody said where a manager is.
    #[error("it is not known where the manager is: give a join token, which says so")]
    NoManager,
    /// There is neither a certificate nor a token.
    #[error("this host has not joined yet: give a join token, which `persona-ctl token create` prints")]
    NoToken,
    /// The join token is not one.
    #[error("the join token cannot be used")]
    Token(#[from] persona_core::wire::credential::InvalidCredential),
    /// Identity trouble.
    #[error("identity")]
    Identity(#[from] IdentityError),
    /// Trust trouble.
    #[error("the manager cannot be told from others")]
    Trust(#[from] TrustError),
    /// It was not reached, or the connection broke.
    #[error("manager at {url} does not answer")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The certificate is not accepted (any more).
    #[error("manager does not accept this node's certificate: {0}")]
    Unauthorized(String),
    /// It said no.
    #[error("manager refuses {what}: {status} {detail}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The status.
        status: StatusCode,
        /// The reason it gave.
        detail: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The stream broke, or holds something else than frames.
    #[error("watch stream broke: {0}")]
    Stream(String),
    /// The stream is given up for a new one that begins with the whole state.
    #[error("whole state is asked for anew")]
    Refresh,
}

impl LinkError {
    /// How long a manager that said no wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What a manager answers to a report.
#[derive(Debug)]
pub(super) struct Taken {
    /// The digest of the roots that it wants trusted.
    pub(super) roots_digest: Option<String>,
    /// How long the next report may be in coming, milliseconds. None: as long as registration said.
    pub(super) interval_ms: Option<u32>,
    /// What it left out.
    pub(super) left_out: Vec<ProblemPart>,
}

/// Speaks to a manager, as somebody or as nobody yet.
#[derive(Debug, Clone)]
pub(super) struct ManagerClient {
    http: Client,
}

impl ManagerClient {
    /// A client that trusts managers like this and shows this certificate.
    pub(super) fn new(trust: &Trust, identity: Option<ClientIdentity<'_>>) -> Result<Self, LinkError> {
        let http = Client::builder()
            .tls_backend_preconfigured(trust.client_config(identity, &["h2"])?)
            .http2_prior_knowledge()
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .http2_keep_alive_while_idle(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|source| LinkError::Unreachable { url: String::new(), source })?;
        Ok(Self { http })
    }

    /// Buys a certificate.
    pub(super) async fn register(&self, managers: &Managers, register: &Register) -> Result<Registered, LinkError> {
        self.ask(managers, "registration", "/v1/register", register).await
    }

    /// Asks for a new certificate.
    pub(super) async fn renew(&self, managers: &Managers, csr: String) -> Result<Registered, LinkError> {
        self.ask(managers, "renewal", "/v1/agent/renew", &Renew { csr }).await
    }

    /// Sends a report.
    pub(super) async fn report(&self, managers: &Managers, report: &Report) -> Result<Taken, LinkError> {
        let manager = managers.current();
        let answer = self.post_to(managers, manager, "report", "/v1/agent/report", report).await?;
        let digest = answer.headers().get(ROOTS_HEADER).and_then(|digest| digest.to_str().ok()).map(str::to_owned);
        let interval = answer.headers().get(REPORT_INTERVAL_HEADER).and_then(|interval| interval.to_str().ok());
        let interval_ms = interval.and_then(|interval| interval.parse().ok());
        let taken = match answer.status() {
            StatusCode::OK => answer.json().await.map_err(|source| unreachable(managers, manager, source))?,
            _ => ReportTaken::default(),
        };
        Ok(Taken { roots_digest: digest, interval_ms, left_out: taken.left_out })
    }

    /// Passes on what an application asks. What the manager refuses is an answer too.
    pub(super) async fn ask_for(&self, managers: &Managers, ask: &AgentAsk) -> Result<Told, LinkError> {
        let manager = managers.current();
        let request = self.http.post(format!("{}/v1/agent/ask", manager.url)).json(ask).timeout(ANSWER_TIMEOUT);
        let answer = request.send().await.map_err(|source| unreachable(managers, manager, source))?;
        let status = answer.status();
        if !status.is_client_error() || status == StatusCode::UNAUTHORIZED {
            let view = checked(managers, manager, "question", Ok(answer)).await?.json().await;
            return view.map(Told::Assignment).map_err(|source| unreachable(managers, manager, source));
        }
        let problem: Problem = answer.json().await.map_err(|source| unreachable(managers, manager, source))?;
        Ok(Told::Refused(Refused { detail: problem.detail, errors: problem.errors }))
    }

    /// Asks which sources of content to measure the way to.
    pub(super) async fn contents(&self, managers: &Managers) -> Result<Contents, LinkError> {
        let manager = managers.current();
        let request = self.http.get(format!("{}/v1/agent/contents", manager.url)).timeout(ANSWER_TIMEOUT);
        let answer = checked(managers, manager, "question for contents", request.send().await).await?;
        answer.json().await.map_err(|source| unreachable(managers, manager, source))
    }

    /// Opens the watch stream: a snapshot, then deltas.
    pub(super) async fn watch(
        &self,
        managers: &Managers,
    ) -> Result<impl Stream<Item = Result<Frame, LinkError>> + Unpin + use<>, LinkError> {
        let manager = managers.current();
        let request = self.http.request(Method::GET, format!("{}/v1/agent/watch?digest=sum", manager.url));
        let answer = checked(managers, manager, "watch", request.send().await).await?;
        let bytes = answer.bytes_stream().map_err(std::io::Error::other);
        let lines = FramedRead::new(StreamReader::new(bytes), LinesCodec::new_with_max_length(FRAME_BYTES_MAX));
        Ok(lines.map(|line| {
            let line = line.map_err(|error| LinkError::Stream(error.to_string()))?;
            serde_json::from_str(&line).map_err(|error| LinkError::Stream(error.to_string()))
        }))
    }

    async fn ask(
        &self,
        managers: &Managers,
        what: &'static str,
        path: &str,
        question: &impl Serialize,
    ) -> Result<Registered, LinkError> {
        let manager = managers.current();
        let answer = self.post_to(managers, manager, what, path, question).await?;
        answer.json().await.map_err(|source| unreachable(managers, manager, source))
    }

    async fn post_to(
        &self,
        managers: &Managers,
        manager: Manager<'_>,
        what: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response, LinkError> {
        let request = self.http.post(format!("{}{path}", manager.url)).json(body).timeout(ANSWER_TIMEOUT);
        checked(managers, manager, what, request.send().await).await
    }
}

async fn checked(
    managers: &Managers,
    manager: Manager<'_>,
    what: &'static str,
    answer: Result<Response, reqwest::Error>,
) -> Result<Response, LinkError> {
    let answer = answer.map_err(|source| unreachable(managers, manager, source))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|secs| secs.to_str().ok()?.parse().ok());
    let retry_after = retry_after.map(Duration::from_secs);
    let text = answer.text().await.unwrap_or_default();
    let detail = serde_json::from_str::<Problem>(&text).map_or(text, |problem| problem.detail);
    if status == StatusCode::UNAUTHORIZED {
        return Err(LinkError::Unauthorized(detail));
    }
    let error = LinkError::Refused { what, status, detail, retry_after };
    managers.judge(manager.number, &error);
    Err(error)
}

/// A manager that does not answer is left for the next. One that ended the handshake does not like the certificate: in
/// TLS 1.3 that shows as an alert on the first read, which reaches us in words only.
fn unreachable(managers: &Managers, manager: Manager<'_>, source: reqwest::Error) -> LinkError {
    let url = manager.url.to_owned();
    let error = LinkError::Unreachable { url, source };
    let text = super::link::chain(&error);
    if text.contains("received fatal alert") {
        return LinkError::Unauthorized(text);
    }
    managers.leave(manager.number);
    error
}
