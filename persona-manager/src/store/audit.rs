//! The chain of events in a store: what it goes on from when a process begins to write, what is dropped for its age, and
//! whether it is whole.

use persona_core::audit::{AuditReport, EventHash, Exported, Walk};

use super::{Backend, EventRecord, Snapshot, StoreConfig, StoreError};
use crate::authority::{SealKeys, retired_roots};

/// Events that are read at a time.
const EVENTS_PER_READ: u32 = 10_000;

/// The hash of the newest event, and how many events up to it have none: an older release wrote those, and they are hashed
/// as a whole.
pub(super) fn head(backend: &mut dyn Backend, snapshot: &Snapshot) -> Result<(EventHash, u64), StoreError> {
    if let Some(head) = snapshot.event_head {
        return Ok((head, 0));
    }
    let (mut since, mut head) = start(snapshot);
    let mut unchained = 0;
    loop {
        let events = backend.events_after(since, EVENTS_PER_READ)?;
        let Some(last) = events.last() else { return Ok((head, unchained)) };
        since = last.number;
        for event in &events {
            head = hash_of(event, head);
            unchained = if event.hash.is_some() { 0 } else { unchained + 1 };
        }
    }
}

/// How many events are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// The newest so many stay.
    pub count: u64,
    /// Beyond them, this many more may be there before any is dropped.
    pub slack: u64,
}

/// The last event that is to be dropped, and its hash. None: there are few enough.
pub(super) fn drop_point(
    backend: &mut dyn Backend,
    snapshot: &Snapshot,
    kept: Kept,
) -> Result<Option<(u64, EventHash)>, StoreError> {
    if backend.event_before_newest(kept.count + kept.slack)?.is_none() {
        return Ok(None);
    }
    let Some(number) = backend.event_before_newest(kept.count)? else { return Ok(None) };
    Ok(Some((number, hash_at(backend, snapshot, number)?)))
}

/// The hash of an event that is there; of one without, that of all events up to it as a whole.
fn hash_at(backend: &mut dyn Backend, snapshot: &Snapshot, number: u64) -> Result<EventHash, StoreError> {
    if let Some(hash) = backend.events_after(number - 1, 1)?.first().and_then(|event| event.hash) {
        return Ok(hash);
    }
    let (mut since, mut head) = start(snapshot);
    while since < number {
        let events = backend.events_after(since, EVENTS_PER_READ)?;
        for event in events.iter().filter(|event| event.number <= number) {
            head = hash_of(event, head);
        }
        since = events.last().map_or(number, |last| last.number);
    }
    Ok(head)
}

/// Checks the chain of events of a store, with what was kept elsewhere of it. A manager may run on it.
pub fn verify_audit(store: &StoreConfig, keys: &SealKeys, kept: &[Exported]) -> Result<AuditReport, StoreError> {
    let mut backend = super::open_reader(store)?;
    let snapshot = backend.load()?;
    let keys = keys.clone().and_retired(&retired_roots(&snapshot));
    let stub = snapshot.audit_stub().cloned();
    let mut since = stub.as_ref().map_or(0, |stub| stub.number);
    let mut walk = Walk::new(stub, |seal, purpose| keys.is_signed(seal, purpose));
    loop {
        let events = backend.events_after(since, EVENTS_PER_READ)?;
        events.iter().for_each(|event| walk.take(event));
        match events.last() {
            Some(last) if last.number < snapshot.event_last => since = last.number,
            _ => return Ok(walk.finish(kept)),
        }
    }
}

/// Before the first event that is there: its number, and the hash that the chain goes on from.
fn start(snapshot: &Snapshot) -> (u64, EventHash) {
    snapshot.audit_stub().map_or((0, EventHash::GENESIS), |seal| (seal.number, seal.hash))
}

/// An event's hash, or the one that it would have after `previous`.
fn hash_of(event: &EventRecord, previous: EventHash) -> EventHash {
    event.hash.unwrap_or_else(|| event.hash_after(previous))
}
