//! A typed client of the manager's API for people and programs: one method per row of the table in
//! [`persona_core::wire::api`].
//!
//! What the manager refuses comes back as its problem (RFC 9457), whole. Lists follow their pages to the end.

use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use persona_core::ids::{EdgeName, LeaseId, NodeName, SubjectId};
use persona_core::wire::api::{
    Applied, Apply, AssignmentView, CapabilityRequest, DocumentView, EdgeView, EventView, Explanation, JoinTokenSecret,
    JoinTokenView, LeaseView, NewJoinToken, NodeView, Page, PersonaView, PoolView, Problem, Rollback, Status, Switch,
    WorkloadView,
};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

/// Where a manager listens unless told otherwise.
pub const MANAGER_DEFAULT: &str = "http://127.0.0.1:7600";

/// Connecting takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A question is answered within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A list has at most this many pages; a manager that gives more is broken.
const PAGE_COUNT_MAX: usize = 100_000;
/// The longest line of an event stream, bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// A question to the manager that was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not one.
    #[error("manager URL {0:?} is not valid: use http://HOST:PORT")]
    Url(String),
    /// It was not reached, or the connection broke.
    #[error("the manager at {url} does not answer (is it running? --manager or PERSONA_MANAGER say where)")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It said no.
    #[error("{}", describe(.0))]
    Refused(Box<Problem>),
    /// It said something that is not in the API.
    #[error("the manager's answer from {url} cannot be read: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl ClientError {
    /// The manager's problem, if it refused.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }
}

/// The problem in words: title and detail, then each wrong part on a line of its own.
fn describe(problem: &Problem) -> String {
    let head = if problem.detail.is_empty() { problem.title.clone() } else { problem.detail.clone() };
    let parts = problem.errors.iter().map(|part| match part.path.as_str() {
        "" => format!("\n  {}", part.detail),
        path => format!("\n  {path}: {}", part.detail),
    });
    std::iter::once(head).chain(parts).collect()
}

/// A client of one manager.
#[derive(Debug, Clone)]
pub struct ApiClient {
    base: Url,
    http: reqwest::Client,
}

/// The path of one resource, as segments below `/v1`.
type Path<'a> = &'a [&'a str];

/// Keys and values of a query.
type Query<'a> = &'a [(&'a str, String)];

impl ApiClient {
    /// A client for the manager at `url`.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let invalid = || ClientError::Url(url.to_owned());
        let base = Url::parse(url).map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() || base.cannot_be_a_base() {
            return Err(invalid());
        }
        // A proxy of the environment is for the internet; the manager is in a private network.
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().build();
        Ok(Self { base, http: http.map_err(|_| invalid())? })
    }

    /// Stores documents, all or none; with `dry_run` it only says what would happen.
    pub async fn apply(&self, apply: &Apply, dry_run: bool) -> Result<Applied, ClientError> {
        let query = [("dryRun", dry_run.to_string())];
        let request = self.request(Method::POST, &["apply"], &query).json(apply);
        read(self.answer(request).await?).await
    }

    /// Every persona, each in its newest version.
    pub async fn personas(&self) -> Result<Vec<PersonaView>, ClientError> {
        self.list(&["personas"], &[]).await
    }

    /// A persona; without a version the newest.
    pub async fn persona(&self, name: &str, version: Option<u32>) -> Result<PersonaView, ClientError> {
        let version = version.map(|version| ("version", version.to_string()));
        let request = self.request(Method::GET, &["personas", name], version.as_slice());
        read(self.answer(request).await?).await
    }

    /// Every version of a persona.
    pub async fn persona_versions(&self, name: &str) -> Result<Vec<PersonaView>, ClientError> {
        self.list(&["personas", name, "versions"], &[]).await
    }

    /// Makes an old version's content the newest version.
    pub async fn rollback_persona(&self, name: &str, rollback: &Rollback) -> Result<PersonaView, ClientError> {
        self.post(&["personas", name, "rollback"], rollback).await
    }

    /// Deletes a persona that nobody wears.
    pub async fn delete_persona(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&["personas", name]).await
    }

    /// Every binding.
    pub async fn bindings(&self) -> Result<Vec<DocumentView>, ClientError> {
        self.list(&["bindings"], &[]).await
    }

    /// A binding.
    pub async fn binding(&self, name: &str) -> Result<DocumentView, ClientError> {
        self.get(&["bindings", name]).await
    }

    /// Deletes a binding; who wore something only by it wears it no longer.
    pub async fn delete_binding(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&["bindings", name]).await
    }

    /// Every egress pool.
    pub async fn egress_pools(&self) -> Result<Vec<PoolView>, ClientError> {
        self.list(&["egress-pools"], &[]).await
    }

    /// An egress pool.
    pub async fn egress_pool(&self, name: &str) -> Result<PoolView, ClientError> {
        self.get(&["egress-pools", name]).await
    }

    /// Deletes an egress pool that nothing is leased from.
    pub async fn delete_egress_pool(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&["egress-pools", name]).await
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ClientError> {
        self.list(&["nodes"], &[]).await
    }

    /// A node.
    pub async fn node(&self, name: &NodeName) -> Result<NodeView, ClientError> {
        self.get(&["nodes", name.as_str()]).await
    }

    /// Every edge.
    pub async fn edges(&self) -> Result<Vec<EdgeView>, ClientError> {
        self.list(&["edges"], &[]).await
    }

    /// An edge.
    pub async fn edge(&self, name: &EdgeName) -> Result<EdgeView, ClientError> {
        self.get(&["edges", name.as_str()]).await
    }

    /// Every workload.
    pub async fn workloads(&self) -> Result<Vec<WorkloadView>, ClientError> {
        self.list(&["workloads"], &[]).await
    }

    /// A workload.
    pub async fn workload(&self, subject: &SubjectId) -> Result<WorkloadView, ClientError> {
        self.get(&["workloads", &subject.to_string()]).await
    }

    /// Every lease, those in quarantine too.
    pub async fn leases(&self) -> Result<Vec<LeaseView>, ClientError> {
        self.list(&["leases"], &[]).await
    }

    /// A lease.
    pub async fn lease(&self, id: LeaseId) -> Result<LeaseView, ClientError> {
        self.get(&["leases", &id.to_string()]).await
    }

    /// Every join token, without its secret.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenView>, ClientError> {
        self.list(&["join-tokens"], &[]).await
    }

    /// Makes a join token; its secret is only in this answer.
    pub async fn create_join_token(&self, token: &NewJoinToken) -> Result<JoinTokenSecret, ClientError> {
        self.post(&["join-tokens"], token).await
    }

    /// Revokes a join token; who has joined with it stays.
    pub async fn delete_join_token(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&["join-tokens", id]).await
    }

    /// Puts a persona on a subject by hand.
    pub async fn switch(&self, switch: &Switch) -> Result<AssignmentView, ClientError> {
        self.post(&["switch"], switch).await
    }

    /// Takes a switch by hand back.
    pub async fn release_switch(&self, subject: &SubjectId) -> Result<Option<AssignmentView>, ClientError> {
        self.release(&["switch", &subject.to_string()]).await
    }

    /// Asks for capabilities; the manager chooses.
    pub async fn request_capabilities(&self, request: &CapabilityRequest) -> Result<AssignmentView, ClientError> {
        self.post(&["request"], request).await
    }

    /// Takes a request back.
    pub async fn release_request(&self, subject: &SubjectId) -> Result<Option<AssignmentView>, ClientError> {
        self.release(&["request", &subject.to_string()]).await
    }

    /// How a subject's assignment came about.
    pub async fn explain(&self, subject: &SubjectId) -> Result<Explanation, ClientError> {
        self.get(&["explain", &subject.to_string()]).await
    }

    /// How things stand.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get(&["status"]).await
    }

    /// Events after number `since`, oldest first.
    pub async fn events(&self, since: Option<u64>) -> Result<Vec<EventView>, ClientError> {
        let since = since.map(|number| ("since", number.to_string()));
        self.list(&["events"], since.as_slice()).await
    }

    /// Events after number `since` (absent: from now), and every later one as it happens.
    pub async fn follow_events(
        &self,
        since: Option<u64>,
    ) -> Result<impl Stream<Item = Result<EventView, ClientError>> + use<>, ClientError> {
        let since = since.map(|number| ("since", number.to_string()));
        let query: Vec<_> = std::iter::once(("follow", "true".to_owned())).chain(since).collect();
        // Without a time limit: a stream of events ends when somebody ends it.
        let request = self.http.get(self.url(&["events"], &query));
        let response = self.answer(request).await?;
        let url = response.url().clone();
        let bytes = StreamReader::new(response.bytes_stream().map_err(std::io::Error::other));
        let lines = FramedRead::new(bytes, LinesCodec::new_with_max_length(EVENT_BYTES_MAX));
        let events = lines.map(move |line| {
            let unreadable = |reason: String| ClientError::Answer { url: url.to_string(), reason };
            let line = line.map_err(|error| unreadable(error.to_string()))?;
            if line.trim().is_empty() {
                return Ok(None); // a sign of life
            }
            serde_json::from_str(&line).map(Some).map_err(|error| unreadable(error.to_string()))
        });
        Ok(events.filter_map(|event| std::future::ready(event.transpose())))
    }

    fn url(&self, path: Path<'_>, query: Query<'_>) -> Url {
        let mut url = self.base.clone();
        // A segment's slashes are escaped, so a subject such as workload/n1/web stays one segment.
        url.path_segments_mut().expect("the base was checked").pop_if_empty().push("v1").extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn request(&self, method: Method, path: Path<'_>, query: Query<'_>) -> RequestBuilder {
        self.http.request(method, self.url(path, query)).timeout(ANSWER_TIMEOUT)
    }

    async fn get<T: DeserializeOwned>(&self, path: Path<'_>) -> Result<T, ClientError> {
        read(self.answer(self.request(Method::GET, path, &[])).await?).await
    }

    async fn post<T: DeserializeOwned>(&self, path: Path<'_>, body: &impl Serialize) -> Result<T, ClientError> {
        read(self.answer(self.request(Method::POST, path, &[]).json(body)).await?).await
    }

    async fn delete(&self, path: Path<'_>) -> Result<(), ClientError> {
        self.answer(self.request(Method::DELETE, path, &[])).await.map(drop)
    }

    async fn release(&self, path: Path<'_>) -> Result<Option<AssignmentView>, ClientError> {
        let response = self.answer(self.request(Method::DELETE, path, &[])).await?;
        if response.content_length() == Some(0) { Ok(None) } else { read(response).await.map(Some) }
    }

    async fn list<T: DeserializeOwned>(&self, path: Path<'_>, query: Query<'_>) -> Result<Vec<T>, ClientError> {
        let (mut items, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGE_COUNT_MAX {
            let next = token.take().map(|token| ("pageToken", token));
            let query: Vec<_> = query.iter().cloned().chain(next).collect();
            let request = self.request(Method::GET, path, &query);
            let page: Page<T> = read(self.answer(request).await?).await?;
            items.extend(page.items);
            match page.next_page_token {
                Some(next) => token = Some(next),
                None => return Ok(items),
            }
        }
        let reason = format!("the list does not end after {PAGE_COUNT_MAX} pages");
        Err(ClientError::Answer { url: self.url(path, query).into(), reason })
    }

    /// Sends a request; an answer that is no success becomes the error that it is.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: self.base.to_string(), source };
        let (client, request) = request.build_split();
        let request = request.map_err(unreachable)?;
        let url = request.url().to_string();
        let response = client.execute(request).await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(unreachable)?;
        Err(match serde_json::from_str(&text) {
            Ok(problem) => ClientError::Refused(Box::new(problem)),
            Err(_) => {
                let start: String = text.chars().take(200).collect();
                ClientError::Answer { url, reason: format!("status {status}, {start:?}") }
            }
        })
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let url = response.url().clone();
    let unreadable = |reason: String| ClientError::Answer { url: url.to_string(), reason };
    let bytes = response.bytes().await.map_err(|source| ClientError::Unreachable { url: url.to_string(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use persona_core::wire::api::ProblemPart;

    #[test]
    fn a_subject_is_one_segment_of_the_path() {
        let cases = [
            ("http://127.0.0.1:7600", "http://127.0.0.1:7600/v1/switch/workload%2Fn1%2Fweb"),
            ("http://m/persona/", "http://m/persona/v1/switch/workload%2Fn1%2Fweb"),
        ];
        for (base, expected) in cases {
            let client = ApiClient::new(base).unwrap();
            assert_eq!(client.url(&["switch", "workload/n1/web"], &[]).as_str(), expected);
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for bad in ["", "127.0.0.1:7600", "ftp://m", "unix:/run/persona", "http://"] {
            assert!(matches!(ApiClient::new(bad), Err(ClientError::Url(_))), "{bad}");
        }
    }

    #[test]
    fn a_problem_is_told_with_its_parts() {
        let part = |path: &str, detail: &str| ProblemPart { path: path.into(), detail: detail.into() };
        let problem = Problem {
            kind: "/problems/invalid-input".into(),
            title: "The input is not valid".into(),
            status: 400,
            detail: "document 1 is refused".into(),
            errors: vec![part("spec.network.mtu", "write 576 to 9000"), part("", "unknown pool a")],
        };
        let told = ClientError::Refused(Box::new(problem)).to_string();
        assert_eq!(told, "document 1 is refused\n  spec.network.mtu: write 576 to 9000\n  unknown pool a");
    }
}
