//! A PostgreSQL server of a test's own: on loopback, with a folder of its own, gone when the test ends.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server must answer within this time.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// A running server. PostgreSQL refuses to be root; then it runs as nobody.
pub(crate) struct PostgresServer {
    pub(crate) child: Child,
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
}

impl PostgresServer {
    /// Starts one. None, with a word why: there is none on this machine.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_none(),
                "PostgreSQL is missing: cargo xtask setup"
            );
            println!("SKIP: PostgreSQL is not on this machine; `cargo xtask setup` unpacks it");
            return None;
        };
        let folder = own_folder();
        let data = folder.path().join("data");
        let made = as_nobody(&programs.join("initdb"))
            .args(["--auth=trust", "--username=persona", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--pgdata={}", data.display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = Self::run_in(folder);
        server.sql("CREATE DATABASE persona");
        Some(server)
    }

    /// Runs a server on the data that a folder has.
    pub(crate) fn run_in(folder: tempfile::TempDir) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = run(&programs().unwrap(), folder.path(), port);
        let server = Self { child, port, folder };
        server.wait_until_it_answers();
        server
    }

    /// Where the database is.
    pub(crate) fn url(&self) -> String {
        format!("postgres://persona@127.0.0.1:{}/persona", self.port)
    }

    /// Runs a statement, in the maintenance database.
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.psql(&["--dbname=postgres", "--command", statement])
    }

    /// Kills the server without a word, and starts it anew on the same data.
    pub(crate) fn crash_and_restart(&mut self) {
        self.end("QUIT");
        self.child = run(&programs().unwrap(), self.folder.path(), self.port);
        self.wait_until_it_answers();
    }

    /// Runs psql.
    pub(crate) fn psql(&self, arguments: &[&str]) -> String {
        let mut psql = Command::new(programs().unwrap().join("psql"));
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--username=persona", "--host=127.0.0.1"]);
        let output = psql.arg(format!("--port={}", self.port)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + START_TIME_MAX;
        let is_ready = || {
            let mut ready = Command::new(programs().unwrap().join("pg_isready"));
            ready.args(["--quiet", "--host=127.0.0.1"]).arg(format!("--port={}", self.port));
            ready.status().unwrap().success()
        };
        while !is_ready() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn end(&mut self, signal: &str) {
        // One that has ended may be somebody else by now.
        if self.child.try_wait().unwrap().is_none() {
            let _ = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        }
        self.child.wait().unwrap();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end("INT");
    }
}

fn run(programs: &Path, folder: &Path, port: u16) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    as_nobody(&programs.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=50", "-p"])
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Where the programs are: the machine's own, or those that `cargo xtask setup` unpacked.
pub(crate) fn programs() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let roots = [PathBuf::from("/usr/lib/postgresql"), cache.join("persona/postgresql/usr/lib/postgresql")];
    let versions = roots.iter().filter_map(|root| std::fs::read_dir(root).ok()).flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.retain(|folder| folder.join("initdb").exists() && folder.join("psql").exists());
    folders.sort();
    folders.pop()
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// A folder that belongs to whoever runs the server.
pub(crate) fn own_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("persona-postgres-").tempdir_in("/tmp").unwrap();
    if is_root() {
        const NOBODY: u32 = 65_534;
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    folder
}

pub(crate) fn as_nobody(program: &Path) -> Command {
    let mut command = match is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
            command
        }
        false => Command::new(program),
    };
    let root = program.ancestors().nth(5).unwrap_or(Path::new("/"));
    let libraries =
        ["usr/lib", "lib"].map(|part| root.join(part).join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    if root != Path::new("/") {
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    }
    command.current_dir("/tmp");
    command
}
