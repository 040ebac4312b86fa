//! `cargo xtask test --vm`: the privileged tests inside guests that run other kernels, one guest after the other.
//!
//! The guests are QEMU's software emulation (no /dev/kvm, no root), several times slower than the host: tests that
//! judge gaps and rates of whole clusters stay on the host, but for one that only asks whether a cluster works at all.

mod archive;
mod guest;
mod image;
mod kernel;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::binaries;
use guest::{Guest, Report};
use kernel::{KERNELS, Kernel};
pub(crate) use kernel::{find, install};

/// What runs in a guest if nothing else is asked for: something of every program, hook and family. A test takes some ten
/// seconds under emulation; all of them are asked for by `cargo xtask test --vm programs::`, and whole clusters against the
/// kernel's geneve device and netem by `cargo xtask test --vm interop_`.
const TESTS: [&str; 12] = [
    "verifier",
    "programs::load",
    "programs::fuzz",
    "programs::path::traffic_passes_both_ways",
    "programs::nat_headers",
    "programs::nat_errors",
    "programs::node6_outward",
    "programs::edge_families",
    "lifecycle::a_second_start",
    "lifecycle::detach_leaves_no_trace",
    "netlink::queues",
    "cluster::guest::",
];

/// What does not run there, with the reason beside it.
const SKIPPED: [&str; 0] = [];

/// How long one guest may take: minutes on a quiet machine, several times that on a busy one.
const GUEST_TIME_MAX: Duration = Duration::from_secs(1800);

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

/// Runs the tests on every kernel; all run, also after a failure. Returns what the guests printed.
pub(crate) fn run(choice: &Choice<'_>) -> Result<Vec<(&'static str, Vec<String>)>> {
    let persona_ctl = binaries::build_persona_ctl()?;
    let tests = binaries::build(&["test", "--package", "persona-tests", "--test", "privileged", "--no-run"])?;
    let programs = image::Programs { tests, persona_ctl };
    let kernels = KERNELS.iter().filter(|kernel| choice.kernel.map_or(kernel.is_confirmed, |name| kernel.name == name));
    let (mut printed, mut failed, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for kernel in kernels {
        let start = Instant::now();
        match run_one(kernel, &programs, choice) {
            Ok(report) => {
                times.push(format!("{} {} tests {:.0} s", kernel.name, report.passed, start.elapsed().as_secs_f64()));
                printed.push((kernel.name, report.lines));
            }
            Err(error) => {
                eprintln!("error: kernel {}: {error:#}", kernel.name);
                failed.push(kernel.name);
            }
        }
    }
    println!("guests: {}", times.join(", "));
    if failed.is_empty() && printed.is_empty() {
        let names = KERNELS.map(|kernel| kernel.name).join(", ");
        bail!("no kernel has {:?} in its name: there are {names}", choice.kernel.unwrap_or_default());
    }
    if !failed.is_empty() {
        bail!("failed on {}", failed.join(", "));
    }
    Ok(printed)
}

fn run_one(kernel: &Kernel, programs: &image::Programs, choice: &Choice<'_>) -> Result<Report> {
    let filters = choice.filter.map_or(TESTS.to_vec(), |filter| vec![filter]);
    let skips = SKIPPED.iter().flat_map(|name| ["--skip", name]);
    let shown = choice.shows_output.then_some("--nocapture");
    let arguments: Vec<&str> = ["--test-threads=1"].into_iter().chain(shown).chain(filters).chain(skips).collect();
    let files = kernel.files()?;
    let start = Instant::now();
    let image = image::build(kernel, &files, programs, &arguments)?;
    println!("[{}] release {}, image made in {:.1} s", kernel.name, files.release, start.elapsed().as_secs_f64());
    let report = Guest { name: kernel.name, kernel: &files.image, image: &image }.run(GUEST_TIME_MAX)?;
    report.check()?;
    Ok(report)
}
