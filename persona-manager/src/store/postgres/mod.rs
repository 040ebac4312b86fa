//! The PostgreSQL backend: several managers on one database, of which one leads and writes.
//!
//! Who holds the advisory lock leads, in an epoch of its own that every transaction checks. The others follow: a notice
//! carries a revision, a poll stands behind it. A session that failed is dropped with its lock, and the manager stands
//! anew from what is stored, so that a commit of which the outcome is not known does no harm.

mod commit;
mod connect;
mod read;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Notify;

use self::commit::Leadership;
use self::connect::{Place, Session};
use super::records::EventRecord;
use super::snapshot::Snapshot;
use super::write::Write;
use super::{Backend, Standing, StoreError};

/// The advisory lock of the manager that leads, and that of whoever changes the layout.
const LEADER_LOCK: i64 = 0x0070_6572_736f_6e61;
const LAYOUT_LOCK: i64 = LEADER_LOCK + 1;

/// Layouts by their numbers, ascending. Forward only.
pub(super) const MIGRATIONS: [(i64, &str); 2] = [
    (1, include_str!("../../../migrations/postgres/0001_records.sql")),
    (30, include_str!("../../../migrations/postgres/0030_audit.sql")),
];

/// A database that does not answer for this long is given up.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// A store in a PostgreSQL database.
pub(crate) struct PostgresBackend {
    runtime: OwnRuntime,
    place: Place,
    /// The URL under which others reach this manager.
    advertise: String,
    require_sync: bool,
    session: Option<Session>,
    epoch: Option<i64>,
    waker: Arc<Notify>,
}

/// A backend's runtime. The last handle to a store may be dropped inside another runtime, where none may be waited for.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect("it is there until it is dropped").block_on(future)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl PostgresBackend {
    /// Connects, and brings the layout up to date. Never inside another runtime's task.
    pub(crate) fn open(url: &str, require_sync: bool, advertise: String) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StoreError::Thread)?;
        let runtime = OwnRuntime(Some(runtime));
        let place = Place::parse(url)?;
        let mut backend =
            Self { runtime, place, advertise, require_sync, session: None, epoch: None, waker: Arc::default() };
        backend.on_session(async |session| migrate(session).await)?;
        Ok(backend)
    }

    /// Runs something on the session, which is opened if there is none and dropped if that fails.
    fn on_session<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (place, session) = (&self.place, &mut self.session);
        let work = async {
            if session.as_ref().is_none_or(|session| session.client.is_closed()) {
                *session = Some(place.connect().await?);
            }
            work(session.as_mut().expect("it was opened")).await
        };
        let outcome = self.runtime.block_on(in_time(work));
        if outcome.is_err() {
            self.epoch = None;
            if let Some(session) = self.session.take() {
                self.runtime.block_on(session.close());
            }
        }
        outcome
    }

    /// As [`on_session`](Self::on_session), in the epoch in which this manager leads.
    fn as_leader<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Session, Leadership) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(epoch) = self.epoch.filter(|_| self.session.is_some()) else { return Err(StoreError::Fenced) };
        let leadership = Leadership { epoch, require_sync: self.require_sync };
        self.on_session(async move |session| match session.client.is_closed() {
            true => Err(StoreError::Fenced),
            false => work(session, leadership).await,
        })
    }
}

impl Backend for PostgresBackend {
    fn stand(&mut self) -> Result<Standing, StoreError> {
        let (advertise, require_sync) = (self.advertise.clone(), self.require_sync);
        let (standing, epoch) = self.on_session(async |session| stand(session, &advertise, require_sync).await)?;
        self.epoch = epoch;
        Ok(standing)
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.on_session(async |session| read::load(&mut session.client).await)
    }

    fn catch_up(&mut self, known: &Snapshot) -> Result<Option<Snapshot>, StoreError> {
        self.on_session(async |session| read::catch_up(&mut session.client, known).await)
    }

    fn wait(&mut self, at_most: Duration) {
        let (session, waker) = (&mut self.session, &self.waker);
        self.runtime.block_on(async {
            let notice = async {
                match session {
                    Some(session) => _ = session.notices.recv().await,
                    None => std::future::pending().await,
                }
            };
            // Whether a notice came, somebody has a change or the time is over: the caller looks.
            tokio::select! { () = notice => {}, () = waker.notified() => {}, () = tokio::time::sleep(at_most) => {} }
        });
    }

    fn waker(&self) -> Option<Arc<Notify>> {
        Some(Arc::clone(&self.waker))
    }

    fn confirm(&mut self, revision: u64) -> Result<(), StoreError> {
        let is_newest = self.as_leader(async |session, leadership| {
            let transaction = session.client.transaction().await?;
            commit::check(&transaction, leadership).await?;
            let is_newest = commit::is_newest(&transaction, revision).await?;
            transaction.rollback().await?;
            Ok(is_newest)
        })?;
        if is_newest { Ok(()) } else { Err(StoreError::Outrun) }
    }

    fn commit(&mut self, revision: u64, writes: &[Write], events: &[EventRecord]) -> Result<(), StoreError> {
        let is_done = self.as_leader(async |session, leadership| {
            commit::commit(&mut session.client, leadership, revision, writes, events).await
        })?;
        // Who was outrun has a session as good as before, and leads on.
        if is_done { Ok(()) } else { Err(StoreError::Outrun) }
    }

    fn commit_beside(&mut self, revision: u64, writes: &[Write], events: &[EventRecord]) -> Result<(), StoreError> {
        let require_sync = self.require_sync;
        let is_done = self.on_session(async |session| {
            commit::commit_beside(&mut session.client, require_sync, revision, writes, events).await
        })?;
        if is_done { Ok(()) } else { Err(StoreError::Outrun) }
    }

    fn events_after(&mut self, since: u64, limit: u32) -> Result<Vec<EventRecord>, StoreError> {
        self.on_session(async |session| read::events_after(&session.client, since, limit).await)
    }

    fn event_before_newest(&mut self, count: u64) -> Result<Option<u64>, StoreError> {
        self.on_session(async |session| read::event_before_newest(&session.client, count).await)
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let silent = |_| StoreError::Silent { seconds: ANSWER_TIME_MAX.as_secs() };
    tokio::time::timeout(ANSWER_TIME_MAX, work).await.map_err(silent)?
}

/// Takes the lead if nobody has it.
async fn stand(
    session: &mut Session,
    advertise: &str,
    require_sync: bool,
) -> Result<(Standing, Option<i64>), StoreError> {
    let row = session.client.query_one("SELECT pg_is_in_recovery()", &[]).await?;
    if row.get::<_, bool>(0) {
        return Err(StoreError::Standby);
    }
    let row = session.client.query_one("SELECT pg_try_advisory_lock($1)", &[&LEADER_LOCK]).await?;
    if !row.get::<_, bool>(0) {
        let row = session.client.query_one("SELECT url FROM leader", &[]).await?;
        let url = Some(row.get::<_, String>(0)).filter(|url| !url.is_empty());
        return Ok((Standing::Follows { leader: url }, None));
    }
    let transaction = session.client.transaction().await?;
    let sql = "UPDATE leader SET epoch = epoch + 1, url = $1 RETURNING epoch";
    let epoch: i64 = transaction.query_one(sql, &[&advertise]).await?.get(0);
    commit::check(&transaction, Leadership { epoch, require_sync }).await?;
    let went_back = note_timeline(&transaction).await?;
    transaction.commit().await?;
    Ok((Standing::Leads { went_back }, Some(epoch)))
}

/// A standby that was promoted writes on another timeline than before; what was not on it yet is lost.
async fn note_timeline(transaction: &tokio_postgres::Transaction<'_>) -> Result<Option<String>, StoreError> {
    let query = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint, \
        (SELECT value FROM meta WHERE name = 'timeline')";
    let row = transaction.query_one(query, &[]).await?;
    let (now, before): (i64, Option<i64>) = (row.get(0), row.get(1));
    let sql = "INSERT INTO meta VALUES ('timeline', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.execute(sql, &[&now]).await?;
    let changed = before.filter(|before| *before != now);
    Ok(changed.map(|before| format!("the database was promoted or restored (timeline {before} became {now})")))
}

async fn migrate(session: &mut Session) -> Result<(), StoreError> {
    let transaction = session.client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LAYOUT_LOCK]).await?;
    let row = transaction.query_one("SELECT to_regclass('meta') IS NOT NULL", &[]).await?;
    let found: i64 = match row.get::<_, bool>(0) {
        true => transaction.query_one("SELECT value FROM meta WHERE name = 'layout'", &[]).await?.get(0),
        false => 0,
    };
    let known = MIGRATIONS.iter().map(|(number, _)| *number).max().unwrap_or_default();
    if found > known {
        return Err(StoreError::TooNew { path: "of the database".to_owned(), found, known });
    }
    for (number, migration) in MIGRATIONS.iter().filter(|(number, _)| *number > found) {
        transaction.batch_execute(migration).await?;
        let sql = "INSERT INTO meta VALUES ('layout', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        transaction.execute(sql, &[number]).await?;
    }
    Ok(transaction.commit().await?)
}
