//! One transaction of the leader: checked against its epoch, sets of rows at a time, and a notice to those that follow.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use persona_core::wire::desired::LeaseSpace;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};

use crate::store::StoreError;
use crate::store::records::{EventRecord, LeaseRecord};
use crate::store::snapshot::Table;
use crate::store::write::{Body, Write};

/// Deleted records are remembered for this many revisions, for managers that follow.
const TOMBSTONE_REVISIONS: i64 = 10_000;

/// How long a commit beside the leader waits for another one's.
const LOCK_TIME_MAX: &str = "1s";

/// Whose word counts, and on what condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leadership {
    /// The epoch in which this manager leads.
    pub(super) epoch: i64,
    /// Whether a synchronous standby is asked for.
    pub(super) require_sync: bool,
}

/// Makes everything durable, or nothing. Returns whether it did: not where another manager has committed something since.
pub(super) async fn commit(
    client: &mut Client,
    leadership: Leadership,
    revision: u64,
    writes: &[Write],
    events: &[EventRecord],
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    check(&transaction, leadership).await?;
    let advance = "UPDATE meta SET value = $1 WHERE name = 'revision' AND value < $1";
    if transaction.execute(advance, &[&(revision as i64)]).await? != 1 {
        transaction.rollback().await?;
        return Ok(false);
    }
    put(&transaction, revision, writes, events).await?;
    transaction.commit().await?;
    Ok(true)
}

/// The same by a manager that does not lead, if nobody has committed anything since the state that it decided on. Returns whether
/// that was so. Who leads commits on the same condition, so of two that decide at once one is refused, whichever it is.
pub(super) async fn commit_beside(
    client: &mut Client,
    require_sync: bool,
    revision: u64,
    writes: &[Write],
    events: &[EventRecord],
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    let query = "SELECT current_setting('synchronous_standby_names'), set_config('lock_timeout', $1, true)";
    let row = transaction.query_one(query, &[&LOCK_TIME_MAX]).await?;
    if require_sync && row.get::<_, String>(0).trim().is_empty() {
        return Err(StoreError::NotSynchronous);
    }
    let advance = "UPDATE meta SET value = $1::bigint WHERE name = 'revision' AND value = $1::bigint - 1";
    match transaction.execute(advance, &[&(revision as i64)]).await {
        Ok(1) => {}
        Err(error) if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) => return Err(error.into()),
        // Somebody was faster, or is in the middle of a commit and stays there.
        Ok(_) | Err(_) => {
            transaction.rollback().await?;
            return Ok(false);
        }
    }
    put(&transaction, revision, writes, events).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn put(
    transaction: &Transaction<'_>,
    revision: u64,
    writes: &[Write],
    events: &[EventRecord],
) -> Result<(), StoreError> {
    let net = Net::of(writes);
    put_numbers(transaction, &net).await?;
    put_records(transaction, &net, revision).await?;
    put_leases(transaction, &net).await?;
    put_events(transaction, events).await?;
    drop_events(transaction, &net).await?;
    if revision.is_multiple_of(1_000) {
        prune_tombstones(transaction, revision as i64 - TOMBSTONE_REVISIONS).await?;
    }
    transaction.execute("SELECT pg_notify('persona_store', $1)", &[&revision.to_string()]).await?;
    Ok(())
}

/// Whether a revision is the newest.
pub(super) async fn is_newest(transaction: &Transaction<'_>, revision: u64) -> Result<bool, StoreError> {
    let row = transaction.query_one("SELECT value FROM meta WHERE name = 'revision'", &[]).await?;
    Ok(row.get::<_, i64>(0) == revision as i64)
}

/// The epoch's row stays locked until the end: a manager that takes over waits for this transaction.
pub(super) async fn check(transaction: &Transaction<'_>, leadership: Leadership) -> Result<(), StoreError> {
    let query = "SELECT epoch, current_setting('synchronous_standby_names') FROM leader FOR SHARE";
    let row = transaction.query_one(query, &[]).await?;
    match (row.get::<_, i64>(0) == leadership.epoch, row.get::<_, String>(1).trim().is_empty()) {
        (false, _) => Err(StoreError::Fenced),
        (true, true) if leadership.require_sync => Err(StoreError::NotSynchronous),
        _ => Ok(()),
    }
}

/// What writes come to, in the order in which they are told.
#[derive(Default)]
struct Net<'a> {
    numbers: BTreeMap<&'a str, i64>,
    records: BTreeMap<(Table, &'a str), Option<&'a Body>>,
    freed: BTreeSet<i64>,
    held: BTreeMap<i64, &'a LeaseRecord>,
    /// Events up to this one are dropped.
    dropped: Option<i64>,
}

impl<'a> Net<'a> {
    fn of(writes: &'a [Write]) -> Self {
        let mut net = Self::default();
        for write in writes {
            match write {
                Write::Number(number) => _ = net.numbers.insert(number.name, number.value as i64),
                Write::Put { table, key, body } => _ = net.records.insert((*table, key), Some(body)),
                Write::Delete { table, key } => _ = net.records.insert((*table, key), None),
                Write::Hold(lease) => _ = net.held.insert(lease.id.0 as i64, lease),
                Write::DropEvents(number) => net.dropped = net.dropped.max(Some(*number as i64)),
                Write::Free(id) => {
                    net.held.remove(&(id.0 as i64));
                    net.freed.insert(id.0 as i64);
                }
            }
        }
        net
    }
}

async fn put_numbers(transaction: &Transaction<'_>, net: &Net<'_>) -> Result<(), StoreError> {
    let (names, values): (Vec<&str>, Vec<i64>) = net.numbers.iter().map(|(name, value)| (*name, *value)).unzip();
    let sql = "INSERT INTO meta SELECT * FROM unnest($1::text[], $2::bigint[]) \
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.execute(sql, &[&names, &values]).await?;
    Ok(())
}

async fn put_records(transaction: &Transaction<'_>, net: &Net<'_>, revision: u64) -> Result<(), StoreError> {
    let tables: Vec<&str> = net.records.keys().map(|(table, _)| table.name()).collect();
    let keys: Vec<&str> = net.records.keys().map(|(_, key)| *key).collect();
    let bodies: Vec<Option<Cow<'_, str>>> = net.records.values().map(|body| Some((*body)?.text())).collect();
    let bodies: Vec<Option<&str>> = bodies.iter().map(Option::as_deref).collect();
    let sql = "INSERT INTO records SELECT tbl, key, body, $4 FROM unnest($1::text[], $2::text[], $3::text[]) \
        AS written (tbl, key, body) \
        ON CONFLICT (tbl, key) DO UPDATE SET body = excluded.body, revision = excluded.revision";
    transaction.execute(sql, &[&tables, &keys, &bodies, &(revision as i64)]).await?;
    Ok(())
}

async fn put_leases(transaction: &Transaction<'_>, net: &Net<'_>) -> Result<(), StoreError> {
    if net.freed.is_empty() && net.held.is_empty() {
        return Ok(());
    }
    let freed: Vec<i64> = net.freed.iter().copied().collect();
    transaction.execute("DELETE FROM lease_ports WHERE lease = ANY($1)", &[&freed]).await?;
    transaction.execute("DELETE FROM lease_prefixes WHERE lease = ANY($1)", &[&freed]).await?;
    let (mut leases, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut prefix_leases, mut prefixes) = (Vec::new(), Vec::new());
    for (id, lease) in &net.held {
        match &lease.space {
            LeaseSpace::Ports { address, .. } => {
                let base = i64::from(address.to_bits()) << 16;
                for (first, last) in lease.space.port_ranges() {
                    leases.push(*id);
                    firsts.push(base + i64::from(first));
                    lasts.push(base + i64::from(last));
                }
            }
            LeaseSpace::Prefix { prefix } => {
                prefix_leases.push(*id);
                prefixes.push((prefix.to_bits() >> 64) as i64);
            }
        }
    }
    let sql = "INSERT INTO lease_ports SELECT lease, int8range(first, last, '[]') \
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS held (lease, first, last)";
    transaction.execute(sql, &[&leases, &firsts, &lasts]).await?;
    let sql = "INSERT INTO lease_prefixes SELECT * FROM unnest($1::bigint[], $2::bigint[])";
    transaction.execute(sql, &[&prefixes, &prefix_leases]).await?;
    Ok(())
}

async fn put_events(transaction: &Transaction<'_>, events: &[EventRecord]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = events.iter().map(|event| event.number as i64).collect();
    let times: Vec<i64> = events.iter().map(|event| event.time_ms as i64).collect();
    // PostgreSQL's texts hold no NUL, and what agents say may.
    let texts = |text: fn(&EventRecord) -> &str| -> Vec<String> {
        events.iter().map(|event| text(event).replace('\0', "\u{fffd}")).collect()
    };
    let (names, abouts) = (texts(|event| &event.name), texts(|event| &event.about));
    let (actors, messages) = (texts(|event| &event.actor), texts(|event| &event.message));
    let details = texts(|event| &event.details);
    let previous: Vec<Option<String>> = events.iter().map(|event| event.previous.map(String::from)).collect();
    let hashes: Vec<Option<String>> = events.iter().map(|event| event.hash.map(String::from)).collect();
    let sql = "INSERT INTO events SELECT * FROM \
        unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])";
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&numbers, &times, &names, &abouts, &actors, &messages, &details, &previous, &hashes];
    transaction.execute(sql, &parameters).await?;
    Ok(())
}

async fn drop_events(transaction: &Transaction<'_>, net: &Net<'_>) -> Result<(), StoreError> {
    if let Some(number) = net.dropped {
        transaction.execute("DELETE FROM events WHERE number <= $1", &[&number]).await?;
    }
    Ok(())
}

/// Forgets what was deleted before `horizon`; whoever follows and is further behind reads everything anew.
async fn prune_tombstones(transaction: &Transaction<'_>, horizon: i64) -> Result<(), StoreError> {
    transaction.execute("DELETE FROM records WHERE body IS NULL AND revision <= $1", &[&horizon]).await?;
    transaction.execute("UPDATE meta SET value = $1 WHERE name = 'pruned'", &[&horizon.max(0)]).await?;
    Ok(())
}
