//! OpenSSH as a peer: sshd in a mount namespace of its own, with users and host key of its own, and its clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::programs::Program;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use crate::process::Running;

/// How long sshd may take to listen.
const START_TIME: Duration = Duration::from_secs(10);

/// Where it listens.
pub const PORT: u16 = 2222;

/// sshd insists on a user and on `/run/sshd`: it gets both, only for itself.
const START_SCRIPT: &str = "set -e; mount --make-rprivate /; mount --bind \"$1/passwd\" /etc/passwd; \
    mount --bind \"$1/shadow\" /etc/shadow; mount -t tmpfs tmpfs /run; mkdir -m 755 /run/sshd; \
    exec \"$2\" -D -e -f \"$1/sshd_config\"";

/// Keys and configuration of one server and its clients.
#[derive(Debug)]
pub struct Ssh {
    /// The server.
    pub server: Running,
    folder: PathBuf,
    address: String,
}

impl Ssh {
    /// Starts sshd inside a namespace; clients reach it at `address`.
    pub fn start(ledger: &Ledger, inside: &Namespace, folder: &Path, address: &str) -> Result<Self> {
        let base = folder.join("ssh");
        std::fs::create_dir_all(&base).with_context(|| format!("{} cannot be made", base.display()))?;
        for key in ["host", "user"] {
            let program = Program::find("openssh", "usr/bin/ssh-keygen")?;
            let mut keygen = Command::new(&program.path);
            program.set_environment(&mut keygen);
            let output = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(base.join(key)).output()?;
            if !output.status.success() {
                bail!("ssh-keygen: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        let host_key = std::fs::read_to_string(base.join("host.pub"))?;
        let home = base.display();
        for (name, text) in [
            ("known_hosts", format!("[{address}]:{PORT} {host_key}")),
            ("passwd", format!("root:x:0:0:root:{home}:/bin/sh\nsshd:x:65533:65533::/run/sshd:/bin/false\n")),
            ("shadow", "root:*:19000:0:99999:7:::\n".to_owned()),
            ("sshd_config", config_text(&base)),
        ] {
            std::fs::write(base.join(name), text).with_context(|| format!("{name} cannot be written"))?;
        }
        let program = Program::find("openssh", "usr/sbin/sshd")?;
        let mut command = inside.command("unshare")?;
        program.set_environment(&mut command);
        command.args(["--mount", "sh", "-c", START_SCRIPT, "sh"]).arg(&base).arg(&program.path);
        let mut server = Running::start(ledger, "sshd", &folder.join("sshd.log"), command)?;
        let start = Instant::now();
        while inside.run_inside(|| std::net::TcpStream::connect(("127.0.0.1", PORT)))?.is_err() {
            server.check()?;
            if start.elapsed() > START_TIME {
                bail!("sshd does not listen: {}", server.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { server, folder: base, address: address.to_owned() })
    }

    /// `ssh` from inside a namespace, running a command at the server.
    pub fn ssh(&self, inside: &Namespace, remote_command: &str) -> Result<Command> {
        let mut command = Program::find("openssh", "usr/bin/ssh")?.command(inside)?;
        self.set_options(&mut command);
        command.args(["-p", &PORT.to_string(), &format!("root@{}", self.address), remote_command]);
        Ok(command)
    }

    /// `scp` from inside a namespace, of a file at the server into one here.
    pub fn scp_down(&self, inside: &Namespace, remote: &Path, local: &Path) -> Result<Command> {
        let mut command = self.scp(inside)?;
        command.arg(format!("root@{}:{}", self.address, remote.display())).arg(local);
        Ok(command)
    }

    /// `scp` from inside a namespace, of a file here into one at the server.
    pub fn scp_up(&self, inside: &Namespace, local: &Path, remote: &Path) -> Result<Command> {
        let mut command = self.scp(inside)?;
        command.arg(local).arg(format!("root@{}:{}", self.address, remote.display()));
        Ok(command)
    }

    fn scp(&self, inside: &Namespace) -> Result<Command> {
        let mut command = Program::find("openssh", "usr/bin/scp")?.command(inside)?;
        self.set_options(&mut command);
        command.arg("-S").arg(Program::find("openssh", "usr/bin/ssh")?.path).args(["-P", &PORT.to_string()]);
        Ok(command)
    }

    fn set_options(&self, command: &mut Command) {
        let known = format!("UserKnownHostsFile={}", self.folder.join("known_hosts").display());
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", &known, "-i"]);
        command.arg(self.folder.join("user"));
    }
}

fn config_text(base: &Path) -> String {
    let base = base.display();
    format!(
        "Port {PORT}\nHostKey {base}/host\nAuthorizedKeysFile {base}/user.pub\nPasswordAuthentication no\nUsePAM no\n\
         StrictModes no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nPidFile none\nUseDNS no\n\
         LogLevel VERBOSE\n"
    )
}
