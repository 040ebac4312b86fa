//! `cargo xtask test`: unit tests as the user, then the privileged tests as root.
//!
//! Cargo does not run as root for the tests' sake: the finished test binary is elevated. In it a skipped test is a
//! failure, because `PERSONA_REQUIRE_PRIVILEGED=1` is set.

use anyhow::Result;

use crate::binaries;
use crate::command::{cargo, show};
use crate::setup::{self, Purpose};
use crate::stages::Stages;

/// What to test.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the tests that need root.
    #[arg(long, conflicts_with = "unprivileged")]
    privileged: bool,
    /// Only the tests that need no root.
    #[arg(long)]
    unprivileged: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the tests and prints what took how long.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut stages = Stages::default();
    if !stages.run("setup", || set_up(args)) {
        return stages.finish();
    }
    if !args.privileged {
        stages.run("unit tests", || unit_tests(args));
    }
    if !args.unprivileged {
        stages.run("privileged tests", || privileged_tests(args));
    }
    stages.finish()
}

fn set_up(args: &Args) -> Result<()> {
    if args.unprivileged {
        return setup::ensure(&[Purpose::Build]);
    }
    setup::require_root()?;
    setup::ensure(&[Purpose::Build, Purpose::Test])
}

/// The whole-system package is left out of the first run: its test target wants root and has its own stage.
fn unit_tests(args: &Args) -> Result<()> {
    let filter = args.filter.as_slice();
    let mut workspace = cargo();
    workspace.args(["test", "--workspace", "--exclude", "persona-ebpf", "--exclude", "persona-tests", "--"]);
    show("the workspace's tests", workspace.args(filter))?;
    let mut library = cargo();
    show("the test library's tests", library.args(["test", "--package", "persona-tests", "--lib", "--"]).args(filter))
}

/// One test at a time: they share the machine's two cores, and figures such as gaps and rates are asserted.
fn privileged_tests(args: &Args) -> Result<()> {
    let persona_ctl = binaries::build_persona_ctl()?;
    let tests = binaries::build(&["test", "--package", "persona-tests", "--test", "privileged", "--no-run"])?;
    let mut command = binaries::elevated(&tests, &persona_ctl)?;
    show("the privileged tests", command.arg("--test-threads=1").args(args.filter.as_slice()))
}
