//! What was packed is unpacked into a folder and looked at as its users would: files, owners and modes, what the program
//! says of itself, and whether it takes the configurations that it comes with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{Kind, Release, bare, tree};
use crate::command::{output_of, workspace_root};

/// What must be in it, below the prefix.
const EXPECTED: [&str; 18] = [
    "bin/persona-ctl",
    "lib/systemd/system/persona-agent.service",
    "lib/systemd/system/persona-edge.service",
    "lib/systemd/system/persona-gateway.service",
    "lib/systemd/system/persona-guard.service",
    "lib/systemd/system/persona-guest.service",
    "lib/systemd/system/persona-helper.service",
    "lib/systemd/system/persona-helper.socket",
    "lib/systemd/system/persona-manager.service",
    "lib/systemd/system/sys-fs-bpf-persona.mount",
    "lib/sysusers.d/persona.conf",
    "lib/tmpfiles.d/persona.conf",
    "share/bash-completion/completions/persona-ctl",
    "share/doc/persona/LICENSE-MIT",
    "share/doc/persona/docs/operations.md",
    "share/doc/persona/examples/agent.toml",
    "share/persona/monitoring/persona-dashboard.json",
    "share/persona/monitoring/persona-rules.yml",
];

/// Roles whose examples the program must take.
pub(super) const ROLES: [&str; 5] = ["manager", "agent", "guest", "edge", "gateway"];

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// The program itself.
    Real,
    /// Something small in its place, which does not know the commands.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests of packing do without minutes of building"))]
    StandIn,
}

/// Unpacks `file` and tries it.
pub(super) fn run(kind: Kind, file: &Path, release: &Release, program: Program) -> Result<()> {
    let folder = workspace_root().join(format!("target/xtask/dist-trial-{}", std::process::id()));
    tree::empty(&folder)?;
    let outcome = try_in(kind, file, release, program, &folder);
    std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    outcome
}

fn try_in(kind: Kind, file: &Path, release: &Release, program: Program, folder: &Path) -> Result<()> {
    let prefix = match kind {
        Kind::Tarball => unpack_tarball(file, folder)?,
        Kind::Package => unpack_debian(file, release, folder)?,
    };
    for path in EXPECTED {
        ensure!(prefix.join(path).is_file(), "{} lacks {path}", file.display());
    }
    let binary = prefix.join("bin/persona-ctl");
    let version = output_of(Command::new(&binary).arg("--version"))?;
    ensure!(version == format!("persona-ctl {}", release.version), "the program calls itself {version:?}");
    let examples = prefix.join("share/doc/persona/examples");
    for role in ROLES.iter().filter(|_| program == Program::Real) {
        let example = examples.join(format!("{role}.toml"));
        output_of(Command::new(&binary).args(["config", "check", role, "--config"]).arg(&example))?;
    }
    match (kind, program) {
        (Kind::Tarball, Program::Real) => bare::run(&prefix, &version),
        _ => Ok(()),
    }
}

fn unpack_tarball(file: &Path, folder: &Path) -> Result<PathBuf> {
    let listed = output_of(Command::new("tar").args(["--list", "--verbose", "--numeric-owner", "--file"]).arg(file))?;
    judge_modes(&listed, "0/0")?;
    output_of(Command::new("tar").args(["--extract", "--file"]).arg(file).arg("--directory").arg(folder))?;
    let mut entries = std::fs::read_dir(folder)?;
    let only = entries.next().context("the tarball is empty")??.path();
    ensure!(entries.next().is_none(), "the tarball has more than one folder");
    Ok(only)
}

fn unpack_debian(file: &Path, release: &Release, folder: &Path) -> Result<PathBuf> {
    judge_modes(&output_of(Command::new("dpkg-deb").arg("--contents").arg(file))?, "root/root")?;
    let field = |name: &str| output_of(Command::new("dpkg-deb").arg("--field").arg(file).arg(name));
    ensure!(field("Version")? == release.version, "the package has version {}", field("Version")?);
    ensure!(field("Architecture")? == release.architecture, "the package is for {}", field("Architecture")?);
    let control = folder.join("control");
    output_of(Command::new("dpkg-deb").arg("--control").arg(file).arg(&control))?;
    let conffiles = std::fs::read_to_string(control.join("conffiles")).context("there are no conffiles")?;
    output_of(Command::new("dpkg-deb").arg("--extract").arg(file).arg(folder))?;
    for conffile in conffiles.lines() {
        ensure!(folder.join(conffile.trim_start_matches('/')).is_file(), "the conffile {conffile} is not in it");
    }
    judge_scripts(&control)?;
    Ok(folder.join("usr"))
}

/// Scripts are right, and none of them has a service run that its administrator did not start.
fn judge_scripts(control: &Path) -> Result<()> {
    for script in ["postinst", "prerm", "postrm"] {
        let path = control.join(script);
        output_of(Command::new("sh").arg("-n").arg(&path))?;
        let text = std::fs::read_to_string(&path)?;
        let commands = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        for line in commands {
            for forbidden in
                ["systemctl start", "systemctl restart", "systemctl enable", "invoke start", "helper enable"]
            {
                ensure!(!line.contains(forbidden), "{script} has {forbidden:?}: {line}");
            }
        }
    }
    Ok(())
}

/// Everything is root's, and nobody else may write to it.
fn judge_modes(listed: &str, owner: &str) -> Result<()> {
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        let (mode, by) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let writable = mode.get(5..6) == Some("w") || mode.get(8..9) == Some("w");
        if by != owner || writable || mode.contains('s') {
            bail!("an entry is not root's alone to change: {line}");
        }
    }
    ensure!(listed.lines().count() > EXPECTED.len(), "there is hardly anything in it");
    Ok(())
}
