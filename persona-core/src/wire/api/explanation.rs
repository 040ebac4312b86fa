//! Why a subject wears what it wears.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::activation::ActivationView;
use super::subjects::{AssignmentView, LeaseView};
use crate::ids::PersonaName;

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
    /// Every persona that was considered for the network section, best first.
    pub considered: Vec<Considered>,
    /// What criteria make of it. Absent: no persona that it may wear has rules.
    #[serde(default)]
    pub activation: Option<ActivationView>,
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
