//! What people see of records and reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use persona_core::health::Fence;
use persona_core::ids::{EdgeName, Generation, GroupName, NodeName, SubjectId};
use persona_core::lease::LeaseState;
use persona_core::wire::api::{AssignmentView, EdgeProbe, EdgeView, LeaseView, NodeView, WorkloadView};
use persona_core::wire::desired::ProbeItem;
use persona_core::wire::load::EdgeLoad;

use crate::live::AgentLive;
use crate::store::{AgentRecord, LeaseRecord, Snapshot, WorkloadRecord};
use crate::tasks::in_force::{is_in_force, published};
use crate::tasks::reports::Reports;
use crate::tasks::wear::labels_of;

/// What a subject wears.
pub(super) fn assignment(
    snapshot: &Snapshot,
    subject: &SubjectId,
    node: Option<&Arc<AgentLive>>,
    changed: bool,
) -> AssignmentView {
    let record = snapshot.subjects.get(subject);
    let target = record.and_then(|record| record.target.as_ref());
    AssignmentView {
        subject: subject.clone(),
        sections: record.map(|record| record.sections.clone()).unwrap_or_default(),
        lease: target.and_then(|target| target.lease),
        lease6: target.and_then(|target| target.lease6),
        in_force: is_in_force(snapshot, subject, node.map(Arc::as_ref)),
        changed,
    }
}

/// A lease.
pub(super) fn lease(record: &LeaseRecord, node: Option<&Arc<AgentLive>>) -> LeaseView {
    LeaseView {
        id: record.id,
        subject: record.subject.clone(),
        persona: record.persona.clone(),
        vni: record.vni,
        pool: record.pool.clone(),
        space: record.space.clone(),
        ports: record.space.port_ranges(),
        configured: record.configured,
        encrypted: record.encrypted,
        use_: node.and_then(|node| node.leases.get(&record.id)).copied(),
        state: record.state.as_str().to_owned(),
        free_at_ms: match record.state {
            LeaseState::Quarantine { free_at_ms } => Some(free_at_ms),
            _ => None,
        },
        cut_at_ms: match record.state {
            LeaseState::Retiring { cut_at_ms, .. } => cut_at_ms,
            _ => None,
        },
        generation: record.generation,
    }
}

/// A workload.
pub(super) fn workload(snapshot: &Snapshot, record: &WorkloadRecord, node: Option<&Arc<AgentLive>>) -> WorkloadView {
    let subject = SubjectId::Workload(record.node.clone(), record.report.name.clone());
    let assignment = assignment(snapshot, &subject, node, false);
    let report = record.report.clone();
    let labels = labels_of(snapshot, &subject);
    WorkloadView {
        subject,
        node: record.node.clone(),
        name: report.name,
        device: report.device,
        address: report.address,
        prefix6: report.prefix6,
        kind: report.kind,
        labels: labels.all(),
        bound_labels: labels.bound,
        attached: report.attached,
        limits: node.and_then(|node| node.limits.iter().find(|it| it.workload == record.report.name)).cloned(),
        assignment,
    }
}

/// A node. None: the record is an edge's.
pub(super) fn node(snapshot: &Snapshot, record: &AgentRecord, live: Option<&Arc<AgentLive>>) -> Option<NodeView> {
    let node = record.node()?;
    let name: NodeName = record.id.name.parse().ok()?;
    let lease_count = snapshot.lease_count_of(&name);
    Some(NodeView {
        name,
        address: record.address,
        capabilities: record.capabilities.clone(),
        labels: record.all_labels(),
        bound_labels: record.bound_labels.clone(),
        revoked: snapshot.revocations.get(&record.public_key).map(|it| it.reason.clone()),
        up: node.up,
        cut_off: node.cut_off,
        draining: node.draining,
        lease_count,
        live_slot_count: live.map_or(0, |live| live.leases.values().map(|it| u64::from(it.live_slot_count)).sum()),
        underlay_mtu: live.and_then(|live| live.underlay_mtu),
        tunnel: live.map(|live| live.tunnel.clone()).unwrap_or_default(),
        shares: node.shares.iter().map(|(persona, share)| share.item(persona)).collect(),
        seen_ms: live.map_or(0, |live| live.seen_ms),
        version: record.version.clone(),
        desired: published(snapshot, &record.id),
        applied: live.map_or(Generation::default(), |live| live.applied),
        rejected: live.and_then(|live| live.rejected.clone()),
        edges: live.map(|live| live.edges.values().map(|(health, _)| health.clone()).collect()).unwrap_or_default(),
        counters: live.map(|live| live.counters.clone()).unwrap_or_default(),
    })
}

/// An edge. None: the record is a node's.
pub(super) fn edge(reports: &Reports, probe: ProbeItem, snapshot: &Snapshot, record: &AgentRecord) -> Option<EdgeView> {
    let edge = record.edge()?;
    let live = reports.get(&record.id);
    let group = &edge.group;
    let unfenced = match reports.fence(snapshot, record, probe) {
        Fence::Fenced => None,
        Fence::Unfenced { reason } => Some(reason),
    };
    let carried = snapshot.leases.values().filter(|lease| lease.group == *group && lease.state.is_at_edges());
    let lease_count = carried.count() as u32;
    Some(EdgeView {
        name: record.id.name.parse().ok()?,
        number: edge.number,
        group: group.clone(),
        address: record.address,
        capabilities: record.capabilities.clone(),
        capacity: edge.capacity,
        labels: record.all_labels(),
        bound_labels: record.bound_labels.clone(),
        revoked: snapshot.revocations.get(&record.public_key).map(|it| it.reason.clone()),
        state: edge.state.to_string(),
        reason: edge.reason.clone(),
        flags: edge.flags.clone(),
        weight: edge.weight,
        draining: edge.draining,
        maintenance: edge.maintenance.clone(),
        leaving: edge.is_leaving,
        unfenced,
        tunnel: live.map(|live| live.tunnel.clone()).unwrap_or_default(),
        bits_per_sec: live.map_or(0, |live| live.bits_per_sec),
        load: load_of(live, lease_count).measured_by(edge.capacity.as_ref()),
        probes: probes_of(reports, snapshot, record),
        content_rtt_us: edge.content_rtt_us.clone(),
        seen_ms: live.map_or(0, |live| live.seen_ms),
        version: record.version.clone(),
        desired: published(snapshot, &record.id),
        applied: live.map_or(Generation::default(), |live| live.applied),
        rejected: live.and_then(|live| live.rejected.clone()),
        owned: live.map(|live| live.owned.clone()).unwrap_or_default(),
        announced: live.and_then(|live| live.announced.clone()),
        lease_count,
        counters: live.map(|live| live.counters.clone()).unwrap_or_default(),
    })
}

/// What every edge carries, by name.
pub(super) fn loads(reports: &Reports, snapshot: &Snapshot) -> BTreeMap<String, EdgeLoad> {
    let mut lease_counts: BTreeMap<&GroupName, u32> = BTreeMap::new();
    for lease in snapshot.leases.values().filter(|lease| lease.state.is_at_edges()) {
        *lease_counts.entry(&lease.group).or_default() += 1;
    }
    let edges = snapshot.agents.values().filter_map(|agent| Some((&agent.id, agent.edge()?)));
    let loads = edges.map(|(id, edge)| {
        let lease_count = lease_counts.get(&edge.group).copied().unwrap_or(0);
        (id.name.clone(), load_of(reports.get(id), lease_count).measured_by(edge.capacity.as_ref()))
    });
    loads.collect()
}

/// What an edge carries.
fn load_of(live: Option<&AgentLive>, lease_count: u32) -> EdgeLoad {
    let Some(live) = live else { return EdgeLoad { lease_count, ..EdgeLoad::default() } };
    EdgeLoad {
        bits_per_sec: live.bits_per_sec,
        packets_per_sec: live.rates.packets_per_sec,
        drops_per_sec: live.rates.drops_per_sec,
        lease_count,
        cpu_share: live.counters.cpu_millionths.map(|share| share as f32 / 1e6),
        ..EdgeLoad::default()
    }
}

/// What everybody who probes an edge measures.
fn probes_of(reports: &Reports, snapshot: &Snapshot, edge: &AgentRecord) -> Vec<EdgeProbe> {
    let Ok(name) = edge.id.name.parse::<EdgeName>() else { return Vec::new() };
    let probers = snapshot.agents.keys().filter_map(|id| Some((id, reports.get(id)?.edges.get(&name)?)));
    probers.map(|(id, (health, _))| EdgeProbe { from: id.to_string(), health: health.clone() }).collect()
}
