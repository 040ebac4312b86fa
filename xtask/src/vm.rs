//! `cargo xtask test --vm`: the privileged tests inside guests that run other kernels, all guests at once.
//!
//! The guests are QEMU's software emulation (no /dev/kvm, no root), some ten times slower than the host. What stays on the
//! host only: `cluster::` (but for one), `gateway::` and `peers::`, whole systems whose gaps, rates and peers a guest can't judge or hold;
//! `agent_`, which is about configuring hosts and not about kernels.

mod archive;
pub(crate) mod boot;
mod guest;
mod image;
mod kernel;

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::binaries::Tests;
use crate::command::output_of;
use guest::{Guest, Report};
use kernel::{KERNELS, Kernel, KernelFiles};
pub(crate) use kernel::{find, install};

/// What runs in a guest if nothing else is asked for. A whole system takes minutes there, so one of them stands for all;
/// `interop_netem`, which holds what the manager tells of an underlay against what netem does to it, runs there by name only.
const TESTS: [&str; 7] =
    ["verifier::", "programs::", "lifecycle::", "limits::", "netlink::", "slow_path::", "cluster::guest::"];

/// What of that does not run there, with the reason beside it.
const SKIPPED: [&str; 1] = ["peers::limits::"]; // a container engine and a guest of its own: neither is in the image

/// How long one guest may take: some thirty minutes with both on two cores, more beside other work.
const GUEST_TIME_MAX: Duration = Duration::from_secs(5400);

/// What a run of the guests is told.
#[derive(Debug, Default)]
pub(crate) struct Choice<'a> {
    /// Only tests whose name contains this.
    pub(crate) filter: Option<&'a str>,
    /// Only kernels whose name contains this.
    pub(crate) kernel: Option<&'a str>,
    /// Whether what tests print is shown also if they pass.
    pub(crate) shows_output: bool,
}

/// Runs the tests on every kernel at once; each to its end, also after the failure of another. Returns what the guests
/// printed.
pub(crate) fn run(choice: &Choice<'_>) -> Result<Vec<(&'static str, Vec<String>)>> {
    let kernels: Vec<&Kernel> =
        KERNELS.iter().filter(|kernel| choice.kernel.is_none_or(|name| kernel.name == name)).collect();
    if kernels.is_empty() {
        let names = KERNELS.map(|kernel| kernel.name).join(", ");
        bail!("no kernel is called {:?}: there are {names}", choice.kernel.unwrap_or_default());
    }
    let programs = Tests::build()?;
    let images: Result<Vec<Image<'_>>> =
        kernels.iter().map(|kernel| Image::make(kernel, &programs, arguments(choice))).collect();
    let images = images?;
    let outcomes: Vec<(Result<Report>, Duration)> = thread::scope(|scope| {
        let guests: Vec<_> = images.iter().map(|image| scope.spawn(|| timed(|| image.run()))).collect();
        guests.into_iter().map(|guest| guest.join().expect("a guest's thread does not panic")).collect()
    });
    let (mut printed, mut failed, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (image, (outcome, time)) in images.iter().zip(outcomes) {
        let name = image.kernel.name;
        match outcome {
            Ok(report) => {
                times.push(format!("{name} {} tests {:.0} s", report.passed, time.as_secs_f64()));
                printed.push((name, report.lines));
            }
            Err(error) => {
                eprintln!("error: kernel {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    println!("guests: {}", times.join(", "));
    if !failed.is_empty() {
        bail!("failed on {}", failed.join(", "));
    }
    Ok(printed)
}

/// Runs a program in a guest with the newest kernel, in the place of the tests, as root; returns what the guest printed.
pub(crate) fn run_program(programs: &Tests, arguments: Vec<String>) -> Result<Vec<String>> {
    let kernel = KERNELS.last().expect("there are kernels");
    let report = Image::make(kernel, programs, arguments)?.run_once()?;
    report.check_program()?;
    Ok(report.lines)
}

/// What a kernel boots into.
struct Image<'a> {
    kernel: &'a Kernel,
    files: KernelFiles,
    programs: &'a Tests,
    path: PathBuf,
    /// What the test binary is told.
    arguments: Vec<String>,
}

impl<'a> Image<'a> {
    fn make(kernel: &'a Kernel, programs: &'a Tests, arguments: Vec<String>) -> Result<Self> {
        let files = kernel.files()?;
        let start = Instant::now();
        let path = image::build(kernel, &files, programs, &arguments)?;
        println!("[{}] release {}, image made in {:.1} s", kernel.name, files.release, start.elapsed().as_secs_f64());
        Ok(Self { kernel, files, programs, path, arguments })
    }

    /// Runs the tests. Where the emulator fails in their midst, those that have not passed run in a second guest, once.
    fn run(&self) -> Result<Report> {
        let first = self.run_once()?;
        if !first.is_emulators() {
            first.check()?;
            return Ok(first);
        }
        let left = self.left_after(&first.done)?;
        println!(
            "[{}] the emulator failed, not the kernel: {} tests run in another guest",
            self.kernel.name,
            left.len()
        );
        let exactly = ["--test-threads=1", "--exact"].map(str::to_owned).into_iter().chain(left).collect();
        let mut second = Self::make(self.kernel, self.programs, exactly)?.run_once()?;
        second.check()?;
        second.after(first);
        Ok(second)
    }

    fn run_once(&self) -> Result<Report> {
        let guest = Guest { name: self.kernel.name, kernel: &self.files.image, image: &self.path, disk: None };
        guest.run(GUEST_TIME_MAX)
    }

    /// The names of the tests that were to run, but for those that passed.
    fn left_after(&self, done: &[String]) -> Result<Vec<String>> {
        let list = output_of(Command::new(&self.programs.privileged).args(&self.arguments).arg("--list"))?;
        let names = list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned);
        Ok(names.filter(|name| !done.contains(name)).collect())
    }
}

fn arguments(choice: &Choice<'_>) -> Vec<String> {
    let filters = choice.filter.map_or(TESTS.to_vec(), |filter| vec![filter]);
    let skips = SKIPPED.iter().flat_map(|name| ["--skip", name]);
    let shown = choice.shows_output.then_some("--nocapture");
    ["--test-threads=1"].into_iter().chain(shown).chain(filters).chain(skips).map(str::to_owned).collect()
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (run(), start.elapsed())
}
