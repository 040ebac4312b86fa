//! Whether nodes and edges serve, from what they and those who probe them reported.
//!
//! An edge is down when it is silent, when it says that its outside next hop is dead, or when everybody who probes it
//! says that it is dead. It serves (again) once it acknowledged everything that is published for it. A node that is
//! silent keeps its leases and its flows: silence ends nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use persona_core::ids::EdgeName;
use serde_json::json;

use crate::live::{AgentLive, Live};
use crate::store::{AgentDetails, AgentId, AgentRecord, Draft, EdgeState};

/// A probed edge that never answered counts as dead only after this time; before, the probing may just have begun.
const FIRST_ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// What everybody last reported, as one pass sees it.
pub(super) struct Reports {
    /// By agent.
    pub(super) agents: BTreeMap<AgentId, AgentLive>,
    started: Instant,
    registered: BTreeMap<AgentId, Instant>,
    now: Instant,
    silent_after: Duration,
}

impl Reports {
    /// Takes a copy of what is known now.
    pub(super) fn of(live: &Live, silent_after_ms: u32) -> Self {
        Self {
            agents: live.agents().clone(),
            started: live.started,
            registered: live.registrations(),
            now: Instant::now(),
            silent_after: Duration::from_millis(silent_after_ms.into()),
        }
    }

    /// What an agent last reported.
    pub(super) fn get(&self, id: &AgentId) -> Option<&AgentLive> {
        self.agents.get(id)
    }

    fn is_silent(&self, id: &AgentId) -> bool {
        let joined = self.registered.get(id).copied().unwrap_or(self.started);
        let seen = self.get(id).map_or(joined, |live| live.seen);
        self.now.duration_since(seen) > self.silent_after
    }
}

/// Writes changes of nodes' and edges' health into the draft.
pub(super) fn judge(draft: &mut Draft, reports: &Reports) {
    let agents: Vec<_> = draft.state().agents.values().cloned().collect();
    for agent in agents {
        match &agent.details {
            AgentDetails::Node { up } => judge_node(draft, reports, &agent, *up),
            AgentDetails::Edge { state, .. } => judge_edge(draft, reports, &agent, *state),
        }
    }
}

fn judge_node(draft: &mut Draft, reports: &Reports, agent: &AgentRecord, was_up: bool) {
    let is_up = match reports.get(&agent.id) {
        Some(_) => !reports.is_silent(&agent.id),
        None => was_up && !reports.is_silent(&agent.id),
    };
    if is_up == was_up {
        return;
    }
    let (name, message) = match is_up {
        true => ("node.up", format!("{} reports", agent.id)),
        false => ("node.down", format!("{} is silent; its leases stay, its flows go on", agent.id)),
    };
    draft.event(name, &agent.id, "manager", message, json!({ "up": is_up }));
    draft.put(AgentRecord { details: AgentDetails::Node { up: is_up }, ..agent.clone() });
}

fn judge_edge(draft: &mut Draft, reports: &Reports, agent: &AgentRecord, was: EdgeState) {
    let (is, reason) = edge_state(draft, reports, agent, was);
    let AgentDetails::Edge { number, group, capacity, reason: old_reason, .. } = &agent.details else { return };
    if is == was && (is != EdgeState::Down || *old_reason == reason) {
        return;
    }
    if is != was {
        let message = match is {
            EdgeState::Down => format!("{} is down: {reason}. {}", agent.id, consequence(draft, agent)),
            EdgeState::Up | EdgeState::New => format!("{} is {is}: {reason}", agent.id),
        };
        let details = json!({ "before": was.to_string(), "after": is.to_string(), "group": group });
        draft.event(&format!("edge.{is}"), &agent.id, "manager", message, details);
    }
    let (number, group, capacity) = (*number, group.clone(), *capacity);
    let details = AgentDetails::Edge { number, group, capacity, state: is, reason };
    draft.put(AgentRecord { details, ..agent.clone() });
}

fn edge_state(draft: &Draft, reports: &Reports, agent: &AgentRecord, was: EdgeState) -> (EdgeState, String) {
    let Some(live) = reports.get(&agent.id) else {
        return match reports.is_silent(&agent.id) {
            true => (EdgeState::Down, "it did not report".to_owned()),
            false => (was, "it has not reported yet".to_owned()),
        };
    };
    if reports.is_silent(&agent.id) {
        return (EdgeState::Down, format!("it did not report for {} ms", reports.silent_after.as_millis()));
    }
    if live.outside_alive == Some(false) {
        return (EdgeState::Down, "its outside next hop does not answer".to_owned());
    }
    if let Some(probers) = unanimous_death(draft, reports, &agent.id) {
        return (EdgeState::Down, format!("none of those who probe it hears it ({})", probers.join(", ")));
    }
    if was == EdgeState::Up {
        return (EdgeState::Up, "it serves".to_owned());
    }
    let published = draft.state().desired.get(&agent.id).map(|state| state.generation);
    match published.is_some_and(|generation| live.applied >= generation) {
        true => (EdgeState::Up, "it reports and acknowledged everything published for it".to_owned()),
        false => (was, "it has not yet acknowledged everything published for it".to_owned()),
    }
}

/// Those who probe an edge, if there are any and none of them hears it.
fn unanimous_death(draft: &Draft, reports: &Reports, id: &AgentId) -> Option<Vec<String>> {
    let edge: EdgeName = id.name.parse().ok()?;
    let mut probers = Vec::new();
    for (prober, live) in &reports.agents {
        let Some((health, since)) = live.edges.get(&edge) else { continue };
        if prober == id || reports.is_silent(prober) || is_down(draft, prober) {
            continue;
        }
        let is_dead = health.rtt_us.is_some() || reports.now.duration_since(*since) > FIRST_ANSWER_TIME_MAX;
        match (health.alive, is_dead) {
            (true, _) => return None,
            (false, true) => probers.push(prober.to_string()),
            (false, false) => {}
        }
    }
    (!probers.is_empty()).then_some(probers)
}

fn is_down(draft: &Draft, id: &AgentId) -> bool {
    let details = draft.state().agents.get(id).map(|agent| &agent.details);
    matches!(details, Some(AgentDetails::Edge { state: EdgeState::Down, .. }))
}

/// What the death of an edge means for those whose leases its group carries.
fn consequence(draft: &Draft, agent: &AgentRecord) -> String {
    let AgentDetails::Edge { group, .. } = &agent.details else { return String::new() };
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
    draft.state().agents.values().filter_map(move |agent| match &agent.details {
        AgentDetails::Edge { group, state: EdgeState::Up, .. } if group.as_str() == wanted => {
            Some(agent.id.name.clone())
        }
        _ => None,
    })
}

/// The first few of a list, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() {
        0..=SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}
