//! Intended state: what people applied, who registered, who wears what, and which blocks are leased.
//!
//! Reads take a [`Snapshot`], which never changes. Writes are jobs on a [`Draft`] of the next one; a single writer
//! thread runs them in order, commits those that came together in one transaction, and only then shows the new snapshot
//! and answers. On PostgreSQL the manager that leads writes; the others show what it committed, and one whose leader does not
//! answer may decide what one subject asks for. Nothing here knows HTTP, nothing but the backends knows SQL.

mod audit;
mod beside;
mod checkpoints;
mod committer;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod conformance_chain;
mod derived;
mod draft;
mod index;
#[cfg(test)]
mod layouts;
mod location;
mod maintenance;
mod measured;
mod numbers;
mod persona_names;
mod postgres;
mod record;
mod records;
mod shared_map;
mod snapshot;
mod sqlite;
mod traced;
mod transfer;
mod trust;
mod watchers;
mod write;
mod writer;

pub(crate) use audit::Kept;
pub use audit::verify_audit;
pub(crate) use beside::beside;
pub(crate) use draft::Draft;
pub use location::{StoreConfig, StoreLocation};
pub use maintenance::{Backup, Restored, backup, restore};
pub(crate) use numbers::{NumberRecord, Numbers};
pub(crate) use persona_names::PersonaNames;
pub(crate) use postgres::PostgresBackend;
pub(crate) use records::{
    AccessTokenRecord, ActivationRecord, AgentDetails, AgentId, AgentRecord, AlertRecord, Claim, Cross,
    DeadLetterRecord, DocumentRecord, EdgeDetails, EdgeState, EventRecord, HeardRecord, JoinTokenRecord,
    JoinedKeyRecord, LeaseRecord, MovedRecord, NetworkTarget, NodeDetails, NodeShare, OnceRecord, Override,
    PlannedRecord, PoolHistoryRecord, PoolSample, PublicationRecord, RECOVERY_KEY, ReachedRecord, RecoveryRecord,
    RevocationRecord, RolloutMemberRecord, RolloutRecord, RootRecord, RootState, RuleIn, SETTINGS_KEY, ScheduleRecord,
    ScheduledBy, ScheduledTimes, SealedKey, SettingsRecord, SignalRecord, SubjectRecord, VersionRecord, WebLinkRecord,
    WebOwner, WebSessionRecord, WebhookRecord, WorkloadRecord, weight_default,
};
pub(crate) use shared_map::{Change, SharedMap};
pub(crate) use snapshot::{Records, Snapshot};
pub(crate) use sqlite::SqliteBackend;
pub use transfer::{Migrated, migrate};
pub(crate) use trust::Trust;
pub(crate) use watchers::Watcher;
pub(crate) use write::Write;
pub(crate) use writer::{Brain, Desired, Failure, Pass, Rest, Store};

use std::sync::Arc;
use std::time::Duration;

use rusqlite::ErrorCode;
use tokio::sync::Notify;
use tokio_postgres::error::SqlState;

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged.
    #[error(
        "the store {path} is damaged ({finding}); go back to a backup with `persona-ctl manager restore --from BACKUP`, or move it away to start empty: nodes and edges must then register again"
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
    /// A backup would replace a file.
    #[error("{path} exists; name a file that does not")]
    Exists {
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
    /// PostgreSQL failed.
    #[error("the database failed")]
    Postgres(#[from] tokio_postgres::Error),
    /// The database says nothing.
    #[error("the database did not answer for {seconds} seconds")]
    Silent {
        /// How long.
        seconds: u64,
    },
    /// The URL of a database is not one that can be used.
    #[error("the store's URL cannot be used: {detail}")]
    Url {
        /// What is wrong, and what would be valid.
        detail: String,
    },
    /// The database only follows another one.
    #[error("the database is a standby: name the one that takes changes")]
    Standby,
    /// A synchronous standby is asked for, and the database has none.
    #[error(
        "store.require_sync is set, but the database names no synchronous standby: set its synchronous_standby_names"
    )]
    NotSynchronous,
    /// Keys of roots could not be sealed on the way.
    #[error("the keys of the root certificates cannot be sealed")]
    Sealing(#[source] Box<crate::authority::AuthorityError>),
    /// There is no way from the one to the other.
    #[error(
        "a store is carried from a SQLite file to a postgres:// URL, not from {from} to {to}; `manager restore` puts a backup into either"
    )]
    Direction {
        /// From where.
        from: String,
        /// To where.
        to: String,
    },
    /// There is something already.
    #[error("the store {location} is not empty; name an empty database")]
    NotEmpty {
        /// Where.
        location: String,
    },
    /// It did not arrive as it was.
    #[error(
        "what arrived in {location} is not what was sent; go on with the store that there was, and tell the developers"
    )]
    Different {
        /// Where.
        location: String,
    },
    /// Another manager leads.
    #[error("another manager leads now")]
    Fenced,
    /// Another manager committed something in between.
    #[error("another manager was faster")]
    Outrun,
    /// The writer thread could not be started.
    #[error("the store's writer thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// What to do about changes that could not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Free space.
    Full,
    /// Make it writable or reachable again.
    Unavailable,
    /// The same; and what became of the changes is not known.
    Unknown,
    /// Look at the cause.
    Other,
}

impl StoreError {
    /// What to do about it.
    pub(crate) fn trouble(&self) -> Trouble {
        let error = match self {
            Self::Sqlite(error) => error,
            Self::Postgres(error) if error.code() == Some(&SqlState::DISK_FULL) => return Trouble::Full,
            Self::Fenced | Self::Outrun | Self::NotSynchronous | Self::Standby => return Trouble::Unavailable,
            Self::Postgres(_) | Self::Silent { .. } => return Trouble::Unknown,
            _ => return Trouble::Other,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Trouble::Full,
            Some(
                ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::SystemIoFailure | ErrorCode::DatabaseBusy,
            ) => Trouble::Unavailable,
            _ => Trouble::Other,
        }
    }
}

/// Whether a manager writes to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does, and no other.
    Leads {
        /// Why the store is not what it was when somebody last led, if so.
        went_back: Option<String>,
    },
    /// Another does.
    Follows {
        /// Where that one is reached.
        leader: Option<String>,
    },
}

impl Standing {
    /// Whether this manager writes.
    pub(crate) fn leads(&self) -> bool {
        matches!(self, Self::Leads { .. })
    }
}

/// What a store backend must do. The conformance suite says more, and runs on each.
pub(crate) trait Backend: Send + 'static {
    /// Takes the lead if nobody else has it. Until then nothing is committed.
    fn stand(&mut self) -> Result<Standing, StoreError>;

    /// The last committed state.
    fn load(&mut self) -> Result<Snapshot, StoreError>;

    /// What another manager committed since `known`. None: nothing.
    fn catch_up(&mut self, known: &Snapshot) -> Result<Option<Snapshot>, StoreError>;

    /// Waits until another manager may have committed something.
    fn wait(&mut self, at_most: Duration);

    /// Wakes who [waits](Self::wait). None: nobody else commits anything here.
    fn waker(&self) -> Option<Arc<Notify>>;

    /// Fails if this manager leads no more, or if another one has committed something after `revision`.
    fn confirm(&mut self, revision: u64) -> Result<(), StoreError>;

    /// Makes everything in `writes` and `events` durable, or nothing of it, and the revision with it; nothing if another manager
    /// has committed something meanwhile ([`StoreError::Outrun`]). After another failure the
    /// state is what [`load`](Self::load) says, once this manager [stands](Self::stand) again.
    fn commit(&mut self, revision: u64, writes: &[Write], events: &[EventRecord]) -> Result<(), StoreError>;

    /// The same by a manager that does not lead: only if `revision` is the one after the newest, so that nothing was decided on a state
    /// that is not the newest ([`StoreError::Outrun`]).
    fn commit_beside(&mut self, revision: u64, writes: &[Write], events: &[EventRecord]) -> Result<(), StoreError>;

    /// Events after number `since`, oldest first, as they were stored to the byte.
    fn events_after(&mut self, since: u64, limit: u32) -> Result<Vec<EventRecord>, StoreError>;

    /// The number of the newest event of which `count` are younger. None: there are fewer.
    fn event_before_newest(&mut self, count: u64) -> Result<Option<u64>, StoreError>;
}

/// Opens the backend of a location.
pub(crate) fn open(config: &StoreConfig, advertise: &str) -> Result<Box<dyn Backend>, StoreError> {
    Ok(match &config.location {
        StoreLocation::File(path) => Box::new(SqliteBackend::open(path)?),
        StoreLocation::Postgres(url) => {
            Box::new(PostgresBackend::open(url, config.require_sync, advertise.to_owned())?)
        }
    })
}

/// Opens a second one, to read events while the first writes.
pub(crate) fn open_reader(config: &StoreConfig) -> Result<Box<dyn Backend>, StoreError> {
    Ok(match &config.location {
        StoreLocation::File(path) => Box::new(SqliteBackend::open_reader(path)?),
        StoreLocation::Postgres(url) => Box::new(PostgresBackend::open(url, false, String::new())?),
    })
}
