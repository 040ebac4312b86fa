//! What reports say of a rollout's members and their nodes at one moment: counters as they stand, and loss of probes.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::ids::{EdgeName, GroupName, NodeName, SubjectId};
use persona_core::rollout::{NodeErrors, SubjectSigns};
use persona_core::wire::agent::Counters;

use crate::live::AgentLive;
use crate::store::{AgentId, RolloutMemberRecord, Snapshot};
use crate::tasks::reports::Reports;

/// Counters of members and their nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    /// Of nodes with members that report.
    pub(super) nodes: BTreeMap<NodeName, NodeErrors>,
    /// Of members on those nodes.
    pub(super) subjects: BTreeMap<SubjectId, SubjectSigns>,
}

impl Sample {
    /// What reports say now.
    pub(super) fn of(snapshot: &Snapshot, reports: &Reports, members: &[Arc<RolloutMemberRecord>]) -> Self {
        let edges = edges_by_group(snapshot);
        let mut by_node: BTreeMap<&NodeName, Vec<&SubjectId>> = BTreeMap::new();
        members.iter().for_each(|it| by_node.entry(it.subject.node()).or_default().push(&it.subject));
        let mut sample = Self::default();
        for (node, subjects) in by_node {
            let Some(live) = reports.get(&AgentId::node(node)) else { continue };
            sample.nodes.insert(node.clone(), errors_of(&live.counters));
            let traffic: BTreeMap<_, _> = live.counters.subjects.iter().map(|it| (&it.subject, it.traffic)).collect();
            for subject in subjects {
                let traffic = traffic.get(subject).copied().unwrap_or_default();
                let (sent, received) = (traffic.egress_packets, traffic.ingress_packets);
                let loss = loss_of(snapshot, &edges, live, subject);
                sample.subjects.insert(subject.clone(), SubjectSigns { sent, received, loss });
            }
        }
        sample
    }

    /// What a node carried and dropped since `start`. One that did not report then began to count with its first report.
    pub(super) fn node_since(&self, start: &Self, node: &NodeName) -> Option<NodeErrors> {
        Some(self.nodes.get(node)?.since(start.nodes.get(node)?))
    }

    /// What a subject sent and heard since `start`, with the loss of now.
    pub(super) fn subject_since(&self, start: &Self, subject: &SubjectId) -> SubjectSigns {
        let (Some(now), Some(before)) = (self.subjects.get(subject), start.subjects.get(subject)) else {
            return SubjectSigns::default();
        };
        let grown = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let (sent, received) = (grown(now.sent, before.sent), grown(now.received, before.received));
        SubjectSigns { sent, received, loss: now.loss }
    }
}

fn errors_of(counters: &Counters) -> NodeErrors {
    let packets = counters.personas.values().map(|it| it.egress_packets + it.ingress_packets).sum();
    NodeErrors { packets, drops: counters.drops.clone() }
}

fn edges_by_group(snapshot: &Snapshot) -> BTreeMap<GroupName, Vec<EdgeName>> {
    let mut edges: BTreeMap<GroupName, Vec<EdgeName>> = BTreeMap::new();
    for agent in snapshot.agents.values() {
        if let (Some(edge), Ok(name)) = (agent.edge(), agent.id.name.parse()) {
            edges.entry(edge.group.clone()).or_default().push(name);
        }
    }
    edges
}

/// Mean loss of a node's probes to the edges of the group that carries a subject.
fn loss_of(
    snapshot: &Snapshot,
    edges: &BTreeMap<GroupName, Vec<EdgeName>>,
    live: &AgentLive,
    subject: &SubjectId,
) -> Option<f32> {
    let group = &snapshot.subjects.get(subject)?.item.as_ref()?.network.as_ref()?.group;
    let probed = edges.get(group)?.iter().filter_map(|edge| live.edges.get(edge));
    let losses: Vec<f32> = probed.map(|(health, _)| health.loss).collect();
    (!losses.is_empty()).then(|| losses.iter().sum::<f32>() / losses.len() as f32)
}
