//! Documents and their versions.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use persona_core::document::{Document, Kind};
use persona_core::ids::Vni;
use serde::{Deserialize, Serialize};

/// A document's name and newest version. It stays after deletion, so that versions and VNIs are never given twice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DocumentRecord {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The version in force: the newest but for those that a rollout brings, or took back.
    pub latest: u32,
    /// The highest number that a version was given; no number is given twice. Less than `latest`: that one.
    #[serde(default)]
    pub given: u32,
    /// The version that was in force before. None: there was none, or a release wrote this that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u32>,
    /// Whether it was deleted after that version.
    pub deleted: bool,
    /// Personas: the unique id, given once per name.
    pub vni: Option<Vni>,
}

/// One immutable version of a document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// SHA-256 of the canonical document, in hex.
    pub digest: String,
    /// When it was stored.
    pub created_ms: u64,
    /// The document, canonical.
    pub document: serde_json::Value,
    /// The document, read when it is first asked for.
    #[serde(skip)]
    pub parsed: OnceLock<Option<Document>>,
}

impl VersionRecord {
    /// The labels in its metadata.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.document["metadata"]["labels"].clone()).unwrap_or_default()
    }

    /// The document as a type. None: this release no longer accepts what an older one stored.
    pub(crate) fn parsed(&self) -> Option<&Document> {
        self.parsed.get_or_init(|| Document::from_json(self.document.clone()).ok()).as_ref()
    }
}
