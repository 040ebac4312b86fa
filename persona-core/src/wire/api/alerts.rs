//! Alerts: what personas watch their wearers for.

use serde::{Deserialize, Serialize};

use crate::alert::AlertStory;
use crate::ids::{PersonaName, SubjectId};

/// What a subject is watched for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MonitoringView {
    /// The persona whose monitoring section it wears.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// Every alert, with what its criteria see.
    pub alerts: Vec<AlertStory>,
}

/// `GET /v1/alerts`: one that is raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AlertView {
    /// Of whom.
    pub subject: SubjectId,
    /// Its name.
    pub alert: String,
    /// The persona that watches for it.
    pub persona: PersonaName,
    /// That persona's version when the alert was raised.
    pub version: u32,
    /// Since when.
    pub since_ms: u64,
    /// Why, a sentence for people.
    pub reason: String,
}
