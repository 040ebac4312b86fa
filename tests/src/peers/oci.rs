//! Containers of plain OCI runtimes, runc and crun, without an engine: a bundle of busybox that does nothing, with a control group
//! and a state folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::programs::Program;
use crate::ledger::{Ledger, Undo};

/// crun refuses hosts on which version 1 has only some of the controllers: there it is shown the trees of version 1 alone.
const SCRIPT: &str = "set -e; mount --make-rprivate /; \
    if [ -d /sys/fs/cgroup/memory ] && [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi; exec \"$@\"";

/// A runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The reference implementation, as it comes with Docker.
    Runc,
    /// The one in C.
    Crun,
}

/// A container that runs until it is dropped.
#[derive(Debug)]
pub struct OciContainer {
    runtime: Runtime,
    state: PathBuf,
    /// Its id, and the name of its control group in every tree.
    pub name: String,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Runc, Self::Crun];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The file in a container's state folder that names its first process.
    fn state_file(self) -> &'static str {
        match self {
            Self::Runc => "state.json",
            Self::Crun => "status",
        }
    }

    /// Starts a container of this id, which must be nobody's, in a folder.
    pub fn start(self, ledger: &Ledger, folder: &Path, name: &str) -> Result<OciContainer> {
        let bundle = folder.join(format!("{name}-bundle"));
        make_bundle(&bundle, name)?;
        ledger.note(Undo::RemoveCgroup(name.to_owned()));
        let container = OciContainer { runtime: self, state: folder.join("state"), name: name.to_owned() };
        let bundle = bundle.display().to_string();
        container.run(&["run", "--detach", "--bundle", &bundle, name])?;
        Ok(container)
    }

    fn command(self, state: &Path) -> Result<Command> {
        let program = match self {
            Self::Runc => Program::find("docker", "usr/sbin/runc")?,
            Self::Crun => Program::find("crun", "usr/bin/crun")?,
        };
        let mut command = Command::new("unshare");
        program.set_environment(&mut command);
        command.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(&program.path).arg("--root").arg(state);
        Ok(command)
    }
}

impl OciContainer {
    /// The file that names its first process.
    pub fn state_file(&self) -> PathBuf {
        self.state.join(&self.name).join(self.runtime.state_file())
    }

    /// Ends it and starts one of the same id anew.
    pub fn start_anew(&self, folder: &Path) -> Result<()> {
        self.run(&["delete", "--force", &self.name])?;
        let bundle = folder.join(format!("{}-bundle", self.name)).display().to_string();
        self.run(&["run", "--detach", "--bundle", &bundle, &self.name])
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        // Its container keeps what it was started with, so a pipe would never end.
        let log = self.state.with_extension(format!("{}.log", self.name));
        let output = std::fs::File::create(&log).with_context(|| format!("{} cannot be made", log.display()))?;
        let mut command = self.runtime.command(&self.state)?;
        command.args(arguments).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let status = command.status().with_context(|| format!("{} does not start", self.runtime.name()))?;
        if !status.success() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("{} {}: {status}: {}", self.runtime.name(), arguments.join(" "), said.trim());
        }
        Ok(())
    }
}

impl Drop for OciContainer {
    fn drop(&mut self) {
        // What is left of it the ledger tells: its control group.
        let _ = self.run(&["delete", "--force", &self.name]);
    }
}

fn make_bundle(bundle: &Path, name: &str) -> Result<()> {
    let root = bundle.join("rootfs");
    for folder in ["bin", "dev", "proc"] {
        std::fs::create_dir_all(root.join(folder)).with_context(|| format!("{} cannot be made", root.display()))?;
    }
    let busybox = Program::find("busybox", "bin/busybox")?;
    std::fs::copy(&busybox.path, root.join("bin/busybox")).context("busybox cannot be copied")?;
    std::os::unix::fs::symlink("busybox", root.join("bin/sleep"))?;
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": { "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": ["/bin/sleep", "600"], "env": ["PATH=/bin"],
            "cwd": "/", "noNewPrivileges": true },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": { "cgroupsPath": format!("/{name}"), "namespaces": namespaces },
    });
    std::fs::write(bundle.join("config.json"), config.to_string())
        .context("the bundle's configuration cannot be written")
}
