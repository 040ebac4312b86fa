//! Network namespaces of a test, gone when it ends.
#![expect(unsafe_code, reason = "setns")]

use std::os::fd::AsRawFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use persona_ctl::netlink::Netlink;

/// A named network namespace.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self { name: format!("pt{}-{count}-{role}", std::process::id()) };
        ip(&format!("netns add {}", namespace.name));
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip` in the namespace.
    pub(super) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// Makes a veth pair from a device here to a device there, with an address on each, both up.
    pub(super) fn connect(&self, here: (&str, &str), other: &Self, there: (&str, &str)) {
        ip(&format!("link add {} netns {} type veth peer name {} netns {}", here.0, self.name, there.0, other.name));
        for (namespace, (device, address)) in [(self, here), (other, there)] {
            namespace.ip(&format!("addr add {address} dev {device}"));
            namespace.ip(&format!("link set {device} up"));
        }
    }

    /// Writes a setting, by its path below `/proc/sys`.
    pub(super) fn write_sysctl(&self, name: &str, value: &str) {
        let written = self.enter(|| std::fs::write(format!("/proc/sys/{name}"), value));
        written.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Runs `ethtool -K` in the namespace.
    pub(super) fn ethtool(&self, arguments: &str) {
        let output = self.run(&format!("ethtool -K {arguments}"));
        assert!(output.status.success(), "ethtool -K {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(line.split_whitespace());
        command
    }

    /// Runs a program in the namespace to its end.
    pub(super) fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Starts a program in the namespace.
    pub(super) fn start(&self, line: &str) -> Process {
        Process(self.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Runs a function on a thread inside the namespace.
    pub(crate) fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    // SAFETY: an open namespace; only this thread moves, and it ends here.
                    assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                    function()
                })
                .join()
                .unwrap()
        })
    }

    /// Speaks rtnetlink with the kernel inside the namespace.
    pub(super) fn netlink<T: Send>(&self, speak: impl AsyncFnOnce(Netlink) -> T + Send) -> T {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { speak(Netlink::open().unwrap()).await })
        })
    }

    /// A device's interface index.
    pub(super) fn ifindex(&self, device: &str) -> u32 {
        let output = self.run(&format!("cat /sys/class/net/{device}/ifindex"));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    /// A device's hardware address.
    pub(super) fn mac(&self, device: &str) -> [u8; 6] {
        let output = self.run(&format!("cat /sys/class/net/{device}/address"));
        let text = String::from_utf8(output.stdout).unwrap();
        let bytes = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>();
        bytes.try_into().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Best effort: the test has its verdict already.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A running program, killed at the end.
pub(super) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
