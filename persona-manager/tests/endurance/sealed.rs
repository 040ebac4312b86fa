//! The key of the certificate authority, sealed in the store: a database and its dump hold no key, managers need nothing but
//! the file of sealing keys, and one sealing key follows another while they run.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fleet::first_access;
use crate::postgres_server::PostgresServer;
use crate::support::*;
use persona_core::wire::api::{AuthorityView, RootState};
use persona_manager::{CaConfig, Config, Handle, SealingKeys, StartError, StoreConfig, StoreLocation, migrate, start};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Managers look at the file every few seconds.
const SEAL_TIME_MAX: Duration = Duration::from_secs(20);

fn configured(store: StoreConfig, state: &Path, seal_key_file: Option<&Path>) -> Config {
    let ca = CaConfig { seal_key_file: seal_key_file.map(Path::to_owned) };
    Config { store, state_dir: Some(state.to_owned()), ca, ..Config::default() }
}

async fn run(config: Config, stop: &CancellationToken) -> Result<Handle, StartError> {
    start(config, TcpListener::bind("127.0.0.1:0").await.unwrap(), stop.clone()).await
}

/// What a manager that does not start says.
async fn refusal(config: Config) -> String {
    let refused = run(config, &CancellationToken::new()).await.err().expect("it cannot have the key of the CA");
    format!("{:#}", anyhow::Error::new(refused))
}

async fn authority(http: &reqwest::Client, base: &str) -> AuthorityView {
    http.get(format!("{base}/v1/authority")).send().await.unwrap().json().await.unwrap()
}

/// Waits until all keys are sealed with this one.
async fn sealed_with(http: &reqwest::Client, base: &str, id: &str) {
    let deadline = Instant::now() + SEAL_TIME_MAX;
    while authority(http, base).await.roots.iter().any(|root| root.sealed_with.as_deref() != Some(id)) {
        assert!(Instant::now() < deadline, "keys are not sealed with {id}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The key that a state directory has, without the lines around it.
fn plain_key(state: &Path) -> Option<String> {
    let files = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let mut keys = files.filter(|path| path.extension().is_some_and(|extension| extension == "key"));
    let text = std::fs::read_to_string(keys.next()?).unwrap();
    text.lines().find(|line| line.len() > 40).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_holds_the_key_sealed_and_one_sealing_key_follows_another_while_managers_run() {
    let Some(server) = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let states = ["first", "second", "third", "late"].map(file);
    states.iter().for_each(|state| std::fs::create_dir(state).unwrap());
    let [first, second, third, late] = &states;
    let Ok(database) = server.url().parse::<StoreLocation>();
    let database = || StoreConfig::from(database.clone());

    // A store in a file, as ever: its key lies beside it, and is sealed on the way to the database.
    let (stop, seal) = (CancellationToken::new(), file("seal.key"));
    let old = run(configured(file("store.sqlite").into(), first, None), &stop).await.unwrap();
    let (roots, bearer) = first_access(first).await;
    stop.cancel();
    old.stopped().await;
    let key = plain_key(first).expect("a file of it");
    let id = SealingKeys::make(&seal).unwrap().ids().remove(0);
    let from = configured(file("store.sqlite").into(), first, Some(&seal));
    let to = database();
    let migrated = tokio::task::spawn_blocking(move || migrate(&from, &to)).await.unwrap().unwrap();
    assert_eq!(migrated.sealed_key_count, 1);
    let dump = server.psql(&["--dbname=persona", "--command", "SELECT * FROM records; SELECT * FROM events"]);
    assert!(dump.contains(&id) && dump.contains("BEGIN CERTIFICATE"), "{dump}");
    assert!(!dump.contains("PRIVATE KEY") && !dump.contains(&key), "the dump has the key");

    // Managers with nothing but the file; without it, or with another one, they say which key they lack.
    let stop = CancellationToken::new();
    let leader = run(configured(database(), second, Some(&seal)), &stop).await.unwrap();
    let follower = run(configured(database(), third, Some(&seal)), &stop).await.unwrap();
    let (http, base) = (with_bearer(&roots, &bearer), format!("https://{}", follower.address()));
    sealed_with(&http, &base, &id).await;
    for state in [first, late] {
        let told = refusal(configured(database(), state, None)).await;
        assert!(told.contains(&id) && told.contains("ca.seal_key_file"), "{told}");
    }
    let other = file("other.key");
    let other_id = SealingKeys::make(&other).unwrap().ids().remove(0);
    let told = refusal(configured(database(), late, Some(&other))).await;
    assert!(told.contains(&id) && told.contains(&other_id) && told.contains("other.key"), "{told}");

    // Another sealing key, another root, and the first sealing key is forgotten.
    let new = SealingKeys::rotate(&seal).unwrap().ids().remove(0);
    sealed_with(&http, &base, &new).await;
    let rotate = http.post(format!("{base}/v1/authority/rotate")).json(&json!({ "reason": "a test" }));
    let answer = rotate.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    SealingKeys::forget(&seal).unwrap();
    let view = authority(&http, &base).await;
    assert_eq!(view.roots.len(), 2);
    assert!(view.roots.iter().all(|root| root.sealed_with.as_ref() == Some(&new)), "{view:?}");
    let signing = view.roots.iter().find(|root| root.state == RootState::Signing).unwrap().id.clone();
    let last = run(configured(database(), late, Some(&seal)), &stop).await.unwrap();
    let last_base = format!("https://{}", last.address());
    let found = authority(&http, &last_base).await.roots.into_iter().find(|root| root.state == RootState::Signing);
    assert_eq!(found.unwrap().id, signing);
    for state in [second, third, late] {
        assert_eq!(plain_key(state), None, "{} has a key in plain", state.display());
    }

    // A file that lost the key in use is not sealed with: who starts anew could not open what is there.
    std::fs::copy(&other, &seal).unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(authority(&http, &base).await.roots.iter().all(|root| root.sealed_with.as_ref() == Some(&new)));
    drop(http);
    stop.cancel();
    for manager in [leader, follower, last] {
        manager.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_lies_in_a_file_is_sealed_once_there_is_a_file_of_sealing_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (store, state, seal) =
        (folder.path().join("store.sqlite"), folder.path().join("state"), folder.path().join("seal.key"));
    let config = |seal: Option<&Path>| configured(store.clone().into(), &state, seal);
    let stop = CancellationToken::new();
    run(config(None), &stop).await.unwrap();
    let (roots, bearer) = first_access(&state).await;
    let id = SealingKeys::make(&seal).unwrap().ids().remove(0);
    for is_first in [true, false] {
        stop.cancel();
        let stop = CancellationToken::new();
        let manager = loop {
            // The one before lets go of its file a moment later.
            match run(config(Some(&seal)), &stop).await {
                Ok(manager) => break manager,
                Err(StartError::Store(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error:?}"),
            }
        };
        let http = with_bearer(&roots, &bearer);
        sealed_with(&http, &format!("https://{}", manager.address()), &id).await;
        if is_first {
            for file in std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()) {
                if file.extension().is_some_and(|extension| extension == "key") {
                    std::fs::remove_file(file).unwrap();
                }
            }
        }
        drop(http);
        stop.cancel();
        manager.stopped().await;
    }
    let told = refusal(config(None)).await;
    assert!(told.contains(&id), "{told}");
}
