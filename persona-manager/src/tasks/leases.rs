//! Takes every lease to the next state of its life that the acknowledgements allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::health::EdgeState;
use persona_core::ids::{Generation, GroupName, LeaseId};
use persona_core::lease::{EdgeAck, LeaseFacts, LeaseState, LeaseStep, step};
use persona_core::units::Span;
use persona_core::wire::agent::Role;
use persona_core::wire::desired::{DesiredState, ProbeItem};
use serde_json::json;

use super::kept::Marked;
use super::recovery;
use super::reports::{Reports, Seen};
use crate::store::{AgentId, Draft, LeaseRecord, Snapshot};

/// Rounds of a pass: a lease that becomes active in one lets the one before it retire in the next.
const ROUNDS: usize = 2;

/// Whether what nobody waits for is done: leases that end, are forgotten, rest, and are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reclaim {
    /// In this pass.
    Now,
    /// In a later one: a commit for each single step would keep others waiting.
    Later,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reclaimed {
    /// There was nothing to do.
    Nothing,
    /// It was done.
    Some,
    /// There is something to do.
    Pending,
}

/// Takes leases forward: those that are being learnt, those of who is marked, and those that end. Marks who is concerned.
pub(super) fn advance(
    draft: &mut Draft,
    reports: &Reports,
    probe: ProbeItem,
    (marked, reclaim): (&mut Marked, Reclaim),
    seen: Option<&Seen>,
) -> Reclaimed {
    let edges = Edges::of(draft.state(), reports, probe);
    let news = News::of(reports, seen);
    let mut reclaimed = Reclaimed::Nothing;
    for _ in 0..ROUNDS {
        for lease in concerned(draft, reports, marked, (&edges, &news)) {
            let step = step_of(draft, reports, &edges, &lease);
            let ends = !matches!(lease.state, LeaseState::Publishing | LeaseState::Active);
            if step == LeaseStep::Stay {
                continue;
            }
            if ends && reclaim == Reclaim::Later && !marked.contains(&lease.subject) {
                reclaimed = Reclaimed::Pending;
                continue;
            }
            if ends {
                reclaimed = Reclaimed::Some;
            }
            take(draft, reports, &lease, step);
            marked.add(&lease.subject);
        }
    }
    reclaimed
}

/// Whose reports may let leases take a step.
struct News<'a> {
    /// Nodes that have reported since the last pass looked. None: anybody may have.
    nodes: Option<BTreeSet<&'a AgentId>>,
    /// Whether an edge has.
    is_of_edges: bool,
}

impl<'a> News<'a> {
    fn of(reports: &'a Reports, seen: Option<&'a Seen>) -> Self {
        let Some(seen) = seen else { return Self { nodes: None, is_of_edges: true } };
        let told: BTreeSet<&AgentId> = reports.told_since(Some(seen)).into_iter().map(|(id, _)| id).collect();
        Self { is_of_edges: told.iter().any(|id| id.role == Role::Edge), nodes: Some(told) }
    }

    fn are_of(&self, node: &AgentId) -> bool {
        self.nodes.as_ref().is_none_or(|nodes| nodes.contains(node))
    }
}

/// The leases that may take a step: all of who is marked, and of the others those that have what they waited for.
fn concerned(
    draft: &Draft,
    reports: &Reports,
    marked: &Marked,
    (edges, news): (&Edges, &News<'_>),
) -> Vec<Arc<LeaseRecord>> {
    let snapshot = draft.state();
    let Marked::Some(some) = marked else { return snapshot.leases.values().cloned().collect() };
    let of_marked = some.iter().flat_map(|subject| snapshot.leases_of(subject));
    let is_ripe = |lease: &&Arc<LeaseRecord>| {
        let node = || Some(AgentId::node(lease.subject.node())).filter(|node| news.are_of(node));
        let is_due = match lease.state {
            LeaseState::Publishing => edges.know(&lease.group, lease.generation),
            LeaseState::Active => false,
            LeaseState::Retiring { since, cut_at_ms } => {
                let drained_at = |node: AgentId| reports.get(&node)?.drained.get(&lease.id).copied();
                cut_at_ms.is_some_and(|at_ms| at_ms <= draft.now_ms())
                    || node().and_then(drained_at).is_some_and(|at| at >= since)
            }
            LeaseState::RevokingNode { since } => {
                node().and_then(|node| reports.get(&node)).is_some_and(|live| live.applied >= since)
            }
            LeaseState::RevokingEdges { .. } => news.is_of_edges,
            LeaseState::Quarantine { free_at_ms } => free_at_ms <= draft.now_ms(),
        };
        is_due && !marked.contains(&lease.subject)
    };
    let mut leases: Vec<Arc<LeaseRecord>> =
        of_marked.chain(snapshot.moving_leases().filter(is_ripe)).cloned().collect();
    leases.sort_unstable_by_key(|lease| lease.id);
    leases
}

/// The step that acknowledgements allow a lease now.
fn step_of(draft: &Draft, reports: &Reports, edges: &Edges, lease: &LeaseRecord) -> LeaseStep {
    if lease.state.is_at_edges() && !recovery::is_vouched(draft.state(), lease) {
        return LeaseStep::Stay; // Whether anybody holds it is not known yet.
    }
    let edges = edges.acks(lease);
    match step(lease.state, &facts_of(draft, reports, &edges, lease)) {
        LeaseStep::Free if !recovery::is_open(draft.state(), &lease.group) => LeaseStep::Stay,
        step => step,
    }
}

fn facts_of<'a>(draft: &Draft, reports: &Reports, edges: &'a [EdgeAck], lease: &LeaseRecord) -> LeaseFacts<'a> {
    let node = reports.get(&AgentId::node(lease.subject.node()));
    LeaseFacts {
        wanted: is_wanted(draft.state(), lease),
        generation: lease.generation,
        node_applied: node.map_or(Generation::default(), |node| node.applied),
        drained_at: node.and_then(|node| node.drained.get(&lease.id).copied()),
        edges,
        next: draft.generation(),
        grace_ms: lease.grace_ms,
        quarantine_ms: lease.quarantine_ms,
        now_ms: draft.now_ms(),
    }
}

fn take(draft: &mut Draft, reports: &Reports, lease: &LeaseRecord, step: LeaseStep) {
    match step {
        LeaseStep::Stay => {}
        LeaseStep::To(state) => {
            match is_cut(&facts_of(draft, reports, &[], lease), lease.state) {
                true => note(draft, lease, "cutting", cut_message(lease)),
                false => note(draft, lease, state.as_str(), message(lease, state, draft.now_ms())),
            }
            draft.put(LeaseRecord { state, ..lease.clone() });
        }
        LeaseStep::Free => {
            note(draft, lease, "freed", format!("lease {} is over, {} is free", lease.id, lease.space));
            draft.free_lease(lease.id);
        }
    }
}

/// Whether a lease that leaves this state does so before its last flow has ended, as far as its node has said.
fn is_cut(facts: &LeaseFacts<'_>, state: LeaseState) -> bool {
    let LeaseState::Retiring { since, cut_at_ms: Some(at_ms) } = state else { return false };
    !facts.wanted && facts.now_ms >= at_ms && facts.drained_at.is_none_or(|at| at < since)
}

/// What the edges of each group acknowledged.
struct Edges(BTreeMap<GroupName, Vec<Edge>>);

struct Edge {
    applied: Generation,
    published: Option<Arc<DesiredState>>,
    serves: bool,
    fenced: bool,
}

impl Edges {
    fn of(snapshot: &Snapshot, reports: &Reports, probe: ProbeItem) -> Self {
        let mut groups: BTreeMap<GroupName, Vec<Edge>> = BTreeMap::new();
        for agent in snapshot.edges() {
            let Some(edge) = agent.edge() else { continue };
            groups.entry(edge.group.clone()).or_default().push(Edge {
                applied: reports.get(&agent.id).map_or(Generation::default(), |live| live.applied),
                published: snapshot.desired.get(&agent.id).cloned(),
                serves: edge.state == EdgeState::Up && !edge.is_leaving,
                fenced: reports.fence(snapshot, agent, probe).is_fenced(),
            });
        }
        Self(groups)
    }

    /// Whether edges of a group serve, and all that do have this generation in force.
    fn know(&self, group: &GroupName, generation: Generation) -> bool {
        let mut serving = self.0.get(group).into_iter().flatten().filter(|edge| edge.serves).peekable();
        serving.peek().is_some() && serving.all(|edge| edge.applied >= generation)
    }

    fn acks(&self, lease: &LeaseRecord) -> Vec<EdgeAck> {
        // Only then it matters whether they have.
        let is_forgotten = matches!(lease.state, LeaseState::RevokingEdges { .. });
        let key = if is_forgotten { format!("lease/{}", lease.id) } else { String::new() };
        let edges = self.0.get(&lease.group).into_iter().flatten();
        let ack = |edge: &Edge| EdgeAck {
            applied: edge.applied,
            has_forgotten: is_forgotten
                && edge.published.as_ref().is_some_and(|published| {
                    edge.applied >= published.generation && !published.items.contains_key(&key)
                }),
            serves: edge.serves,
            fenced: edge.fenced,
        };
        edges.map(ack).collect()
    }
}

/// A lease is wanted for new flows, or as long as the one that follows it is not active.
fn is_wanted(snapshot: &Snapshot, lease: &LeaseRecord) -> bool {
    let Some(subject) = snapshot.subjects.get(&lease.subject) else { return false };
    let in_use = subject.item.as_ref().and_then(|item| item.network.as_ref());
    let in_use = in_use.is_some_and(|network| [network.lease, network.lease6].contains(&Some(lease.id)));
    let Some(target) = &subject.target else { return in_use && !snapshot.recovery.is_empty() };
    let family = lease.space.family();
    if target.lease_of(family) == Some(lease.id) {
        return true;
    }
    in_use && !target.leases().all(|id| is_active(snapshot, id))
}

/// Whether a lease is active.
pub(super) fn is_active(snapshot: &Snapshot, id: LeaseId) -> bool {
    snapshot.leases.get(&id).is_some_and(|lease| lease.state == LeaseState::Active)
}

fn note(draft: &mut Draft, lease: &LeaseRecord, what: &str, message: String) {
    let details = json!({ "subject": lease.subject, "persona": lease.persona, "space": lease.space });
    draft.event(&format!("lease.{what}"), format!("lease/{}", lease.id), "manager", message, details);
}

fn cut_message(lease: &LeaseRecord) -> String {
    format!("the grace of lease {} is over: what is left of {}'s flows under it is cut", lease.id, lease.subject)
}

fn message(lease: &LeaseRecord, state: LeaseState, now_ms: u64) -> String {
    let (id, subject) = (lease.id, &lease.subject);
    match state {
        LeaseState::Publishing => format!("edges of {} are learning lease {id}", lease.group),
        LeaseState::Active => format!("every serving edge of {} knows lease {id}; {subject} uses it", lease.group),
        LeaseState::Retiring { cut_at_ms: None, .. } => {
            format!("new flows of {subject} no longer use lease {id}; old ones go on")
        }
        LeaseState::Retiring { cut_at_ms: Some(at_ms), .. } => format!(
            "new flows of {subject} no longer use lease {id}; what is left of old ones is cut in {}",
            Span(at_ms.saturating_sub(now_ms))
        ),
        LeaseState::RevokingNode { .. } => format!("the last flow of lease {id} has ended; the node forgets it"),
        LeaseState::RevokingEdges { .. } => format!("the edges of {} forget lease {id}", lease.group),
        LeaseState::Quarantine { .. } => format!("lease {id} rests for {} ms", lease.quarantine_ms),
    }
}
