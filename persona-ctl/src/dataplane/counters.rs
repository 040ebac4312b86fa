//! What the data plane counted, and what a sweep removed.

use std::collections::BTreeMap;

use persona_core::ids::{SubjectNumber, Vni};
use persona_core::wire::agent::Traffic;

/// Counters since the programs were first attached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawCounters {
    /// Per subject; empty on an edge.
    pub subjects: BTreeMap<SubjectNumber, SubjectTotal>,
    /// Per persona.
    pub personas: BTreeMap<Vni, Traffic>,
    /// Drop reason → packets; reasons that never happened are left out.
    pub drops: BTreeMap<String, u64>,
}

/// What was counted of one subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubjectTotal {
    /// What it sent and received.
    pub traffic: Traffic,
    /// Flows that it opened, and connections opened towards it.
    pub opened_flow_count: u64,
    /// Packets from it or for it that were dropped.
    pub dropped_packet_count: u64,
}

/// What a sweep did. Expiry is judged at use; a sweep only returns memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// Flows that are still in force.
    pub live_flow_count: usize,
    /// Flows removed.
    pub removed_flow_count: usize,
    /// Mappings removed.
    pub removed_mapping_count: usize,
}
