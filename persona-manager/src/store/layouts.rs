//! Every earlier layout, filled with rows as the release of its time wrote them (`layouts/rows.ndjson`), is brought up to date:
//! the layout is that of a new store, nothing of any row is lost, and what must not be leased twice is not.

use std::path::Path;

use persona_core::ids::LeaseId;
use rusqlite::{Connection, params};
use serde_json::Value;

use super::conformance::postgres_server::PostgresServer;
use super::snapshot::Snapshot;
use super::sqlite::SqliteBackend;
use super::write::Write;
use super::{Backend, StoreConfig, StoreLocation, postgres, sqlite};

/// A row as it was written while a layout was the newest.
struct Row {
    layout: i64,
    table: String,
    key: String,
    body: String,
}

/// What today's release does without: nodes and edges come with certificates.
const DROPPED: [&str; 1] = ["bearer_hash"];

/// What has another name since.
const RENAMED: (&str, &str) = ("block_bits", "blockBits");

const NUMBERS: [(&str, i64); 5] =
    [("revision", 9), ("next_vni", 9), ("next_lease", 13), ("next_subject", 6), ("next_edge", 5)];

/// A lease with some of the ports that rows hold. Nobody may get it.
const HELD: &str = r#"{"id":99,"subject":"workload/n1/other","persona":"p","vni":7,"group":"fra","pool":"fra",
    "address":"203.0.113.64","block_bits":9,"blocks":[5],"mtu":1400,"quarantine_ms":1,"generation":1,"state":"active"}"#;

fn rows() -> Vec<Row> {
    let read = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let (layout, table, key) = (row["layout"].as_i64().unwrap(), text("table"), text("key"));
        Row { layout, table, key, body: row["body"].take().to_string() }
    };
    include_str!("layouts/rows.ndjson").lines().map(read).collect()
}

/// Whether everything that an old value says is in the new one.
fn is_kept(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut kept = old.iter().filter(|(key, _)| !DROPPED.contains(&key.as_str()));
            let found = |key: &str| new.get(if key == RENAMED.0 { RENAMED.1 } else { key }).unwrap_or(&Value::Null);
            kept.all(|(key, value)| is_kept(value, found(key)))
        }
        (old, new) => old == new,
    }
}

/// Compares what a migrated store has with the rows that went in.
fn check(backend: &mut dyn Backend, expected: &[&Row], layouts: &str) {
    let snapshot = backend.load().unwrap_or_else(|error| panic!("{layouts}: {error:?}"));
    let found = snapshot.records();
    assert_eq!(found.len(), expected.len(), "{layouts}");
    for row in expected {
        let is_meant =
            |(table, key, _): &&(super::snapshot::Table, String, String)| table.name() == row.table && *key == row.key;
        let (_, _, body) = found.iter().find(is_meant).unwrap_or_else(|| panic!("{layouts}: {} is gone", row.key));
        let [old, new] = [&row.body, body].map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert!(is_kept(&old, &new), "{layouts}: {old} became {new}");
    }
    for version in snapshot.versions.values() {
        assert!(version.parsed().is_some(), "{layouts}: {} is refused", version.document);
    }
    let numbers = snapshot.numbers;
    let numbers = (snapshot.revision, numbers.vni, numbers.lease, numbers.subject, numbers.edge);
    assert_eq!(numbers, (9, 9, 13, 6, 5), "{layouts}");
    let told: Vec<_> = backend.events_after(0, 9).unwrap().into_iter().map(|it| (it.number, it.name)).collect();
    assert_eq!(told, [(1, "store.made".to_owned()), (2, "edge.down".to_owned())], "{layouts}");
    let held = Write::Hold(std::sync::Arc::new(serde_json::from_str(HELD).unwrap()));
    assert!(backend.commit(10, &[held], &[]).is_err(), "{layouts}: ports were leased a second time");
    assert!(snapshot.leases.contains_key(&LeaseId(11)));
}

/// Writes every record anew, as a manager does that changes it.
fn rewrite(backend: &mut dyn Backend, snapshot: &Snapshot) {
    let puts = snapshot.records().into_iter().map(|(table, key, body)| Write::Put { table, key, body: body.into() });
    backend.commit(11, &puts.collect::<Vec<_>>(), &[]).unwrap();
    assert_eq!(backend.load().unwrap().records(), snapshot.records());
}

fn fill_sqlite(path: &Path, layouts: &[i64]) {
    let connection = Connection::open(path).unwrap();
    for (number, migration) in sqlite::MIGRATIONS.iter().filter(|(number, _)| layouts.contains(number)) {
        connection.execute_batch(migration).unwrap();
        connection.pragma_update(None, "user_version", number).unwrap();
        for Row { table, key, body, .. } in rows().iter().filter(|row| row.layout == *number) {
            connection.execute(&format!("INSERT INTO {table} VALUES (?1, ?2)"), [key, body]).unwrap();
        }
        if *number == 1 {
            for (name, value) in NUMBERS {
                connection.execute("INSERT INTO meta VALUES (?1, ?2)", params![name, value]).unwrap();
            }
            let rest = "INSERT INTO lease_blocks VALUES ('203.0.113.64', 1024, 2047, '11'), ('203.0.113.64', 2048, 3071, '11'),
                ('203.0.113.64', 3072, 4095, '10');
                INSERT INTO events VALUES (1, 1, 'store.made', 'store', 'manager', 'it was', '{}'),
                (2, 2, 'edge.down', 'edge/f2', 'manager', 'none hears it', '{\"after\":\"down\"}');";
            connection.execute_batch(rest).unwrap();
        }
    }
}

/// Everything that the file says of its layout.
fn sqlite_schema(path: &Path) -> Vec<(String, Option<String>)> {
    let connection = Connection::open(path).unwrap();
    let finding = connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(finding, "ok");
    let mut query = connection.prepare("SELECT type || ' ' || name, sql FROM sqlite_master ORDER BY 1").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The layouts that files have seen, in their order. 10 was written beside 3 to 5: there are files with either.
fn histories() -> Vec<Vec<i64>> {
    let all = sqlite::MIGRATIONS.map(|(number, _)| number);
    let beside = [vec![1, 2, 10], vec![1, 2, 10, 11]];
    (1..=all.len()).map(|count| all[..count].to_vec()).chain(beside).collect()
}

#[test]
fn a_file_of_every_earlier_layout_keeps_its_rows_and_becomes_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("fresh.sqlite");
    drop(SqliteBackend::open(&fresh).unwrap());
    let schema = sqlite_schema(&fresh);
    assert!(schema.len() > 25, "{schema:?}");
    for layouts in histories() {
        let told = format!("layouts {layouts:?}");
        let path = folder.path().join(format!("{}.sqlite", layouts.iter().map(i64::to_string).collect::<String>()));
        fill_sqlite(&path, &layouts);
        let rows = rows();
        let expected: Vec<&Row> = rows.iter().filter(|row| layouts.contains(&row.layout)).collect();
        let mut backend = SqliteBackend::open(&path).unwrap_or_else(|error| panic!("{told}: {error:?}"));
        check(&mut backend, &expected, &told);
        let snapshot = backend.load().unwrap();
        rewrite(&mut backend, &snapshot);
        drop(backend);
        assert_eq!(sqlite_schema(&path), schema, "{told}");
    }
}

/// Statements that make a database which has seen the first `count` layouts, with these rows.
fn database(count: usize, rows: &[&Row]) -> String {
    let mut statements = Vec::new();
    for (index, (number, migration)) in postgres::MIGRATIONS.iter().take(count).enumerate() {
        let layout =
            format!("INSERT INTO meta VALUES ('layout', {number}) ON CONFLICT (name) DO UPDATE SET value = {number}");
        statements.extend([(*migration).to_owned(), layout]);
        let since = if index == 0 { 0 } else { *number };
        let until = postgres::MIGRATIONS.get(index + 1).map_or(i64::MAX, |(number, _)| *number);
        for Row { table, key, body, .. } in rows.iter().filter(|row| (since..until).contains(&row.layout)) {
            statements.push(format!("INSERT INTO records VALUES ('{table}', '{key}', '{body}', 9)"));
        }
        if index == 0 {
            let numbers = NUMBERS.map(|(name, value)| format!("('{name}', {value})")).join(", ");
            let port = |port: i64| (0xcb00_7140_i64 << 16) + port; // 203.0.113.64
            let ranges = [(11, 1024, 2048), (11, 2048, 3072), (10, 3072, 4096)]
                .map(|(lease, first, end)| format!("({lease}, '[{},{})')", port(first), port(end)));
            statements.push(format!(
                "INSERT INTO meta VALUES {numbers} ON CONFLICT (name) DO UPDATE SET value = excluded.value;
                INSERT INTO lease_ports VALUES {};
                INSERT INTO events VALUES (1, 1, 'store.made', 'store', 'manager', 'it was', '{{}}'),
                    (2, 2, 'edge.down', 'edge/f2', 'manager', 'none hears it', '{{}}')",
                ranges.join(", ")
            ));
        }
    }
    statements.join(";\n")
}

#[test]
fn a_database_of_every_earlier_layout_keeps_its_rows_and_becomes_a_new_one() {
    let Some(server) = PostgresServer::start() else { return };
    let psql = |sql: &str| server.psql(&["--dbname=persona", "--command", sql]);
    let config: StoreConfig = StoreLocation::Postgres(server.url()).into();
    let schema = || {
        psql(
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
                WHERE table_schema = 'public' ORDER BY table_name, ordinal_position;
             SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;
             SELECT conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint
                WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
        )
    };
    let lead = || {
        let mut backend = super::open(&config, "").unwrap();
        while !backend.stand().unwrap().leads() {
            backend.wait(std::time::Duration::from_millis(20));
        }
        backend
    };
    drop(lead());
    let fresh = schema();
    assert!(fresh.contains("lease_ports") && fresh.contains("EXCLUDE"), "{fresh}");
    let layouts = postgres::MIGRATIONS.map(|(number, _)| number);
    for count in 1..=layouts.len() {
        let rows = rows();
        // Rows of layouts that only SQLite has are of the database's layout at that time.
        let until = layouts.get(count).copied().unwrap_or(i64::MAX);
        let expected: Vec<&Row> = rows.iter().filter(|row| row.layout < until).collect();
        psql(&["DROP SCHEMA public CASCADE; CREATE SCHEMA public".to_owned(), database(count, &expected)].join("; "));
        let told = format!("layouts {:?} of PostgreSQL", &layouts[..count]);
        let mut backend = lead();
        check(backend.as_mut(), &expected, &told);
        drop(backend);
        let mut backend = lead();
        let snapshot = backend.load().unwrap();
        rewrite(backend.as_mut(), &snapshot);
        drop(backend);
        assert_eq!(schema(), fresh, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_runs_on_a_file_of_the_first_layout_and_leaves_what_is_leased() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    fill_sqlite(&path, &[1]);
    let config = crate::Config { store: path.clone().into(), ..crate::Config::default() };
    let stop = tokio_util::sync::CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let manager = crate::start(config, listener, stop.clone()).await.unwrap();
    let mut turns = manager.turns();
    turns.changed().await.unwrap();
    turns.changed().await.unwrap();
    stop.cancel();
    manager.stopped().await;
    let snapshot = SqliteBackend::open(&path).unwrap().load().unwrap();
    let lease = &snapshot.leases[&LeaseId(11)];
    assert_eq!(lease.space.port_ranges(), [(1024, 2047), (2048, 3071)]);
    let subject = &snapshot.subjects[&"workload/n1/web".parse().unwrap()];
    assert_eq!(subject.target.as_ref().unwrap().lease, Some(LeaseId(11)), "{subject:?}");
    assert_eq!((snapshot.agents.len(), snapshot.roots.len()), (2, 1));
}
