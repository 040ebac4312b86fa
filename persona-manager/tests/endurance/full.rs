//! A database whose disk is full: told as such, nothing half done, and over when there is room again.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::fleet::first_access;
use crate::postgres_server::{PostgresServer, own_folder};
use crate::support::*;
use persona_manager::{Config, StoreLocation, start};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Documents of one change: many rows, so that the disk is soon full.
const DOCUMENT_COUNT: usize = 50;

/// A file system in memory with some room beside a new database, which the server's user may write to.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one. None, with a word why: this process may not.
    fn mount() -> Option<Self> {
        let place = own_folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m,mode=0700,uid=65534,gid=65534", "tmpfs"]).arg(place.path());
        let is_mounted = mount.output().unwrap().status.success();
        if !is_mounted {
            assert!(std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_none(), "a tmpfs cannot be mounted");
            println!("SKIP: a small disk takes CAP_SYS_ADMIN to mount");
        }
        is_mounted.then_some(Self(place))
    }

    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [64 << 10, 1 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.unwrap().success(), "{} stays mounted", self.0.path().display());
    }
}

async fn apply(http: &reqwest::Client, base: &str, round: usize) -> (u16, Value) {
    let names: Vec<String> = (0..DOCUMENT_COUNT).map(|number| format!("p{round}-{number}")).collect();
    let documents: Vec<Value> = names.iter().map(|name| persona(name, "fra", &[])).collect();
    let request = http.post(format!("{base}{APPLY}")).json(&json!({ "documents": documents }));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_room_is_told_stores_nothing_by_halves_and_goes_on_when_there_is_some() {
    // It goes after the server.
    let Some(disk) = SmallDisk::mount() else { return };
    let Some(server) = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap() else { return };
    // The log of changes lies elsewhere: it is the tables that do not grow.
    server.sql(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.0.path().display()));
    server.sql("ALTER DATABASE persona SET TABLESPACE small");
    let folder = tempfile::tempdir().unwrap();
    let Ok(database) = server.url().parse::<StoreLocation>();
    let config = Config { store: database.into(), state_dir: Some(folder.path().to_owned()), ..Config::default() };
    let stop = CancellationToken::new();
    let manager = start(config, TcpListener::bind("127.0.0.1:0").await.unwrap(), stop.clone()).await.unwrap();
    let (roots, bearer) = first_access(folder.path()).await;
    let (http, base) = (with_bearer(&roots, &bearer), format!("https://{}", manager.address()));
    let pool = json!({ "documents": [pool("fra", "198.51.100.0/30")] });
    assert_eq!(http.post(format!("{base}{APPLY}")).json(&pool).send().await.unwrap().status(), 200);

    let filler = disk.fill();
    let mut stored = 0;
    let (status, body) = loop {
        let (status, body) = apply(&http, &base, stored).await;
        if status != 200 {
            break (status, body);
        }
        stored += 1;
        assert!(stored < 500, "the disk is not full");
    };
    assert_eq!((status, &body["type"]), (507, &json!("/problems/store-full")), "{body}");
    let status_of =
        async |name: String| http.get(format!("{base}/v1/personas/{name}")).send().await.unwrap().status().as_u16();
    assert_eq!(status_of(format!("p{stored}-0")).await, 404, "nothing of it is there");

    std::fs::remove_file(filler).unwrap();
    let again = async || apply(&http, &base, stored).await.0 == 200;
    eventually("changes are taken again", again).await;
    for round in 0..=stored {
        assert_eq!(status_of(format!("p{round}-{}", DOCUMENT_COUNT - 1)).await, 200, "round {round}");
    }
    stop.cancel();
    manager.stopped().await;
}
