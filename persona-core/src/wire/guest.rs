//! What a host's agent and the agent inside a guest say to each other: lines of JSON over a byte stream that may lose its
//! beginning.
//!
//! Both repeat the whole of what they have to say, so nothing has to be taken up where it was left: a line that is cut or
//! cannot be read is skipped. Neither believes the other: lines have a bound, names are those of the catalogue, and texts are
//! cut before anybody reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::security::{SecurityState, SettingReport, SubjectSecurity};
use super::software::{PackageReport, SoftwareState, SubjectSoftware};
use crate::ids::Generation;

/// The version of what is said. Whoever hears another one answers in his own, and does nothing.
pub const GUEST_PROTOCOL: u32 = 1;

/// Longest line, bytes.
pub const GUEST_LINE_BYTES_MAX: usize = 256 << 10;

/// Most values of one line.
pub const GUEST_VALUE_COUNT_MAX: usize = 32;

/// Most packages or settings of one line, as of a persona.
pub const GUEST_ENTRY_COUNT_MAX: usize = 256;

/// Host to guest: everything that is wanted inside. What is absent goes back to what was there before the first persona.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestWant {
    /// [`GUEST_PROTOCOL`].
    pub protocol: u32,
    /// A number of this connection's own, which the guest repeats: what it said to an earlier one is not taken for news.
    pub session: u64,
    /// The generation that it is of.
    pub generation: Generation,
    /// Security settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<SubjectSecurity>,
    /// Packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<SubjectSoftware>,
}

/// Guest to host: what became of it, and what is measured inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestTell {
    /// [`GUEST_PROTOCOL`].
    pub protocol: u32,
    /// The session of the newest [`GuestWant`]. 0: none has come yet.
    pub session: u64,
    /// The generation of the want that the rest is about.
    pub generation: Generation,
    /// The program's version.
    pub version: String,
    /// How security settings stand. Absent: none are wanted, and what was changed is put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<GuestSecurity>,
    /// How packages stand, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<GuestSoftware>,
    /// Signal of the catalogue → value, as the guest's own kernel has it.
    #[serde(default)]
    pub values: BTreeMap<String, f64>,
}

/// How a guest's security settings stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestSecurity {
    /// The persona that wants them, as `NAME@VERSION`. Absent: nobody does any more, and something could not be put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona: Option<String>,
    /// How they stand.
    pub state: SecurityState,
    /// What failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Every one of them.
    #[serde(default)]
    pub settings: Vec<SettingReport>,
}

/// How a guest's packages stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestSoftware {
    /// The persona that wants them, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona: Option<String>,
    /// How they stand.
    pub state: SoftwareState,
    /// What failed, or is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Every one of them.
    #[serde(default)]
    pub packages: Vec<PackageReport>,
}
