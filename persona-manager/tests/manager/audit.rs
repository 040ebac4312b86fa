//! The chain of events: whole through restarts, kills, upgrades and backups, and broken where somebody changed the store.

use std::path::Path;

use crate::support::*;
use persona_core::audit::{AuditEntry, AuditReport, Exported, FindingKind};
use persona_core::wire::api::AuditCheckpoint;
use persona_manager::{SealKeys, StoreConfig, backup, restore, verify_audit};
use rusqlite::Connection;
use serde_json::json;

/// Checks a store by the roots beside it.
fn verify(store: &Path, kept: &[Exported]) -> AuditReport {
    let roots = std::fs::read_to_string(store.with_extension("state").join("roots.pem")).unwrap();
    verify_audit(&store.to_owned().into(), &SealKeys::read(&roots).unwrap(), kept).unwrap()
}

fn found(report: &AuditReport) -> Vec<(FindingKind, u64, u64)> {
    report.findings.iter().map(|it| (it.kind, it.first, it.last)).collect()
}

/// What `audit export` keeps.
async fn checkpoint(app: &TestApp) -> Exported {
    let told: AuditCheckpoint = serde_json::from_value(app.get("/v1/audit/checkpoint").await).unwrap();
    Exported { name: "the checkpoint".to_owned(), checkpoint: told.checkpoint, entries: Vec::new() }
}

async fn happen(app: &TestApp, count: u32) {
    for mtu in 1_280..1_280 + count {
        let mut document = persona("p", "fra", &[]);
        document["spec"]["network"]["mtu"] = json!(mtu);
        app.apply(vec![document]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_goes_on_through_restarts_and_is_signed_when_the_manager_stops() {
    let app = TestApp::new().await;
    happen(&app, 5).await;
    let running = verify(&app.store(), &[checkpoint(&app).await]);
    assert!(running.is_whole() && running.sealed_to.is_none(), "{running:?}");
    let first = checkpoint(&app).await;
    let app = app.restart().await;
    happen(&app, 3).await;
    let store = app.store();
    let _directory = app.halt().await;
    let report = verify(&store, &[first]);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.process_count, report.seal_count), (2, 2));
    assert_eq!(report.sealed_to, report.last.map(|last| last - 1), "all but the signature itself");

    let connection = Connection::open(&store).unwrap();
    let gone = "DELETE FROM events WHERE number = (SELECT max(number) FROM events WHERE name = 'document.updated')";
    connection.execute_batch(gone).unwrap();
    assert_eq!(found(&verify(&store, &[]))[0].0, FindingKind::Removed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_says_from_where_and_why_and_what_was_before() {
    let app = TestApp::new().await;
    let ask = async |method: &str, path: &str, reason: Option<&[u8]>, body: serde_json::Value| {
        let request = app.http.request(method.parse().unwrap(), format!("{}{path}", app.base));
        let request = request.header("if-match", "*").json(&body);
        let request = reason.into_iter().fold(request, |request, reason| request.header("persona-reason", reason));
        request.send().await.unwrap().status().as_u16()
    };
    let apply = |mtu: u32| {
        let mut document = persona("p", "fra", &[]);
        document["spec"]["network"]["mtu"] = json!(mtu);
        json!({ "documents": [document] })
    };
    assert_eq!(ask("POST", APPLY, Some("für den Umzug".as_bytes()), apply(1_300)).await, 200);
    assert_eq!(ask("POST", APPLY, None, apply(1_400)).await, 200);
    assert_eq!(ask("DELETE", "/v1/personas/p", Some(b"moved"), json!({})).await, 204);
    for reason in [&b" "[..], &b"\xff"[..], &[b'x'; 1_001][..]] {
        assert_eq!(ask("POST", APPLY, Some(reason), apply(1_500)).await, 400);
    }
    let events = app.events().await;
    let of = |name: &str| &events.iter().find(|event| event.name == name).unwrap().details;
    let (created, updated, deleted) = (of("document.created"), of("document.updated"), of("document.deleted"));
    assert_eq!((&created["source"], &created["reason"]), (&json!("127.0.0.1"), &json!("für den Umzug")));
    assert_eq!((&created["before"], &created["after"]), (&json!(null), &updated["before"]));
    assert!(updated["after"].is_string() && updated["after"] == deleted["before"] && updated.get("reason").is_none());
    assert_eq!((&deleted["after"], &deleted["reason"]), (&json!(null), &json!("moved")));
    // The first administrator came over the socket, and what the manager does by itself comes from nowhere.
    assert_eq!(of("access-token.created")["source"], "socket");
    assert_eq!(of("root.made").get("source"), None);
    let store = app.store();
    let _directory = app.halt().await;
    assert!(verify(&store, &[]).is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_on_which_nothing_happens_writes_nothing() {
    let app = TestApp::new().await;
    let store = app.store();
    let _directory = app.halt().await;
    let before = verify(&store, &[]).last;
    for _ in 0..2 {
        let config = persona_manager::Config { store: store.clone().into(), ..Default::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        let manager = persona_manager::start(config, listener, stop.clone()).await.unwrap();
        stop.cancel();
        manager.stopped().await;
    }
    assert_eq!(verify(&store, &[]).last, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manager_shows_is_what_is_stored_and_what_it_signs_is_its_own() {
    let app = TestApp::new().await;
    happen(&app, 3).await;
    let page = app.get("/v1/audit/entries?limit=1000").await;
    let entries: Vec<AuditEntry> = serde_json::from_value(page["items"].clone()).unwrap();
    for pair in entries.windows(2) {
        assert_eq!(pair[1].previous, pair[0].hash);
        assert_eq!(pair[1].hash, Some(pair[1].hash_after(pair[0].hash.unwrap())));
    }
    let other = TestApp::new().await;
    let foreign = checkpoint(&other).await;
    let report = verify(&app.store(), &[foreign]);
    assert_eq!(report.findings[0].kind, FindingKind::Signature, "another fleet's root");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_from_before_the_chain_goes_on_with_one() {
    let app = TestApp::new().await;
    happen(&app, 4).await;
    let directory = app.halt().await;
    let store = directory.path().join("manager.sqlite");
    let connection = Connection::open(&store).unwrap();
    // As a migration leaves it.
    let before = "DELETE FROM events WHERE name LIKE 'audit.%'; UPDATE events SET hash = NULL, previous = NULL";
    connection.execute_batch(before).unwrap();
    let count: u32 = connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    drop(connection);
    let app = TestApp::on(directory).await;
    happen(&app, 2).await;
    let _directory = app.halt().await;
    let report = verify(&store, &[]);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.unchained_count, report.notes.len()), (count.into(), 1), "{report:?}");
    Connection::open(&store).unwrap().execute_batch("UPDATE events SET actor = 'x' WHERE number = 3").unwrap();
    let finding = found(&verify(&store, &[]))[0];
    assert_eq!((finding.0, finding.1), (FindingKind::Altered, report.first.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_whole_and_a_later_checkpoint_tells_that_it_went_back() {
    let app = TestApp::new().await;
    happen(&app, 3).await;
    let (store, config): (_, StoreConfig) = (app.store(), app.store().into());
    let saved = store.with_file_name("saved.sqlite");
    let early = checkpoint(&app).await;
    backup(&config, &saved).unwrap();
    happen(&app, 3).await;
    let late = checkpoint(&app).await;
    let directory = app.halt().await;
    restore(&config, &saved).unwrap();
    let app = TestApp::on(directory).await;
    happen(&app, 2).await;
    let _directory = app.halt().await;
    let report = verify(&store, &[early]);
    assert!(report.is_whole(), "{report:?}");
    let report = verify(&store, &[late]);
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.findings[0].kind == FindingKind::Diverged && report.findings[0].detail.contains("went back"));
}
