//! Which versions of documents a change rests on: what was read is sent along, so that nothing is overwritten unseen.

use std::collections::BTreeMap;

use persona_core::document::RESOURCE_VERSION;
use persona_core::label_selector::LabelSelector;
use reqwest::Method;
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_MATCH};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ClientError;
use super::http::{ApiClient, Path, Query, read};

/// How documents are applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applying {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Go over what others have changed since it was read.
    pub force_conflicts: bool,
    /// Delete all documents with these labels that are not among those that are applied.
    pub prune: Option<LabelSelector>,
    /// How many these are, as a dry run said.
    pub prune_count: Option<usize>,
}

/// Something with the version in which it was read.
#[derive(Debug, Clone)]
pub struct AsRead<T> {
    /// What was read.
    pub value: T,
    tag: HeaderValue,
}

impl ApiClient {
    /// Reads something to change it.
    pub(super) async fn get_as_read<T: DeserializeOwned>(&self, path: Path<'_>) -> Result<AsRead<T>, ClientError> {
        let answer = self.answer(self.request(Method::GET, path, &[])).await?;
        let tag = tag_in(answer.headers());
        Ok(AsRead { value: read(answer).await?, tag })
    }

    /// Puts something else in the place of what was read, unless another did so meanwhile.
    pub(super) async fn put_over<T, B: Serialize, A: DeserializeOwned>(
        &self,
        path: Path<'_>,
        before: &AsRead<T>,
        body: &B,
    ) -> Result<A, ClientError> {
        let request = self.request(Method::PUT, path, &[]).header(IF_MATCH, before.tag.clone());
        read(self.answer(request.json(body)).await?).await
    }

    /// Deletes a part of what was read, unless another changed that meanwhile.
    pub(super) async fn delete_over<T, A: DeserializeOwned>(
        &self,
        path: Path<'_>,
        before: &AsRead<T>,
    ) -> Result<A, ClientError> {
        let request = self.request(Method::DELETE, path, &[]).header(IF_MATCH, before.tag.clone());
        read(self.answer(request).await?).await
    }

    /// Names the stored version in every document that names none and is stored.
    pub(super) async fn fill_versions(&self, documents: &mut [Value]) -> Result<(), ClientError> {
        let mut known: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for document in documents.iter_mut().filter(|document| document["metadata"][RESOURCE_VERSION].is_null()) {
            let (Some(kind), Some(name)) = (document["kind"].as_str(), document["metadata"]["name"].as_str()) else {
                continue; // The manager says what is wrong with it.
            };
            if !known.contains_key(kind) {
                known.insert(kind.to_owned(), self.stored_versions(kind).await?);
            }
            if let Some(version) = known[kind].get(name).cloned() {
                document["metadata"][RESOURCE_VERSION] = version;
            }
        }
        Ok(())
    }

    /// The stored versions of a kind of documents, by name.
    async fn stored_versions(&self, kind: &str) -> Result<BTreeMap<String, Value>, ClientError> {
        let documents: Vec<Value> = match kind {
            "Persona" => self.personas().await?.into_iter().map(|view| view.document).collect(),
            "Binding" => self.bindings().await?.into_iter().map(|view| view.document).collect(),
            "EgressPool" => self.egress_pools().await?.into_iter().map(|view| view.document).collect(),
            _ => Vec::new(),
        };
        let version = |document: Value| {
            let name = document["metadata"]["name"].as_str()?.to_owned();
            Some((name, document["metadata"].get(RESOURCE_VERSION)?.clone()))
        };
        Ok(documents.into_iter().filter_map(version).collect())
    }

    /// The ETag of one thing; of a manager that gives none, whatever is there.
    pub(super) async fn tag_of(&self, path: Path<'_>) -> Result<HeaderValue, ClientError> {
        let answer = self.answer(self.request(Method::GET, path, &[])).await?;
        Ok(tag_in(answer.headers()))
    }

    /// Deletes something as it is now.
    pub(super) async fn delete_as_read(&self, path: Path<'_>, query: Query<'_>) -> Result<(), ClientError> {
        let tag = self.tag_of(path).await?;
        self.answer(self.request(Method::DELETE, path, query).header(IF_MATCH, tag)).await.map(drop)
    }
}

fn tag_in(headers: &HeaderMap) -> HeaderValue {
    headers.get(ETAG).cloned().unwrap_or(HeaderValue::from_static("*"))
}
