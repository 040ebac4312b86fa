//! The fleet's certificate authority: its roots, and one taking over from another.

use serde::{Deserialize, Serialize};

/// `GET /v1/authority`: the roots, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuthorityView {
    /// The roots, the newest first.
    pub roots: Vec<RootView>,
}

/// A root certificate of the fleet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RootView {
    /// SHA-256 of the certificate in DER, in hex; join tokens pin it.
    pub id: String,
    /// What it is used for.
    pub state: RootState,
    /// When it was made.
    pub made_ms: u64,
    /// When it ends.
    pub expires_ms: u64,
    /// Nodes and edges that would be cut off if it were retired now: they show certificates under it, or were not seen
    /// with any other.
    pub agents: Vec<String>,
    /// Join tokens that pin it and have not expired.
    pub join_tokens: Vec<String>,
    /// The sealing key with which its own key is sealed in the store. None: it lies in files of the managers.
    #[serde(default)]
    pub sealed_with: Option<String>,
    /// It has been followed: the last event that its signatures count for.
    pub seals_until: Option<u64>,
}

/// What a root is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum RootState {
    /// It is trusted and signs new certificates. There is one.
    Signing,
    /// It is trusted, and signs no more.
    Trusted,
    /// It is not trusted any more; what it signed of events before still counts.
    Retired,
}

/// `POST /v1/authority/rotate`: a new root takes over. The one before stays trusted until it is retired.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotate {
    /// Why; the event has it.
    pub reason: String,
    /// Whether managers on the same database get the new root's key from there, sealed with the key of the one before.
    /// False: it is brought to them by hand, because the one before may be known to others.
    #[serde(default = "yes")]
    pub share_key: bool,
}

/// `POST /v1/authority/roots/{id}/retire`: nobody trusts this root any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retire {
    /// Why; the event has it.
    pub reason: String,
    /// Also if nodes, edges or join tokens still need it: those must join again with new tokens.
    #[serde(default)]
    pub force: bool,
}

/// A retired root, for who checks what it signed of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RetiredRoot {
    /// Its certificate in PEM.
    pub certificate: String,
    /// What its successor says of it.
    pub succession: Succession,
}

/// What a root's successor says of it: its signatures over events count up to here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Succession {
    /// The last event that its signatures count for.
    pub until_event: u64,
    /// The successor: SHA-256 of its certificate in hex.
    pub by: String,
    /// ECDSA P-256 with SHA-256 by the successor over [`Succession::statement`], in DER, in standard Base64.
    pub signature: String,
}

impl Succession {
    /// The bytes that are signed; `root` is the id of the one that is followed.
    pub fn statement(root: &str, until_event: u64) -> Vec<u8> {
        format!("persona root succession 1\nroot {root}\nuntil {until_event}\n").into_bytes()
    }
}

fn yes() -> bool {
    true
}
