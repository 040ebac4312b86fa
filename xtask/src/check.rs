//! `cargo xtask check`: formatting, lints, the page's types and style, dependencies, and the tree's own rules.

use anyhow::{Context, Result};

use crate::command::{cargo, show};
use crate::ebpf::Toolchain;
use crate::setup::{self, Purpose};
use crate::stages::Stages;
use crate::{tidy, ui};

/// Warnings are errors; atomics need the third version of the instruction set, as in persona-ctl's build script.
const EBPF_FLAGS: &str = "-D warnings -C target-cpu=v3";

/// Runs every check, also after one has failed.
pub(crate) fn run() -> Result<()> {
    let mut stages = Stages::default();
    if !stages.run("setup", || setup::ensure(&[Purpose::Build, Purpose::Check, Purpose::Page])) {
        return stages.finish();
    }
    stages.run("tidy", tidy::run);
    stages.run("format", format);
    stages.run("page", ui::check);
    stages.run("licences and sources", dependencies);
    stages.run("lints, eBPF", lint_ebpf);
    stages.run("lints, host", lint_host);
    stages.finish()
}

/// Fuzz targets are a workspace of their own.
fn format() -> Result<()> {
    show("cargo fmt", cargo().args(["fmt", "--all", "--check"]))?;
    show("cargo fmt of fuzz", cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
}

fn lint_host() -> Result<()> {
    let lint = |targets: &[&str]| {
        let mut command = cargo();
        command.arg("clippy").args(targets).args(["--", "-D", "warnings"]);
        show("cargo clippy", &mut command)
    };
    lint(&["--workspace", "--exclude", "persona-ebpf", "--all-targets"])?;
    // Not among all targets, also when it is named beside them: `cargo test` leaves it out.
    lint(&["--package", "persona-tests", "--test", "privileged"])
}

/// clippy where the eBPF toolchain has it, else the compiler's own lints. In a target directory of its own, because
/// other flags would make the next build start from nothing.
fn lint_ebpf() -> Result<()> {
    let toolchain = Toolchain::find().context("no eBPF compiler: run `cargo xtask setup`")?;
    let mut command = toolchain.cargo();
    let subcommand = if toolchain.has_clippy() { "clippy" } else { "check" };
    println!("cargo {subcommand} with {}", toolchain.describe());
    command.args([subcommand, "--release", "--package", "persona-ebpf"]);
    command.args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir", "target/check-ebpf"]);
    show("the eBPF crate's lints", command.env("RUSTFLAGS", EBPF_FLAGS))
}

/// Advisories are left to a scheduled job: they change without a change here, and their database is another download.
fn dependencies() -> Result<()> {
    let deny = setup::cargo_deny().context("no cargo-deny: run `cargo xtask setup`")?;
    let mut command = std::process::Command::new(deny);
    command.current_dir(crate::command::workspace_root());
    show("cargo deny", command.args(["check", "bans", "licenses", "sources"]))
}
