//! Writes the health of nodes and edges into the draft, as [`persona_core::health`] judges it from all reports.
//!
//! A node that is silent keeps its leases and its flows: silence ends nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use persona_core::health::{Contact, EdgeFacts, Judgement, Probed, is_cut_off, judge as judge_health};
use persona_core::ids::Generation;
use persona_core::wire::agent::Role;
use serde_json::json;

use super::kept::says_else;
use super::reports::{Reports, Seen, UNHEARD_MS_MAX};
use crate::live::AgentLive;
use crate::store::{AgentDetails, AgentId, AgentRecord, Change, Draft, EdgeDetails, EdgeState, NodeDetails, Snapshot};

/// Writes changes of nodes' and edges' health into the draft. Those alone are judged for whom something was reported since
/// `seen`, if that is known: then nobody can have become silent.
pub(super) fn judge(draft: &mut Draft, reports: &Reports, seen: Option<&Seen>) {
    let changed = seen.map(|seen| reports.all().changes_since(seen));
    let has_other_word = |change: &Change<'_, AgentId, AgentLive>| {
        change.before.zip(change.after).is_none_or(|(before, after)| says_else(before, after))
    };
    let edges_matter = changed.as_ref().is_none_or(|changed| changed.iter().any(has_other_word));
    let state = draft.state();
    let agents: Vec<Arc<AgentRecord>> = match &changed {
        None => reports.doubtful(state).into_iter().chain(state.edges()).cloned().collect(),
        Some(changed) => {
            let reporting: BTreeSet<&AgentId> = changed.iter().map(|change| change.key).collect();
            let nodes = reporting.iter().filter(|id| id.role == Role::Node).filter_map(|id| state.agents.get(*id));
            let is_up = |agent: &AgentRecord| agent.edge().is_some_and(|edge| edge.state == EdgeState::Up);
            let concerns = |agent: &&Arc<AgentRecord>| edges_matter || !is_up(agent) || reporting.contains(&agent.id);
            nodes.chain(state.edges().filter(concerns)).cloned().collect()
        }
    };
    for agent in agents {
        match &agent.details {
            AgentDetails::Node(node) => judge_node(draft, reports, &agent, node),
            AgentDetails::Edge(edge) => judge_edge(draft, reports, &agent, edge),
        }
    }
}

fn judge_node(draft: &mut Draft, reports: &Reports, agent: &AgentRecord, node: &NodeDetails) {
    let is_up = match reports.get(&agent.id) {
        Some(_) => !reports.is_silent(&agent.id),
        None => node.up && !reports.is_silent(&agent.id),
    };
    // Of who is silent it is not known.
    let cut_off = if is_up { hears_nobody(draft.state(), reports, &agent.id) } else { node.cut_off };
    if (is_up, cut_off) == (node.up, node.cut_off) {
        return;
    }
    if is_up != node.up {
        let (name, message) = match is_up {
            true => ("node.up", format!("{} reports", agent.id)),
            false => ("node.down", format!("{} is silent; its leases stay, its flows go on", agent.id)),
        };
        draft.event(name, &agent.id, "manager", message, json!({ "up": is_up }));
    }
    if cut_off != node.cut_off {
        let (name, message) = match cut_off {
            true => ("node.cut-off", "hears none of the edges that it probes, though there are some that serve"),
            false => ("node.reached", "hears edges again"),
        };
        let message = format!("{} {message}", agent.id);
        draft.event(name, &agent.id, "manager", message, json!({ "cutOff": cut_off }));
    }
    let details = AgentDetails::Node(NodeDetails { up: is_up, cut_off, ..node.clone() });
    draft.put(AgentRecord { details, ..agent.clone() });
}

/// Whether the trouble is the node's own, not its edges'.
fn hears_nobody(snapshot: &Snapshot, reports: &Reports, node: &AgentId) -> bool {
    let Some(live) = reports.get(node) else { return false };
    let probed = live.edges.iter().map(|(name, (health, since))| Probed {
        alive: health.alive,
        for_ms: reports.now().saturating_sub(*since),
        serves: snapshot
            .agents
            .get(&AgentId::edge(name.as_str()))
            .and_then(|agent| agent.edge())
            .is_some_and(|edge| edge.state == EdgeState::Up),
    });
    is_cut_off(probed, UNHEARD_MS_MAX)
}

fn judge_edge(draft: &mut Draft, reports: &Reports, agent: &AgentRecord, edge: &EdgeDetails) {
    let testimonies = reports.spoken_testimonies(draft.state(), agent);
    let facts = EdgeFacts {
        was: edge.state,
        contact: contact(draft, reports, agent),
        testimonies: &testimonies,
        in_maintenance: edge.maintenance.is_some(),
        hold: edge.hold,
        hold_max_ms: reports.hold_max_ms,
        now_ms: draft.now_ms(),
    };
    let Judgement { state, reason, flags, is_degraded, is_lifeline, hold } = judge_health(&facts);
    let after = EdgeDetails { state, reason, flags, is_degraded, is_lifeline, hold, ..edge.clone() };
    if after == *edge {
        return;
    }
    note(draft, agent, edge, &after);
    draft.put(AgentRecord { details: AgentDetails::Edge(after), ..agent.clone() });
}

fn contact(draft: &Draft, reports: &Reports, agent: &AgentRecord) -> Contact {
    let live = reports.get(&agent.id);
    if reports.is_silent(&agent.id) {
        return Contact::Silent { limit_ms: reports.silent_after_ms };
    }
    let Some(live) = live else { return Contact::NotYet };
    let published = draft.state().desired.get(&agent.id).map(|state| state.generation);
    let is_current = published.is_some_and(|generation| live.applied >= generation);
    let has_state = live.applied != Generation::default();
    Contact::Reports { has_state, outside_alive: live.outside_alive, is_current }
}

fn note(draft: &mut Draft, agent: &AgentRecord, before: &EdgeDetails, after: &EdgeDetails) {
    let (state, group) = (after.state, &after.group);
    if after.maintenance.is_some() {
        return note_in_maintenance(draft, agent, before, after);
    }
    if state != before.state {
        let message = match state {
            EdgeState::Down => format!("{} is down: {}. {}", agent.id, after.reason, consequence(draft, agent, after)),
            EdgeState::Up | EdgeState::New => format!("{} is {state}: {}", agent.id, after.reason),
        };
        let details = json!({ "before": before.state.to_string(), "after": state.to_string(), "group": group });
        draft.event(&format!("edge.{state}"), &agent.id, "manager", message, details);
    }
    if state == EdgeState::Up && before.state == EdgeState::Up && before.flags != after.flags {
        let message = format!("{} {}", agent.id, after.reason.trim_start_matches("it "));
        draft.event(
            "edge.flagged",
            &agent.id,
            "manager",
            message,
            json!({ "before": before.flags, "after": after.flags }),
        );
    }
}

/// Whoever is told of edges that go down is not told of one that somebody works on.
fn note_in_maintenance(draft: &mut Draft, agent: &AgentRecord, before: &EdgeDetails, after: &EdgeDetails) {
    if after.state != before.state {
        let name = if after.state == EdgeState::Down { "edge.away" } else { "edge.back" };
        let message = format!("{} is {} during its maintenance: {}", agent.id, after.state, after.reason);
        let details =
            json!({ "before": before.state.to_string(), "after": after.state.to_string(), "group": after.group });
        draft.event(name, &agent.id, "manager", message, details);
    }
}

/// What the death of an edge means for those whose leases its group carries.
pub(super) fn consequence(draft: &Draft, agent: &AgentRecord, edge: &EdgeDetails) -> String {
    let group = &edge.group;
    let held = draft.state().leases.values().filter(|lease| lease.group == *group && lease.state.is_at_edges());
    let mut subjects: Vec<String> = held.map(|lease| lease.subject.to_string()).collect();
    subjects.dedup();
    let others: Vec<String> = serving_edges(draft, group.as_str()).filter(|id| *id != agent.id.name).collect();
    match (subjects.is_empty(), others.is_empty()) {
        (true, _) => format!("no subject has a lease in group {group}"),
        (false, false) => format!("{} go on through {} of group {group}", some(&subjects), others.join(", ")),
        (false, true) => format!("group {group} has no other serving edge for {}", some(&subjects)),
    }
}

/// Names of the edges of a group that serve.
fn serving_edges<'a>(draft: &'a Draft, wanted: &'a str) -> impl Iterator<Item = String> + 'a {
    let serves = move |agent: &&Arc<AgentRecord>| {
        agent.edge().is_some_and(|edge| edge.state == EdgeState::Up && edge.group.as_str() == wanted)
    };
    draft.state().edges().filter(serves).map(|agent| agent.id.name.clone())
}

/// The first few of a list, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() {
        0..=SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}
