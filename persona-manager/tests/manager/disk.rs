//! Disks that are full or take no writes: told as such, nothing half done, and over when the disk is well again.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::*;
use persona_manager::{Config, start};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A file system of a few megabytes in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one. None, with a word why: this process may not.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"], folder.path());
        if !mounted {
            assert!(std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_none(), "a tmpfs cannot be mounted");
            println!("SKIP: a small disk takes CAP_SYS_ADMIN to mount");
        }
        mounted.then_some(Self(folder))
    }

    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [64 << 10, 1 << 10, 1] {
            let bytes = vec![0; size];
            while file.write_all(&bytes).is_ok() {}
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

fn mount(arguments: &[&str], folder: &Path) -> bool {
    Command::new("mount").args(arguments).arg(folder).output().unwrap().status.success()
}

async fn apply(app: &TestApp, documents: Vec<Value>) -> (u16, Value) {
    app.post(APPLY, json!({ "documents": documents })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_stores_nothing_by_halves_and_passes() {
    let Some(disk) = SmallDisk::mount() else { return };
    let app = TestApp::on(tempfile::tempdir_in(disk.0.path()).unwrap()).await;
    apply(&app, vec![pool("fra", "198.51.100.0/30")]).await;
    let filler = disk.fill();
    // The log may have room that it uses again; what is acknowledged is stored also then.
    let mut stored = 0;
    let refused = loop {
        let names = [format!("a{stored}"), format!("b{stored}")];
        let (status, body) = apply(&app, names.iter().map(|name| persona(name, "fra", &[])).collect()).await;
        if status != 200 {
            break (status, body);
        }
        stored += 1;
        assert!(stored < 5_000, "the disk is not full");
    };
    assert_eq!((refused.0, &refused.1["type"]), (507, &json!("/problems/store-full")), "{}", refused.1);
    assert!(refused.1["detail"].as_str().unwrap().contains("free space"), "{}", refused.1);
    let (status, body) = app.call("GET", "/readyz", None).await;
    assert_eq!((status, body["detail"].as_str().unwrap().contains("disk is full")), (503, true), "{body}");
    assert_eq!(app.call("GET", "/healthz", None).await.0, 200);
    assert_eq!(
        app.get("/v1/personas?limit=1000").await["items"].as_array().unwrap().len().min(1_000),
        (2 * stored).min(1_000)
    );
    for name in [format!("a{stored}"), format!("b{stored}")] {
        assert_eq!(app.call("GET", &format!("/v1/personas/{name}"), None).await.0, 404, "{name}");
    }
    std::fs::remove_file(filler).unwrap();
    eventually("changes are taken again", async || apply(&app, vec![persona("after", "fra", &[])]).await.0 == 200)
        .await;
    assert_eq!(app.call("GET", "/readyz", None).await.0, 200);
    let app = app.restart().await;
    assert_eq!(app.call("GET", "/v1/personas/after", None).await.0, 200);
    assert_eq!(app.call("GET", &format!("/v1/personas/a{stored}"), None).await.0, 404);
    drop(app.halt().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_writes_is_named_at_start() {
    let Some(disk) = SmallDisk::mount() else { return };
    let app = TestApp::on(tempfile::tempdir_in(disk.0.path()).unwrap()).await;
    let store = app.store();
    let folder = app.halt().await;
    assert!(mount(&["-o", "remount,ro"], disk.0.path()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config { store: store.clone().into(), ..Config::default() };
    let error = start(config, listener, CancellationToken::new()).await.err().expect("it cannot be written to");
    let chain: Vec<String> = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect();
    let text = chain.join(": ");
    assert!(text.contains(store.to_str().unwrap()) && text.to_lowercase().contains("read-only"), "{text}");
    assert!(mount(&["-o", "remount,rw"], disk.0.path()));
    drop(folder);
}
