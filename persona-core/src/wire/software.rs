//! Software on the wire: the packages that a subject shall have, and what its node's agent found.

use serde::{Deserialize, Serialize};

use crate::ids::{PersonaName, SubjectId};

/// The software section that a subject wears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SubjectSoftware {
    /// The persona that the section is from.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// What it says.
    pub packages: Vec<WantedPackage>,
}

/// A package to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WantedPackage {
    /// Its name.
    pub package: String,
    /// Such as `>= 1.22`. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// How a subject's software stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum SoftwareState {
    /// Every wanted package is there in a wanted version.
    AsWanted,
    /// Some are not.
    Drifted,
    /// Nobody can tell; `reason` says why.
    Unknown,
    /// They could not be installed, and what was installed before is so again; `reason` says why.
    Failed,
}

impl std::fmt::Display for SoftwareState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::AsWanted => "as wanted",
            Self::Drifted => "drifted",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        })
    }
}

/// A subject's software: wanted and installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SoftwareReport {
    /// Whose: the node, or a workload of it.
    pub subject: SubjectId,
    /// The persona that wants it, as `NAME@VERSION`.
    pub persona: String,
    /// How it stands.
    pub state: SoftwareState,
    /// Why nobody can tell, what failed, or what is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Every wanted package; none if nobody can tell.
    #[serde(default)]
    pub packages: Vec<PackageReport>,
}

/// One wanted package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PackageReport {
    /// Its name.
    pub package: String,
    /// What is wanted of its version. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// The version that is installed. Absent: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Whether that is as wanted.
    pub is_as_wanted: bool,
    /// Whether it is pinned there: the package manager is told to hold it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_held: bool,
}
