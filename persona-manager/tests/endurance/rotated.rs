//! A new root takes over where several managers share a database: the key reaches the others, sealed, and then is gone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fleet::{copy_key, first_access};
use crate::passed_on::manager;
use crate::postgres_server::PostgresServer;
use crate::support::*;
use persona_core::wire::api::{AuthorityView, RootState};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

fn keys(state: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "key")).collect()
}

fn sealed_keys(server: &PostgresServer) -> String {
    let count = "SELECT count(*) FROM records WHERE tbl = 'roots' AND body::jsonb -> 'sealed_key' <> 'null'";
    server.psql(&["--dbname=persona", "--command", count])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_reaches_a_manager_that_follows_and_one_that_starts() {
    let Some(server) = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap() else { return };
    let states = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [first, second, third] = states.each_ref().map(|state| state.path());
    let stop = CancellationToken::new();
    let leader = manager(&server.url(), first, &stop).await.unwrap();
    let (roots, bearer) = first_access(first).await;
    copy_key(first, second);
    copy_key(first, third);
    let follower = manager(&server.url(), second, &stop).await.unwrap();
    let base = format!("https://{}", follower.address());

    let admin = with_bearer(&roots, &bearer);
    let rotate = admin.post(format!("{base}/v1/authority/rotate")).json(&json!({ "reason": "a test" }));
    let answer = rotate.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(sealed_keys(&server), "1");
    let deadline = Instant::now() + PATIENCE;
    while keys(second).len() < 2 {
        assert!(Instant::now() < deadline, "the key does not reach the manager that follows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It signs by the new root: whoever trusts that one alone finds it.
    let view: AuthorityView = admin.get(format!("{base}/v1/authority")).send().await.unwrap().json().await.unwrap();
    let old = view.roots.into_iter().find(|root| root.state == RootState::Trusted).unwrap().id;
    let both = std::fs::read_to_string(second.join("roots.pem")).unwrap();
    let mut pems = both.split_inclusive("-----END CERTIFICATE-----\n");
    let new = pems.find(|pem| pem.trim() != roots.trim()).unwrap();
    client(new, None).get(format!("{base}/healthz")).send().await.expect("a chain up to the new root");
    // One that was down meanwhile opens the key when it starts.
    let late = manager(&server.url(), third, &stop).await.unwrap();
    assert_eq!(keys(third).len(), 2);

    let retire = admin.post(format!("{base}/v1/authority/roots/{old}/retire")).json(&json!({ "reason": "a test" }));
    let answer = retire.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(sealed_keys(&server), "0", "nobody needs it sealed any more");
    drop(admin);
    stop.cancel();
    for manager in [leader, follower, late] {
        manager.stopped().await;
    }
}
