//! Which sources of content edges measure their ways to, and what they measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::content::ContentSource;

/// `GET /v1/agent/contents`, by an edge: the sources that it shall measure the way to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// At most [`CONTENT_COUNT_MAX`](crate::content::CONTENT_COUNT_MAX): what requests name goes before what personas name.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub contents: Vec<ContentSource>,
    /// How many more there are, which count as unmeasured.
    #[serde(default)]
    pub left_out_count: u32,
}

/// By source of content, as its text says it, the least of an edge's last round trips, microseconds. What did not answer, or what
/// the edge is not let measure, is not in it.
pub type ContentRtts = BTreeMap<String, u32>;
