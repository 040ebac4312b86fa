//! What the agent tells the manager, made from what a pass saw and did.

use std::collections::BTreeMap;

use persona_core::ids::{EdgeNumber, SubjectId, SubjectNumber};
use persona_core::wire::agent::{Counters, EdgeHealth, SubjectCounters, WorkloadKind, WorkloadReport};
use persona_core::wire::desired::EdgeItem;

use super::config::AgentConfig;
use super::observe::Observed;
use super::workload_config::{Told, WorkloadConfig};
use crate::dataplane::RawCounters;
use crate::probe::Health;

/// Every configured workload, attached or not.
pub(super) fn workloads(config: &AgentConfig, observed: &Observed) -> Vec<WorkloadReport> {
    let report = |workload: &WorkloadConfig| WorkloadReport {
        name: workload.name().clone(),
        device: workload.device.clone().unwrap_or_default(),
        address: workload.address,
        prefix6: workload.address6,
        kind: match workload.told() {
            Told::Device(_) => WorkloadKind::Device,
            Told::Source(_) => WorkloadKind::Source,
            Told::Cgroup(_) => WorkloadKind::Cgroup,
        },
        labels: workload.labels.clone(),
        attached: observed.has(workload),
    };
    config.file.workload.iter().map(report).collect()
}

/// What probes say of every edge.
pub(crate) fn edge_health(
    edges: &BTreeMap<EdgeNumber, EdgeItem>,
    health: &BTreeMap<EdgeNumber, Health>,
) -> Vec<EdgeHealth> {
    let known = health.iter().filter_map(|(number, health)| Some((edges.get(number)?, health)));
    let report = |(edge, health): (&EdgeItem, &Health)| EdgeHealth {
        edge: edge.name.clone(),
        alive: health.verdict.alive,
        rtt_us: health.quality.rtt_us,
        jitter_us: health.quality.jitter_us,
        loss: health.quality.loss,
        generation: health.verdict.generation,
    };
    known.map(report).collect()
}

/// Counters with the subjects' names; numbers that are no subject's any more are left out.
pub(super) fn counters(raw: RawCounters, subjects: &BTreeMap<SubjectNumber, SubjectId>) -> Counters {
    let named = raw
        .subjects
        .into_iter()
        .filter_map(|(number, traffic)| Some(SubjectCounters { subject: subjects.get(&number)?.clone(), traffic }));
    Counters {
        subjects: named.collect(),
        personas: raw.personas.into_iter().map(|(vni, traffic)| (vni.0, traffic)).collect(),
        drops: raw.drops,
        ..Counters::default()
    }
}
