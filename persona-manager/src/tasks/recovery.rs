//! After the store went back to an earlier state: what was granted since is learnt from those who hold it.
//!
//! ```text
//!  begin: a new incarnation; nothing is sent, nothing is granted ──▶ each node and edge says what it has in force
//!     ──▶ what is held wins over what the store remembers ──▶ a group whose edges and all nodes were heard is open
//!     ──▶ everybody registered was heard, or deleted: the recovery is over
//! ```
//!
//! A lease that nobody has vouched for in this incarnation holds its ports and is in nobody's desired state. Nothing ends
//! because somebody is silent: who is gone for good is deleted by a person.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use persona_core::ids::{Generation, GroupName, LeaseId, NodeName, PersonaName};
use persona_core::lease::{LeaseState, Occupancy};
use persona_core::wire::agent::Role;
use persona_core::wire::desired::{DesiredState, EdgeItem, Item, LeaseItem, LeaseSpace, SubjectItem};
use persona_core::wire::proof::StateProof;
use serde_json::json;

use super::reports::{Reports, Seen};
use crate::authority::Authority;
use crate::error::Refusal;
use crate::store::{
    AgentId, Claim, Draft, HeardRecord, LeaseRecord, Numbers, PersonaNames, RECOVERY_KEY, RecoveryRecord, Snapshot,
    SubjectRecord,
};

/// A store that went back is behind its agents by few incarnations: one for each time that it went back unnoticed.
const INCARNATIONS_AHEAD_MAX: u32 = 64;

/// So many edges may have come since the store's time, by the word of somebody who proves nothing.
const EDGES_UNPROVEN_MAX: u16 = 256;

/// Begins a recovery, in an incarnation above every one that is known.
pub(crate) fn begin(draft: &mut Draft, above: u32, reason: &str) {
    draft.raise_incarnation(above);
    let heard: Vec<AgentId> = draft.state().heard.keys().cloned().collect();
    heard.iter().for_each(|id| draft.delete::<HeardRecord>(id));
    // Edges may have forgotten since what they had learnt: they learn it anew before a node uses it.
    let generation = draft.generation();
    let publishing: Vec<_> =
        draft.state().leases.values().filter(|lease| lease.state == LeaseState::Publishing).cloned().collect();
    for lease in publishing {
        draft.put(LeaseRecord { generation, ..(*lease).clone() });
    }
    let (incarnation, since_ms) = (draft.state().incarnation, draft.now_ms());
    let message = format!(
        "{reason}: this is store incarnation {incarnation}; nodes and edges are asked what they hold, and nothing new is leased before"
    );
    draft.event("recovery.begun", "store", "manager", message, json!({ "incarnation": incarnation }));
    draft.put(RecoveryRecord { incarnation, since_ms, reason: reason.to_owned() });
}

/// Begins a recovery if somebody has a state that this store has not published yet; ends one when all were heard.
/// Those alone are looked at who reported since `seen`, if that is known.
pub(super) fn advance(draft: &mut Draft, reports: &Reports, seen: Option<&Seen>) {
    let newest = draft.generation();
    let is_ahead = |applied: Generation| applied >= newest && check_plausible(draft.state(), applied).is_ok();
    let ahead = reports.told_since(seen).into_iter().filter(|(_, live)| is_ahead(live.applied));
    let ahead = ahead.filter(|(id, _)| draft.state().agents.contains_key(*id));
    if let Some((id, live)) = ahead.max_by_key(|(_, live)| live.applied) {
        let applied = live.applied;
        let reason = format!("{id} has generation {applied} in force, which this store has not published yet");
        return begin(draft, applied.incarnation(), &reason);
    }
    if draft.state().recovery.is_empty() || !awaited(draft.state()).is_empty() {
        return;
    }
    let heard: Vec<AgentId> = draft.state().heard.keys().cloned().collect();
    heard.iter().for_each(|id| draft.delete::<HeardRecord>(id));
    draft.delete::<RecoveryRecord>(&RECOVERY_KEY);
    let message = format!("all {} nodes and edges have said what they hold: leases are granted again", heard.len());
    draft.event("recovery.over", "store", "manager", message, json!({}));
}

/// Refuses a generation that no earlier life of this store can have published.
pub(crate) fn check_plausible(snapshot: &Snapshot, applied: Generation) -> Result<(), Refusal> {
    match applied.incarnation().saturating_sub(snapshot.incarnation) {
        0..=INCARNATIONS_AHEAD_MAX => Ok(()),
        ahead => Err(Refusal::conflict(format!(
            "generation {applied} is {ahead} store incarnations ahead of {}: this is another manager's",
            snapshot.generation()
        ))),
    }
}

/// Nodes and edges that have not said yet what they hold.
pub(crate) fn awaited(snapshot: &Snapshot) -> Vec<&AgentId> {
    snapshot.agents.keys().filter(|id| is_awaited(snapshot, id)).collect()
}

/// Whether an agent has yet to say what it holds; nothing is sent to it before.
pub(crate) fn is_awaited(snapshot: &Snapshot, id: &AgentId) -> bool {
    !snapshot.recovery.is_empty() && !snapshot.heard.contains_key(id)
}

/// Whether leases of a group may be granted and freed: all its edges and all nodes have said what they hold.
pub(super) fn is_open(snapshot: &Snapshot, group: &GroupName) -> bool {
    let concerns = |id: &&AgentId| match id.role {
        Role::Node => true,
        Role::Edge => snapshot.agents[*id].edge().is_some_and(|edge| edge.group == *group),
    };
    snapshot.recovery.is_empty() || !snapshot.agents.keys().filter(concerns).any(|id| is_awaited(snapshot, id))
}

/// Whether somebody has vouched for a lease since the store went back last.
pub(super) fn is_vouched(snapshot: &Snapshot, lease: &LeaseRecord) -> bool {
    snapshot.recovery.values().all(|recovery| lease.claim.incarnation >= recovery.incarnation)
}

/// What an agent says that it has in force.
pub(crate) struct Held {
    items: Vec<Item>,
    /// The generation of it, where it is proven that a manager published just that. None: it is the agent's own word.
    proven: Option<Generation>,
}

impl Held {
    /// What an agent said, held against its proof.
    pub(crate) fn of(
        authority: &Authority,
        snapshot: &Snapshot,
        id: &AgentId,
        (items, proof): (Vec<Item>, Option<StateProof>),
    ) -> Self {
        let proof = proof.filter(|proof| authority.is_proven(id, proof, snapshot));
        let proven = proof.filter(|proof| {
            let items = items.iter().cloned().collect();
            DesiredState { generation: proof.generation, items, proof: None }.has_digest(&proof.digest)
        });
        Self { items, proven: proven.map(|proof| proof.generation) }
    }
}

/// Takes in all that an agent has in force. What is not its own to say is left out; what it cannot prove takes nothing from
/// anybody.
pub(crate) fn take_in(draft: &mut Draft, id: &AgentId, Held { items, proven }: &Held) {
    if !is_awaited(draft.state(), id) {
        return;
    }
    draft.skip_numbers(match proven {
        Some(_) => numbers_after(items),
        None => numbers_in_reach(numbers_after(items), draft.state().numbers),
    });
    let claim = Claim { incarnation: draft.state().incarnation, state: proven.unwrap_or_default() };
    let group = draft.state().agents.get(id).and_then(|agent| agent.edge()).map(|edge| edge.group.clone());
    let is_own = |lease: &&LeaseItem| match &group {
        Some(group) => lease.group == *group,
        None => lease.node.as_str() == id.name,
    };
    let names = PersonaNames::of(draft.state(), items);
    let leases: Vec<&LeaseItem> = leases_of(items).filter(is_own).collect();
    let word = Word { claim, is_proven: proven.is_some(), names, by_address: by_address(draft.state()) };
    for lease in &leases {
        match id.role {
            Role::Node => node_holds(draft, lease, &word),
            Role::Edge => edge_holds(draft, lease, &word),
        }
    }
    if let (Role::Node, Ok(node)) = (id.role, id.name.parse::<NodeName>()) {
        let held: Vec<LeaseId> = leases.iter().map(|lease| lease.id).collect();
        node_lacks(draft, &node, &held);
        subjects_of(items).filter(|item| *item.subject.node() == node).for_each(|item| keep_item(draft, item));
    }
    draft.put(HeardRecord { agent: id.clone() });
    let proof = if proven.is_some() { "" } else { ", without a proof that a manager gave it that" };
    let message = format!("{id} has said what it holds: {} leases{proof}", leases.len());
    draft.event("recovery.heard", id, id, message, json!({ "leases": leases.len(), "applied": proven }));
}

fn leases_of(items: &[Item]) -> impl Iterator<Item = &LeaseItem> {
    items.iter().filter_map(|item| if let Item::Lease(lease) = item { Some(lease) } else { None })
}

fn subjects_of(items: &[Item]) -> impl Iterator<Item = &SubjectItem> {
    items.iter().filter_map(|item| if let Item::Subject(subject) = item { Some(subject) } else { None })
}

fn edges_of(items: &[Item]) -> impl Iterator<Item = &EdgeItem> {
    items.iter().filter_map(|item| if let Item::Edge(edge) = item { Some(edge) } else { None })
}

/// The numbers after all that are held.
fn numbers_after(items: &[Item]) -> Numbers {
    let mut numbers = Numbers::default();
    for lease in leases_of(items) {
        numbers.lease = numbers.lease.max(lease.id.0.saturating_add(1));
        numbers.vni = numbers.vni.max(lease.vni.0.saturating_add(1));
    }
    for subject in subjects_of(items) {
        numbers.subject = numbers.subject.max(subject.number.0.saturating_add(1));
    }
    for edge in edges_of(items) {
        numbers.edge = numbers.edge.max(edge.number.0.saturating_add(1));
    }
    numbers
}

/// Of numbers that somebody says are given, those that can be true: others are left out as far as numbers are, when the store
/// went back, and whoever makes up the largest ones would leave none to give.
fn numbers_in_reach(said: Numbers, known: Numbers) -> Numbers {
    Numbers { edge: said.edge.min(known.edge.saturating_add(EDGES_UNPROVEN_MAX)), ..known }
}

/// What somebody says, and what it is compared with.
struct Word {
    claim: Claim,
    /// Whether a manager is known to have given it.
    is_proven: bool,
    names: PersonaNames,
    /// Leases that the store remembers. What one agent says does not contradict itself, so this is not kept up.
    by_address: BTreeMap<IpAddr, Vec<LeaseId>>,
}

/// A node's own word: it holds the lease.
fn node_holds(draft: &mut Draft, item: &LeaseItem, word: &Word) {
    let state = match item.retiring {
        true => LeaseState::Retiring { since: draft.generation(), cut_at_ms: cut_time(draft, item, word) },
        false => LeaseState::Active,
    };
    keep(draft, item, state, word);
}

/// When flows of a lease that retires are cut: as was decided, else after the whole grace, for nobody knows how much of
/// it is over.
fn cut_time(draft: &Draft, item: &LeaseItem, word: &Word) -> Option<u64> {
    let known = draft.state().leases.get(&item.id);
    match known.map(|lease| (lease.state, lease.grace_ms)) {
        Some((LeaseState::Retiring { cut_at_ms, .. }, _)) => cut_at_ms,
        Some((_, grace_ms)) => grace_ms.map(|grace_ms| draft.now_ms().saturating_add(grace_ms)),
        None => grace_of(draft.state(), &word.names.name(item.vni)).map(|it| draft.now_ms().saturating_add(it)),
    }
}

/// What a persona says now of how long old flows may go on, milliseconds.
fn grace_of(snapshot: &Snapshot, persona: &PersonaName) -> Option<u64> {
    let mut personas = snapshot.personas();
    let persona = personas.find(|entry| entry.document.metadata.name == *persona)?;
    persona.document.spec.network.as_ref()?.grace_ms()
}

/// An edge's word: it carries the lease. Whether its node still holds it is the node's to say.
fn edge_holds(draft: &mut Draft, item: &LeaseItem, word: &Word) {
    let since = draft.generation();
    let known = draft.state().leases.get(&item.id).map(|lease| lease.state);
    let node = AgentId::node(&item.node);
    let is_registered = draft.state().agents.contains_key(&node);
    let node_may_hold = is_registered && is_awaited(draft.state(), &node);
    let state = match known {
        Some(LeaseState::RevokingNode { .. }) if node_may_hold => LeaseState::RevokingNode { since },
        Some(LeaseState::RevokingEdges { .. } | LeaseState::Quarantine { .. }) => LeaseState::RevokingEdges { since },
        Some(LeaseState::Publishing) | None if node_may_hold => LeaseState::Active,
        Some(state) if node_may_hold => state,
        // Its node was heard: what it holds is known already, and this is not among it.
        Some(state) if is_registered && state.is_at_node() => return,
        _ => LeaseState::RevokingEdges { since },
    };
    keep(draft, item, state, word);
}

/// Stores a lease as it is held. Of others that have some of its ports, or its id, the one with the newer word is true.
fn keep(draft: &mut Draft, item: &LeaseItem, state: LeaseState, word: &Word) {
    let known = draft.state().leases.get(&item.id).cloned();
    if let Some(known) = known.as_ref().filter(|known| known.space == item.space && known.subject == item.subject) {
        if !gives_way(draft, &rivals(draft.state(), item, word), item, word) {
            return;
        }
        let claim = known.claim.max(word.claim);
        draft.put(LeaseRecord { state, claim, generation: item.generation, ..(**known).clone() });
        return;
    }
    let mut rivals = rivals(draft.state(), item, word);
    rivals.extend(known);
    if gives_way(draft, &rivals, item, word) {
        let lease = record_of(draft.state(), item, state, word);
        draft.grant_lease(lease);
    }
}

/// Gives up the leases that stand against one that is held, up to the first whose word is newer. Returns whether all did.
fn gives_way(draft: &mut Draft, rivals: &[Arc<LeaseRecord>], item: &LeaseItem, word: &Word) -> bool {
    for other in rivals {
        let is_older = word.is_proven && (other.claim < word.claim || !is_vouched(draft.state(), other));
        let about = format!("lease/{}", other.id);
        let details = json!({ "held": item.id, "by": item.subject, "space": item.space });
        if !is_older {
            let message = format!(
                "{} would hold {} as lease {}, but lease {} of {} does",
                item.subject, item.space, item.id, other.id, other.subject
            );
            draft.event("recovery.contradiction", about, "manager", message, details);
            return false;
        }
        let message =
            format!("lease {} of {} is given up: {} holds {}", other.id, other.subject, item.subject, item.space);
        draft.event("recovery.given-up", about, "manager", message, details);
        draft.free_lease(other.id);
    }
    true
}

/// Other leases that have some of the ports.
fn rivals(snapshot: &Snapshot, item: &LeaseItem, word: &Word) -> Vec<Arc<LeaseRecord>> {
    let mut held = Occupancy::default();
    held.hold(&item.space);
    let overlaps = |space: &LeaseSpace| match space {
        LeaseSpace::Ports { address, .. } => {
            space.port_ranges().iter().any(|(first, last)| held.overlaps(*address, *first, *last))
        }
        LeaseSpace::Prefix { .. } => *space == item.space,
    };
    let near = word.by_address.get(&address_of(&item.space)).into_iter().flatten();
    let others = near.filter(|id| **id != item.id).filter_map(|id| snapshot.leases.get(id));
    others.filter(|lease| overlaps(&lease.space)).cloned().collect()
}

fn by_address(snapshot: &Snapshot) -> BTreeMap<IpAddr, Vec<LeaseId>> {
    let mut by_address: BTreeMap<IpAddr, Vec<LeaseId>> = BTreeMap::new();
    for lease in snapshot.leases.values() {
        by_address.entry(address_of(&lease.space)).or_default().push(lease.id);
    }
    by_address
}

fn address_of(space: &LeaseSpace) -> IpAddr {
    match space {
        LeaseSpace::Ports { address, .. } => (*address).into(),
        LeaseSpace::Prefix { prefix } => (*prefix).into(),
    }
}

fn record_of(snapshot: &Snapshot, item: &LeaseItem, state: LeaseState, word: &Word) -> LeaseRecord {
    let pool = snapshot.pools().find(|pool| pool.metadata.name == item.pool);
    let persona = word.names.name(item.vni);
    LeaseRecord {
        id: item.id,
        subject: item.subject.clone(),
        grace_ms: grace_of(snapshot, &persona),
        persona,
        vni: item.vni,
        group: item.group.clone(),
        pool: item.pool.clone(),
        space: item.space.clone(),
        configured: item.configured,
        encrypted: item.encrypted,
        mtu: item.mtu,
        quarantine_ms: pool.map(|pool| pool.spec.quarantine()).unwrap_or_default().0,
        generation: item.generation,
        fullness: Default::default(),
        claim: word.claim,
        state,
    }
}

/// Leases that the store remembers at a node which does not hold them: its edges forget them next.
fn node_lacks(draft: &mut Draft, node: &NodeName, held: &[LeaseId]) {
    let since = draft.generation();
    let leases: Vec<Arc<LeaseRecord>> = draft.state().leases.values().cloned().collect();
    for lease in leases.iter().filter(|lease| lease.subject.node() == node && !held.contains(&lease.id)) {
        let is_granted_since = lease.claim.state.incarnation() >= draft.state().incarnation;
        if lease.state.is_at_edges() && !is_granted_since {
            draft.put(LeaseRecord { state: LeaseState::RevokingEdges { since }, ..(**lease).clone() });
        }
    }
}

/// What a subject has in force stays so until something else is decided.
fn keep_item(draft: &mut Draft, item: &SubjectItem) {
    let known = draft.state().subjects.get(&item.subject).map(|known| (**known).clone());
    let record = known.unwrap_or_else(|| SubjectRecord {
        subject: item.subject.clone(),
        number: item.number,
        manual: None,
        request: None,
        requested_by: None,
        request_content: None,
        triggered: None,
        triggered_by: None,
        activation: None,
        alerts: BTreeMap::new(),
        sections: Default::default(),
        target: None,
        unassigned: None,
        planned: None,
        item: None,
    });
    draft.put(SubjectRecord { number: item.number, item: Some(item.clone()), ..record });
}
