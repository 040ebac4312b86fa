//! Documents: applied, shown, rolled back.

use serde::{Deserialize, Serialize};

use crate::ids::{PersonaName, PoolName, Vni};

/// `POST /v1/apply`: documents to store, all or none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Apply {
    /// Documents as JSON objects (`apiVersion`, `kind`, `metadata`, `spec`). One that is stored already needs the
    /// `metadata.resourceVersion` that it was read with (428 otherwise), and it must be the newest (412).
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub documents: Vec<serde_json::Value>,
}

/// What `apply` did.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// One entry per document, in order; then one per document that was deleted.
    pub results: Vec<AppliedDocument>,
}

/// What `apply` did with one document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AppliedDocument {
    /// `Persona`, `Binding` or `EgressPool`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `created`, `updated`, `unchanged` or `deleted`.
    pub outcome: String,
    /// The version in force afterwards.
    pub version: u32,
    /// The same as documents name it in `metadata.resourceVersion`, and as the ETag of the document has it.
    #[serde(default)]
    pub resource_version: String,
    /// Sections that are stored but not enforced by this release, and other things worth knowing.
    pub warnings: Vec<String>,
}

/// A stored persona version.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PersonaView {
    /// Its name.
    pub name: PersonaName,
    /// Its version, from 1.
    pub version: u32,
    /// The newest version of this persona.
    pub latest_version: u32,
    /// Its unique id.
    pub vni: Vni,
    /// SHA-256 of the canonical document, in hex.
    pub digest: String,
    /// When it was stored.
    pub created_ms: u64,
    /// Subjects that wear it now, in any section.
    pub wearers: u32,
    /// The document.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub document: serde_json::Value,
}

/// A stored binding or another document without versions of its own on the data plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DocumentView {
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// When it was stored.
    pub created_ms: u64,
    /// The document.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub document: serde_json::Value,
}

/// `POST /v1/personas/{name}/rollback`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollback {
    /// The version whose content becomes a new version. Absent: the one before the newest.
    pub to: Option<u32>,
}

/// An egress pool and how full it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// The document.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub document: serde_json::Value,
    /// Blocks in all.
    pub blocks_total: u32,
    /// Blocks leased.
    pub blocks_leased: u32,
    /// Blocks in quarantine.
    pub blocks_quarantined: u32,
    /// IPv4 addresses in all.
    pub addresses_total: u32,
    /// IPv4 addresses of which nobody holds a port, to be leased whole.
    pub addresses_free: u32,
    /// IPv6 /64 in all.
    pub prefixes_total: u32,
    /// IPv6 /64 leased.
    pub prefixes_leased: u32,
    /// IPv6 /64 in quarantine.
    pub prefixes_quarantined: u32,
    /// In about so long it is full if it goes on filling as it did within the last month, milliseconds. Absent: it does not fill, not
    /// within a year, or is known for less than half a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_in_ms: Option<u64>,
}
