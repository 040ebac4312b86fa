//! How much of the fleet changes may reach: what is set through the API, and how it stands.

use serde::{Deserialize, Serialize};

use crate::reach::ReachLimit;

/// The header of a change by which an administrator goes over the limit: why, in UTF-8.
pub const OVERRIDE_HEADER: &str = "persona-override-reach";

/// `PUT /v1/settings/reach`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReachSettings {
    /// How much changes by people and programs may reach within an hour. Null: any part of the fleet.
    pub limit: Option<ReachLimit>,
}

/// `GET /v1/settings/reach`: the limit, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReachView {
    /// How much may be reached within an hour. Null: any part of the fleet.
    pub limit: Option<ReachLimit>,
    /// Subjects of the fleet.
    pub fleet: u32,
    /// What may be reached within an hour, subjects. Null: all, ever again.
    pub allowed: Option<u32>,
    /// What was reached within the last hour, subjects, each time that one was. Counted while there is a limit.
    pub used: u32,
}
