//! Everything that is judged, under one lock: samples come in with reports, a turn is made with each pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use persona_core::activate::{Decision, Moment, Outcome, Pace};
use persona_core::ids::{NodeName, SubjectId};
use persona_core::wire::agent::Role;
use persona_core::wire::signals::SampleBatch;
use serde_json::Value;

use super::judged::Judged;
use super::list::{Group, List};
use super::samples::{Measured, of_host, rows_of};
use super::watches::{AlertTurn, Watches};
use crate::clock;
use crate::store::{
    ActivationRecord, AgentRecord, DocumentRecord, Records, SignalRecord, Snapshot, SubjectRecord, WorkloadRecord,
};
use crate::tasks::assignment::subjects_of;
use crate::tasks::kept::{is_there, workloads_on};
use crate::tasks::wear::personas_of;

/// Every subject is looked at again after this time, for what only time changes, milliseconds.
const LOOK_INTERVAL_MS: u64 = 1_000;

/// What a turn came to for one subject.
#[derive(Debug)]
pub(crate) enum Turn {
    /// What it wears by activation is not what the store says.
    Decided {
        /// Who.
        subject: SubjectId,
        /// What the store shall say.
        record: Option<ActivationRecord>,
        /// What the switch rests on.
        told: Value,
    },
    /// A wish is held back, told once.
    HeldBack {
        /// Who.
        subject: SubjectId,
        /// Why, a sentence for people.
        reason: String,
    },
    /// Its rules cannot be judged, told once.
    Unjudged {
        /// Who.
        subject: SubjectId,
        /// Why.
        trouble: String,
    },
}

/// Everything that is judged.
#[derive(Debug, Default)]
pub(crate) struct Activations(Mutex<State>);

/// By node, so that a report finds its own.
pub(super) type Key = (NodeName, SubjectId);

/// Where a subject is found.
pub(super) fn key_of(subject: &SubjectId) -> Key {
    (subject.node().clone(), subject.clone())
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) groups: BTreeMap<Arc<List>, Group>,
    pub(super) subjects: BTreeMap<Key, Judged>,
    pub(super) measured: BTreeMap<Key, Measured>,
    pub(super) watches: Watches,
    /// What the steady clock shows when the monotonic one shows 0.
    origin_ms: Option<u64>,
    /// How fast the whole fleet may change.
    pace: Pace,
    looked_ms: u64,
    listed: Option<Listed>,
    pushed: Records<SignalRecord>,
}

/// What lists were made from.
#[derive(Debug)]
struct Listed {
    documents: Records<DocumentRecord>,
    workloads: Records<WorkloadRecord>,
    agents: Records<AgentRecord>,
}

impl Listed {
    fn of(snapshot: &Snapshot) -> Self {
        let (documents, workloads, agents) =
            (snapshot.documents.clone(), snapshot.workloads.clone(), snapshot.agents.clone());
        Self { documents, workloads, agents }
    }

    /// Whose list may be another now. None: anybody's.
    fn concerned(&self, snapshot: &Snapshot) -> Option<BTreeSet<SubjectId>> {
        if !self.documents.is_same(&snapshot.documents) {
            return None;
        }
        let workloads = snapshot.workloads.changes_since(&self.workloads).into_iter();
        let mut concerned: BTreeSet<SubjectId> = workloads.map(|change| change.key.clone()).collect();
        for change in snapshot.agents.changes_since(&self.agents) {
            let is_labelled_alike =
                |(before, after): (&Arc<AgentRecord>, &Arc<AgentRecord>)| has_same_labels(before, after);
            if change.before.zip(change.after).is_some_and(is_labelled_alike) {
                continue;
            }
            let Some(node) = change.key.name.parse().ok().filter(|_| change.key.role == Role::Node) else { continue };
            concerned.extend(workloads_on(&snapshot.workloads, &node).map(|(subject, _)| subject.clone()));
            concerned.insert(SubjectId::Node(node));
        }
        Some(concerned)
    }
}

/// Whether selectors see the same in two records of a node.
fn has_same_labels(one: &AgentRecord, other: &AgentRecord) -> bool {
    let of_workloads = |record: &AgentRecord| record.node().map(|node| node.workload_labels.clone());
    (&one.labels, &one.bound_labels, of_workloads(one)) == (&other.labels, &other.bound_labels, of_workloads(other))
}

impl Activations {
    /// Takes in what a node measured, of subjects that it is known to have. Returns whether a pass should look at what
    /// that changes.
    pub(crate) fn record(
        &self,
        node: &NodeName,
        batches: &[SampleBatch],
        is_known: impl Fn(&SubjectId) -> bool,
        clock: clock::Moment,
    ) -> bool {
        let mut state = self.lock();
        let now = state.moment(clock);
        let rows = batches.iter().flat_map(|batch| rows_of(node, batch, now.steady_ms));
        for (subject, measured) in rows.filter(|(subject, _)| is_known(subject)) {
            state.take(node, &subject, measured);
        }
        let is_due = state.look_at(node, now);
        state.watches.look_at(node, now) || is_due
    }

    /// Whether anything is judged by what a node measures.
    pub(crate) fn rests_on(&self, node: &NodeName) -> bool {
        let state = self.lock();
        let first = (node.clone(), SubjectId::Node(node.clone()));
        let is_judged = state.subjects.range(first..).next().is_some_and(|((of, _), _)| of == node);
        is_judged || state.watches.has_any_on(node)
    }

    /// Judges everything that changed, and says what follows. What was said and not stored is said again.
    pub(crate) fn turn(&self, snapshot: &Snapshot, clock: clock::Moment) -> Vec<Turn> {
        let mut state = self.lock();
        let now = state.moment(clock);
        let mut turns = state.follow_lists(snapshot, now);
        state.follow_pushed(snapshot, now);
        state.look_at_all(now);
        turns.extend(state.judge(now));
        turns.extend(state.differences(snapshot));
        turns
    }

    /// Looks at all that personas watch, and says what becomes of their alerts. What was said and not stored is said again.
    pub(crate) fn alerts(&self, snapshot: &Snapshot, clock: clock::Moment) -> Vec<AlertTurn> {
        let mut state = self.lock();
        let now = state.moment(clock);
        let State { watches, measured, .. } = &mut *state;
        watches.turn(snapshot, measured, now)
    }

    /// Forgets everything: another manager judged until now.
    pub(crate) fn start_anew(&self) {
        let mut state = self.lock();
        *state = State { pace: Pace::new(state.pace.count()), ..State::default() };
    }

    /// Bounds how many subjects are switched in a minute. None: any number.
    pub(crate) fn set_pace(&self, count: Option<u32>) {
        self.lock().pace = Pace::new(count);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The steady clock begins with what people's clocks say, and is not set afterwards.
    pub(super) fn moment(&mut self, clock: clock::Moment) -> Moment {
        let origin_ms = *self.origin_ms.get_or_insert(clock.now_ms.saturating_sub(clock.monotonic_ms));
        Moment { wall_ms: clock.now_ms, steady_ms: origin_ms.saturating_add(clock.monotonic_ms) }
    }

    fn take(&mut self, node: &NodeName, subject: &SubjectId, measured: Measured) {
        let key = (node.clone(), subject.clone());
        if let Some(judged) = self.subjects.get_mut(&key) {
            judged.sight.record(&measured);
        }
        if matches!(subject, SubjectId::Node(_)) {
            let host = of_host(&measured);
            self.of_node(node).for_each(|(_, judged)| judged.sight.record(&host));
            self.watches.record_host(node, &host);
        }
        self.watches.record(&key, &measured);
        self.measured.insert(key, measured);
    }

    fn of_node<'a>(&'a mut self, node: &'a NodeName) -> impl Iterator<Item = (&'a Key, &'a mut Judged)> {
        // A node comes before its workloads.
        let first = (node.clone(), SubjectId::Node(node.clone()));
        self.subjects.range_mut(first..).take_while(move |((of, _), _)| of == node)
    }

    fn look_at(&mut self, node: &NodeName, now: Moment) -> bool {
        let Self { groups, subjects, .. } = self;
        let first = (node.clone(), SubjectId::Node(node.clone()));
        let mut is_due = false;
        for (_, judged) in subjects.range(first..).take_while(|((of, _), _)| of == node) {
            let Some(group) = groups.get_mut(&judged.list) else { continue };
            judged.look(group, now.steady_ms);
            is_due |= group.fleet.is_due(judged.index, now.steady_ms);
        }
        is_due
    }

    fn look_at_all(&mut self, now: Moment) {
        if now.steady_ms < self.looked_ms.saturating_add(LOOK_INTERVAL_MS) {
            return;
        }
        self.looked_ms = now.steady_ms;
        for judged in self.subjects.values() {
            if let Some(group) = self.groups.get_mut(&judged.list) {
                judged.look(group, now.steady_ms);
            }
        }
    }

    /// Has every subject under the list that documents and labels give it now.
    fn follow_lists(&mut self, snapshot: &Snapshot, now: Moment) -> Vec<Turn> {
        let concerned = self.listed.replace(Listed::of(snapshot)).and_then(|listed| listed.concerned(snapshot));
        if concerned.as_ref().is_some_and(BTreeSet::is_empty) {
            return Vec::new();
        }
        let (mut gone, subjects) = match concerned {
            None => (std::mem::take(&mut self.subjects), subjects_of(snapshot)),
            Some(some) => {
                let gone = some.iter().filter_map(|subject| self.subjects.remove_entry(&key_of(subject))).collect();
                (gone, some.into_iter().filter(|subject| is_there(snapshot, subject)).collect())
            }
        };
        let (personas, mut turns) = (personas_of(snapshot), Vec::new());
        for subject in subjects {
            let key = (subject.node().clone(), subject);
            let Some(list) = List::of(snapshot, &personas, &key.1).map(Arc::new) else { continue };
            let before = gone.remove(&key);
            if let Some(judged) = before.as_ref()
                && judged.list == list
            {
                self.subjects.extend(before.map(|judged| (key, judged)));
                continue;
            }
            let group = self.groups.entry(Arc::clone(&list)).or_insert_with(|| Group::new(&list, &personas));
            let trouble = group.trouble.clone();
            turns.extend(trouble.map(|trouble| Turn::Unjudged { subject: key.1.clone(), trouble }));
            let mut judged = match before {
                Some(mut judged) => {
                    let old = (Arc::clone(&judged.list), judged.index);
                    judged.change(group, list, &key.1, now.steady_ms);
                    self.leave(old);
                    judged
                }
                None => {
                    let record = snapshot.subjects.get(&key.1).and_then(|record| record.activation.as_deref().cloned());
                    Judged::join(group, list, &key.1, record, now.steady_ms)
                }
            };
            // What was measured last is known under a new list too.
            judged.sight.record_latest(&self.measured, &key);
            self.subjects.insert(key, judged);
        }
        gone.into_values().for_each(|judged| self.leave((judged.list, judged.index)));
        self.groups.retain(|_, group| !group.members.is_empty());
        let is_measured_still = |(_, subject): &Key| match subject {
            SubjectId::Node(_) => true,
            SubjectId::Workload(..) => snapshot.workloads.contains_key(subject),
        };
        self.measured.retain(|key, _| is_measured_still(key));
        self.looked_ms = 0;
        self.pushed = Records::default();
        turns
    }

    fn leave(&mut self, (list, index): (Arc<List>, persona_core::activate::SubjectIndex)) {
        if let Some(group) = self.groups.get_mut(&list) {
            group.leave(index);
        }
    }

    fn follow_pushed(&mut self, snapshot: &Snapshot, now: Moment) {
        if self.pushed.is_same(&snapshot.signals) {
            return;
        }
        self.pushed = snapshot.signals.clone();
        for ((_, subject), judged) in &mut self.subjects {
            let own: Vec<&Arc<SignalRecord>> = snapshot.signals_of(subject).collect();
            let is_changed = judged.sight.take_pushed(&own, now);
            if let Some(group) = self.groups.get_mut(&judged.list).filter(|_| is_changed) {
                judged.look(group, now.steady_ms);
            }
        }
    }

    fn judge(&mut self, now: Moment) -> Vec<Turn> {
        let Self { groups, subjects, pace, .. } = self;
        let mut turns = Vec::new();
        for group in groups.values_mut().filter(|group| group.trouble.is_none()) {
            let decisions = group.fleet.evaluate_within(now, pace);
            let moved = group.fleet.take_moved();
            for decision in decisions {
                let Some(key) = group.members.get(&decision.subject).map(key_of) else { continue };
                let Some(judged) = subjects.get_mut(&key) else { continue };
                turns.extend(take_decision(judged, group, decision, now, key.1));
            }
            for key in moved.iter().filter_map(|index| group.members.get(index)).map(key_of) {
                if let Some(judged) = subjects.get_mut(&key) {
                    judged.note_rules(group);
                }
            }
        }
        turns
    }

    /// Where the store does not say what was decided.
    fn differences(&self, snapshot: &Snapshot) -> Vec<Turn> {
        let judged = self.subjects.keys().filter_map(|(_, subject)| snapshot.subjects.get(subject));
        let is_unjudged = |record: &&Arc<SubjectRecord>| !self.subjects.contains_key(&key_of(&record.subject));
        let stored = judged.chain(snapshot.activated().filter(is_unjudged)).filter_map(|record| {
            let judged = self.subjects.get(&key_of(&record.subject));
            let decided = judged.and_then(|judged| judged.decided.as_ref());
            (record.activation.as_deref() != decided).then(|| Turn::Decided {
                subject: record.subject.clone(),
                record: decided.cloned(),
                told: judged.map(|judged| judged.told.clone()).unwrap_or_default(),
            })
        });
        stored.collect()
    }
}

fn take_decision(
    judged: &mut Judged,
    group: &Group,
    decision: Decision,
    now: Moment,
    subject: SubjectId,
) -> Option<Turn> {
    if decision.outcome == Outcome::Switched {
        judged.switch(group, &decision, now);
        return None;
    }
    let reason = decision.reason;
    judged.held_back = Some(reason.clone());
    Some(Turn::HeldBack { subject, reason })
}
