//! The tarball's program where there is nothing but it: a root directory without a loader, libraries, /proc or devices. It has to
//! say its version, read its examples, and be a manager to which a client comes by name over TLS.
//!
//! Whoever is not root becomes it in a user namespace, which changing the root directory takes.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::tree;
use super::trial::ROLES;
use crate::command::{find_program, is_root, output_of};

/// How long the manager may take until it answers.
const START_TIME: Duration = Duration::from_secs(30);

/// The manager's name, which only the list of hosts in the bare directory knows.
const NAME: &str = "manager.bare.test";

/// Where the manager keeps what it keeps, and where it is asked, below the bare directory.
const STORE: &str = "/var/lib/persona/manager.sqlite";
const SOCKET: &str = "unix:/var/lib/persona/manager.state/admin.sock";

/// Tries the program of an unpacked tarball.
pub(super) fn run(prefix: &Path, version: &str) -> Result<()> {
    judge_linkage(&prefix.join("bin/persona-ctl"))?;
    let bare = Bare::make(prefix)?;
    let said = bare.ctl(&["--version"])?;
    ensure!(said == version, "where nothing else is, the program calls itself {said:?}");
    for role in ROLES {
        bare.ctl(&["config", "check", role, "--config", &format!("/examples/{role}.toml")])?;
    }
    bare.serve()
}

/// No interpreter loads it, and it needs no library.
fn judge_linkage(program: &Path) -> Result<()> {
    let headers = output_of(Command::new("readelf").args(["--wide", "--program-headers", "--dynamic"]).arg(program))?;
    let found = headers.lines().find(|line| line.contains("INTERP") || line.contains("(NEEDED)"));
    match found {
        Some(line) => bail!("{} is not linked statically: {}", program.display(), line.trim()),
        None => Ok(()),
    }
}

/// A directory with the program, its examples and a list of hosts.
struct Bare(PathBuf);

impl Bare {
    fn make(prefix: &Path) -> Result<Self> {
        let root = prefix.with_file_name("bare");
        tree::empty(&root)?;
        tree::put(&prefix.join("bin/persona-ctl"), &root.join("bin/persona-ctl"), 0o755)?;
        for role in ROLES {
            let file = format!("{role}.toml");
            tree::put(
                &prefix.join("share/doc/persona/examples").join(&file),
                &root.join("examples").join(&file),
                0o644,
            )?;
        }
        tree::write(&root.join("etc/hosts"), &format!("127.0.0.1 {NAME}\n"), 0o644)?;
        tree::empty(&root.join("var/lib/persona"))?;
        Ok(Self(root))
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let chroot = find_program("chroot").context("there is no chroot here, which coreutils have")?;
        let mut command = if is_root() { Command::new(chroot) } else { Command::new("unshare") };
        if !is_root() {
            command.args(["--map-root-user", "chroot"]);
        }
        command.arg(&self.0).arg("/bin/persona-ctl").args(arguments);
        Ok(command)
    }

    fn ctl(&self, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.command(arguments)?)
    }

    /// A manager, an administrator on its socket, and somebody with a token who looks its name up.
    fn serve(&self) -> Result<()> {
        let port = free_port()?;
        let (listen, url) = (format!("127.0.0.1:{port}"), format!("https://{NAME}:{port}"));
        let mut command = self.command(&["manager", "--store", STORE, "--listen", &listen, "--url", &url])?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut manager = Manager(child.with_context(|| format!("{command:?} does not start"))?);
        self.wait_for(&mut manager)?;
        let access = ["access", "create", "--name", "bare", "--role", "viewer", "--ttl", "1h"];
        let token = self.ctl(&[&["--manager", SOCKET][..], &access].concat())?;
        tree::write(&self.0.join("token"), &token, 0o600)?;
        let said = self.ctl(&["whoami", "--token-file", "/token"])?;
        ensure!(said.contains("access/bare"), "the manager of nothing but the program says {said:?}");
        Ok(())
    }

    fn wait_for(&self, manager: &mut Manager) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = self.ctl(&["--manager", SOCKET, "status"]) {
            if let Some(status) = manager.0.try_wait()? {
                bail!("the manager ended with {status}: start it by hand below {}", self.0.display());
            }
            if start.elapsed() > START_TIME {
                return Err(error.context("the manager does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// A port of loopback that nobody has at the moment.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("loopback has no free port")?;
    Ok(listener.local_addr()?.port())
}

/// A process that ends with this value.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        self.0.kill().ok(); // it may have ended by itself
        self.0.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_wants_a_loader_is_told() {
        let refused = judge_linkage(&std::env::current_exe().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("is not linked statically"), "{refused}");
    }
}
