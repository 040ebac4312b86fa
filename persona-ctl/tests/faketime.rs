//! The real manager, and the command line beside it, under clocks that are set: Debian's libfaketime turns the clock that
//! people read, as an administrator or a broken time server does. The clock that never goes back is left alone, as by the kernel.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its support functions")]

#[path = "../../persona-manager/tests/endurance/postgres_server.rs"]
#[expect(dead_code, reason = "the manager's own tests use the rest")]
mod postgres_server;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::Value;

/// Whatever is waited for must come within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The library: the machine's own, or what `cargo xtask setup` unpacked.
fn library() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let path = format!("usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    let found = [PathBuf::from("/"), cache.join("persona/faketime")].map(|root| root.join(&path));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var_os("PERSONA_REQUIRE_TOOLS").is_none(), "libfaketime is missing: cargo xtask setup");
        println!("SKIP: libfaketime is not on this machine; `cargo xtask setup` unpacks it");
    }
    found
}

/// A manager with a clock of its own.
struct Manager {
    child: Child,
    /// What its clock is off by is written here.
    clock: PathBuf,
    socket: String,
}

impl Manager {
    fn start(library: &Path, folder: &Path, store: &str, off_by: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let (clock, state) = (folder.join("clock"), folder.join("state"));
        std::fs::write(&clock, off_by).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_persona-ctl"));
        command.args(["manager", "--listen", "127.0.0.1:0", "--store", store, "--state-dir"]).arg(&state);
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &clock);
        command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let manager = Self { child, clock, socket: format!("unix:{}", state.join("admin.sock").display()) };
        manager.until("it answers", |it| it.ctl(&["status"]).status.success());
        manager
    }

    fn set_clock(&self, off_by: &str) {
        std::fs::write(&self.clock, off_by).unwrap();
    }

    /// Asks over the manager's own socket.
    fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_persona-ctl"));
        command.args(["--manager", &self.socket, "--output", "json"]).args(arguments).output().unwrap()
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let told: Vec<Value> = serde_json::from_slice(&self.ctl(&["events"]).stdout).unwrap();
        assert!(told.windows(2).all(|two| two[0]["number"].as_u64() < two[1]["number"].as_u64()), "{told:?}");
        told.into_iter().filter(|event| event["name"] == name).collect()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what} does not come about");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn assert_chain_is_whole(&self) {
        let verified = self.ctl(&["audit", "verify"]);
        assert!(verified.status.success(), "{}", text(&verified.stderr));
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.child.kill().ok(); // it may have been killed by the test
        self.child.wait().ok();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What somebody is told who comes with a token over TLS and has a clock that is off.
fn whoami(library: &Path, token: &Path, off_by: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persona-ctl"));
    command.args(["whoami", "--token-file"]).arg(token);
    command.env("LD_PRELOAD", library).env("FAKETIME", off_by).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let output = command.output().unwrap();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// Makes a token with which an administrator comes over TLS.
fn token_of(manager: &Manager, folder: &Path) -> PathBuf {
    let made = manager.ctl(&["access", "create", "--name", "ann", "--role", "admin", "--ttl", "1h"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let file = folder.join("token");
    std::fs::write(&file, made["token"].as_str().unwrap()).unwrap();
    file
}

#[test]
fn a_clock_that_is_set_ends_tokens_and_certificates_as_it_says_and_breaks_nothing_else() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.sqlite").display().to_string();
    let manager = Manager::start(&library, &folder.path().join("m"), &store, "+0");
    let token = token_of(&manager, folder.path());
    assert!(whoami(&library, &token, "+0").0);

    // Forward: what was good for an hour is over. Back: it is good again, and longer than it was meant, never shorter.
    manager.set_clock("+2h");
    manager.until("the step is noticed", |it| it.events("clock.stepped").len() == 1);
    let (is_let_in, told) = whoami(&library, &token, "+0");
    assert!(!is_let_in && told.contains("expired"), "{told}");
    manager.set_clock("-3h");
    manager.until("the step is noticed", |it| it.events("clock.stepped").len() == 2);
    assert!(whoami(&library, &token, "+0").0);
    let steps: Vec<i64> =
        manager.events("clock.stepped").iter().map(|event| event["details"]["byMs"].as_i64().unwrap()).collect();
    let is_near = |found: i64, hours: i64| (found - hours * 3_600_000).abs() < 60_000;
    assert!(is_near(steps[0], 2) && is_near(steps[1], -5), "{steps:?}");
    manager.assert_chain_is_whole();

    // Whoever asks with a clock that is far off is told what is wrong with the certificate, by that clock.
    for (off_by, part) in [("+40d", "certificate expired"), ("-2d", "not valid yet")] {
        let (is_let_in, told) = whoami(&library, &token, off_by);
        assert!(!is_let_in && told.contains(part), "{off_by}: {told}");
    }

    // A manager that starts at an earlier time than it ended goes on from what is stored.
    drop(manager);
    let manager = Manager::start(&library, &folder.path().join("m"), &store, "-2d");
    let token = token_of(&manager, folder.path());
    let (is_let_in, told) = whoami(&library, &token, "-2d");
    assert!(is_let_in, "{told}");
    manager.assert_chain_is_whole();
}

#[test]
fn managers_whose_clocks_differ_by_most_of_an_hour_lead_one_after_the_other() {
    let (Some(library), Some(server)) = (library(), PostgresServer::start()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let ahead = Manager::start(&library, &folder.path().join("ahead"), &server.url(), "+25m");
    let state = folder.path().join("behind/state");
    std::fs::create_dir_all(&state).unwrap();
    for file in std::fs::read_dir(folder.path().join("ahead/state")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "key") {
            std::fs::copy(&file, state.join(file.file_name().unwrap())).unwrap();
        }
    }
    let behind = Manager::start(&library, &folder.path().join("behind"), &server.url(), "-25m");
    let made = |manager: &Manager, name: &str| {
        let arguments = ["access", "create", "--name", name, "--role", "viewer", "--ttl", "1h"];
        manager.ctl(&arguments).status.success()
    };
    assert!(made(&ahead, "one"), "the leader takes it");
    // Certificates are dated back by an hour: what one signs the other takes for good, as long as they differ by less.
    behind.until("it passes changes on", |it| made(it, "two"));
    let epoch = || server.psql(&["--dbname=persona", "--command", "SELECT epoch FROM leader"]);
    let before = epoch();
    drop(ahead);
    behind.until("it leads", |it| made(it, "three"));
    assert!(epoch().parse::<u64>().unwrap() > before.parse::<u64>().unwrap());
    let created = behind.events("access-token.created");
    let [first, .., last] = created.as_slice() else { panic!("{created:?}") };
    assert!(first["timeMs"].as_u64() > last["timeMs"].as_u64(), "times went back: {created:?}");
    behind.assert_chain_is_whole();
}
