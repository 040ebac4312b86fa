//! A guest while it runs: its output on the screen line by line, and what that says about the tests.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::find_program;

/// Memory of a guest: the image twice (as it is passed and as it is unpacked), the maps of several roles, and room.
const MEMORY: &str = "4096";

/// A quiet screen, and an end instead of a wait when the kernel fails. On a busy host the emulated timer is late for the
/// check at boot. What guards against attackers or accounts for memory of the kernel costs time and is of no use here.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic no_timer_check mitigations=off init_on_alloc=0 audit=0 selinux=0 apparmor=0 nokaslr random.trust_cpu=on cgroup.memory=nokmem systemd.mask=serial-getty@ttyS0.service kfence.sample_interval=0 hardened_usercopy=off randomize_kstack_offset=off";

/// Software emulation stores byte by byte what the fast string instructions clear at once on a real processor, and walks a
/// fifth level of page tables for nothing: with both, clearing the maps of a role takes as long as verifying it.
const PROCESSOR: &str = "max,erms=off,fsrm=off,la57=off";

/// What the kernel names the function with in which it failed.
const RIP: &str = "RIP: 0010:";

/// Printed by `init.sh` before the guest switches itself off.
const ENDED: &str = "guest: tests ended with status ";

/// A guest to run.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    /// What its lines are marked with.
    pub(super) name: &'a str,
    /// The kernel.
    pub(super) kernel: &'a Path,
    /// What it boots into.
    pub(super) image: &'a Path,
    /// Its disk, if it has one: a file whose bytes are the disk's, which keeps what the guest writes.
    pub(super) disk: Option<&'a Path>,
}

/// What a guest's output says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Tests that passed, and that failed.
    pub(super) passed: u32,
    failed: u32,
    /// The exit status of the test binary. None: the guest ended before it did.
    status: Option<i32>,
    /// The names of tests that passed.
    pub(super) done: Vec<String>,
    /// A line that says that the kernel itself failed.
    panic: Option<String>,
    /// Where it was then: the first address that the kernel named after that line.
    panicked_at: Option<String>,
    /// Everything that was printed.
    pub(super) lines: Vec<String>,
}

/// A command that gets a processor when nothing else wants it, so that figures taken beside it are nobody's but their own.
fn in_idle_time(program: &str) -> Command {
    match find_program("chrt") {
        Some(chrt) => {
            let mut command = Command::new(chrt);
            command.args(["--idle", "0", program]);
            command
        }
        None => Command::new(program),
    }
}

impl Guest<'_> {
    /// Runs it to its end, at most for `limit`.
    pub(super) fn run(&self, limit: Duration) -> Result<Report> {
        let mut qemu = in_idle_time("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-cpu", PROCESSOR, "-smp", "2", "-m", MEMORY])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.image)
            .args(["-append", COMMAND_LINE]);
        if let Some(disk) = self.disk {
            // Nobody wants to find the disk after a power cut of this machine.
            let drive = format!("file={},format=raw,if=none,id=disk,cache=unsafe", disk.display());
            qemu.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = qemu.spawn().context("qemu-system-x86_64 does not start")?;
        let report = self.follow(&mut child, limit);
        child.kill().ok(); // it has ended by itself unless something went wrong
        child.wait().context("qemu-system-x86_64 cannot be waited for")?;
        report
    }

    fn follow(&self, child: &mut Child, limit: Duration) -> Result<Report> {
        let output = child.stdout.take().context("the guest has no output")?;
        let (sender, lines) = mpsc::channel();
        // It ends with the guest's output, or when nobody listens any more.
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        let start = Instant::now();
        let mut report = Report::default();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    println!("[{} {:6.1} s] {line}", self.name, start.elapsed().as_secs_f64());
                    report.read(line);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(report),
                Err(RecvTimeoutError::Timeout) => {
                    let last = report.lines.last().map_or("nothing", String::as_str);
                    bail!("the guest did not end within {limit:?}; its last line: {last}");
                }
            }
        }
    }
}

impl Report {
    /// Whether the emulator failed and not the kernel: it ran a breakpoint that the kernel had set into its own text, to change it
    /// while both processors run, and had taken out again (static keys; seen once in some thirty runs). A breakpoint in a
    /// program of ours would be a fault of ours.
    pub(super) fn is_emulators(&self) -> bool {
        let is_breakpoint = self.panic.as_ref().is_some_and(|line| line.contains("Oops: int3"));
        let is_named = |line: &String| !line.contains("bpf_") && !line.contains(&format!("{RIP}0x"));
        is_breakpoint && self.panicked_at.as_ref().is_some_and(is_named)
    }

    /// Fails unless tests ran and all passed.
    pub(super) fn check(&self) -> Result<()> {
        match (&self.panic, self.status, self.passed) {
            (Some(line), ..) => bail!("the kernel failed: {line}"),
            (_, None, _) => bail!("the guest ended before its tests did"),
            (_, Some(0), 0) => bail!("no test ran: nothing has the filter in its name"),
            (_, Some(0), _) if self.failed == 0 => Ok(()),
            (_, Some(status), _) => bail!("{} tests failed, the test binary ended with {status}", self.failed),
        }
    }

    /// Fails unless what ran, which is no test, ended well.
    pub(super) fn check_program(&self) -> Result<()> {
        match (&self.panic, self.status) {
            (Some(line), _) => bail!("the kernel failed: {line}"),
            (_, None) => bail!("the guest ended before its program did"),
            (_, Some(0)) => Ok(()),
            (_, Some(status)) => bail!("the program ended with {status}"),
        }
    }

    /// Puts before it what another guest had done.
    pub(super) fn after(&mut self, first: Self) {
        self.passed += u32::try_from(first.done.len()).unwrap_or(u32::MAX);
        self.lines.splice(..0, first.lines);
    }

    fn read(&mut self, line: String) {
        if let Some(status) = line.strip_prefix(ENDED) {
            self.status = status.trim().parse().ok();
        }
        if ["Kernel panic", "BUG: ", "Oops: ", "general protection fault"].iter().any(|sign| line.contains(sign)) {
            self.panic.get_or_insert(line.clone());
        }
        if self.panic.is_some() && line.contains(RIP) {
            self.panicked_at.get_or_insert(line.clone());
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... ok")) {
            self.done.push(name.to_owned());
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count_before(counts, " passed");
            self.failed += count_before(counts, " failed");
        }
        self.lines.push(line);
    }
}

/// The number that stands before a word.
fn count_before(text: &str, word: &str) -> u32 {
    let before = text.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lines: &[&str]) -> Result<u32, String> {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.read((*line).to_owned()));
        report.check().map(|()| report.passed).map_err(|error| error.to_string())
    }

    #[test]
    fn a_breakpoint_in_the_kernels_own_text_is_the_emulators() {
        let is_emulators = |lines: &[&str]| {
            let mut report = Report::default();
            lines.iter().for_each(|line| report.read((*line).to_owned()));
            assert!(report.check().is_err());
            report.is_emulators()
        };
        let died = "test limits::a ... [  398.45] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI";
        let text = "[  398.45] RIP: 0010:cpuacct_charge+0x1b/0x60";
        assert!(is_emulators(&["test verifier::b ... ok", died, text]));
        assert!(!is_emulators(&[died, "[  398.45] RIP: 0010:bpf_prog_6deef7357e7b4530_f+0x3/0x8"]));
        assert!(!is_emulators(&[died, "[  398.45] RIP: 0010:0xffffffffc0001203"]), "a program without a name");
        assert!(!is_emulators(&[died]), "nobody knows where");
        assert!(!is_emulators(&["[  398.45] Oops: general protection fault", text]));
    }

    #[test]
    fn only_tests_that_ran_and_passed_are_a_success() {
        let passed = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 2.53s";
        let failed = "test result: FAILED. 11 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out";
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 15 filtered out";
        let (good, bad) = ("guest: tests ended with status 0", "guest: tests ended with status 101");
        let cases: [(&[&str], Result<u32, &str>); 6] = [
            (&["booting", passed, good], Ok(12)),
            (&[failed, bad], Err("1 tests failed")),
            (&[none, good], Err("no test ran")),
            (&[passed], Err("ended before")),
            (&["[    3.1] Kernel panic - not syncing: Fatal exception"], Err("the kernel failed")),
            (&[passed, good, "[    9.1] BUG: kernel NULL pointer dereference"], Err("the kernel failed")),
        ];
        for (lines, expected) in cases {
            match (verdict(lines), expected) {
                (Ok(count), Ok(wanted)) => assert_eq!(count, wanted, "{lines:?}"),
                (Err(error), Err(text)) => assert!(error.contains(text), "{lines:?}: {error}"),
                (found, wanted) => panic!("{lines:?}: {found:?} instead of {wanted:?}"),
            }
        }
    }
}
