//! Taking nodes and edges out: draining, deleting, and what becomes of leases then.
//!
//! A lease of a node that is deleted goes the way of all leases: its edges forget it or are fenced, then it rests. An
//! edge that is deleted forgets everything first; by force, a person's word stands for its fence.

use std::sync::Arc;

use persona_core::health::EdgeState;
use persona_core::ids::{GroupName, NodeName, SubjectId};
use persona_core::lease::LeaseState;
use persona_core::wire::desired::ProbeItem;
use serde_json::json;

use super::reports::Reports;
use crate::error::{Kind, Refusal};
use crate::schedules;
use crate::store::{
    AgentDetails, AgentId, AgentRecord, Draft, EdgeDetails, LeaseRecord, NodeDetails, PublicationRecord, Snapshot,
    SubjectRecord, WorkloadRecord,
};

/// Deletes a node. While its subjects hold leases that takes a reason, and their flows end.
pub(crate) fn delete_node(draft: &mut Draft, name: &NodeName, forced: Option<&str>) -> Result<(), Refusal> {
    let id = AgentId::node(name);
    registered(draft.state(), &id)?;
    let held = leases_of_node(draft.state(), name);
    if !held.is_empty() && forced.is_none() {
        return Err(Refusal::new(
            Kind::InUse,
            format!(
                "{id} holds {} leases (the first: {} of {}): drain it and wait, or force it with a reason; flows of those leases then end",
                held.len(),
                held[0].space,
                held[0].subject
            ),
        ));
    }
    for lease in held {
        let state = LeaseState::RevokingEdges { since: draft.generation() };
        let message = format!("lease {} is revoked: its node {name} was deleted", lease.id);
        draft.event(
            "lease.revoking",
            format!("lease/{}", lease.id),
            draft.actor(),
            message,
            json!({ "space": lease.space }),
        );
        draft.put(LeaseRecord { state, ..(*lease).clone() });
    }
    let is_there = |subject: &SubjectId| subject.node() == name;
    let workloads: Vec<SubjectId> = draft.state().workloads.keys().filter(|it| is_there(it)).cloned().collect();
    workloads.iter().for_each(|subject| draft.delete::<WorkloadRecord>(subject));
    let subjects: Vec<_> = draft.state().subjects_on(name).cloned().collect();
    for record in subjects {
        let bare = SubjectRecord {
            manual: None,
            request: None,
            requested_by: None,
            request_content: None,
            triggered: None,
            triggered_by: None,
            activation: None,
            target: None,
            unassigned: None,
            planned: None,
            item: None,
            ..(*record).clone()
        };
        draft.put(SubjectRecord { sections: Default::default(), ..bare });
    }
    schedules::forget_node(draft, name);
    remove(draft, &id, forced);
    Ok(())
}

/// Deletes an edge. One that still carries flows takes a reason; any other forgets everything first.
pub(crate) fn delete_edge(
    draft: &mut Draft,
    reports: &Reports,
    probe: ProbeItem,
    name: &str,
    forced: Option<&str>,
) -> Result<(), Refusal> {
    let id = AgentId::edge(name);
    let record = registered(draft.state(), &id)?;
    let Some(edge) = record.edge().cloned() else { return Err(not_registered(&id)) };
    if forced.is_some() {
        remove(draft, &id, forced);
        return Ok(());
    }
    let lease_count = leases_of_group(draft.state(), &edge.group);
    let is_fenced = reports.fence(draft.state(), &record, probe).is_fenced();
    let is_quiet = reports.get(&id).is_none_or(|live| live.bits_per_sec == 0);
    if lease_count > 0 && !is_fenced && !(edge.is_emptied() && is_quiet) {
        return Err(Refusal::new(
            Kind::InUse,
            format!(
                "{id} carries {lease_count} leases of group {}: drain it and wait until it is quiet, or force it with a reason if it is gone for good",
                edge.group
            ),
        ));
    }
    let message = format!("{id} is being deleted: it forgets its leases first");
    draft.event("edge.leaving", &id, draft.actor(), message, json!({}));
    draft.put(AgentRecord {
        details: AgentDetails::Edge(EdgeDetails { is_leaving: true, ..edge }),
        ..(*record).clone()
    });
    Ok(())
}

/// Removes edges that were deleted and have forgotten everything, or can do no harm with it.
pub(super) fn finish(draft: &mut Draft, reports: &Reports, probe: ProbeItem) {
    let leaving: Vec<_> =
        draft.state().edges().filter(|it| it.edge().is_some_and(|it| it.is_leaving)).cloned().collect();
    for agent in leaving {
        let published = draft.state().desired.get(&agent.id).filter(|state| state.items.len() <= 1);
        let applied = reports.get(&agent.id).map(|live| live.applied);
        let has_forgotten = published.is_some_and(|state| applied.is_some_and(|applied| applied >= state.generation));
        let never_served = agent.edge().is_some_and(|edge| edge.state == EdgeState::New);
        if has_forgotten || never_served || reports.fence(draft.state(), &agent, probe).is_fenced() {
            remove(draft, &agent.id, None);
        }
    }
}

/// Has new flows avoid a node or an edge, or use it again. Returns whether that changed anything.
pub(crate) fn set_draining(draft: &mut Draft, id: &AgentId, draining: bool) -> Result<bool, Refusal> {
    let record = registered(draft.state(), id)?;
    let details = match record.details.clone() {
        AgentDetails::Node(node) => AgentDetails::Node(NodeDetails { draining, ..node }),
        AgentDetails::Edge(edge) => AgentDetails::Edge(EdgeDetails { draining, ..edge }),
    };
    if details == record.details {
        return Ok(false);
    }
    let (name, message) = match draining {
        true => ("drain", format!("{id} is being drained: new flows avoid it, old ones stay")),
        false => ("undrain", format!("{id} takes new flows again")),
    };
    let kind = if record.node().is_some() { "node" } else { "edge" };
    draft.event(&format!("{kind}.{name}"), id, draft.actor(), message, json!({ "draining": draining }));
    draft.put(AgentRecord { details, ..(*record).clone() });
    Ok(true)
}

/// Sets an edge's share of its group's flows.
pub(crate) fn set_weight(draft: &mut Draft, name: &str, weight: u16) -> Result<(), Refusal> {
    if !(1..=1_000).contains(&weight) {
        return Err(Refusal::invalid(format!(
            "weight {weight} is impossible: write 1 to 1000; to take an edge out, drain it"
        )));
    }
    let id = AgentId::edge(name);
    let record = registered(draft.state(), &id)?;
    let Some(edge) = record.edge().cloned() else { return Err(not_registered(&id)) };
    if edge.weight != weight {
        let message = format!("{id} takes flows with weight {weight} instead of {}", edge.weight);
        draft.event("edge.weight", &id, draft.actor(), message, json!({ "before": edge.weight, "after": weight }));
        draft.put(AgentRecord { details: AgentDetails::Edge(EdgeDetails { weight, ..edge }), ..(*record).clone() });
    }
    Ok(())
}

fn remove(draft: &mut Draft, id: &AgentId, forced: Option<&str>) {
    let why = forced.map(|reason| format!(" by force: {reason}")).unwrap_or_default();
    let message = format!("{id} was deleted{why}");
    draft.event("agent.deleted", id, draft.actor(), message, json!({ "reason": forced }));
    draft.delete::<AgentRecord>(id);
    if draft.state().publications.contains_key(id) {
        draft.delete::<PublicationRecord>(id);
    }
}

pub(super) fn registered(snapshot: &Snapshot, id: &AgentId) -> Result<Arc<AgentRecord>, Refusal> {
    snapshot.agents.get(id).cloned().ok_or_else(|| not_registered(id))
}

pub(super) fn not_registered(id: &AgentId) -> Refusal {
    Refusal::not_found(format!("there is no {id}; GET /v1/nodes and /v1/edges list what registered"))
}

/// Leases that a node holds or that its edges carry for it.
fn leases_of_node(snapshot: &Snapshot, name: &NodeName) -> Vec<Arc<LeaseRecord>> {
    snapshot.leases_on(name).filter(|lease| lease.state.is_at_edges()).cloned().collect()
}

fn leases_of_group(snapshot: &Snapshot, group: &GroupName) -> usize {
    snapshot.leases.values().filter(|lease| lease.group == *group && lease.state.is_at_edges()).count()
}
