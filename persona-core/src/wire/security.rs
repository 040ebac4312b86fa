//! Security settings on the wire: what a subject wears beside its firewall, and what its node or its guest made of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{PersonaName, SubjectId};

/// The settings of a security section that a subject wears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectSecurity {
    /// The persona that the section is from.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// What it says.
    pub settings: SecuritySettings,
}

/// What a security section says beside its firewall. What is absent is nobody's business.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SecuritySettings {
    /// Kernel parameter → value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// Linux capabilities that processes may have at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// Whether programs may give processes no more rights than they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// Whether the root file system cannot be written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root: Option<bool>,
    /// Whether system calls are filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<bool>,
    /// The profile of AppArmor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<String>,
}

impl SecuritySettings {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a subject's security settings stand, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum SecurityState {
    /// Every one is in force.
    InForce,
    /// Some are not there to be had; the others are in force.
    Partly,
    /// Some come into force when the instance is started anew.
    NeedsRestart,
    /// What could have been changed was not, and is as it was before.
    Failed,
    /// Nobody can tell; `reason` says why.
    Unknown,
}

impl std::fmt::Display for SecurityState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::InForce => "in force",
            Self::Partly => "partly in force",
            Self::NeedsRestart => "in need of a restart",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        })
    }
}

/// A subject's security settings: wanted and actual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SecurityReport {
    /// Whose: the node, or a workload of it.
    pub subject: SubjectId,
    /// The persona that wants them, as `NAME@VERSION`.
    pub persona: String,
    /// How they stand.
    pub state: SecurityState,
    /// Why nobody can tell, or what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Every setting that is wanted; none if nobody can tell.
    #[serde(default)]
    pub settings: Vec<SettingReport>,
}

/// How one setting stands, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum SettingState {
    /// It is as wanted, and read back.
    InForce,
    /// It is not there to be had.
    Unsupported,
    /// A running instance cannot get it.
    NeedsRestart,
    /// It was refused, and all that was changed with it was put back.
    Failed,
}

impl std::fmt::Display for SettingState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::InForce => "in force",
            Self::Unsupported => "unsupported",
            Self::NeedsRestart => "needs restart",
            Self::Failed => "failed",
        })
    }
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SettingReport {
    /// Its path in the section, such as `sysctl.net.ipv4.tcp_syncookies`.
    pub setting: String,
    /// What is wanted.
    pub wanted: String,
    /// What there is. Absent: nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// How it stands.
    pub state: SettingState,
    /// Why, if it is not in force, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
