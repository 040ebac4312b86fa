//! Limits on the wire: what a workload wears, and what its node's agent made of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{PersonaName, WorkloadName};
use crate::limit::Limits;

/// The resources section that a subject wears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectResources {
    /// The persona that the section is from.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// What it says, in whole numbers.
    pub limits: Limits,
}

/// How a workload's limits stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum LimitState {
    /// No persona wants any; the instance is as it was.
    #[default]
    Unlimited,
    /// Everything that is wanted is in force, and read back.
    InForce,
    /// What the host can do is in force; `unsupported` names the rest.
    Partly,
    /// Nothing that is wanted is in force; `reason` says why.
    Failed,
    /// Somebody else changed it, and the policy is to tell and leave it.
    Changed,
}

impl std::fmt::Display for LimitState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Unlimited => "unlimited",
            Self::InForce => "in force",
            Self::Partly => "partly",
            Self::Failed => "failed",
            Self::Changed => "changed",
        })
    }
}

/// A workload's limits: wanted and actual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    /// Which workload of the node.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub workload: WorkloadName,
    /// How they stand.
    pub state: LimitState,
    /// The persona that wants them, as `NAME@VERSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona: Option<String>,
    /// What the persona wants.
    #[serde(default)]
    pub wanted: Limits,
    /// What the kernel or hypervisor says; an absent field is not limited.
    #[serde(default)]
    pub actual: Limits,
    /// Field of the document → why it is not in force, or not as written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unsupported: BTreeMap<String, String>,
    /// Why nothing is in force, or what somebody else changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What limits it, such as `cgroup v2` or `QMP`.
    #[serde(default)]
    pub backends: Vec<String>,
}

impl LimitReport {
    /// The report of a workload that nothing limits.
    pub fn unlimited(workload: WorkloadName) -> Self {
        Self {
            workload,
            state: LimitState::Unlimited,
            persona: None,
            wanted: Limits::default(),
            actual: Limits::default(),
            unsupported: BTreeMap::new(),
            reason: None,
            backends: Vec::new(),
        }
    }
}
