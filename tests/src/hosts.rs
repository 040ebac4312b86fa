//! Hosts that are whole Debian systems: containers with systemd as their first process, each in a network namespace that is
//! there already. They share the system that `cargo xtask setup` made in the cache; what they write stays in memory.
//!
//! systemd-nspawn asks no service of this machine for anything: each container has control groups of its own and is gone
//! with its process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::ledger::{Ledger, Undo};
use crate::netns::Namespace;
use crate::peers::programs::{Program, cache_dir};
use crate::process::Running;
use crate::sys::{self, Signal};

/// How long a system may take to boot.
const BOOT_TIME: Duration = Duration::from_secs(60);

/// Enters the control groups that come before `--` and becomes what comes after.
const ENTER_GROUPS: &str =
    "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\" || exit 1; shift; done; shift; exec \"$@\"";

/// What a shell of root's has on any Debian system.
const ENVIRONMENT: [&str; 3] =
    ["HOME=/root", "USER=root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/// A host that runs.
#[derive(Debug)]
pub struct Host {
    /// Its name, as it knows it itself.
    pub name: String,
    process: Running,
    ledger: Ledger,
}

impl Host {
    /// Starts one; [`Self::wait_until_up`] follows. `readable` are files of this machine that lie in root's home there.
    pub fn start(ledger: &Ledger, folder: &Path, name: &str, inside: &Namespace, readable: &[&Path]) -> Result<Self> {
        let system = cache_dir()?.join("debian");
        ensure!(system.join("etc/os-release").is_file(), "{} is not there: run `cargo xtask setup`", system.display());
        let groups = make_groups(ledger, &inside.name)?;
        let program = Program::find("nspawn", "usr/bin/systemd-nspawn")?;
        let mut command = Command::new("sh");
        program.set_environment(&mut command);
        command.args(["-c", ENTER_GROUPS, "sh"]).args(groups).arg("--").arg(&program.path);
        // The system is read-only and shared, so nobody has to have it alone; interfaces under /proc/sys and /sys are its own
        // as far as the namespace goes.
        command.env("SYSTEMD_NSPAWN_LOCK", "0").env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1");
        command.args(["--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe", "--link-journal=no"]);
        command.args(["--read-only", "--volatile=overlay", "--capability=all"]);
        command.arg("--system-call-filter=bpf perf_event_open");
        command.arg(format!("--machine={}", inside.name)).arg(format!("--hostname={name}"));
        command.arg(format!("--directory={}", system.display()));
        command.arg(format!("--network-namespace-path=/run/netns/{}", inside.name));
        for file in readable {
            let base = file.file_name().context("a file has a name")?.to_string_lossy();
            command.arg(format!("--bind-ro={}:/root/{base}", file.display()));
        }
        ledger.note(Undo::RemoveFolder(Path::new("/run/systemd/nspawn/propagate").join(&inside.name)));
        let process = Running::start(ledger, name, &folder.join(format!("{name}.log")), command)?;
        Ok(Self { name: name.to_owned(), process, ledger: ledger.clone() })
    }

    /// Waits until it has booted, and mounts what a container leaves to its host.
    pub fn wait_until_up(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            self.process.check()?;
            if self.is_up() {
                // It outlives systemd-nspawn if that is killed, and takes all others of its container along.
                self.leader().into_iter().for_each(|leader| self.ledger.note(Undo::Kill(leader)));
                // Every system has this one, but systemd does not mount it in a container.
                return self.text("mount -t bpf -o mode=700 bpf /sys/fs/bpf").map(drop);
            }
            if start.elapsed() > BOOT_TIME {
                bail!("{} does not boot; the end of its log:\n{}", self.name, self.process.log_tail());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The first process of the container, as this machine numbers it: while it is being made, others stand in its place.
    fn leader(&self) -> Option<u32> {
        first_child(self.process.pid()?)
    }

    fn is_up(&self) -> bool {
        let state = self.run("systemctl is-system-running");
        let is_one_of = |state: &str| ["running", "degraded"].contains(&state.trim());
        state.is_ok_and(|output| is_one_of(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Runs lines of a shell in root's home there, until one fails, and returns what they wrote.
    pub fn run(&self, script: &str) -> Result<Output> {
        let leader = self.leader().with_context(|| format!("{} has no process yet", self.name))?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={leader}")).args(["--all", "env", "--ignore-environment"]);
        command.args(ENVIRONMENT).args(["sh", "-e", "-c", &format!("cd\n{script}")]);
        command.stdin(std::process::Stdio::null()).output().context("nsenter does not start")
    }

    /// The same for lines that must succeed; what they wrote to standard output.
    pub fn text(&self, script: &str) -> Result<String> {
        let output = self.run(script)?;
        let both = [&output.stdout[..], &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        ensure!(output.status.success(), "on {}:\n{script}\n{}\n{}", self.name, output.status, both.join("\n"));
        let [text, _] = both;
        Ok(text)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(leader) = self.leader() {
            self.ledger.strike(&Undo::Kill(leader));
            sys::kill(leader, Signal::Kill).ok(); // it may have ended by itself
        }
    }
}

/// A group of its own in each tree that systemd works with: the one of version 2, and its own of version 1.
fn make_groups(ledger: &Ledger, name: &str) -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let trees: Vec<PathBuf> = mounts.lines().filter_map(tree_of_systemds).collect();
    ensure!(!trees.is_empty(), "no tree of control groups is mounted that systemd could work with");
    ledger.note(Undo::RemoveCgroup(name.to_owned()));
    let groups: Vec<PathBuf> = trees.iter().map(|tree| tree.join(name)).collect();
    for group in &groups {
        std::fs::create_dir(group).with_context(|| format!("{} cannot be made", group.display()))?;
    }
    Ok(groups)
}

fn tree_of_systemds(mount: &str) -> Option<PathBuf> {
    let fields: Vec<&str> = mount.split(' ').collect();
    let [_, place, kind, options, ..] = fields[..] else { return None };
    (kind == "cgroup2" || options.split(',').any(|option| option == "name=systemd")).then(|| place.into())
}

fn first_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
