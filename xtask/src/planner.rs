//! `cargo xtask test --planner`: plans of made-up fleets, judged by the maximum flows of OR-tools, which lie in a venv of the cache.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, show, workspace_root};
use crate::venv::Venv;

const OR_TOOLS: Venv = Venv { package: "ortools", version: "9.15.6755" };

/// Where they are.
pub(crate) fn find() -> Option<String> {
    OR_TOOLS.find()
}

/// Makes the venv.
pub(crate) fn install() -> Result<()> {
    OR_TOOLS.install()
}

/// Judges the planner; a plan that is too far from the optimum is a failure.
pub(crate) fn run() -> Result<()> {
    let cases = workspace_root().join("target/xtask/plan-cases.ndjson");
    write_cases(&cases)?;
    let python = OR_TOOLS.program("bin/python").context("OR-tools is not set up: cargo xtask setup --for planner")?;
    let mut judge = Command::new(python);
    judge.arg(workspace_root().join("xtask/src/planner/judge.py")).arg(&cases);
    show("OR-tools", judge.stdin(Stdio::null()))
}

fn write_cases(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("the file lies in a folder")?)?;
    let file = std::fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
    let mut planner = cargo();
    planner.args(["run", "--quiet", "--package", "persona-core", "--example", "plan_cases"]);
    let status = planner.stdin(Stdio::null()).stdout(file).status().context("cargo does not start")?;
    if !status.success() {
        bail!("the plans were not made: {status}");
    }
    Ok(())
}
