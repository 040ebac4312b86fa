//! Why a subject wears what it wears.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::activation::ActivationView;
use super::alerts::MonitoringView;
use super::subjects::{AssignmentView, LeaseView};
use crate::ids::{EdgeName, PersonaName};
use crate::plan::Demand;
use crate::wire::planning::PlanMode;
use crate::wire::security::SecurityReport;
use crate::wire::software::SoftwareReport;

/// `GET /v1/explain/{subject}`: how the decision came about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What is in force.
    pub assignment: AssignmentView,
    /// The IPv4 lease in use, if any.
    pub lease: Option<LeaseView>,
    /// The IPv6 lease in use, if any.
    pub lease6: Option<LeaseView>,
    /// Bindings that select it, by name.
    #[serde(default)]
    pub bindings: Vec<String>,
    /// Where none does: which one would if what its node says of it were bound, and how that is done.
    #[serde(default)]
    pub nearest: Option<String>,
    /// Every persona that was considered for the network section, best first.
    pub considered: Vec<Considered>,
    /// Every edge that was considered. Absent: it holds no lease, or not every edge of its group states what it can carry.
    #[serde(default)]
    pub edges: Option<EdgeExplanation>,
    /// What criteria make of it. Absent: no persona that it may wear has rules.
    #[serde(default)]
    pub activation: Option<ActivationView>,
    /// What it is watched for. Absent: it wears no monitoring section.
    #[serde(default)]
    pub monitoring: Option<MonitoringView>,
    /// Its software, wanted and installed, as its node last said. Absent: it wears no software section, or the node did not say.
    #[serde(default)]
    pub software: Option<SoftwareReport>,
    /// Its security settings beside the firewall, wanted and actual, likewise.
    #[serde(default)]
    pub security: Option<SecurityReport>,
    /// Every field of the effective persona: path, value, and the persona and layer that it comes from.
    pub effective: Vec<EffectiveField>,
}

/// One persona that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    /// Which.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// Whether it is worn.
    pub chosen: bool,
    /// Why it could not be chosen; empty if it could.
    pub refusals: Vec<String>,
    /// Score terms by name; the sum decides.
    pub scores: BTreeMap<String, f64>,
    /// What would change the answer.
    pub hint: Option<String>,
}

/// Why a subject is planned onto its edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EdgeExplanation {
    /// Whether the plan takes effect.
    pub mode: PlanMode,
    /// Its planned edge. Absent: it has none.
    pub edge: Option<EdgeName>,
    /// A sentence for people.
    pub reason: String,
    /// What is reserved for it: rate, packets per second, flows, leases.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub demand: Demand,
    /// The planned edge, the others by score, those that are refused.
    pub considered: Vec<ConsideredEdge>,
}

/// One edge that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsideredEdge {
    /// Which.
    pub edge: EdgeName,
    /// Whether the subject is planned onto it.
    pub chosen: bool,
    /// What each filter has against it; empty if nothing.
    pub refusals: Vec<String>,
    /// Score terms by name, in points.
    pub scores: BTreeMap<String, f64>,
    /// How full it would be with the subject on it, 1 is full.
    pub fullness: f64,
    /// What would change that it was not chosen.
    pub hint: Option<String>,
}

/// One field of an effective persona and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct EffectiveField {
    /// Such as `network.mtu`.
    pub path: String,
    /// Its value.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub value: serde_json::Value,
    /// `persona@version`.
    pub persona: String,
    /// The layer that put it there.
    pub layer: String,
}
