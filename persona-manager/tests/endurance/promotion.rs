//! A database that dies under writing clients, and its synchronous standby that takes its place: with `require_sync` nothing
//! that was acknowledged is lost, and nothing is acknowledged that only one database has.

use std::time::{Duration, Instant};

use crate::kill::{Scene, TURN, WRITER_COUNT, free_port, write};
use crate::postgres_server::{PostgresServer, as_nobody, own_folder, programs};
use persona_manager::{StoreConfig, StoreLocation};
use serde_json::json;

/// A standby must have caught up within this time.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(30);

/// How long writers write before the database dies.
const WRITING_TIME: Duration = Duration::from_secs(2);

/// How long nothing must be taken while the new primary has no standby; managers are connected to it by then.
const ALONE_TIME: Duration = Duration::from_secs(8);

/// Starts a standby, and has the server's commits wait for it from then on.
fn synchronous_standby(of: &PostgresServer) -> PostgresServer {
    let folder = own_folder();
    let copied = as_nobody(&programs().unwrap().join("pg_basebackup"))
        .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--host=127.0.0.1", "--username=persona"])
        .arg(format!("--port={}", of.port))
        .arg(format!("--pgdata={}", folder.path().join("data").display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let standby = PostgresServer::run_in(folder);
    // The copy does not have it: whoever is promoted waits for nobody until it is told so.
    of.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    of.sql("SELECT pg_reload_conf()");
    let deadline = Instant::now() + CATCH_UP_TIME_MAX;
    while of.sql("SELECT sync_state FROM pg_stat_replication") != "sync" {
        assert!(Instant::now() < deadline, "the standby does not follow");
        std::thread::sleep(Duration::from_millis(50));
    }
    standby
}

/// Whichever of the two takes changes.
fn store_on(servers: [&PostgresServer; 2]) -> StoreConfig {
    let [first, second] = servers.map(|server| format!("127.0.0.1:{}", server.port));
    let url = format!("postgres://persona@{first},{second}/persona?target_session_attrs=read-write");
    let Ok(location) = url.parse::<StoreLocation>();
    StoreConfig { location, require_sync: true }
}

/// Writers write until the database is gone; what they were told is in the scene.
async fn write_until_it_dies(scene: &Scene, mut primary: PostgresServer) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITER_COUNT {
        let base = scene.managers.last().unwrap().base.clone();
        writers.spawn(write(scene.http.clone(), base, scene.told.clone(), writer, 1));
    }
    tokio::time::sleep(WRITING_TIME).await;
    tokio::task::spawn_blocking(move || primary.end("QUIT")).await.unwrap();
    writers.abort_all();
    while let Some(outcome) = writers.join_next().await {
        assert!(!outcome.is_err_and(|error| error.is_panic()), "a writer was told something wrong");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_has_all_that_was_acknowledged_and_takes_nothing_alone() {
    let servers = tokio::task::spawn_blocking(|| {
        let primary = PostgresServer::start()?;
        let standby = synchronous_standby(&primary);
        Some((primary, standby))
    });
    let Some((primary, standby)) = servers.await.unwrap() else { return };
    let _turn = TURN.lock().await;
    let store = store_on([&primary, &standby]);
    let scene = Scene::new(&store, &[free_port(), free_port()]).await;
    write_until_it_dies(&scene, primary).await;
    assert_eq!(standby.sql("SELECT pg_promote()"), "t");

    let deadline = Instant::now() + ALONE_TIME;
    let probe = json!({ "role": "node", "uses": 1, "ttlMs": 600_000 });
    while Instant::now() < deadline {
        let answer = scene.post("/v1/join-tokens", &probe).await;
        assert!(answer.as_ref().is_none_or(|(status, _)| *status == 503), "taken by one database alone: {answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (standby, _second) = tokio::task::spawn_blocking(move || {
        let second = synchronous_standby(&standby);
        (standby, second)
    })
    .await
    .unwrap();
    scene.wait_until_it_writes().await;
    scene.check().await;
    scene.check_chain(&store);

    let events =
        standby.psql(&["--dbname=persona", "--command", "SELECT count(*) FROM events WHERE name = 'recovery.begun'"]);
    assert_eq!(events, "1", "the promotion was not noticed");
    let told = scene.told.lock().unwrap();
    let count: usize = told.acknowledged.values().map(Vec::len).sum();
    println!("{count} acknowledged writes outlived the database that took them");
    assert!(count > 10, "too little was written to prove anything: {count}");
}
