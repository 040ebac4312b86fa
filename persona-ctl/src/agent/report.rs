//! What the agent tells the manager, made from what a pass saw and did.

use std::collections::BTreeMap;

use persona_core::ids::{EdgeNumber, SubjectId, SubjectNumber, WorkloadName};
use persona_core::wire::agent::{Counters, EdgeHealth, LeaseUse, SubjectCounters, WorkloadKind, WorkloadReport};
use persona_core::wire::desired::{DesiredState, EdgeItem, Item, SubjectItem};
use persona_core::wire::limits::SubjectResources;
use persona_core::wire::security::SubjectSecurity;
use persona_core::wire::software::SubjectSoftware;

use super::changes::Note;
use super::config::AgentConfig;
use super::observe::Observed;
use super::tables::NodePlan;
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
            Told::Nothing => WorkloadKind::Instance,
        },
        labels: workload.labels.clone(),
        attached: observed.has(workload),
    };
    config.file.workload.iter().map(report).collect()
}

/// The limits that every workload of a state wears.
pub(super) fn worn_resources(state: &DesiredState) -> BTreeMap<WorkloadName, SubjectResources> {
    let worn = state.items.values().filter_map(|item| match item {
        Item::Subject(SubjectItem { subject: SubjectId::Workload(_, name), resources: Some(resources), .. }) => {
            Some((name.clone(), (**resources).clone()))
        }
        _ => None,
    });
    worn.collect()
}

/// The packages that the node and every workload of a state shall have.
pub(super) fn worn_software(state: &DesiredState) -> BTreeMap<SubjectId, SubjectSoftware> {
    let worn = state.items.values().filter_map(|item| match item {
        Item::Subject(SubjectItem { subject, software: Some(software), .. }) => {
            Some((subject.clone(), (**software).clone()))
        }
        _ => None,
    });
    worn.collect()
}

/// The security settings that the node and every workload of a state shall have.
pub(super) fn worn_security(state: &DesiredState) -> BTreeMap<SubjectId, SubjectSecurity> {
    let worn = state.items.values().filter_map(|item| match item {
        Item::Subject(SubjectItem { subject, security: Some(security), .. }) => {
            Some((subject.clone(), (**security).clone()))
        }
        _ => None,
    });
    worn.collect()
}

/// A lease is nearly full from this share of its slots on, in percent.
const NEARLY_FULL_PERCENT: u64 = 90;

/// Leases in force that have few slots left, or none.
pub(super) fn full_leases(usage: &[LeaseUse], plan: &NodePlan) -> Vec<Note> {
    let note = |used: &LeaseUse| {
        let (live, all) = (u64::from(used.live_slot_count), u64::from(used.slot_count));
        // A prefix has no slots, and room for whatever comes.
        if all == 0 || live * 100 < all * NEARLY_FULL_PERCENT {
            return None;
        }
        let entry = plan.tables.leases.iter().find(|lease| lease.id == used.lease)?;
        let subject = plan.subjects.get(&entry.subject)?;
        let lease = used.lease;
        // The figures are left out of the sentence: it is told once for as long as it holds.
        let message = format!(
            "lease {lease} of {subject} holds flows in {NEARLY_FULL_PERCENT} of 100 slots or more: raise portsPerSubject of its persona"
        );
        Some(Note::new("lease.nearly-full", subject, message))
    };
    usage.iter().filter_map(note).collect()
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
    let named = raw.subjects.into_iter().filter_map(|(number, total)| {
        Some(SubjectCounters {
            subject: subjects.get(&number)?.clone(),
            traffic: total.traffic,
            opened_flows: total.opened_flow_count,
            dropped_packets: total.dropped_packet_count,
        })
    });
    Counters {
        subjects: named.collect(),
        personas: raw.personas.into_iter().map(|(vni, traffic)| (vni.0, traffic)).collect(),
        drops: raw.drops,
        ..Counters::default()
    }
}

#[cfg(test)]
mod tests {
    use persona_core::ids::{Generation, LeaseId, Vni};
    use persona_core::wire::desired::LeaseSpace;

    use super::*;
    use crate::dataplane::tables::LeaseEntry;

    #[test]
    fn a_lease_without_slots_is_never_full() {
        let subject = SubjectNumber(1);
        let entry = |id, space| LeaseEntry {
            id: LeaseId(id),
            subject,
            vni: Vni(7),
            space,
            group: "fra".parse().unwrap(),
            mtu: 1_400,
            generation: Generation::default(),
            configured: false,
        };
        let address = [203, 0, 113, 9].into();
        let mut plan = NodePlan::default();
        plan.subjects.insert(subject, "workload/n1/w1".parse().unwrap());
        plan.tables.leases = vec![
            entry(1, LeaseSpace::Ports { address, block_bits: 10, blocks: vec![1] }),
            entry(2, LeaseSpace::Prefix { prefix: "2001:db8::".parse().unwrap() }),
        ];
        let used = |lease, live_slot_count, slot_count| LeaseUse {
            lease: LeaseId(lease),
            live_slot_count,
            slot_count,
            shared_port_count: 0,
        };
        for (usage, expected) in [(used(1, 899, 1_000), 0), (used(1, 900, 1_000), 1), (used(2, 0, 0), 0)] {
            assert_eq!(full_leases(&[usage], &plan).len(), expected, "{usage:?}");
        }
    }
}
