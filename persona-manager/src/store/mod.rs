//! Intended state: what people applied, who registered, who wears what, and which blocks are leased.
//!
//! Reads take a [`Snapshot`], which never changes. Writes are jobs on a [`Draft`] of the next one; a single writer
//! thread runs them in order, commits those that came together in one transaction, and only then shows the new
//! snapshot and answers. Nothing here knows HTTP, nothing but `sqlite` knows SQL.

mod draft;
mod numbers;
mod records;
mod snapshot;
mod sqlite;
mod writer;

pub(crate) use draft::Draft;
pub(crate) use numbers::NumberRecord;
pub(crate) use records::{
    AccessTokenRecord, AgentDetails, AgentId, AgentRecord, DocumentRecord, EdgeDetails, EdgeState, EventRecord,
    JoinTokenRecord, LeaseRecord, NetworkTarget, NodeDetails, Override, PublicationRecord, RevocationRecord,
    RootRecord, RootState, SETTINGS_KEY, SettingsRecord, SubjectRecord, VersionRecord, WorkloadRecord, weight_default,
};
pub(crate) use snapshot::{Records, Snapshot, Write};
pub(crate) use sqlite::SqliteBackend;
pub(crate) use writer::{Pass, Store};

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged.
    #[error(
        "the store {path} is damaged ({finding}); restore it from a backup, or move it away to start empty: nodes and edges must then register again"
    )]
    Corrupt {
        /// Which file.
        path: String,
        /// What the check found.
        finding: String,
    },
    /// The file was written by a newer release.
    #[error("the store {path} has layout {found}, this release knows up to {known}; use the newer release")]
    TooNew {
        /// Which file.
        path: String,
        /// Its layout.
        found: i64,
        /// The newest layout known here.
        known: i64,
    },
    /// Another manager has it open.
    #[error("the store {path} is in use by another manager; stop that one first or give this one its own `store`")]
    InUse {
        /// Which file.
        path: String,
    },
    /// A record cannot be read.
    #[error("a record of table {table} in the store cannot be read")]
    Record {
        /// In which table.
        table: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The file cannot be opened or created.
    #[error("the store {path} cannot be opened")]
    Open {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("the store failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The writer thread could not be started.
    #[error("the store's writer thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// What a store backend must do; SQLite is the one there is.
pub(crate) trait Backend: Send + 'static {
    /// The last committed state.
    fn load(&mut self) -> Result<Snapshot, StoreError>;

    /// Makes everything in `writes` and `events` durable, or nothing of it, and the revision with it.
    fn commit(&mut self, revision: u64, writes: &[Write], events: &[EventRecord]) -> Result<(), StoreError>;

    /// Events after number `since`, oldest first.
    fn events_after(&mut self, since: u64, limit: u32) -> Result<Vec<EventRecord>, StoreError>;
}
