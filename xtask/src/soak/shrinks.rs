//! `cargo xtask soak shrinks`: a thousand times the memory of a process that allocates and frees is made to shrink, at random, on
//! control groups of this machine's version and of version 2 in a guest. What was counted is kept in
//! `docs/benchmarks/shrinks.json`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::write;
use crate::binaries::Tests;
use crate::setup::{self, Purpose};
use crate::vm;

/// What a line of the test begins with; one JSON object follows.
const MARK: &str = "shrinks: ";

/// Where the counts are kept.
const REPORT: &str = "docs/benchmarks/shrinks.json";

/// The test.
const TEST: [&str; 5] = ["--ignored", "--exact", "--nocapture", "--test-threads=1", "limits::shrink::soak"];

/// Shrinks here and in the guest, at the same time.
pub(super) fn run() -> Result<()> {
    setup::require_root()?;
    setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Guests])?;
    let tests = Tests::build()?;
    println!("1,000 shrinks here and 1,000 in a guest, about half an hour");
    let (here, guest) = std::thread::scope(|scope| {
        let guest = scope.spawn(|| vm::run_program(&tests, TEST.map(str::to_owned).to_vec()));
        (run_here(&tests), guest.join().expect("the guest's thread does not panic"))
    });
    let mut counts = here?;
    counts.extend(counted(&guest?)?);
    if counts.len() < 2 || counts.iter().any(|count| count["killed"] != 0) {
        bail!("a process was killed, or nothing was counted: {counts:?}");
    }
    counts.iter().for_each(|count| println!("{count}"));
    write(REPORT, &counts)
}

fn run_here(tests: &Tests) -> Result<Vec<Value>> {
    let mut command = tests.elevated(&[])?;
    command.args(TEST).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let lines = output.lines().collect::<Result<Vec<String>, _>>().context("the test's output cannot be read")?;
    if !child.wait().context("the test cannot be waited for")?.success() {
        bail!("the test failed: {}", lines.join("\n"));
    }
    counted(&lines)
}

fn counted(lines: &[String]) -> Result<Vec<Value>> {
    let found = lines.iter().filter_map(|line| line.split_once(MARK));
    found.map(|(_, json)| serde_json::from_str(json).context("the test printed what is no JSON")).collect()
}
