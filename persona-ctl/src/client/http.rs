//! Requests and answers: paths, pages, problems and time limits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use persona_core::wire::agent::ROOTS_HEADER;
use persona_core::wire::api::{AssignmentView, Page, REASON_HEADER};
use persona_core::wire::reach::OVERRIDE_HEADER;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use crate::trust::{Trust, plain_http};

/// Where a manager listens unless told otherwise.
pub const MANAGER_DEFAULT: &str = "https://127.0.0.1:7600";

/// How the URL of a manager's own socket begins; its path follows.
const SOCKET_SCHEME: &str = "unix:";

/// Connecting takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A question is answered within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// While another manager takes the lead, a question is asked anew for at most this long.
const TAKE_OVER_TIME_MAX: Duration = Duration::from_secs(10);
/// A list has at most this many pages; a manager that gives more is broken.
const PAGE_COUNT_MAX: usize = 100_000;

/// Where a manager is, how it is told from others, and as whom it is asked.
#[derive(Clone, Default)]
pub struct Access {
    /// `https://HOST:PORT`, `unix:PATH` of a manager's own socket, or `http://HOST:PORT`; several managers of one fleet with
    /// commas between them.
    pub manager: String,
    /// What the manager's certificate must verify under.
    pub trust: Option<Trust>,
    /// The access token, `ID.SECRET`.
    pub token: Option<String>,
    /// Why changes go over the limit of what they may reach of the fleet.
    pub override_reach: Option<String>,
    /// Why something is changed; events keep it.
    pub reason: Option<String>,
}

/// A client of a fleet's managers: of one until it cannot be reached, then of the next.
#[derive(Debug, Clone)]
pub struct ApiClient {
    bases: Vec<Url>,
    /// Which of them is asked.
    current: Arc<AtomicUsize>,
    /// Where they are, as people wrote it.
    place: String,
    pub(super) http: reqwest::Client,
    /// The digest of the roots that it shall trust, as the manager last said.
    roots_digest: Arc<Mutex<Option<String>>>,
}

/// The path of one resource, as segments below `/v1`.
pub(super) type Path<'a> = &'a [&'a str];

/// Keys and values of a query.
pub(super) type Query<'a> = &'a [(&'a str, String)];

impl ApiClient {
    /// A client for the manager at `url`, as nobody: for a manager's own socket, which knows who comes.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::open(&Access { manager: url.to_owned(), ..Access::default() })
    }

    /// A client that trusts, and is known, as `access` says.
    pub fn open(access: &Access) -> Result<Self, ClientError> {
        let place = access.manager.clone();
        let invalid = || ClientError::Url(place.clone());
        // A proxy of the environment is for the internet; the manager is in a private network.
        let mut builder = plain_http().connect_timeout(CONNECT_TIMEOUT);
        let bases = match place.strip_prefix(SOCKET_SCHEME) {
            Some(path) if path.starts_with('/') => {
                builder = builder.unix_socket(path);
                vec![Url::parse("http://localhost").expect("a constant that is a URL")]
            }
            _ => place.split(',').map(base_of).collect::<Option<_>>().ok_or_else(invalid)?,
        };
        if bases.iter().any(|base| base.scheme() == "https") {
            let trust = access.trust.as_ref().ok_or_else(|| ClientError::NoTrust(place.clone()))?;
            builder = builder.tls_backend_preconfigured(trust.client_config(None, &["h2", "http/1.1"])?);
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &access.token {
            let is_overheard = |base: &Url| base.scheme() == "http" && !is_loopback(base);
            if !place.starts_with(SOCKET_SCHEME) && bases.iter().any(is_overheard) {
                return Err(ClientError::PlainToken(place));
            }
            headers.extend(bearer(token)?);
        }
        if let Some(reason) = &access.override_reach {
            let reason = HeaderValue::from_bytes(reason.as_bytes()).map_err(|_| ClientError::Reason)?;
            headers.insert(OVERRIDE_HEADER, reason);
        }
        if let Some(reason) = &access.reason {
            headers.insert(REASON_HEADER, HeaderValue::from_bytes(reason.as_bytes()).map_err(|_| ClientError::Reason)?);
        }
        let http = builder.default_headers(headers).build().map_err(|_| invalid())?;
        Ok(Self { bases, current: Arc::default(), place, http, roots_digest: Arc::default() })
    }

    /// The digest of the roots that whoever asks shall trust ([`ROOTS_HEADER`]), as the manager last said.
    pub fn roots_digest(&self) -> Option<String> {
        self.roots_digest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn base(&self) -> &Url {
        &self.bases[self.current.load(Ordering::Relaxed)]
    }

    pub(super) fn url(&self, path: Path<'_>, query: Query<'_>) -> Url {
        let mut url = self.base().clone();
        // A segment's slashes are escaped, so a subject such as workload/n1/web stays one segment.
        url.path_segments_mut().expect("the base was checked").pop_if_empty().push("v1").extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    pub(super) fn request(&self, method: Method, path: Path<'_>, query: Query<'_>) -> RequestBuilder {
        self.http.request(method, self.url(path, query)).timeout(ANSWER_TIMEOUT)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: Path<'_>) -> Result<T, ClientError> {
        read(self.answer(self.request(Method::GET, path, &[])).await?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: Path<'_>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        read(self.answer(self.request(Method::POST, path, &[]).json(body)).await?).await
    }

    /// Posts what has no answer but that it is done.
    pub(super) async fn order(&self, path: Path<'_>, body: &impl Serialize) -> Result<(), ClientError> {
        self.answer(self.request(Method::POST, path, &[]).json(body)).await.map(drop)
    }

    pub(super) async fn delete_with(&self, path: Path<'_>, query: Query<'_>) -> Result<(), ClientError> {
        self.answer(self.request(Method::DELETE, path, query)).await.map(drop)
    }

    pub(super) async fn delete(&self, path: Path<'_>) -> Result<(), ClientError> {
        self.answer(self.request(Method::DELETE, path, &[])).await.map(drop)
    }

    pub(super) async fn release(
        &self,
        path: Path<'_>,
        query: Query<'_>,
    ) -> Result<Option<AssignmentView>, ClientError> {
        let response = self.answer(self.request(Method::DELETE, path, query)).await?;
        if response.content_length() == Some(0) { Ok(None) } else { read(response).await.map(Some) }
    }

    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: Path<'_>,
        query: Query<'_>,
    ) -> Result<Vec<T>, ClientError> {
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

    /// Sends a request, and again while managers say that none of them leads for the moment. With a time to wait they say so
    /// only where nothing was stored.
    async fn execute_patiently(&self, client: &reqwest::Client, request: Request) -> Result<Response, reqwest::Error> {
        let (mut request, mut waited) = (request, Duration::ZERO);
        loop {
            let again = request.try_clone();
            let response = self.execute(client, request).await?;
            match again.zip(wait_of(&response)) {
                Some((again, wait)) if waited + wait <= TAKE_OVER_TIME_MAX => {
                    tokio::time::sleep(wait).await;
                    (request, waited) = (again, waited + wait);
                }
                _ => return Ok(response),
            }
        }
    }

    /// Sends a request to the manager that was asked last and, where no connection could be made, so that none of them has
    /// heard of it, to each of the others.
    async fn execute(&self, client: &reqwest::Client, request: Request) -> Result<Response, reqwest::Error> {
        let mut request = request;
        for _ in 1..self.bases.len() {
            let Some(again) = request.try_clone() else { break };
            match client.execute(request).await {
                Err(error) if error.is_connect() => request = self.at_the_next_manager(again),
                outcome => return outcome,
            }
        }
        client.execute(request).await
    }

    fn at_the_next_manager(&self, mut request: Request) -> Request {
        let without_slash = |base: &Url| base.as_str().trim_end_matches('/').to_owned();
        let rest_behind = |base: &Url| request.url().as_str().strip_prefix(&without_slash(base)).map(str::to_owned);
        let asked = self.bases.iter().enumerate().find_map(|(index, base)| Some((index, rest_behind(base)?)));
        let (index, rest) = asked.expect("a request goes to one of the bases");
        let next = (index + 1) % self.bases.len();
        self.current.store(next, Ordering::Relaxed);
        let url = format!("{}{rest}", without_slash(&self.bases[next]));
        *request.url_mut() = Url::parse(&url).expect("a base and a path are a URL");
        request
    }

    /// Sends a request; an answer that is no success becomes the error that it is.
    pub(super) async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: self.place.clone(), source };
        let (client, request) = request.build_split();
        let request = request.map_err(unreachable)?;
        let url = request.url().to_string();
        let response = self.execute_patiently(&client, request).await.map_err(unreachable)?;
        if let Some(digest) = response.headers().get(ROOTS_HEADER).and_then(|digest| digest.to_str().ok()) {
            *self.roots_digest.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest.to_owned());
        }
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

/// How long whoever cannot serve for the moment wants to be left alone.
fn wait_of(response: &Response) -> Option<Duration> {
    let wait = response.headers().get(RETRY_AFTER).filter(|_| response.status() == StatusCode::SERVICE_UNAVAILABLE)?;
    wait.to_str().ok()?.parse().ok().filter(|secs| *secs > 0).map(Duration::from_secs)
}

/// Where a manager is; its path may go on.
fn base_of(place: &str) -> Option<Url> {
    let base = Url::parse(place.trim()).ok()?;
    (matches!(base.scheme(), "http" | "https") && base.has_host() && !base.cannot_be_a_base()).then_some(base)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bearer(token: &str) -> Result<HeaderMap, ClientError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// Reads an answer's body.
pub(super) async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let url = response.url().clone();
    let unreadable = |reason: String| ClientError::Answer { url: url.to_string(), reason };
    let bytes = response.bytes().await.map_err(|source| ClientError::Unreachable { url: url.to_string(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn nothing_is_sent_to_whom_cannot_be_told_and_no_token_in_plain() {
        assert!(matches!(ApiClient::new("https://127.0.0.1:1"), Err(ClientError::NoTrust(_))));
        assert!(ApiClient::new("unix:/run/persona.sock").is_ok());
        let with_token = |url: &str| {
            let token = Some("1.secret".into());
            ApiClient::open(&Access { manager: url.into(), token, ..Access::default() })
        };
        for (url, is_sent) in [("http://10.0.0.1:1", false), ("http://m", false), ("http://[::1]:1", true)] {
            assert_eq!(with_token(url).is_ok(), is_sent, "{url}");
            assert!(!format!("{:?}", with_token(url)).contains("secret"), "{url}");
        }
    }

    #[test]
    fn a_request_goes_on_to_the_next_manager_with_all_of_its_path() {
        let client = ApiClient::new("http://m1:1, http://m2/persona/,http://m3:3").unwrap();
        let mut request = client.request(Method::GET, &["nodes", "n1"], &[("a", "b".into())]).build().unwrap();
        for expected in
            ["http://m2/persona/v1/nodes/n1?a=b", "http://m3:3/v1/nodes/n1?a=b", "http://m1:1/v1/nodes/n1?a=b"]
        {
            request = client.at_the_next_manager(request);
            assert_eq!(request.url().as_str(), expected);
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for bad in [
            "",
            "http://m,",
            "http://m,unix:/run/persona.sock",
            "127.0.0.1:7600",
            "ftp://m",
            "unix:run/persona",
            "http://",
        ] {
            assert!(matches!(ApiClient::new(bad), Err(ClientError::Url(_))), "{bad}");
        }
    }
}
