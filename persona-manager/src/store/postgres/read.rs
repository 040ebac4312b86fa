//! Reading: the whole state, what changed since a revision, events.

use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use crate::store::StoreError;
use crate::store::records::{EventRecord, read_hash};
use crate::store::snapshot::{Snapshot, Table};

/// The last committed state.
pub(super) async fn load(client: &mut Client) -> Result<Snapshot, StoreError> {
    let transaction = reading(client).await?;
    let mut snapshot = Snapshot::default();
    read_meta(&transaction, &mut snapshot).await?;
    let rows = transaction.query("SELECT tbl, key, body FROM records WHERE body IS NOT NULL", &[]).await?;
    rows.iter().try_for_each(|row| take(&mut snapshot, row))?;
    Ok(snapshot)
}

/// What was committed since `known`. None: nothing.
pub(super) async fn catch_up(client: &mut Client, known: &Snapshot) -> Result<Option<Snapshot>, StoreError> {
    let transaction = reading(client).await?;
    let mut snapshot = known.clone();
    let pruned = read_meta(&transaction, &mut snapshot).await?;
    if (snapshot.incarnation, snapshot.revision) == (known.incarnation, known.revision) {
        return Ok(None);
    }
    if known.revision < pruned || snapshot.revision < known.revision {
        drop(transaction);
        return load(client).await.map(Some);
    }
    let since = known.revision as i64;
    let rows = transaction.query("SELECT tbl, key, body FROM records WHERE revision > $1", &[&since]).await?;
    rows.iter().try_for_each(|row| take(&mut snapshot, row))?;
    Ok(Some(snapshot))
}

/// Events after number `since`, oldest first.
pub(super) async fn events_after(client: &Client, since: u64, limit: u32) -> Result<Vec<EventRecord>, StoreError> {
    let query = "SELECT number, time_ms, name, about, actor, message, details, previous, hash FROM events \
        WHERE number > $1 ORDER BY number LIMIT $2";
    let rows = client.query(query, &[&(since as i64), &i64::from(limit)]).await?;
    Ok(rows.iter().map(event).collect())
}

fn event(row: &Row) -> EventRecord {
    EventRecord {
        number: row.get::<_, i64>(0) as u64,
        time_ms: row.get::<_, i64>(1) as u64,
        name: row.get(2),
        about: row.get(3),
        actor: row.get(4),
        message: row.get(5),
        details: row.get(6),
        previous: read_hash(row.get(7)),
        hash: read_hash(row.get(8)),
    }
}

/// The number of the newest event of which `count` are younger.
pub(super) async fn event_before_newest(client: &Client, count: u64) -> Result<Option<u64>, StoreError> {
    let query = "SELECT number FROM events ORDER BY number DESC LIMIT 1 OFFSET $1";
    let row = client.query_opt(query, &[&(count as i64)]).await?;
    Ok(row.map(|row| row.get::<_, i64>(0) as u64))
}

/// A transaction that sees one moment.
async fn reading(client: &mut Client) -> Result<Transaction<'_>, StoreError> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    Ok(builder.start().await?)
}

/// Reads the numbers. Returns up to which revision deletions are forgotten.
async fn read_meta(transaction: &Transaction<'_>, snapshot: &mut Snapshot) -> Result<u64, StoreError> {
    let mut pruned = 0;
    for row in transaction.query("SELECT name, value FROM meta", &[]).await? {
        let (name, value): (&str, i64) = (row.get(0), row.get(1));
        match name {
            "pruned" => pruned = value as u64,
            name => snapshot.take_number(name, value as u64),
        }
    }
    let query = "SELECT number, hash FROM events ORDER BY number DESC LIMIT 1";
    (snapshot.event_last, snapshot.event_head) = match transaction.query_opt(query, &[]).await? {
        Some(row) => (row.get::<_, i64>(0) as u64, read_hash(row.get(1))),
        None => (0, None),
    };
    Ok(pruned)
}

/// Takes a record in, or out.
fn take(snapshot: &mut Snapshot, row: &Row) -> Result<(), StoreError> {
    let (table, key, body): (&str, &str, Option<&str>) = (row.get(0), row.get(1), row.get(2));
    // A table that a newer release has made is its own.
    let Some(table) = Table::ALL.into_iter().find(|known| known.name() == table) else { return Ok(()) };
    match body {
        Some(body) => {
            snapshot.take_in(table, body).map_err(|source| StoreError::Record { table: table.name(), source })
        }
        None => {
            snapshot.take_out(table, key);
            Ok(())
        }
    }
}
