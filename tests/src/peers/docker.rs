//! A Docker engine of our own as a peer: its socket, data, state and control groups lie apart from those of an engine
//! that the machine may run, and it makes no bridge and no firewall rule.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::ledger::{Ledger, Undo};
use crate::netns::Namespace;
use crate::process::Running;

/// How long the engine may take to answer.
const START_TIME: Duration = Duration::from_secs(30);

/// How long a container's process may take to appear.
const CONTAINER_TIME: Duration = Duration::from_secs(20);

/// Everything that the engine starts is in a process namespace of its own and ends with it, however it ends. /run and
/// /opt, where containerd makes folders whatever it is told, are its own.
const START_SCRIPT: &str = "set -e; mount --make-rprivate /; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /opt; \
    mount -t proc proc /proc; exec \"$@\"";

/// The name of the only image.
const IMAGE: &str = "persona-test";

/// An engine.
#[derive(Debug)]
pub struct Docker {
    /// The engine's process: `unshare`, whose end is the end of all.
    pub engine: Running,
    ledger: Ledger,
    socket: PathBuf,
    cgroup: String,
}

impl Docker {
    /// Starts one inside a namespace and gives it an image of busybox.
    pub fn start(ledger: &Ledger, inside: &Namespace, folder: &Path) -> Result<Self> {
        let base = folder.join("docker");
        std::fs::create_dir_all(&base).with_context(|| format!("{} cannot be made", base.display()))?;
        std::fs::write(base.join("daemon.json"), "{}")?;
        let world = folder.file_name().context("the world's folder has a name")?.to_string_lossy().into_owned();
        let cgroup = format!("{world}-docker");
        ledger.note(Undo::RemoveCgroup(cgroup.clone()));
        let socket = base.join("docker.sock");
        let program = Program::find("docker", "usr/sbin/dockerd")?;
        let mut command = inside.command("unshare")?;
        program.set_environment(&mut command);
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", START_SCRIPT, "sh"]);
        command.arg(&program.path).args(engine_arguments(&base, &socket, &cgroup));
        let engine = Running::start(ledger, "dockerd", &folder.join("dockerd.log"), command)?;
        let mut docker = Self { engine, ledger: ledger.clone(), socket, cgroup };
        docker.wait_until_up()?;
        docker.import_busybox(&base)?;
        Ok(docker)
    }

    /// Starts a container without a network, which does nothing, and names its network namespace.
    pub fn run(&self, name: &str, namespace: &str) -> Result<Container<'_>> {
        self.run_with(&[], name, namespace)
    }

    /// The same, with more options of `docker run`.
    pub fn run_with(&self, options: &[&str], name: &str, namespace: &str) -> Result<Container<'_>> {
        let fixed = ["run", "--detach", "--network", "none", "--name", name];
        let id = self.client(&[&fixed, options, &[IMAGE, "/bin/sleep", "3600"]].concat())?;
        let pid = self.host_pid(id.trim())?;
        self.ledger.note(Undo::RemoveNamespace(namespace.to_owned()));
        crate::netns::run("ip", &["netns", "attach", namespace, &pid.to_string()])?;
        let namespace = Namespace { name: namespace.to_owned() };
        // Docker switches IPv6 off where it gives no network; who gives one switches it on, and waits for no duplicates.
        for interfaces in ["all", "default"] {
            namespace.write_sysctl(&format!("net/ipv6/conf/{interfaces}/disable_ipv6"), "0")?;
            namespace.write_sysctl(&format!("net/ipv6/conf/{interfaces}/accept_dad"), "0")?;
        }
        Ok(Container { docker: self, name: name.to_owned(), namespace })
    }

    /// A command that runs inside the container of this name.
    pub fn exec(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        self.command(&[&["exec", name], arguments].concat())
    }

    /// Runs `docker` and returns what it printed.
    pub fn client(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.output().context("docker does not start")?;
        if !output.status.success() {
            bail!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let program = Program::find("docker", "usr/bin/docker")?;
        let mut command = Command::new(&program.path);
        program.set_environment(&mut command);
        command.env("HOME", self.socket.with_extension("home")); // no configuration of the user's
        command.arg("--host").arg(format!("unix://{}", self.socket.display())).args(arguments);
        Ok(command)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = self.client(&["version"]) {
            self.engine.check()?;
            if start.elapsed() > START_TIME {
                return Err(error.context("dockerd does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn import_busybox(&self, base: &Path) -> Result<()> {
        let root = base.join("image");
        std::fs::create_dir_all(root.join("bin"))?;
        let busybox = Program::find("busybox", "bin/busybox")?;
        std::fs::copy(&busybox.path, root.join("bin/busybox")).context("busybox cannot be copied")?;
        for applet in ["sh", "sleep", "wget", "ip", "ping", "nc", "true"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        let archive = base.join("image.tar");
        crate::netns::run("tar", &["-C", &root.display().to_string(), "-cf", &archive.display().to_string(), "."])?;
        self.client(&["import", &archive.display().to_string(), IMAGE]).map(drop)
    }

    /// A container's first process as this host counts it: the only one in its control group.
    fn host_pid(&self, id: &str) -> Result<u32> {
        let place = Path::new(&self.cgroup).join(id).join("cgroup.procs");
        let candidates = [Path::new("/sys/fs/cgroup").join(&place), Path::new("/sys/fs/cgroup/pids").join(&place)];
        let start = Instant::now();
        loop {
            let texts = candidates.iter().filter_map(|path| std::fs::read_to_string(path).ok());
            if let Some(pid) = texts.filter_map(|text| text.lines().next()?.parse().ok()).next() {
                return Ok(pid);
            }
            if start.elapsed() > CONTAINER_TIME {
                bail!("container {id} has no process in {}", candidates[1].display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A running container.
#[derive(Debug)]
pub struct Container<'a> {
    docker: &'a Docker,
    /// Its name.
    pub name: String,
    /// Its network namespace.
    pub namespace: Namespace,
}

impl Container<'_> {
    /// A command that runs inside the container.
    pub fn exec(&self, arguments: &[&str]) -> Result<Command> {
        self.docker.exec(&self.name, arguments)
    }
}

fn engine_arguments(base: &Path, socket: &Path, cgroup: &str) -> Vec<String> {
    let path = |name: &str| base.join(name).display().to_string();
    let mut arguments = vec![
        format!("--host=unix://{}", socket.display()),
        format!("--config-file={}", path("daemon.json")),
        format!("--data-root={}", path("data")),
        format!("--exec-root={}", path("exec")),
        format!("--pidfile={}", path("docker.pid")),
        format!("--cgroup-parent=/{cgroup}"),
    ];
    let fixed = [
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        "--userland-proxy=false",
        "--storage-driver=vfs",
        "--exec-opt=native.cgroupdriver=cgroupfs",
    ];
    arguments.extend(fixed.map(str::to_owned));
    arguments
}
