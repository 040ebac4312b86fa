//! `cargo xtask test`: unit tests as the user, the page in a browser, parsers under a fuzzer, the privileged tests as root and
//! beside them the same on other kernels, and the package on a system that systemd boots. Plans are judged by another solver, the API by
//! schemathesis.
//!
//! Cargo does not run as root for the tests' sake: the finished test binary is elevated. In it a skipped test is a
//! failure, because `PERSONA_REQUIRE_PRIVILEGED=1` is set.

use anyhow::Result;

use crate::binaries::{TESTED, Tests};
use crate::command::{cargo, show};
use crate::setup::{self, Purpose};
use crate::stages::Stages;
use crate::vm::{self, Choice};
use crate::{api, dist, fuzz, planner, ui};

/// What to test.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the tests that need root.
    #[arg(long, conflicts_with_all = ["unprivileged", "vm", "api", "planner", "ui"])]
    privileged: bool,
    /// Only the tests that need no root.
    #[arg(long, conflicts_with_all = ["vm", "api", "planner", "ui"])]
    unprivileged: bool,
    /// Only the manager's API, judged by schemathesis.
    #[arg(long, conflicts_with_all = ["vm", "planner", "ui", "filter"])]
    api: bool,
    /// Only the planner, judged by the maximum flows of OR-tools.
    #[arg(long, conflicts_with_all = ["vm", "ui", "filter"])]
    planner: bool,
    /// Only the page: built, and used in headless Chromium beside a manager with a fleet.
    #[arg(long, conflicts_with_all = ["vm", "filter"])]
    ui: bool,
    /// Only the guests: privileged tests on other kernels, in software emulation, which needs no root.
    #[arg(long)]
    vm: bool,
    /// Only the guest that systemd boots, with the package installed: units, restarts, a reboot.
    #[arg(long, conflicts_with_all = ["privileged", "unprivileged", "vm", "api", "planner", "ui", "filter"])]
    boot: bool,
    /// Only guests whose kernel has this in its name, such as 6.1.
    #[arg(long, requires = "vm")]
    kernel: Option<String>,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the tests and prints what took how long.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut stages = Stages::default();
    if !stages.run("setup", || set_up(args)) {
        return stages.finish();
    }
    let parts = [args.privileged, args.unprivileged, args.vm, args.boot, args.api, args.planner, args.ui];
    let is_whole = !parts.contains(&true);
    // A filter names a test of Rust's. The page is built before what embeds it.
    let has_page = args.ui || is_whole && args.filter.is_none();
    if has_page {
        stages.run("page", || ui::build().and_then(|()| ui::test_functions()));
    }
    if is_whole || args.unprivileged {
        stages.run("unit tests", || unit_tests(args));
    }
    if has_page {
        stages.run("page in Chromium", ui::test_in_browser);
    }
    if args.api || is_whole && args.filter.is_none() {
        stages.run("API", api::run);
    }
    if args.planner || is_whole && args.filter.is_none() {
        stages.run("planner", planner::run);
    }
    if is_whole && args.filter.is_none() {
        stages.run("fuzzing", || fuzz::run(&fuzz::Args::default()));
    }
    // A filter that names a test of the host alone finds nothing in the guests, so it is for them only by --vm.
    match (is_whole || args.privileged, args.vm || is_whole && args.filter.is_none()) {
        // The tests wait more than they work, and guests work with what nobody else wants.
        (true, true) => {
            stages.run_both(("privileged tests", || privileged_tests(args)), ("guests", || guests(args)));
        }
        (true, false) => {
            stages.run("privileged tests", || privileged_tests(args));
        }
        (false, true) => {
            stages.run("guests", || guests(args));
        }
        (false, false) => {}
    }
    if args.boot || is_whole && args.filter.is_none() {
        stages.run("boot", vm::boot::run);
    }
    stages.finish()
}

fn set_up(args: &Args) -> Result<()> {
    if args.unprivileged {
        return setup::ensure(&[Purpose::Build]);
    }
    if args.api {
        return setup::ensure(&[Purpose::Build, Purpose::Api]);
    }
    if args.planner {
        return setup::ensure(&[Purpose::Planner]);
    }
    if args.ui {
        return setup::ensure(&[Purpose::Build, Purpose::Page, Purpose::Browser]);
    }
    if args.vm {
        return setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Guests]);
    }
    if args.boot {
        setup::require_root()?;
        return setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Guests, Purpose::Hosts]);
    }
    setup::require_root()?;
    // One of the privileged tests has a guest for a workload, another one systems for hosts.
    setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Guests, Purpose::Hosts])?;
    if args.privileged || args.filter.is_some() {
        return Ok(());
    }
    setup::ensure(&[Purpose::Api, Purpose::Planner, Purpose::Page, Purpose::Browser, Purpose::Fuzz])
}

/// The privileged test binary does not run among them (`test = false`): it wants root and has its own stage.
fn unit_tests(args: &Args) -> Result<()> {
    let mut workspace = cargo();
    // All packages to their end: one run shows all that fails.
    workspace.arg("test").args(TESTED).args(["--no-fail-fast", "--"]);
    if !args.unprivileged {
        // Set-up has installed the tools: a test that misses one fails.
        workspace.env("PERSONA_REQUIRE_TOOLS", "1");
    }
    show("the workspace's tests", workspace.args(args.filter.as_slice()))
}

/// One test at a time: they share the machine's two cores, and figures such as gaps and rates are asserted.
fn privileged_tests(args: &Args) -> Result<()> {
    let tests = Tests::build()?;
    let package = dist::package_for_tests(&tests.persona_ctl)?;
    let mut command = tests.elevated(&[format!("PERSONA_PACKAGE={}", package.display())])?;
    show("the privileged tests", command.arg("--test-threads=1").args(args.filter.as_slice()))
}

fn guests(args: &Args) -> Result<()> {
    let choice = Choice { filter: args.filter.as_deref(), kernel: args.kernel.as_deref(), ..Choice::default() };
    vm::run(&choice).map(drop)
}
