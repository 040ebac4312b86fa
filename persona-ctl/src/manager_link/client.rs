//! Four requests over HTTP/2 and TLS: register, renew, watch, report; all but the first show the client certificate.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use persona_core::wire::agent::{ROOTS_HEADER, Register, Registered, Renew, Report};
use persona_core::wire::api::Problem;
use persona_core::wire::desired::Frame;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Serialize;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::identity::IdentityError;
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
    },
    /// The stream broke, or holds something else than frames.
    #[error("watch stream broke: {0}")]
    Stream(String),
    /// The stream is given up for a new one that begins with the whole state.
    #[error("whole state is asked for anew")]
    Refresh,
}

/// The managers, of which one is spoken to until it fails.
#[derive(Debug)]
pub(super) struct Managers {
    urls: Vec<String>,
    index: AtomicUsize,
}

impl Managers {
    /// Checks the URLs.
    pub(super) fn new(urls: Vec<String>) -> Result<Self, LinkError> {
        let is_url = |url: &str| reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.has_host());
        match urls.iter().find(|url| !is_url(url)) {
            Some(bad) => Err(LinkError::Url(bad.clone())),
            None if urls.is_empty() => Err(LinkError::NoManager),
            None => {
                let urls = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
                Ok(Self { urls, index: AtomicUsize::new(0) })
            }
        }
    }

    /// All of them.
    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    fn url(&self) -> &str {
        &self.urls[self.index.load(Ordering::Relaxed) % self.urls.len()]
    }

    /// The next request goes to another manager, if there is one.
    fn leave(&self) {
        self.index.fetch_add(1, Ordering::Relaxed);
    }
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

    /// Sends a report; returns the digest of the roots that the manager wants trusted.
    pub(super) async fn report(&self, managers: &Managers, report: &Report) -> Result<Option<String>, LinkError> {
        let answer = self.post(managers, "report", "/v1/agent/report", report).await?;
        Ok(answer.headers().get(ROOTS_HEADER).and_then(|digest| digest.to_str().ok()).map(str::to_owned))
    }

    /// Opens the watch stream: a snapshot, then deltas.
    pub(super) async fn watch(
        &self,
        managers: &Managers,
    ) -> Result<impl Stream<Item = Result<Frame, LinkError>> + Unpin + use<>, LinkError> {
        let request = self.http.request(Method::GET, format!("{}/v1/agent/watch", managers.url()));
        let answer = checked(managers, "watch", request.send().await).await?;
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
        let answer = self.post(managers, what, path, question).await?;
        answer.json().await.map_err(|source| unreachable(managers, source))
    }

    async fn post(
        &self,
        managers: &Managers,
        what: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response, LinkError> {
        let request = self.http.post(format!("{}{path}", managers.url())).json(body).timeout(ANSWER_TIMEOUT);
        checked(managers, what, request.send().await).await
    }
}

async fn checked(
    managers: &Managers,
    what: &'static str,
    answer: Result<Response, reqwest::Error>,
) -> Result<Response, LinkError> {
    let answer = answer.map_err(|source| unreachable(managers, source))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    let detail = serde_json::from_str::<Problem>(&text).map_or(text, |problem| problem.detail);
    if status == StatusCode::UNAUTHORIZED {
        return Err(LinkError::Unauthorized(detail));
    }
    Err(LinkError::Refused { what, status, detail })
}

/// A manager that does not answer is left for the next. One that ended the handshake does not like the certificate: in
/// TLS 1.3 that shows as an alert on the first read, which reaches us in words only.
fn unreachable(managers: &Managers, source: reqwest::Error) -> LinkError {
    let url = managers.url().to_owned();
    let error = LinkError::Unreachable { url, source };
    let text = super::link::chain(&error);
    if text.contains("received fatal alert") {
        return LinkError::Unauthorized(text);
    }
    managers.leave();
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_edges_go_to_managers_over_tls_only() {
        let managers = |urls: &[&str]| Managers::new(urls.iter().map(|url| (*url).to_owned()).collect());
        assert!(matches!(managers(&[]), Err(LinkError::NoManager)));
        for bad in ["http://m:1", "m:1", "https://", "unix:/run/x"] {
            assert!(matches!(managers(&["https://m:1", bad]), Err(LinkError::Url(url)) if url == bad), "{bad}");
        }
        let two = managers(&["https://m1:1/", "https://m2:1"]).unwrap();
        let seen: Vec<String> = (0..3).map(|_| (two.url().to_owned(), two.leave()).0).collect();
        assert_eq!(seen, ["https://m1:1", "https://m2:1", "https://m1:1"]);
    }
}
