//! The whole at a glance, and what happened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, SubjectId};

/// A line of a followed stream of events when nothing happened for a while: whoever comes back goes on after this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventBookmark {
    /// All events up to this number were sent.
    pub bookmark: u64,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The manager's version.
    pub version: String,
    /// The store's revision.
    pub revision: Generation,
    /// The newest event's number.
    #[serde(default)]
    pub event_last: u64,
    /// Nodes that are up, and in all.
    pub nodes: (u32, u32),
    /// Edges that are up, and in all.
    pub edges: (u32, u32),
    /// Workloads.
    pub workloads: u32,
    /// Subjects that should have a network persona and have none, with the reason.
    pub unassigned: BTreeMap<String, String>,
    /// Nodes and edges that have not acknowledged what is published for them.
    pub behind: Vec<String>,
    /// Nodes and edges that rejected what is published for them, with the reason.
    pub rejected: BTreeMap<String, String>,
    /// Alerts that are raised.
    #[serde(default)]
    pub alerts: u32,
    /// Subjects whose software is not as wanted.
    #[serde(default)]
    pub drifted: Vec<SubjectId>,
    /// Subjects that must be started anew for their security settings, or whose settings failed.
    #[serde(default)]
    pub restart: Vec<SubjectId>,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// Ascending, without gaps in one store incarnation.
    pub number: u64,
    /// When.
    pub time_ms: u64,
    /// A dotted name such as `assignment.changed`, `edge.down`, `lease.freed`.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Who did it: `manager`, `node/NAME`, `edge/NAME` or `operator`.
    pub actor: String,
    /// A sentence for people, with the reason.
    pub message: String,
    /// Before and after, where that says something.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub details: serde_json::Value,
}
