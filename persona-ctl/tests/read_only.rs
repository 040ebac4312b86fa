//! A file system that the kernel makes read-only under a running manager, as ext4 does when it finds itself damaged: changes are
//! refused as such and none is acknowledged, everything else goes on, and once it is mended the store has all that was
//! acknowledged. The file system lies in a file, and is mounted where the manager alone sees it.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its support functions")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long the manager may take to answer.
const START_TIME: Duration = Duration::from_secs(30);

/// Large enough for a journal.
const DISK_BYTES: u64 = 32 << 20;

/// Mounts the first argument at the second, then becomes what the others say.
const MOUNT: &str = r#"mount -o loop,errors=remount-ro "$1" "$2" && shift 2 && exec "$@""#;

/// Whether a file system can be mounted in a namespace of its own.
fn may_run() -> bool {
    let tried = Command::new("unshare").args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    let may = tried.is_ok_and(|output| output.status.success()) && Path::new("/dev/loop-control").exists();
    if !may {
        assert!(std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_none(), "a file system cannot be mounted");
        println!("SKIP: mounting a file system takes root and a loop device");
    }
    may
}

fn run(program: &str, arguments: &[&str], path: &Path) -> Output {
    Command::new(program).args(arguments).arg(path).output().unwrap()
}

/// A manager whose store lies on the disk, and nothing else of it.
struct Manager {
    child: Child,
    mounted_at: PathBuf,
    socket: String,
    log: PathBuf,
}

impl Manager {
    fn start(folder: &Path) -> Self {
        let (disk, mounted_at, state) = (folder.join("disk"), folder.join("mounted"), folder.join("state"));
        let store = mounted_at.join("store.sqlite");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", MOUNT, "sh"]).arg(&disk).arg(&mounted_at);
        command.arg(env!("CARGO_BIN_EXE_persona-ctl")).args(["manager", "--listen", "127.0.0.1:0", "--store"]);
        command.arg(store).arg("--state-dir").arg(&state);
        let log = folder.join("log");
        let output = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        let socket = format!("unix:{}", state.join("admin.sock").display());
        let manager = Self { child, mounted_at, socket, log };
        let deadline = Instant::now() + START_TIME;
        while !manager.ctl(&["status"]).status.success() {
            assert!(Instant::now() < deadline, "{}", text(&manager.ctl(&["status"]).stderr));
            std::thread::sleep(Duration::from_millis(100));
        }
        manager
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_persona-ctl"));
        command.args(["--manager", &self.socket, "--output", "json"]).args(arguments).output().unwrap()
    }

    /// A change. None: it was acknowledged.
    fn refusal_of(&self, name: &str) -> Option<String> {
        let made = self.ctl(&["access", "create", "--name", name, "--role", "viewer", "--ttl", "1h"]);
        (!made.status.success()).then(|| text(&made.stderr))
    }

    fn names(&self) -> String {
        let listed = self.ctl(&["access", "list"]);
        assert!(listed.status.success(), "{}", text(&listed.stderr));
        text(&listed.stdout)
    }

    /// Has the kernel find an error in the file system (ext4's own switch for that, Linux 3.19 and later).
    fn damage(&self) {
        let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", self.child.id())).unwrap();
        let place = self.mounted_at.display().to_string();
        let device = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let device = words.next()?;
            (words.next()? == place).then(|| device.trim_start_matches("/dev/").to_owned())
        });
        std::fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", device.unwrap()), "1").unwrap();
    }
}

impl Drop for Manager {
    /// The mount goes with the last process in its namespace.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_disk_that_turns_read_only_is_told_acknowledges_nothing_and_keeps_what_was() {
    if !may_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(folder.path().join("mounted")).unwrap();
    std::fs::File::create(&disk).unwrap().set_len(DISK_BYTES).unwrap();
    assert!(run("mkfs.ext4", &["-q", "-F"], &disk).status.success());

    let manager = Manager::start(folder.path());
    for name in ["one", "two", "three"] {
        assert_eq!(manager.refusal_of(name), None, "{name}");
    }
    manager.damage();
    for name in ["four", "five"] {
        let told = manager.refusal_of(name).expect("nothing can be written");
        assert!(told.contains("the store takes no changes"), "{told}");
    }
    let names = manager.names();
    assert!(names.contains("three") && !names.contains("four"), "{names}");
    assert!(manager.ctl(&["status"]).status.success() && manager.ctl(&["events"]).status.success());
    let log = std::fs::read_to_string(&manager.log).unwrap();
    assert!(log.contains("the store failed") && !log.contains("works again"), "{log}");

    drop(manager);
    // Exit code 1: errors were corrected.
    let mended = run("e2fsck", &["-p", "-f"], &disk);
    assert!(mended.status.code().is_some_and(|code| code <= 1), "{}", text(&mended.stdout));
    let manager = Manager::start(folder.path());
    let names = manager.names();
    assert!(["one", "two", "three"].iter().all(|name| names.contains(name)), "{names}");
    assert!(!names.contains("four") && !names.contains("five"), "{names}");
    assert_eq!(manager.refusal_of("six"), None);
    let verified = manager.ctl(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", text(&verified.stderr));
}
