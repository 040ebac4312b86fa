//! The SQLite backend: write-ahead log, every commit on disk before it is answered, checked at start.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use persona_core::wire::desired::LeaseSpace;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::Notify;

use super::checkpoints::Checkpoints;
use super::maintenance::with_suffix;
use super::records::{EventRecord, read_hash};
use super::snapshot::{Snapshot, Table};
use super::write::{Body, Write};
use super::{Backend, Standing, StoreError};

/// Layouts by their numbers, ascending; `user_version` is the number of the last one that a file has seen. Forward only.
pub(super) const MIGRATIONS: [(i64, &str); 18] = [
    (1, include_str!("../../migrations/sqlite/0001_records.sql")),
    (2, include_str!("../../migrations/sqlite/0002_settings.sql")),
    (3, include_str!("../../migrations/sqlite/0003_roots.sql")),
    (4, include_str!("../../migrations/sqlite/0004_access_tokens.sql")),
    (5, include_str!("../../migrations/sqlite/0005_revocations.sql")),
    (10, include_str!("../../migrations/sqlite/0010_recovery.sql")),
    (11, include_str!("../../migrations/sqlite/0011_identity.sql")),
    (30, include_str!("../../migrations/sqlite/0030_audit.sql")),
    (31, include_str!("../../migrations/sqlite/0031_once.sql")),
    (40, include_str!("../../migrations/sqlite/0040_signals.sql")),
    (47, include_str!("../../migrations/sqlite/0047_reached.sql")),
    (48, include_str!("../../migrations/sqlite/0048_rollouts.sql")),
    (49, include_str!("../../migrations/sqlite/0049_pool_history.sql")),
    (54, include_str!("../../migrations/sqlite/0054_web.sql")),
    (65, include_str!("../../migrations/sqlite/0065_webhooks.sql")),
    (73, include_str!("../../migrations/sqlite/0073_schedules.sql")),
    (74, include_str!("../../migrations/sqlite/0074_joined_keys.sql")),
    (75, include_str!("../../migrations/sqlite/0075_lease_blocks.sql")),
];

/// Pages that the writer keeps in memory, KiB: what one batch of a large fleet changes is not read anew for the next.
const CACHE_KIB: i64 = 32_768;

/// Statements that are kept ready: two a table, and some.
const STATEMENT_COUNT_MAX: usize = 2 * Table::ALL.len() + 16;

/// An open SQLite store.
pub(crate) struct SqliteBackend {
    /// None: SQLite carries its log over with a commit now and then.
    checkpoints: Option<Checkpoints>,
    connection: Connection,
    /// Held while the writer lives, so that no second manager writes to the same file.
    _lock: Option<Lock>,
}

/// A locked file. It is unlocked and not only closed: a child process that is just being started has it open too, until
/// it runs another program.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(error = &error as &dyn std::error::Error, "the store's lock ends with the process only");
        }
    }
}

impl SqliteBackend {
    /// Opens the store for writing, creates it if it is not there, checks it and brings its layout up to date.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let at_open = |source| StoreError::Open { path: path.display().to_string(), source };
            std::fs::create_dir_all(parent).map_err(at_open)?;
        }
        let lock = lock(path)?;
        let alone = Self::open_alone(path)?;
        alone.connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        alone.connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        alone.connection.set_prepared_statement_cache_capacity(STATEMENT_COUNT_MAX);
        Ok(Self { _lock: Some(lock), checkpoints: Some(Checkpoints::start(path)?), ..alone })
    }

    /// As [`open`](Self::open), of a file that nobody else knows.
    pub(super) fn open_alone(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        check_integrity(&connection, path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        migrate(&mut connection, path)?;
        Ok(Self { checkpoints: None, connection, _lock: None })
    }

    /// Closes the store and leaves one file without a log beside it.
    pub(super) fn close(mut self) -> Result<(), StoreError> {
        drop(self.checkpoints.take());
        self.connection.pragma_update(None, "journal_mode", "delete")?;
        self.connection.close().map_err(|(_, error)| error.into())
    }

    /// Opens a store that is open for writing elsewhere in this process, to read events.
    pub(crate) fn open_reader(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Self { checkpoints: None, connection, _lock: None })
    }

    fn load_table(&self, snapshot: &mut Snapshot, table: Table) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(&format!("SELECT body FROM {}", table.name()))?;
        let bodies = statement.query_map([], |row| row.get::<_, String>(0))?;
        for body in bodies {
            snapshot.take_in(table, &body?).map_err(|source| StoreError::Record { table: table.name(), source })?;
        }
        Ok(())
    }
}

impl Backend for SqliteBackend {
    /// Whoever holds the file leads.
    fn stand(&mut self) -> Result<Standing, StoreError> {
        Ok(Standing::Leads { went_back: None })
    }

    fn catch_up(&mut self, _known: &Snapshot) -> Result<Option<Snapshot>, StoreError> {
        Ok(None)
    }

    fn wait(&mut self, at_most: Duration) {
        std::thread::sleep(at_most);
    }

    fn waker(&self) -> Option<Arc<Notify>> {
        None
    }

    fn confirm(&mut self, _revision: u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whoever holds the file leads: nobody is beside it.
    fn commit_beside(&mut self, _: u64, _: &[Write], _: &[EventRecord]) -> Result<(), StoreError> {
        Err(StoreError::Fenced)
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::default();
        let mut statement = self.connection.prepare("SELECT name, value FROM meta")?;
        let numbers = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        for number in numbers {
            let (name, value) = number?;
            snapshot.take_number(&name, value as u64);
        }
        let query = "SELECT number, hash FROM events ORDER BY number DESC LIMIT 1";
        let newest =
            self.connection.query_row(query, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?)));
        if let Some((number, hash)) = newest.optional()? {
            (snapshot.event_last, snapshot.event_head) = (number as u64, read_hash(hash));
        }
        for table in Table::ALL {
            self.load_table(&mut snapshot, table)?;
        }
        Ok(snapshot)
    }

    fn commit(&mut self, revision: u64, writes: &[Write], events: &[EventRecord]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        put_meta(&transaction, "revision", revision)?;
        put_records(&transaction, writes)?;
        for write in writes {
            apply(&transaction, write)?;
        }
        put_events(&transaction, events)?;
        transaction.commit()?;
        self.checkpoints.iter_mut().for_each(|checkpoints| checkpoints.note(writes.len() + events.len()));
        Ok(())
    }

    fn events_after(&mut self, since: u64, limit: u32) -> Result<Vec<EventRecord>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, time_ms, name, about, actor, message, details, previous, hash FROM events \
             WHERE number > ?1 ORDER BY number LIMIT ?2",
        )?;
        let rows = statement.query_map(params![since as i64, limit], |row| {
            Ok(EventRecord {
                number: row.get::<_, i64>(0)? as u64,
                time_ms: row.get::<_, i64>(1)? as u64,
                name: row.get(2)?,
                about: row.get(3)?,
                actor: row.get(4)?,
                message: row.get(5)?,
                details: row.get(6)?,
                previous: read_hash(row.get(7)?),
                hash: read_hash(row.get(8)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn event_before_newest(&mut self, count: u64) -> Result<Option<u64>, StoreError> {
        let query = "SELECT number FROM events ORDER BY number DESC LIMIT 1 OFFSET ?1";
        let number = self.connection.query_row(query, [count as i64], |row| row.get::<_, i64>(0));
        Ok(number.optional()?.map(|number| number as u64))
    }
}

/// Holds a store's path for this process. Whoever has it may write to the file or put another one in its place.
pub(super) fn lock(path: &Path) -> Result<Lock, StoreError> {
    let file = File::create(with_suffix(path, ".lock"));
    let file = file.map_err(|source| StoreError::Open { path: path.display().to_string(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(_) => Err(StoreError::InUse { path: path.display().to_string() }),
    }
}

pub(super) fn check_integrity(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let corrupt = |finding: String| StoreError::Corrupt { path: path.display().to_string(), finding };
    let finding = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    match finding {
        Ok(finding) if finding == "ok" => Ok(()),
        Ok(finding) => Err(corrupt(finding)),
        Err(error) => Err(corrupt(error.to_string())),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.iter().map(|(number, _)| *number).max().unwrap_or_default();
    if found > known {
        return Err(StoreError::TooNew { path: path.display().to_string(), found, known });
    }
    for (number, migration) in MIGRATIONS.iter().filter(|(number, _)| *number > found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    let first_incarnation = "INSERT INTO meta VALUES ('incarnation', 1) ON CONFLICT DO NOTHING";
    connection.execute(first_incarnation, [])?;
    Ok(())
}

fn put_meta(connection: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(params![name, value as i64]).map(drop)
}

/// Writes records, a table at a time and in the order of their keys: neighbours stand on one page.
fn put_records(connection: &Connection, writes: &[Write]) -> rusqlite::Result<()> {
    let mut tables: BTreeMap<Table, Vec<(&str, Option<&Body>)>> = BTreeMap::new();
    for write in writes {
        match write {
            Write::Put { table, key, body } => tables.entry(*table).or_default().push((key, Some(body))),
            Write::Delete { table, key } => tables.entry(*table).or_default().push((key, None)),
            _ => {}
        }
    }
    for (table, mut rows) in tables {
        rows.sort_by_key(|(key, _)| *key); // stable: of one key the last write counts
        let table = table.name();
        let put = format!("INSERT INTO {table} VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET body = excluded.body");
        let mut put = connection.prepare_cached(&put)?;
        let mut delete = connection.prepare_cached(&format!("DELETE FROM {table} WHERE key = ?1"))?;
        for (key, body) in rows {
            match body {
                Some(body) => put.execute([key, &*body.text()])?,
                None => delete.execute([key])?,
            };
        }
    }
    Ok(())
}

/// Everything but records.
fn apply(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::Put { .. } | Write::Delete { .. } => Ok(()),
        Write::Number(number) => put_meta(connection, number.name, number.value),
        Write::Hold(lease) => {
            let mut statement = connection.prepare_cached("INSERT INTO lease_blocks VALUES (?1, ?2, ?3, ?4)")?;
            let (address, ranges) = match &lease.space {
                LeaseSpace::Ports { address, .. } => (address.to_string(), lease.space.port_ranges()),
                LeaseSpace::Prefix { .. } => (lease.space.to_string(), vec![(0, u16::MAX)]),
            };
            for (first, last) in ranges {
                statement.execute(params![address, first, last, lease.id.to_string()])?;
            }
            Ok(())
        }
        Write::DropEvents(number) => {
            connection.prepare_cached("DELETE FROM events WHERE number <= ?1")?.execute([*number as i64]).map(drop)
        }
        Write::Free(id) => {
            let mut statement = connection.prepare_cached("DELETE FROM lease_blocks WHERE lease = ?1")?;
            statement.execute([id.to_string()]).map(drop)
        }
    }
}

fn put_events(connection: &Connection, events: &[EventRecord]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    for event in events {
        statement.execute(params![
            event.number as i64,
            event.time_ms as i64,
            event.name,
            event.about,
            event.actor,
            event.message,
            event.details,
            event.previous.map(String::from),
            event.hash.map(String::from),
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_although_a_child_that_is_being_started_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let held = lock(&path).unwrap();
        let inherited = held.0.try_clone().unwrap();
        assert!(matches!(lock(&path), Err(StoreError::InUse { .. })));
        drop(held);
        lock(&path).unwrap();
        drop(inherited);
    }
}
