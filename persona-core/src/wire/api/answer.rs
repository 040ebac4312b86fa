//! Lists, and errors.

use serde::{Deserialize, Serialize};

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The page's entries.
    pub items: Vec<T>,
    /// Give this as `pageToken` for the next page. Absent on the last one.
    pub next_page_token: Option<String>,
}

/// An error, RFC 9457.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable relative URI such as `/problems/unknown-persona`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short sentence, the same for every problem of the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what would be valid.
    pub detail: String,
    /// Each part of the input that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemPart>,
}

impl ProblemPart {
    /// A part of no body that was sent.
    pub fn new(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), pointer: None, detail: detail.into() }
    }
}

/// One wrong part of the input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProblemPart {
    /// Where, as a path in the document such as `spec.network.mtu`, or empty.
    pub path: String,
    /// Where in the body that was sent, as a JSON pointer (RFC 6901): the nearest part that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What is wrong and what would be valid.
    pub detail: String,
}
