//! What a node measured when it last asked for an assignment by itself.

use serde::{Deserialize, Serialize};

use crate::ids::GroupName;

/// What an assignment on a node rests on, beside documents and edges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// Counts the questions since the agent started, from 1.
    pub number: u64,
    /// Why it asked, for people.
    pub cause: String,
    /// What its uplink carries, bits per second. Absent: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
    /// What that carried in fact while packets waited before it, bits per second with all headers. Absent: it was not busy lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_bps: Option<u64>,
    /// The best path to each edge group that it knows.
    pub paths: Vec<PathCondition>,
}

/// The best path to an edge group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PathCondition {
    /// Which group.
    pub group: GroupName,
    /// Round-trip time, microseconds. Absent: none of its edges answers.
    pub rtt_us: Option<u32>,
    /// Share of probes that stay unanswered, 0 to 1.
    pub loss: f32,
}

impl Conditions {
    /// The path to a group.
    pub fn path_to(&self, group: &GroupName) -> Option<&PathCondition> {
        self.paths.iter().find(|path| path.group == *group)
    }

    /// What its uplink carries, as far as that is known: what it carried when it was busy, else what it says.
    pub fn uplink_bps(&self) -> Option<u64> {
        self.available_bps.or(self.rate_bps)
    }

    /// In words, with the path to the group that was chosen.
    pub fn told(&self, group: &GroupName) -> String {
        let path = self.path_to(group).map(|path| {
            let rtt = path.rtt_us.map_or("no answer".to_owned(), |us| format!("{:.1} ms", f64::from(us) / 1_000.0));
            format!("{rtt} and {:.1} % loss to {group}", path.loss * 100.0)
        });
        let path = path.as_deref().unwrap_or("no path to it");
        let available = self.available_bps.map(|bps| format!(" and {:.1} Mbit/s on its busy uplink", bps as f64 / 1e6));
        format!("its node measured {path}{}, when it asked: {}", available.unwrap_or_default(), self.cause)
    }
}
