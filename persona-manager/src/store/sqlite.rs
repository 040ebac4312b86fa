//! The SQLite backend: write-ahead log, every commit on disk before it is answered, checked at start.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use persona_core::wire::desired::LeaseSpace;
use rusqlite::{Connection, OptionalExtension, params};

use super::records::EventRecord;
use super::snapshot::{Record, Snapshot, Table, Write};
use super::{Backend, StoreError};

/// Layouts in order; `user_version` says how many a file has seen. Forward only.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../migrations/sqlite/0001_records.sql"),
    include_str!("../../migrations/sqlite/0002_settings.sql"),
    include_str!("../../migrations/sqlite/0003_roots.sql"),
    include_str!("../../migrations/sqlite/0004_access_tokens.sql"),
    include_str!("../../migrations/sqlite/0005_revocations.sql"),
];

/// Older events than this many are dropped.
const EVENT_COUNT_MAX: u64 = 200_000;

/// An open SQLite store.
pub(crate) struct SqliteBackend {
    connection: Connection,
    /// Held while the writer lives, so that no second manager writes to the same file.
    _lock: Option<File>,
}

impl SqliteBackend {
    /// Opens the store for writing, creates it if it is not there, checks it and brings its layout up to date.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let at_open = |source| StoreError::Open { path: path.display().to_string(), source };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(at_open)?;
        }
        let lock = File::create(lock_path(path)).map_err(at_open)?;
        if lock.try_lock().is_err() {
            return Err(StoreError::InUse { path: path.display().to_string() });
        }
        let mut connection = Connection::open(path)?;
        check_integrity(&connection, path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        migrate(&mut connection, path)?;
        Ok(Self { connection, _lock: Some(lock) })
    }

    /// Opens a store that is open for writing elsewhere in this process, to read events.
    pub(crate) fn open_reader(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Self { connection, _lock: None })
    }

    fn meta(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let query = "SELECT value FROM meta WHERE name = ?1";
        let value = self.connection.query_row(query, [name], |row| row.get::<_, i64>(0)).optional()?;
        Ok(value.map(|value| value as u64))
    }

    fn load_table<R: Record>(&self, snapshot: &mut Snapshot) -> Result<(), StoreError> {
        let table = table_name(R::TABLE);
        let mut statement = self.connection.prepare(&format!("SELECT body FROM {table}"))?;
        let bodies = statement.query_map([], |row| row.get::<_, String>(0))?;
        let records = Arc::make_mut(R::records_mut(snapshot));
        for body in bodies {
            let record: R = serde_json::from_str(&body?).map_err(|source| StoreError::Record { table, source })?;
            records.insert(record.key(), Arc::new(record));
        }
        Ok(())
    }
}

impl Backend for SqliteBackend {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot {
            incarnation: self.meta("incarnation")?.unwrap_or(1) as u32,
            revision: self.meta("revision")?.unwrap_or(0),
            ..Snapshot::default()
        };
        let numbers = &mut snapshot.numbers;
        numbers.vni = self.meta("next_vni")?.map_or(numbers.vni, |value| value as u32);
        numbers.lease = self.meta("next_lease")?.unwrap_or(numbers.lease);
        numbers.subject = self.meta("next_subject")?.map_or(numbers.subject, |value| value as u32);
        numbers.edge = self.meta("next_edge")?.map_or(numbers.edge, |value| value as u16);
        let query = "SELECT coalesce(max(number), 0) FROM events";
        snapshot.event_last = self.connection.query_row(query, [], |row| row.get::<_, i64>(0))? as u64;
        self.load_table::<super::DocumentRecord>(&mut snapshot)?;
        self.load_table::<super::VersionRecord>(&mut snapshot)?;
        self.load_table::<super::JoinTokenRecord>(&mut snapshot)?;
        self.load_table::<super::AgentRecord>(&mut snapshot)?;
        self.load_table::<super::WorkloadRecord>(&mut snapshot)?;
        self.load_table::<super::SubjectRecord>(&mut snapshot)?;
        self.load_table::<super::LeaseRecord>(&mut snapshot)?;
        self.load_table::<super::PublicationRecord>(&mut snapshot)?;
        self.load_table::<super::SettingsRecord>(&mut snapshot)?;
        self.load_table::<super::RootRecord>(&mut snapshot)?;
        self.load_table::<super::AccessTokenRecord>(&mut snapshot)?;
        self.load_table::<super::RevocationRecord>(&mut snapshot)?;
        Ok(snapshot)
    }

    fn commit(&mut self, revision: u64, writes: &[Write], events: &[EventRecord]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        put_meta(&transaction, "revision", revision)?;
        for write in writes {
            apply(&transaction, write)?;
        }
        for event in events {
            insert_event(&transaction, event)?;
        }
        if let Some(last) = events.last() {
            let oldest = last.number.saturating_sub(EVENT_COUNT_MAX) as i64;
            transaction.prepare("DELETE FROM events WHERE number <= ?1")?.execute([oldest])?;
        }
        Ok(transaction.commit()?)
    }

    fn events_after(&mut self, since: u64, limit: u32) -> Result<Vec<EventRecord>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT number, time_ms, name, about, actor, message, details FROM events WHERE number > ?1 ORDER BY number LIMIT ?2",
        )?;
        let rows = statement.query_map(params![since as i64, limit], |row| {
            let details: String = row.get(6)?;
            Ok(EventRecord {
                number: row.get::<_, i64>(0)? as u64,
                time_ms: row.get::<_, i64>(1)? as u64,
                name: row.get(2)?,
                about: row.get(3)?,
                actor: row.get(4)?,
                message: row.get(5)?,
                details: serde_json::from_str(&details).unwrap_or_default(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn check_integrity(connection: &Connection, path: &Path) -> Result<(), StoreError> {
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
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(StoreError::TooNew { path: path.display().to_string(), found, known });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    let first_incarnation = "INSERT INTO meta VALUES ('incarnation', 1) ON CONFLICT DO NOTHING";
    connection.execute(first_incarnation, [])?;
    Ok(())
}

fn table_name(table: Table) -> &'static str {
    match table {
        Table::Documents => "documents",
        Table::Versions => "document_versions",
        Table::Tokens => "join_tokens",
        Table::Agents => "agents",
        Table::Workloads => "workloads",
        Table::Subjects => "subjects",
        Table::Leases => "leases",
        Table::Publications => "publications",
        Table::Settings => "settings",
        Table::Roots => "roots",
        Table::AccessTokens => "access_tokens",
        Table::Revocations => "revocations",
    }
}

fn put_meta(connection: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    connection.prepare(sql)?.execute(params![name, value as i64]).map(drop)
}

fn apply(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    match write {
        Write::Number(number) => put_meta(connection, number.name, number.value),
        Write::Put { table, key, body } => {
            let table = table_name(*table);
            let sql =
                format!("INSERT INTO {table} VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET body = excluded.body");
            connection.prepare(&sql)?.execute([key, body]).map(drop)
        }
        Write::Delete { table, key } => {
            let sql = format!("DELETE FROM {} WHERE key = ?1", table_name(*table));
            connection.prepare(&sql)?.execute([key]).map(drop)
        }
        Write::Hold(lease) => {
            let mut statement = connection.prepare("INSERT INTO lease_blocks VALUES (?1, ?2, ?3, ?4)")?;
            let (address, ranges) = match &lease.space {
                LeaseSpace::Ports { address, .. } => (address.to_string(), lease.space.port_ranges()),
                LeaseSpace::Prefix { .. } => (lease.space.to_string(), vec![(0, u16::MAX)]),
            };
            for (first, last) in ranges {
                statement.execute(params![address, first, last, lease.id.to_string()])?;
            }
            Ok(())
        }
        Write::Free(id) => {
            let mut statement = connection.prepare("DELETE FROM lease_blocks WHERE lease = ?1")?;
            statement.execute([id.to_string()]).map(drop)
        }
    }
}

fn insert_event(connection: &Connection, event: &EventRecord) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    statement
        .execute(params![
            event.number as i64,
            event.time_ms as i64,
            event.name,
            event.about,
            event.actor,
            event.message,
            event.details.to_string()
        ])
        .map(drop)
}
