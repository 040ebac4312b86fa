//! What a pass keeps for the next one, and by that whom the next one decides anew: who changed, who rests on what changed, and in
//! turn everybody.
//!
//! Nobody has to say what changed: states share what is the same in both, so comparing them is quick. What a pass changes, the
//! next one looks at. What wavers all the time (load, round trips) is followed when a subject's turn comes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use persona_core::ids::{EdgeName, NodeName, PersonaName, SubjectId};
use persona_core::wire::agent::Role;

use super::assignment::subjects_of;
use super::facts::{Facts, Firm};
use super::leases::{Reclaim, Reclaimed};
use super::queue::{BUDGET, Queue};
use super::reports::{Reports, Seen};
use super::wear::{Composed, Outfit};
use crate::live::AgentLive;
use crate::store::{AgentId, Records, Snapshot, SubjectRecord, WorkloadRecord};

/// Somebody's turn comes this often, milliseconds.
const TURN_INTERVAL_MS: u64 = 250;

/// Everybody's turn has come after this time, milliseconds.
const ROUND_MS: u64 = 10_000;

/// So many have their turn at a time at least: small fleets are decided whole each time. Those of simulations are smaller.
const TURN_COUNT_MIN: u64 = if cfg!(test) { 2 } else { 64 };

/// Leases that end are taken forward this often, milliseconds.
pub(super) const RECLAIM_INTERVAL_MS: u64 = 50;

/// What is kept of decisions, by subject.
pub(super) type Outfits = BTreeMap<SubjectId, KeptOutfit>;

/// What is kept of a decision.
#[derive(Debug)]
pub(super) struct KeptOutfit {
    /// Every persona that the subject may wear.
    pub(super) allowed: Arc<Vec<PersonaName>>,
    pub(super) effective: Arc<Composed>,
    /// Whether a binding selects it.
    pub(super) is_selected: bool,
    /// Whether a policy forbids the group that carries it now.
    pub(super) is_evicted: bool,
}

impl KeptOutfit {
    /// What is kept of an outfit. Those that may wear the same as the one before share that.
    pub(super) fn of(outfit: Outfit, before: Option<&Arc<Vec<PersonaName>>>) -> Self {
        let allowed = match before.filter(|before| ***before == outfit.allowed) {
            Some(before) => Arc::clone(before),
            None => Arc::new(outfit.allowed),
        };
        let (effective, is_evicted) = (outfit.effective, outfit.is_evicted);
        Self { allowed, effective, is_selected: !outfit.bindings.is_empty(), is_evicted }
    }
}

/// Whom a pass looks at.
#[derive(Debug, PartialEq)]
pub(super) enum Marked {
    /// Everybody.
    All,
    /// Some.
    Some(BTreeSet<SubjectId>),
}

impl Marked {
    /// Whether a subject is among them.
    pub(super) fn contains(&self, subject: &SubjectId) -> bool {
        match self {
            Self::All => true,
            Self::Some(some) => some.contains(subject),
        }
    }

    /// Their nodes. None: all.
    pub(super) fn nodes(&self) -> Option<BTreeSet<NodeName>> {
        match self {
            Self::All => None,
            Self::Some(some) => Some(some.iter().map(|subject| subject.node().clone()).collect()),
        }
    }

    /// Adds one.
    pub(super) fn add(&mut self, subject: &SubjectId) {
        if let Self::Some(some) = self
            && !some.contains(subject)
        {
            some.insert(subject.clone());
        }
    }

    /// Adds those whose record or leases are others than in an earlier state.
    pub(super) fn add_changed(&mut self, before: &Snapshot, now: &Snapshot) {
        if *self == Self::All {
            return;
        }
        now.subjects.changes_since(&before.subjects).iter().for_each(|change| self.add(change.key));
        for change in now.leases.changes_since(&before.leases) {
            change.before.into_iter().chain(change.after).for_each(|lease| self.add(&lease.subject));
        }
    }
}

/// What is kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) facts: Facts,
    pub(super) outfits: Outfits,
    last: Option<Last>,
    turn: Turn,
    /// Whom passes have still to decide.
    pub(super) queue: Queue,
    /// Those of them who were never decided here.
    unknown: BTreeSet<SubjectId>,
    /// Whether everybody is in the queue, or was decided since everybody was.
    is_whole: bool,
    /// What a pass may take. None: [`BUDGET`].
    pub(super) budget: Option<usize>,
    /// When leases were last taken forward that end. None: long ago.
    reclaimed_ms: Option<u64>,
}

/// How it was when the last pass began, and when it ended.
struct Last {
    snapshot: Snapshot,
    ended: Option<Snapshot>,
    reports: Seen,
    firm: Firm,
}

/// Whose turn was last, and when.
#[derive(Default)]
struct Turn {
    at_ms: u64,
    last: Option<SubjectId>,
    /// Whether everybody had it since the facts were gathered.
    is_round_over: bool,
}

impl Kept {
    /// Nothing but facts: for one look.
    pub(super) fn of(facts: Facts) -> Self {
        Self { facts, ..Self::default() }
    }

    /// The reports that the last pass saw. None: nobody's turn has come since, or this is the first pass; look at all.
    pub(super) fn seen(&self, reports: &Reports) -> Option<&Seen> {
        let is_due = reports.now().saturating_sub(self.turn.at_ms) >= TURN_INTERVAL_MS;
        self.last.as_ref().filter(|_| !is_due).map(|last| &last.reports)
    }

    /// Whether leases that end are to be taken forward: what comes close together is done together.
    pub(super) fn reclaim(&self, reports: &Reports) -> Reclaim {
        let is_soon = |at_ms: u64| reports.now().saturating_sub(at_ms) < RECLAIM_INTERVAL_MS;
        if self.reclaimed_ms.is_some_and(is_soon) { Reclaim::Later } else { Reclaim::Now }
    }

    /// Notes whether some were.
    pub(super) fn note(&mut self, reports: &Reports, reclaimed: Reclaimed) {
        if reclaimed == Reclaimed::Some {
            self.reclaimed_ms = Some(reports.now());
        }
    }

    /// Brings the facts up to date, and queues whom to decide anew.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, reports: &Reports) {
        if std::mem::take(&mut self.turn.is_round_over) {
            // A round begins with facts that are gathered anew.
            self.facts = Facts::default();
        }
        self.facts.follow(snapshot, reports);
        let firm = self.facts.firm();
        let is_counting = self.facts.ledger.is_counting();
        let last = self.last.take();
        let is_same = last.as_ref().is_some_and(|it| it.firm == firm && is_ground_same(&it.snapshot, snapshot));
        let (mut others, mut own) = (BTreeSet::new(), BTreeSet::new());
        if let Some(last) = &last {
            let ended = last.ended.as_ref().unwrap_or(&last.snapshot);
            others = marked((ended, &last.reports), snapshot, reports);
            own = marked((&last.snapshot, reports.all()), ended, reports);
        }
        // Who is counted with others is judged with all others.
        self.is_whole = !is_same || (is_counting && !others.is_empty());
        if self.is_whole {
            let everybody = self.everybody(snapshot);
            self.queue.put(everybody);
        } else if is_counting && !own.is_empty() {
            let everybody = self.everybody(snapshot);
            self.queue.put_again(everybody);
            self.is_whole = true;
        }
        self.note_unknown(others.iter().chain(&own));
        others.into_iter().for_each(|subject| self.queue.put_first(subject));
        self.queue.put_again(own);
        self.last = Some(Last { snapshot: snapshot.clone(), ended: None, reports: reports.all().clone(), firm });
        self.take_turns(reports.now());
        self.queue.begin(self.budget.unwrap_or(BUDGET));
    }

    /// Notes how a pass has left the state.
    pub(super) fn end(&mut self, snapshot: &Snapshot) {
        if let Some(last) = &mut self.last {
            last.ended = Some(snapshot.clone());
        }
    }

    /// Has somebody decided before those who have time.
    pub(super) fn put_first(&mut self, subject: &SubjectId) {
        self.note_unknown([subject]);
        self.queue.put_first(subject.clone());
    }

    /// Keeps what was decided for a subject. None: it is not there any more.
    pub(super) fn keep(&mut self, subject: SubjectId, outfit: Option<KeptOutfit>) {
        self.unknown.remove(&subject);
        match outfit {
            Some(outfit) => _ = self.outfits.insert(subject, outfit),
            None => _ = self.outfits.remove(&subject),
        }
    }

    fn note_unknown<'a>(&mut self, queued: impl IntoIterator<Item = &'a SubjectId>) {
        let unknown = queued.into_iter().filter(|subject| !self.outfits.contains_key(*subject));
        self.unknown.extend(unknown.cloned());
    }

    /// Whom to queue where all are to be decided.
    fn everybody(&mut self, snapshot: &Snapshot) -> Vec<SubjectId> {
        let there: Vec<SubjectId> =
            subjects_of(snapshot).into_iter().chain(snapshot.subjects.keys().cloned()).collect();
        self.note_unknown(&there);
        there.into_iter().chain(self.outfits.keys().cloned()).collect()
    }

    /// Whom this pass has decided: everybody, or some of those who wait.
    pub(super) fn decided(&self, some: BTreeSet<SubjectId>) -> Marked {
        if self.is_whole && self.queue.is_empty() { Marked::All } else { Marked::Some(some) }
    }

    /// Nodes of which some subject was never decided here.
    pub(super) fn undecided_nodes(&self) -> BTreeSet<AgentId> {
        let mut nodes: Vec<&NodeName> = self.unknown.iter().map(SubjectId::node).collect();
        nodes.dedup();
        nodes.into_iter().map(AgentId::node).collect()
    }

    /// Marks those too whose record or leases changed since this pass followed the state.
    pub(super) fn add_changed(&self, now: &Snapshot, marked: &mut Marked) {
        if let Some(last) = &self.last {
            marked.add_changed(&last.snapshot, now);
        }
    }

    /// Queues those whose turn it is.
    fn take_turns(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.turn.at_ms);
        if elapsed_ms < TURN_INTERVAL_MS {
            return;
        }
        if self.is_whole {
            self.turn = Turn { at_ms: now_ms, last: None, is_round_over: true };
            return;
        }
        let count = (self.outfits.len() as u64 * elapsed_ms / ROUND_MS).max(TURN_COUNT_MIN) as usize;
        let after = self.turn.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.outfits.range::<SubjectId, _>((after, Bound::Unbounded)).map(|(subject, _)| subject);
        let turns: Vec<SubjectId> = next.take(count).cloned().collect();
        let is_round_over = turns.len() < count;
        self.turn = Turn { at_ms: now_ms, last: turns.last().cloned().filter(|_| !is_round_over), is_round_over };
        self.queue.put(turns);
    }
}

/// Whether a subject is registered, or reported by its node.
pub(crate) fn is_there(snapshot: &Snapshot, subject: &SubjectId) -> bool {
    match subject {
        SubjectId::Node(node) => snapshot.agents.contains_key(&AgentId::node(node)),
        SubjectId::Workload(..) => snapshot.workloads.contains_key(subject),
    }
}

/// Whether what everybody's decision rests on is the same in two states.
fn is_ground_same(one: &Snapshot, other: &Snapshot) -> bool {
    one.incarnation == other.incarnation
        && one.documents.is_same(&other.documents)
        && one.versions.is_same(&other.versions)
        && one.settings.is_same(&other.settings)
        && one.rollouts.is_same(&other.rollouts)
        && one.rollout_members.is_same(&other.rollout_members)
        && one.recovery.is_same(&other.recovery)
        && one.heard.is_same(&other.heard)
}

/// Those whose record or leases are others in one state than in an earlier one.
fn changed(before: &Snapshot, now: &Snapshot) -> BTreeSet<SubjectId> {
    let subjects = now.subjects.changes_since(&before.subjects).into_iter().map(|change| change.key.clone());
    let leases = now.leases.changes_since(&before.leases).into_iter();
    let holders = leases.flat_map(|change| change.before.into_iter().chain(change.after));
    subjects.chain(holders.map(|lease| lease.subject.clone())).collect()
}

/// Whose own things changed since a pass ended with a state, and began with reports.
fn marked((before, seen): (&Snapshot, &Seen), snapshot: &Snapshot, reports: &Reports) -> BTreeSet<SubjectId> {
    let mut marked = changed(before, snapshot);
    let mut nodes: BTreeSet<NodeName> = BTreeSet::new();
    let node = |id: &AgentId| if id.role == Role::Node { id.name.parse().ok() } else { None };
    nodes.extend(snapshot.agents.changes_since(&before.agents).iter().filter_map(|change| node(change.key)));
    for change in reports.all().changes_since(seen) {
        if change.before.zip(change.after).is_none_or(|(one, other)| says_else(one, other)) {
            nodes.extend(node(change.key));
        }
    }
    // What a node wears is its workloads' default.
    let persona = |record: &Arc<SubjectRecord>| record.target.as_ref().map(|target| target.persona.clone());
    for change in snapshot.subjects.changes_since(&before.subjects) {
        if let SubjectId::Node(node) = change.key
            && change.before.and_then(persona) != change.after.and_then(persona)
        {
            nodes.insert(node.clone());
        }
    }
    marked.extend(snapshot.workloads.changes_since(&before.workloads).iter().map(|change| change.key.clone()));
    for node in &nodes {
        marked.insert(SubjectId::Node(node.clone()));
        marked.extend(workloads_on(&snapshot.workloads, node).map(|(subject, _)| subject.clone()));
    }
    marked
}

/// A node's workloads.
pub(crate) fn workloads_on<'a>(
    all: &'a Records<WorkloadRecord>,
    node: &'a NodeName,
) -> impl Iterator<Item = (&'a SubjectId, &'a Arc<WorkloadRecord>)> {
    let first = SubjectId::before_workloads(node);
    all.range(first..).take_while(move |(subject, _)| subject.node() == node)
}

/// What was decided for a node's workloads.
pub(super) fn outfits_on<'a>(
    all: &'a Outfits,
    node: &'a NodeName,
) -> impl Iterator<Item = (&'a SubjectId, &'a KeptOutfit)> {
    let first = SubjectId::before_workloads(node);
    all.range(first..).take_while(move |(subject, _)| subject.node() == node)
}

/// Whether a node says something else that decisions rest on, beside what wavers.
pub(super) fn says_else(before: &AgentLive, after: &AgentLive) -> bool {
    let hears = |live: &AgentLive| -> Vec<(EdgeName, bool, bool)> {
        let all = live.edges.iter();
        all.map(|(edge, (health, _))| (edge.clone(), health.alive, health.rtt_us.is_some())).collect()
    };
    before.conditions != after.conditions || (before.edges.len(), hears(before)) != (after.edges.len(), hears(after))
}
