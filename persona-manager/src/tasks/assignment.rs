//! The assignment pass: health, who wears what, leases, what nodes are told, desired states; in this order, on one draft.
//!
//! It takes no hint about what changed: it compares with what the last pass kept, and looks at those for whom something is
//! different. It may run twice, and writes only what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use persona_core::ids::{GroupName, NodeName, PersonaName, SubjectId};
use persona_core::wire::agent::Role;
use persona_core::wire::desired::{DesiredState, ProbeItem, SubjectItem};
use serde_json::json;

use super::desired::Reachable;
use super::facts::Facts;
use super::kept::{Kept, KeptOutfit, Marked, Outfits, is_there, outfits_on, workloads_on};
use super::leases::Reclaimed;
use super::queue::{BUDGET, cost};
use super::reports::Reports;
use super::wear::Outfit;
use super::{
    activation, alerts, clock_steps, desired, exhaustion, health, holding, leases, pool_history, recovery, removal,
    schedules, shares, tell, wear,
};
use crate::clock::now_ms;
use crate::config::Config;
use crate::live::Live;
use crate::rollouts;
use crate::store::{
    AgentId, Brain, Desired, Draft, LeaseRecord, NetworkTarget, Pass, Rest, SETTINGS_KEY, Snapshot, SubjectRecord,
};

/// Decides assignments, with what decisions rest on beside the store.
#[derive(Clone)]
pub(crate) struct Assigner {
    config: Arc<Config>,
    live: Arc<Live>,
    /// What the last pass knew and decided.
    kept: Arc<Mutex<Kept>>,
    /// What it computed desired states from.
    basis: Arc<Mutex<Option<desired::Basis>>>,
}

impl Assigner {
    /// An assigner.
    pub(crate) fn new(config: Arc<Config>, live: Arc<Live>) -> Self {
        live.activations.set_pace(config.activation_changes_per_minute.map(NonZeroU32::get));
        Self { config, live, kept: Arc::default(), basis: Arc::default() }
    }

    /// The pass that runs after every batch of changes.
    pub(crate) fn into_pass(self) -> Pass {
        Box::new(move |draft: &mut Draft| self.run(draft))
    }

    /// All that the store's thread needs.
    pub(crate) fn into_brain(self) -> Brain {
        let (mirror, live, steps, kept) = (self.clone(), self.live.clone(), self.live.clone(), self.kept.clone());
        Brain {
            pass: self.into_pass(),
            mirror: Box::new(move |snapshot| mirror.mirror(snapshot)),
            begin: Box::new(move || live.start_anew()),
            fail: Box::new(move || {
                // A step that was seen and not stored: the next pass takes the clock for new.
                steps.steps.forget();
                // Nor were versions stored, and others may come under their numbers.
                kept.lock().unwrap_or_else(PoisonError::into_inner).facts.composed = Default::default();
            }),
        }
    }

    /// The desired states that another manager has published. One that does not come out as published is left out, and
    /// its agent is told nothing here until it does.
    fn mirror(&self, snapshot: &Snapshot) -> Desired {
        let mut draft = Draft::new(snapshot, 0);
        let reports = self.reports();
        let (facts, personas) = (Facts::of(snapshot, &reports), wear::personas_of(snapshot));
        let outfit = |subject: SubjectId| {
            let record = snapshot.subjects.get(&subject).map(Arc::as_ref);
            let groups = facts.groups_from(subject.node(), &reports);
            let personas = wear::personas_for(snapshot, &personas, &subject);
            let paths = (&*groups, reports.conditions(subject.node()));
            let outfit = wear::decide(snapshot, &personas, &facts, paths, &subject, record);
            (subject, KeptOutfit::of(outfit, None))
        };
        let outfits = subjects_of(snapshot).into_iter().map(outfit).collect();
        let groups = reachable_groups(snapshot, &outfits);
        desired::publish(&mut draft, self.probe(snapshot), groups);
        let is_published = |state: &Arc<DesiredState>| state.generation != draft.generation();
        let states = draft.state().desired.iter().filter(|(_, state)| is_published(state));
        let states: Desired = states.map(|(id, state)| (id.clone(), state.clone())).collect();
        let left_out = snapshot.publications.keys().filter(|id| !states.contains_key(*id)).count();
        if left_out > 0 {
            tracing::warn!(
                agent.count = left_out,
                "desired states do not come out as the leading manager published them: these agents are sent there; give all managers one release and one configuration"
            );
        }
        states
    }

    fn run(&self, draft: &mut Draft) -> Rest {
        clock_steps::follow(draft, &self.live);
        let reports = self.reports();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = kept.seen(&reports).cloned();
        recovery::advance(draft, &reports, seen.as_ref());
        health::judge(draft, &reports, seen.as_ref());
        end_overrides(draft);
        schedules::advance(draft, &mut self.live.timetables());
        activation::advance(draft, &self.live);
        rollouts::advance(draft, &reports, &mut self.live.rollouts());
        kept.follow(draft.state(), &reports);
        let mut marked = assign(draft, &mut kept, &reports);
        alerts::advance(draft, &self.live);
        kept.add_changed(draft.state(), &mut marked);
        let reclaim = kept.reclaim(&reports);
        let (probe, marks) = (self.probe(draft.state()), (&mut marked, reclaim));
        let reclaimed = leases::advance(draft, &reports, probe, marks, seen.as_ref());
        kept.note(&reports, reclaimed);
        self.live.comes_back_soon.store(reclaimed == Reclaimed::Pending, Ordering::Relaxed);
        exhaustion::note(draft, &reports, seen.as_ref());
        pool_history::note(draft);
        removal::finish(draft, &reports, self.probe(draft.state()));
        self.live.planning().advance(draft, &reports);
        kept.add_changed(draft.state(), &mut marked);
        tell_nodes(draft, &kept.outfits, &marked);
        shares::divide(draft, &reports, &mut self.live.usage());
        let mut basis = self.basis.lock().unwrap_or_else(PoisonError::into_inner);
        let undecided = kept.undecided_nodes();
        let reachable = |only: Option<&BTreeSet<NodeName>>| {
            let mut reachable = reachable_from(draft.state(), &kept.outfits, only);
            reachable.retain(|node, _| undecided.is_empty() || !undecided.contains(&AgentId::node(node)));
            reachable
        };
        let (probe, nodes) = (self.probe(draft.state()), marked.nodes());
        let renewed = desired::Renewed { probe, nodes, undecided: &undecided, reachable: &reachable };
        let published = desired::compare(draft.state(), &renewed, basis.take());
        *basis = Some(published.write(draft));
        kept.end(draft.state());
        if kept.queue.is_urgent() { Rest::Something } else { Rest::Nothing }
    }

    /// Assigns one subject within a job, so that the job can be refused by what comes out.
    pub(crate) fn assign(&self, draft: &mut Draft, subject: &SubjectId) -> Outfit {
        let reports = self.reports();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.facts.follow(draft.state(), &reports);
        let documents = draft.state().clone();
        wear::write(draft, &mut kept.facts, &reports, (&documents, &wear::personas_of(&documents)), subject)
    }

    /// Whether passes have decided everybody who was to be.
    #[cfg(test)]
    pub(crate) fn has_decided_all(&self) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).queue.is_empty()
    }

    /// Has each pass take as little as this.
    #[cfg(test)]
    pub(crate) fn set_budget(&self, budget: usize) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).budget = Some(budget);
    }

    /// Decides as the pass would, and changes nothing.
    pub(crate) fn explain(&self, snapshot: &Snapshot, subject: &SubjectId) -> Outfit {
        let reports = self.reports();
        let facts = Facts::of(snapshot, &reports);
        let groups = facts.groups_from(subject.node(), &reports);
        let record = snapshot.subjects.get(subject).map(Arc::as_ref);
        let in_force = wear::personas_of(snapshot);
        let personas = wear::personas_for(snapshot, &in_force, subject);
        let paths = (&*groups, reports.conditions(subject.node()));
        wear::decide(snapshot, &personas, &facts, paths, subject, record)
    }

    /// The state as the next pass would leave it, as far as who wears what goes. It is for looking only.
    pub(crate) fn settled(&self, snapshot: &Snapshot) -> Snapshot {
        let mut draft = Draft::new(snapshot, now_ms());
        assign_all(&mut draft, &self.reports());
        draft.state().clone()
    }

    /// Has everybody in a draft wear what follows from it.
    pub(crate) fn dress(&self, draft: &mut Draft) {
        assign_all(draft, &self.reports());
    }

    /// What deciding and publishing everything anew makes otherwise of a state on which passes change nothing any more.
    #[cfg(test)]
    pub(crate) fn differs_anew(&self, snapshot: &Snapshot, now_ms: u64) -> Vec<String> {
        let (mut draft, reports) = (Draft::new(snapshot, now_ms), self.reports());
        let kept = assign_all(&mut draft, &reports);
        tell_nodes(&mut draft, &kept.outfits, &Marked::All);
        let reachable = reachable_groups(draft.state(), &kept.outfits);
        desired::publish(&mut draft, self.probe(snapshot), reachable);
        let now = draft.state();
        let subjects = now.subjects.changes_since(&snapshot.subjects).into_iter();
        let subjects = subjects.map(|it| format!("{}: {:#?} is {:#?}", it.key, it.before, it.after));
        let leases = now.leases.changes_since(&snapshot.leases).into_iter();
        let leases = leases.map(|it| format!("lease {}: {:?} is {:?}", it.key, it.before, it.after));
        let states = now.desired.changes_since(&snapshot.desired).into_iter();
        let states = states.map(|it| format!("{}: {:#?} is {:#?}", it.key, it.before, it.after));
        subjects.chain(leases).chain(states).collect()
    }

    /// How to probe: what was set through the API, else what the configuration says.
    pub(crate) fn probe(&self, snapshot: &Snapshot) -> ProbeItem {
        let (interval_ms, multiplier) = (self.config.probe_interval_ms, self.config.probe_multiplier);
        snapshot.settings.get(SETTINGS_KEY).and_then(|it| it.probe).unwrap_or(ProbeItem { interval_ms, multiplier })
    }

    /// What everybody last reported.
    pub(crate) fn reports(&self) -> Reports {
        Reports::of(&self.live, self.config.silent_after_ms, self.config.hold_max_ms)
    }
}

/// Ends switches and requests whose time is over.
pub(super) fn end_overrides(draft: &mut Draft) {
    let now_ms = draft.now_ms();
    let is_over = |until: Option<u64>| until.is_some_and(|until| until <= now_ms);
    let subjects: Vec<Arc<SubjectRecord>> = draft.state().ended(now_ms).cloned().collect();
    for record in subjects {
        let mut after = (*record).clone();
        if is_over(record.manual.as_ref().and_then(|manual| manual.until_ms)) {
            after.manual = None;
            let message = format!("the switch of {} by hand is over", record.subject);
            draft.event("switch.ended", &record.subject, "manager", message, json!({}));
        }
        if is_over(record.request.as_ref().and_then(|request| request.until_ms)) {
            after.request = None;
            let message = format!("the request for {} is over", record.subject);
            draft.event("request.ended", &record.subject, "manager", message, json!({}));
        }
        if let Some(triggered) = record.triggered.as_ref().filter(|triggered| is_over(triggered.until_ms)) {
            let schedule = after.triggered_by.take().map(|by| by.name);
            after.triggered = None;
            let message =
                format!("the activation of {} that was triggered for {} is over", triggered.value, record.subject);
            let details = json!({ "persona": triggered.value, "schedule": schedule });
            draft.event("activation.ended", &record.subject, "manager", message, details);
        }
        if after != *record {
            draft.put(after);
        }
    }
}

/// Every subject that there is, nodes first: what a node wears is its workloads' default.
pub(crate) fn subjects_of(snapshot: &Snapshot) -> Vec<SubjectId> {
    let nodes = snapshot.agents.keys().filter(|id| id.role == Role::Node);
    let nodes = nodes.filter_map(|id| id.name.parse::<NodeName>().ok().map(SubjectId::Node));
    nodes.chain(snapshot.workloads.keys().cloned()).collect()
}

/// Has everybody wear what follows, by facts gathered for that. Returns what was decided.
fn assign_all(draft: &mut Draft, reports: &Reports) -> Kept {
    let mut kept = Kept::of(Facts::of(draft.state(), reports));
    kept.budget = Some(usize::MAX);
    let state = draft.state();
    kept.queue.put(subjects_of(state).into_iter().chain(state.subjects.keys().cloned()));
    assign(draft, &mut kept, reports);
    kept
}

/// Has those wear what follows who are queued, as many as one pass may, and queues those whose default that is. Returns who was
/// decided; what was is kept.
fn assign(draft: &mut Draft, kept: &mut Kept, reports: &Reports) -> Marked {
    let documents = draft.state().clone();
    let in_force = wear::personas_of(&documents);
    let (mut decided, mut left, mut allowed) = (BTreeSet::new(), kept.budget.unwrap_or(BUDGET), None);
    while left > 0
        && let Some(subject) = kept.queue.take()
    {
        let changes = draft.change_count();
        if is_there(draft.state(), &subject) {
            let before = node_persona(draft.state(), &subject);
            let outfit = wear::write(draft, &mut kept.facts, reports, (&documents, &in_force), &subject);
            if before != node_persona(draft.state(), &subject) {
                let workloads = workloads_on(&documents.workloads, subject.node());
                workloads.for_each(|(workload, _)| kept.put_first(workload));
            }
            let outfit = KeptOutfit::of(outfit, allowed.as_ref());
            allowed = Some(Arc::clone(&outfit.allowed));
            kept.keep(subject.clone(), Some(outfit));
        } else {
            kept.keep(subject.clone(), None);
            forget_vanished(draft, &subject);
        }
        left = left.saturating_sub(cost(draft.change_count() > changes));
        decided.insert(subject);
    }
    kept.decided(decided)
}

/// What a node wears. None: it wears nothing, or it is none.
fn node_persona(snapshot: &Snapshot, subject: &SubjectId) -> Option<PersonaName> {
    let record = snapshot.subjects.get(subject).filter(|_| matches!(subject, SubjectId::Node(_)))?;
    record.target.as_ref().map(|target| target.persona.clone())
}

/// A subject that is gone wants nothing; its number stays its own, should it come back.
fn forget_vanished(draft: &mut Draft, subject: &SubjectId) {
    let Some(record) = draft.state().subjects.get(subject).cloned() else { return };
    let (sections, target, unassigned, planned, item, activation) = (BTreeMap::new(), None, None, None, None, None);
    let after = SubjectRecord { sections, target, unassigned, planned, item, activation, ..(*record).clone() };
    if after != *record {
        draft.put(after);
    }
}

/// The edge groups that each node's subjects may come to use. Nodes probe them beforehand, so that a switch finds edges
/// that are known to live, and decisions find round-trip times.
fn reachable_groups(snapshot: &Snapshot, outfits: &Outfits) -> Reachable {
    reachable_from(snapshot, outfits, None)
}

/// The same, of some nodes only.
fn reachable_from(snapshot: &Snapshot, outfits: &Outfits, only: Option<&BTreeSet<NodeName>>) -> Reachable {
    let pools: BTreeMap<_, _> = snapshot.pools().map(|pool| (&pool.metadata.name, &pool.spec.group)).collect();
    let in_force = snapshot.personas().map(|entry| entry.document);
    let mut groups: BTreeMap<&PersonaName, Vec<&GroupName>> = BTreeMap::new();
    for document in in_force.chain(rollouts::candidates(snapshot).map(|(_, document)| document)) {
        let named = document.spec.network.iter().flat_map(|network| &network.egress.pools);
        groups.entry(&document.metadata.name).or_default().extend(named.filter_map(|pool| pools.get(pool).copied()));
    }
    let mut reachable = Reachable::new();
    let mut add = |(subject, outfit): (&SubjectId, &KeptOutfit)| {
        let found = outfit.allowed.iter().filter_map(|persona| groups.get(persona)).flatten();
        reachable.entry(subject.node().clone()).or_default().extend(found.copied().cloned());
    };
    match only {
        None => outfits.iter().for_each(add),
        Some(nodes) => {
            for node in nodes {
                outfits.get_key_value(&SubjectId::Node(node.clone())).into_iter().for_each(&mut add);
                outfits_on(outfits, node).for_each(&mut add);
            }
        }
    }
    reachable
}

/// Whether every lease of a target may be used.
fn is_active(snapshot: &Snapshot, target: &NetworkTarget) -> bool {
    target.leases().all(|id| leases::is_active(snapshot, id))
}

/// Names the edge that holds the subject to its rates, unless the plan has named one.
fn held_by_one_edge(snapshot: &Snapshot, mut item: SubjectItem, leases: &[Arc<LeaseRecord>]) -> SubjectItem {
    let network = item.network.as_mut().filter(|network| network.planned.is_empty());
    if let (Some(network), Some(lease)) = (network, leases.first())
        && !item.qos.enforce_at.is_node()
    {
        network.planned = holding::edge_of(snapshot, lease).into_iter().collect();
    }
    item
}

/// Tells nodes what their subjects wear; a subject whose new lease is not active yet goes on as before.
fn tell_nodes(draft: &mut Draft, outfits: &Outfits, marked: &Marked) {
    let told: Vec<(&SubjectId, &KeptOutfit)> = match marked {
        Marked::All => outfits.iter().collect(),
        Marked::Some(some) => some.iter().filter_map(|subject| outfits.get_key_value(subject)).collect(),
    };
    for (subject, outfit) in told {
        let Some(record) = draft.state().subjects.get(subject).cloned() else { continue };
        let is_selected = outfit.is_selected || record.target.is_some();
        // What a policy forbids does not go on, even if there is nothing to put on yet.
        let goes_on = record.item.is_some() && !outfit.is_evicted;
        let item = match &record.target {
            // A host that nothing is said about keeps its own way out.
            None if !is_selected && matches!(subject, SubjectId::Node(_)) => None,
            Some(target) if !is_active(draft.state(), target) && goes_on => continue,
            // What it would move to is not known to be free yet: it goes on with what it holds.
            None if !draft.state().recovery.is_empty() && goes_on => continue,
            target => {
                let active = target.as_ref().filter(|target| is_active(draft.state(), target));
                let ids = active.into_iter().flat_map(NetworkTarget::leases);
                let leases: Vec<_> = ids.filter_map(|id| draft.state().leases.get(&id).cloned()).collect();
                let item = tell::item_of(&record, &leases, &outfit.effective);
                Some(held_by_one_edge(draft.state(), item, &leases))
            }
        };
        if item != record.item {
            draft.put(SubjectRecord { item, ..(*record).clone() });
        }
    }
}
