//! Requests and answers: paths, pages, problems and time limits.

use std::time::Duration;

use persona_core::wire::api::{AssignmentView, Page};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;

/// Where a manager listens unless told otherwise.
pub const MANAGER_DEFAULT: &str = "http://127.0.0.1:7600";

/// Connecting takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A question is answered within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A list has at most this many pages; a manager that gives more is broken.
const PAGE_COUNT_MAX: usize = 100_000;

/// A client of one manager.
#[derive(Debug, Clone)]
pub struct ApiClient {
    base: Url,
    pub(super) http: reqwest::Client,
}

/// The path of one resource, as segments below `/v1`.
pub(super) type Path<'a> = &'a [&'a str];

/// Keys and values of a query.
pub(super) type Query<'a> = &'a [(&'a str, String)];

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

    pub(super) fn url(&self, path: Path<'_>, query: Query<'_>) -> Url {
        let mut url = self.base.clone();
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

    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: Path<'_>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        read(self.answer(self.request(Method::PUT, path, &[]).json(body)).await?).await
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

    /// Sends a request; an answer that is no success becomes the error that it is.
    pub(super) async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
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
    fn what_is_no_url_is_refused() {
        for bad in ["", "127.0.0.1:7600", "ftp://m", "unix:/run/persona", "http://"] {
            assert!(matches!(ApiClient::new(bad), Err(ClientError::Url(_))), "{bad}");
        }
    }
}
