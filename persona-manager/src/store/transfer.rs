//! Carrying a store's whole content to another backend, as it is or as something that was gone back to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::records::RootRecord;
use super::snapshot::Snapshot;
use super::sqlite::SqliteBackend;
use super::write::Write;
use super::{Backend, Draft, EventRecord, StoreConfig, StoreError, StoreLocation};
use crate::authority::Vault;
use crate::clock::now_ms;
use crate::config::Config;
use crate::tasks::recovery;

/// A database lets go of a manager that was stopped a moment later: how often, and after which pauses, that is tried.
const STAND_COUNT_MAX: u32 = 20;
const STAND_PAUSE: Duration = Duration::from_millis(100);

/// Events that are read at a time.
const EVENTS_PER_READ: u32 = 10_000;

/// A store that was carried to a database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Migrated {
    /// Its incarnation and revision, the same in both.
    pub revision: String,
    /// Records that were carried.
    pub record_count: usize,
    /// Events that were carried.
    pub event_count: usize,
    /// Keys of roots that were sealed on the way.
    pub sealed_key_count: usize,
}

/// Carries the SQLite store of a manager, which does not run, to an empty database. All of it or nothing. With a
/// `ca.seal_key_file` the keys of roots go along, sealed.
pub fn migrate(from: &Config, to: &StoreConfig) -> Result<Migrated, StoreError> {
    let location = &from.store.location;
    let (StoreLocation::File(path), StoreLocation::Postgres(_)) = (location, &to.location) else {
        return Err(StoreError::Direction { from: location.to_string(), to: to.location.to_string() });
    };
    if !path.is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(StoreError::Open { path: path.display().to_string(), source });
    }
    let mut source = SqliteBackend::open(path)?;
    let mut target = open_alone(to)?;
    let there = target.load()?;
    if !there.records().is_empty() || there.event_last > 0 {
        return Err(StoreError::NotEmpty { location: to.location.to_string() });
    }
    let mut snapshot = source.load()?;
    let sealed = Vault::new(from).to_seal(&snapshot).map_err(|error| StoreError::Sealing(Box::new(error)))?;
    let sealed_key_count = sealed.len();
    for (id, key) in sealed {
        let root = (*snapshot.roots[&id]).clone();
        snapshot.roots.insert(id, Arc::new(RootRecord { stored_key: Some(key), ..root }));
    }
    let events = all_events(&mut source, &snapshot)?;
    carry(target.as_mut(), &snapshot, &events)?;
    let carried = target.load()?;
    let same = (carried.records(), carried.numbers, carried.generation(), carried.event_last)
        == (snapshot.records(), snapshot.numbers, snapshot.generation(), snapshot.event_last);
    if !same || all_events(target.as_mut(), &carried)? != events {
        return Err(StoreError::Different { location: to.location.to_string() });
    }
    Ok(Migrated {
        revision: snapshot.generation().to_string(),
        record_count: snapshot.records().len(),
        event_count: events.len(),
        sealed_key_count,
    })
}

/// Writes a database's content to a new SQLite file. Managers may run meanwhile.
pub(super) fn export(from: &StoreConfig, file: &Path) -> Result<Snapshot, StoreError> {
    let mut source = super::open_reader(from)?;
    let snapshot = source.load()?;
    let events = all_events(source.as_mut(), &snapshot)?;
    let mut target = SqliteBackend::open_alone(file)?;
    carry(&mut target, &snapshot, &events)?;
    target.close()?;
    Ok(snapshot)
}

/// Goes back, in a database on which no manager runs, to the content of a SQLite file. Events stay and go on.
pub(super) fn go_back(to: &StoreConfig, file: &Path) -> Result<(Snapshot, Snapshot), StoreError> {
    let old = SqliteBackend::open_reader(file)?.load()?;
    let mut target = open_alone(to)?;
    let there = target.load()?;
    let mut base = old.clone();
    base.revision = base.revision.max(there.revision);
    // Its events stay: the chain goes on from the newest there, and what stands for dropped ones stays too.
    base.event_last = base.event_last.max(there.event_last);
    (base.event_head, base.audit_stub) = (there.event_head, there.audit_stub.clone());
    let mut draft = Draft::new(&base, now_ms());
    recovery::begin(&mut draft, there.incarnation, &format!("the store was restored from {}", file.display()));
    let (new, _, events) = draft.finish();
    let mut writes: Vec<Write> = there.leases.keys().map(|id| Write::Free(*id)).collect();
    writes.extend(there.records().into_iter().map(|(table, key, _)| Write::Delete { table, key }));
    writes.extend(whole(&new));
    target.commit(new.revision, &writes, &events)?;
    Ok((old, new))
}

/// Opens a store that no other manager has.
fn open_alone(config: &StoreConfig) -> Result<Box<dyn Backend>, StoreError> {
    let mut backend = super::open(config, "")?;
    for _ in 0..STAND_COUNT_MAX {
        if backend.stand()?.leads() {
            return Ok(backend);
        }
        backend.wait(STAND_PAUSE);
    }
    Err(StoreError::InUse { path: config.location.to_string() })
}

fn carry(target: &mut dyn Backend, snapshot: &Snapshot, events: &[EventRecord]) -> Result<(), StoreError> {
    target.commit(snapshot.revision, &whole(snapshot), events)
}

/// The writes that make a snapshot out of nothing.
fn whole(snapshot: &Snapshot) -> Vec<Write> {
    let incarnation = super::NumberRecord { name: "incarnation", value: snapshot.incarnation.into() };
    let numbers = snapshot.numbers.records().into_iter().chain([incarnation]).map(Write::Number);
    let records = snapshot.records().into_iter().map(|(table, key, body)| Write::Put { table, key, body: body.into() });
    let held = snapshot.leases.values().map(|lease| Write::Hold(lease.clone()));
    numbers.chain(records).chain(held).collect()
}

/// Every event that is kept, up to a snapshot's newest.
fn all_events(backend: &mut dyn Backend, snapshot: &Snapshot) -> Result<Vec<EventRecord>, StoreError> {
    let mut all: Vec<EventRecord> = Vec::new();
    loop {
        let since = all.last().map_or(0, |event| event.number);
        let events = backend.events_after(since, EVENTS_PER_READ)?;
        let is_end = events.is_empty();
        all.extend(events.into_iter().filter(|event| event.number <= snapshot.event_last));
        if is_end || all.last().is_none_or(|event| event.number <= since) {
            return Ok(all);
        }
    }
}
