//! The next snapshot in the making, with the list of writes that make it durable.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use persona_core::audit::{AuditSeal, BEGUN_EVENT, Begun, EventHash};
use persona_core::ids::{EdgeNumber, Generation, LeaseId, SubjectNumber, Vni};
use persona_core::wire::desired::DesiredState;
use serde_json::Value;

use super::numbers::{NumberRecord, Numbers};
use super::record::Record;
use super::records::{AgentId, AuditStubRecord, EventRecord, LeaseRecord};
use super::snapshot::{Snapshot, Table};
use super::write::{Body, Write};
use crate::access::{Acting, MANAGER};

/// The largest VNI (24 bits).
const VNI_MAX: u32 = (1 << 24) - 1;

/// Numbers left out when the store has gone back, for those that were given in what was lost.
const LEASES_SKIPPED: u64 = 1 << 32;
const SUBJECTS_SKIPPED: u32 = 1 << 16;
const VNIS_SKIPPED: u32 = 1 << 12;
const EVENTS_SKIPPED: u64 = 1 << 32;

/// A number that has run out; none is ever given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {what} that there are have been given")]
pub(crate) struct NumbersSpent {
    /// Which kind of number.
    pub what: &'static str,
}

/// The next snapshot in the making.
pub(crate) struct Draft {
    snapshot: Snapshot,
    writes: Vec<Write>,
    events: Vec<EventRecord>,
    now_ms: u64,
    base: Numbers,
    by: Acting,
    /// The newest event before this process began to write, if it does so here.
    begun_after: Option<(u64, Option<EventHash>)>,
}

/// Where a draft was, to go back there.
pub(super) struct Savepoint {
    snapshot: Snapshot,
    writes: usize,
    events: usize,
}

impl Draft {
    /// A draft of what follows `base`, at time `now_ms`.
    pub(crate) fn new(base: &Snapshot, now_ms: u64) -> Self {
        let mut snapshot = base.clone();
        snapshot.revision += 1;
        let (writes, events, by) = (Vec::new(), Vec::new(), Acting::default());
        Self { snapshot, writes, events, now_ms, base: base.numbers, by, begun_after: None }
    }

    /// The state as it will be.
    pub(crate) fn state(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The time of all changes in this draft.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Sets the time of what is still to change.
    pub(crate) fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// On whose behalf the changes are made.
    pub(crate) fn actor(&self) -> Arc<str> {
        self.by.actor.clone()
    }

    /// The changes that follow are made on behalf of somebody.
    pub(super) fn act_for(&mut self, by: Acting) {
        self.by = by;
    }

    /// The generation that the changes will have.
    pub(crate) fn generation(&self) -> Generation {
        self.snapshot.generation()
    }

    /// How many changes there are so far.
    pub(crate) fn change_count(&self) -> usize {
        self.writes.len()
    }

    /// Stores a record; a record that is stored like that already is left alone by the caller.
    pub(crate) fn put<R: Record>(&mut self, record: R) {
        let (key, record) = (record.key(), Arc::new(record));
        let body = Body::of(Arc::clone(&record));
        self.writes.push(Write::Put { table: R::TABLE, key: R::key_text(&key), body });
        self.snapshot.put(key, record);
    }

    /// Removes a record.
    pub(crate) fn delete<R: Record>(&mut self, key: &R::Key) {
        self.writes.push(Write::Delete { table: R::TABLE, key: R::key_text(key) });
        self.snapshot.take::<R>(key);
    }

    /// Stores a new lease and holds its ports.
    pub(crate) fn grant_lease(&mut self, lease: LeaseRecord) {
        self.writes.push(Write::Hold(Arc::new(lease.clone())));
        self.put(lease);
    }

    /// Removes a lease and frees its ports.
    pub(crate) fn free_lease(&mut self, id: LeaseId) {
        self.writes.push(Write::Free(id));
        self.delete::<LeaseRecord>(&id);
    }

    /// Notes that something happened; if whom this draft is made for did it, also from where and why.
    pub(crate) fn event(
        &mut self,
        name: &str,
        about: impl ToString,
        actor: impl ToString,
        message: String,
        mut details: Value,
    ) {
        let actor = actor.to_string();
        if let Some(details) = details.as_object_mut().filter(|_| *actor == *self.by.actor) {
            for (key, value) in [("source", &self.by.source), ("reason", &self.by.reason)] {
                if let Some(value) = value.as_ref().filter(|_| details.get(key).is_none_or(Value::is_null)) {
                    details.insert(key.to_owned(), Value::from(&**value));
                }
            }
        }
        self.snapshot.event_last += 1;
        let mut event = EventRecord {
            number: self.snapshot.event_last,
            time_ms: self.now_ms,
            name: name.to_owned(),
            about: stored_text(about.to_string()),
            actor: stored_text(actor),
            message: stored_text(message),
            details: details.to_string(),
            previous: None,
            hash: None,
        };
        if let Some(head) = self.snapshot.event_head {
            self.snapshot.event_head = Some(event.link(head));
        }
        self.events.push(event);
    }

    /// Begins to write events as a process of this name, after `unchained` events without a hash of which `head` is the
    /// last one's. If nothing happens, nothing has begun.
    pub(super) fn begin_events(&mut self, process: &str, head: EventHash, unchained: u64) {
        let (last, before) = (self.snapshot.event_last, self.snapshot.event_head);
        self.snapshot.event_head = Some(head);
        let release = env!("CARGO_PKG_VERSION").to_owned();
        let begun = Begun { process: process.to_owned(), release, unchained };
        let details = serde_json::to_value(begun).expect("it has string keys only");
        let message = "another process writes events from here on".to_owned();
        self.event(BEGUN_EVENT, format!("process/{process}"), MANAGER, message, details);
        self.begun_after = Some((last, before));
    }

    /// Drops events up to that of `seal`, which stands for them from now on.
    pub(crate) fn drop_events(&mut self, seal: AuditSeal) {
        self.writes.push(Write::DropEvents(seal.number));
        self.put(AuditStubRecord { seal });
    }

    /// Shows the desired states that this draft implies.
    pub(crate) fn set_desired(&mut self, desired: BTreeMap<AgentId, Arc<DesiredState>>) {
        self.snapshot.desired = desired.into_iter().collect();
    }

    /// Shows some of the desired states that this draft implies; the others are as before.
    pub(crate) fn replace_desired(&mut self, some: BTreeMap<AgentId, Arc<DesiredState>>) {
        self.snapshot.desired.extend(some);
    }

    /// Begins a new incarnation of the store, after all that anybody has seen. Numbers go on far beyond those that may
    /// have been given in what was lost; edge numbers are few and are learnt from those who hold them.
    pub(crate) fn raise_incarnation(&mut self, above: u32) {
        let incarnation = self.snapshot.incarnation.max(above) + 1;
        self.snapshot.incarnation = incarnation;
        self.writes.push(Write::Number(NumberRecord { name: "incarnation", value: incarnation.into() }));
        let numbers = &mut self.snapshot.numbers;
        numbers.lease += LEASES_SKIPPED;
        numbers.subject = numbers.subject.saturating_add(SUBJECTS_SKIPPED);
        numbers.vni = (numbers.vni + VNIS_SKIPPED).min(VNI_MAX);
        self.snapshot.event_last += EVENTS_SKIPPED;
    }

    /// Somebody holds these numbers: they are given to nobody else.
    pub(crate) fn skip_numbers(&mut self, held: Numbers) {
        let numbers = &mut self.snapshot.numbers;
        numbers.vni = numbers.vni.max(held.vni);
        numbers.lease = numbers.lease.max(held.lease);
        numbers.subject = numbers.subject.max(held.subject);
        numbers.edge = numbers.edge.max(held.edge);
    }

    /// A VNI that was never given.
    pub(crate) fn next_vni(&mut self) -> Result<Vni, NumbersSpent> {
        let vni = self.snapshot.numbers.vni;
        if vni > VNI_MAX {
            return Err(NumbersSpent { what: "VNIs" });
        }
        self.snapshot.numbers.vni += 1;
        Ok(Vni(vni))
    }

    /// A lease id that was never given.
    pub(crate) fn next_lease_id(&mut self) -> LeaseId {
        self.snapshot.numbers.lease += 1;
        LeaseId(self.snapshot.numbers.lease - 1)
    }

    /// A subject number that was never given.
    pub(crate) fn next_subject_number(&mut self) -> SubjectNumber {
        self.snapshot.numbers.subject += 1;
        SubjectNumber(self.snapshot.numbers.subject - 1)
    }

    /// An edge number that was never given.
    pub(crate) fn next_edge_number(&mut self) -> Result<EdgeNumber, NumbersSpent> {
        let number = self.snapshot.numbers.edge;
        self.snapshot.numbers.edge = number.checked_add(1).ok_or(NumbersSpent { what: "edge numbers" })?;
        Ok(EdgeNumber(number))
    }

    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint { snapshot: self.snapshot.clone(), writes: self.writes.len(), events: self.events.len() }
    }

    pub(super) fn roll_back(&mut self, savepoint: Savepoint) {
        self.snapshot = savepoint.snapshot;
        self.writes.truncate(savepoint.writes);
        self.events.truncate(savepoint.events);
    }

    /// The new snapshot, its writes and its events; without a change there is no new revision.
    pub(crate) fn finish(mut self) -> (Snapshot, Vec<Write>, Vec<EventRecord>) {
        if let Some((last, head)) = self.begun_after
            && self.events.len() == 1
        {
            self.events.clear();
            (self.snapshot.event_last, self.snapshot.event_head) = (last, head);
        }
        if self.snapshot.numbers != self.base {
            self.writes.extend(self.snapshot.numbers.records().map(Write::Number));
        }
        if self.writes.is_empty() && self.events.is_empty() {
            self.snapshot.revision -= 1;
        }
        (self.snapshot, last_of_each(self.writes), self.events)
    }
}

/// The last write of each record: what was written down before within one transaction is seen by nobody.
fn last_of_each(writes: Vec<Write>) -> Vec<Write> {
    let is_last: Vec<bool> = {
        let mut seen: HashSet<(Table, &str)> = HashSet::with_capacity(writes.len());
        let is_last = writes.iter().rev().map(|write| match write {
            Write::Put { table, key, .. } | Write::Delete { table, key } => seen.insert((*table, key.as_str())),
            _ => true,
        });
        is_last.collect()
    };
    let mut is_last = is_last.into_iter().rev();
    writes.into_iter().filter(|_| is_last.next().unwrap_or(true)).collect()
}

/// A text as every backend stores it: PostgreSQL's hold no NUL, and what agents say may. Hashes are over what is stored.
fn stored_text(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}
