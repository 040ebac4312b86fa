//! Rollouts: what starts one, what it may be told, and how it stands.

use serde::{Deserialize, Serialize};

use crate::document::Selector;
use crate::ids::{PersonaName, RolloutName, SubjectId};
use crate::rollout::{Health, Phase, RolloutSpec};

/// `POST /v1/rollouts`: new versions of personas that exist, or a switch of many subjects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StartRollout {
    /// Its name. Absent: the persona's, with its new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<RolloutName>,
    /// Personas, as `POST /v1/apply` takes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub documents: Vec<serde_json::Value>,
    /// Who is switched to what. Not together with documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchMany>,
    /// How it goes.
    pub spec: RolloutSpec,
}

/// A switch of many subjects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SwitchMany {
    /// Who, as in a binding.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub selector: Selector,
    /// What they wear from then on.
    pub persona: PersonaName,
}

/// `POST /v1/rollouts/{name}/pause` `/resume` `/abort` `/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RolloutOrder {
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a rollout changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum RolloutChange {
    /// Personas get another version.
    Personas(Vec<VersionStep>),
    /// Subjects are switched by hand.
    Switch(SwitchMany),
}

/// One persona from one version to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct VersionStep {
    /// Which.
    pub persona: PersonaName,
    /// The version in force for everybody who was not moved.
    pub from: u32,
    /// The version of those who were.
    pub to: u32,
}

/// `GET /v1/rollouts/{name}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RolloutView {
    /// Its name.
    pub name: RolloutName,
    /// What it changes.
    pub change: RolloutChange,
    /// How it goes.
    pub spec: RolloutSpec,
    /// What it is at.
    pub phase: Phase,
    /// The wave that was begun last, from 1; 0 before the first.
    pub wave: u32,
    /// Every wave.
    pub waves: Vec<WaveView>,
    /// Subjects that it is for.
    pub members: u32,
    /// Those who were moved.
    pub moved: u32,
    /// Of these, who do not have it in force yet.
    pub behind: u32,
    /// Some of those who were moved.
    pub moved_subjects: Vec<SubjectId>,
    /// Why it halted, or what somebody said.
    pub reason: Option<String>,
    /// Why the next who are due are not moved yet.
    pub waiting: Option<String>,
    /// How long the wave was watched without a break, milliseconds. Absent: nobody watches.
    pub watched_ms: Option<u64>,
    /// What was seen last of those who were moved. Absent: nothing yet.
    pub health: Option<Health>,
    /// Who started it.
    pub started_by: String,
    /// When, milliseconds since 1970.
    pub started_ms: u64,
    /// When its phase or wave changed last.
    pub changed_ms: u64,
}

/// A wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WaveView {
    /// What part of the members it leaves moved.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub share: crate::units::Share,
    /// How many that are.
    pub subjects: u32,
}
