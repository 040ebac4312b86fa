//! Named network namespaces, and links between them. People can look in with `ip netns exec NAME …`; our own processes
//! and threads enter with setns, because `ip netns exec` would hide the mounts under /sys.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::ledger::{Ledger, Undo};
use crate::sys;

/// A named network namespace. Its removal is in the ledger it was made with.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its name, as `ip netns` shows it.
    pub name: String,
}

/// What a namespace does with packets that are not for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// It is a router.
    On,
    /// It is a host.
    Off,
}

impl Namespace {
    /// Makes a namespace with its loopback up. IPv6 addresses are used at once, without waiting for duplicates to speak
    /// up, so that routes stay as they are from the first moment.
    pub fn create(ledger: &Ledger, name: &str, forwarding: Forwarding) -> Result<Self> {
        let namespace = Self { name: name.to_owned() };
        ledger.note(Undo::RemoveNamespace(name.to_owned()));
        run("ip", &["netns", "add", name])?;
        namespace.ip("link set lo up")?;
        namespace.write_sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.write_sysctl("net/ipv6/conf/default/accept_ra", "0")?;
        let forwarding = if forwarding == Forwarding::On { "1" } else { "0" };
        namespace.write_sysctl("net/ipv4/ip_forward", forwarding)?;
        namespace.write_sysctl("net/ipv6/conf/all/forwarding", forwarding)?;
        Ok(namespace)
    }

    /// Runs `ip -n NAME …` with words split at blanks.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let words: Vec<&str> = ["-n", &self.name].into_iter().chain(arguments.split_whitespace()).collect();
        run("ip", &words)
    }

    /// Adds an interface here whose other end is `peer_device` in `peer`, both up.
    pub fn link(&self, device: &str, peer: &Namespace, peer_device: &str) -> Result<()> {
        let peer_name = &peer.name;
        self.ip(&format!("link add {device} type veth peer name {peer_device} netns {peer_name}"))?;
        self.ip(&format!("link set {device} up"))?;
        peer.ip(&format!("link set {peer_device} up"))?;
        Ok(())
    }

    /// Adds an address with its prefix length.
    pub fn add_address(&self, device: &str, address: &str) -> Result<()> {
        // Nobody else has it, and on a busy machine a socket would come before the kernel has found that out.
        let at_once = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("address add {address} dev {device}{at_once}")).map(drop)
    }

    /// Runs `ethtool -K DEVICE …` inside.
    pub fn set_offloads(&self, device: &str, offloads: &str) -> Result<()> {
        let mut command = self.command("ethtool")?;
        command.args(["-K", device]).args(offloads.split_whitespace());
        let output = command.output().context("ethtool does not start")?;
        if !output.status.success() {
            bail!(
                "ethtool -K {device} {offloads} in {}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// A command that will run inside, in a process group of its own.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(program);
        sys::start_in_network_namespace(&mut command, self.open()?);
        Ok(command)
    }

    /// Runs a function on a thread inside, and returns what it returns.
    pub fn run_inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = self.open()?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || sys::enter_network_namespace(&namespace).map(|()| function()));
            inside.join().expect("the function inside does not panic")
        })
        .with_context(|| format!("network namespace {} cannot be entered", self.name))
    }

    /// Writes a setting under /proc/sys, such as `net/ipv4/ip_forward`, of this namespace.
    pub fn write_sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = PathBuf::from("/proc/sys").join(path);
        self.run_inside(|| std::fs::write(&file, value))?
            .with_context(|| format!("{} of {} cannot be set", file.display(), self.name))
    }

    /// Bytes received and sent by an interface.
    pub fn device_bytes(&self, device: &str) -> Result<(u64, u64)> {
        let text = self.ip(&format!("-j -s link show dev {device}"))?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        let count = |direction: &str| json[0]["stats64"][direction]["bytes"].as_u64();
        count("rx").zip(count("tx")).with_context(|| format!("{device} of {} has no counters: {text}", self.name))
    }

    fn open(&self) -> Result<File> {
        let path = format!("/run/netns/{}", self.name);
        File::open(&path).with_context(|| format!("network namespace {path} cannot be opened"))
    }
}

/// Runs a tool to its end and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
