//! FRRouting as a peer: zebra, bfdd and bgpd of a router or an edge, as processes of a test in a namespace.
//!
//! Debian's are built for a group of their own and for folders under /run and /var/tmp. They get both in a mount namespace
//! that only they see, so that nothing of the machine is touched.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::ctl::patient;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;

/// How long each may take until others can speak to it.
const START_TIME: Duration = Duration::from_secs(10);

/// The daemons, in the order in which they find each other at once.
const DAEMONS: [&str; 3] = ["zebra", "bfdd", "bgpd"];

/// Where they get what they are built for, and the processor before others do, as where a line card does BFD: one that
/// comes late takes a living peer for dead. `exec` keeps the process id.
const SCRIPT: &str = "mount -t tmpfs none /run && mount -t tmpfs none /var/tmp && mount --bind \"$1\" /etc/group \
                      && shift && exec nice -n -15 \"$@\"";

/// What an edge's daemons are told.
pub const EDGE_CONFIG: &str = include_str!("../../fixtures/frr/edge.conf");

/// What a router's daemons are told.
pub const ROUTER_CONFIG: &str = include_str!("../../fixtures/frr/router.conf");

/// The daemons of one host, running.
#[derive(Debug)]
pub struct Frr {
    daemons: Vec<Running>,
}

/// Starts them. `config` has `{name}` and `{address}` where these belong.
pub fn start(
    ledger: &Ledger,
    inside: &Namespace,
    folder: &Path,
    name: &str,
    address: &str,
    config: &str,
) -> Result<Frr> {
    let folder = folder.join(format!("frr-{name}"));
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = folder.join("frr.conf");
    std::fs::write(&file, config.replace("{name}", name).replace("{address}", address))?;
    std::fs::write(folder.join("group"), groups()?)?;
    let mut frr = Frr { daemons: Vec::new() };
    for daemon in DAEMONS {
        let program = Program::find("frr", &format!("usr/lib/frr/{daemon}"))?;
        let mut command = inside.command("unshare")?;
        program.set_environment(&mut command);
        command.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(folder.join("group")).arg(&program.path);
        command.arg("-f").arg(&file).arg("-i").arg(folder.join(format!("{daemon}.pid")));
        command.arg("-z").arg(folder.join("zserv.api")).arg("--vty_socket").arg(&folder);
        command.args(["-u", "root", "-g", "root", "-A", "127.0.0.1", "-P", "0"]);
        if daemon == "bfdd" {
            command.arg("--bfdctl").arg(folder.join("bfdd.sock"));
        }
        let log = folder.join(format!("{daemon}.log"));
        let mut running = Running::start(ledger, &format!("{daemon} of {name}"), &log, command)?;
        wait_for(&folder.join(format!("{daemon}.vty")), &mut running)?;
        frr.daemons.push(running);
    }
    Ok(frr)
}

impl Frr {
    /// What they said of their neighbours.
    pub fn neighbour_changes(&self) -> String {
        let logs = self.daemons.iter().map(|daemon| std::fs::read_to_string(&daemon.log).unwrap_or_default());
        let lines = logs.flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| line.contains("ADJCHANGE")).collect::<Vec<_>>().join("\n")
    }

    /// Fails if one has ended.
    pub fn check(&mut self) -> Result<()> {
        self.daemons.iter_mut().try_for_each(Running::check)
    }
}

/// The machine's groups, with root in the one that the daemons insist on.
fn groups() -> Result<String> {
    let text = std::fs::read_to_string("/etc/group").context("/etc/group cannot be read")?;
    let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("frrvty:")).collect();
    Ok(others.join("\n") + "\nfrrvty:x:64999:root\n")
}

fn wait_for(socket: &Path, daemon: &mut Running) -> Result<()> {
    let start = Instant::now();
    while !socket.exists() {
        daemon.check()?;
        if start.elapsed() > patient(START_TIME) {
            bail!("{} does not listen: {}", daemon.name, daemon.log_tail());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_what_is_tested() {
        let page = include_str!("../../../docs/routing.md");
        for (config, name, address) in
            [(EDGE_CONFIG, "fra1", "203.0.113.11"), (ROUTER_CONFIG, "router1", "203.0.113.1")]
        {
            for line in config.replace("{name}", name).replace("{address}", address).lines().skip(2) {
                assert!(page.contains(line), "docs/routing.md lacks {line:?}");
            }
        }
    }
}
