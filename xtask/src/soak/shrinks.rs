//! `cargo xtask soak shrinks`: a thousand times the memory of a process that allocates and frees is made to shrink, at random, on
//! control groups of this machine's version and of version 2 in a guest. What was counted is kept in
//! `docs/benchmarks/shrinks.json`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::write;
use crate::binaries::Tests;
use crate::command::workspace_root;
use crate::setup::{self, Purpose};
use crate::vm;

/// What a line of the test begins with; one JSON object follows.
const MARK: &str = "shrinks: ";

/// Where the counts are kept.
const REPORT: &str = "docs/benchmarks/shrinks.json";

/// The test.
const TEST: [&str; 5] = ["--ignored", "--exact", "--nocapture", "--test-threads=1", "limits::shrink::soak"];

/// Where to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only there; what the report says of the other place stays.
    #[arg(long)]
    only: Option<Place>,
}

/// Where memory shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    /// On this machine's own control groups.
    Here,
    /// On those of version 2, in a guest.
    Guest,
}

/// Shrinks here and in the guest, at the same time. What one place counted is printed and kept whatever becomes of the other.
pub(super) fn run(args: &Args) -> Result<()> {
    setup::require_root()?;
    setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Guests])?;
    let tests = Tests::build()?;
    let is_chosen = |place| args.only.is_none_or(|only| only == place);
    println!("1,000 shrinks in each place, about half an hour");
    std::thread::scope(|scope| {
        let guest = is_chosen(Place::Guest).then(|| scope.spawn(|| run_in_guest(&tests)));
        let here = is_chosen(Place::Here).then(|| run_here(&tests).and_then(|counts| keep(&counts)));
        let guest = guest.map(|guest| guest.join().expect("the guest's thread does not panic"));
        let guest = guest.map(|counts| counts.and_then(|counts| keep(&counts)));
        here.into_iter().chain(guest).collect()
    })
}

fn run_in_guest(tests: &Tests) -> Result<Vec<Value>> {
    counted(&vm::run_program(tests, TEST.map(str::to_owned).to_vec())?)
}

/// Prints counts and puts them into the report in place of what it has of the same version of control groups.
fn keep(counts: &[Value]) -> Result<()> {
    if counts.is_empty() || counts.iter().any(|count| count["killed"] != 0) {
        bail!("a process was killed, or nothing was counted: {counts:?}");
    }
    counts.iter().for_each(|count| println!("{count}"));
    let known = std::fs::read_to_string(workspace_root().join(REPORT)).unwrap_or_else(|_| "[]".to_owned());
    let mut all: Vec<Value> = serde_json::from_str(&known).with_context(|| format!("{REPORT} is no JSON"))?;
    all.retain(|known| counts.iter().all(|count| count["version"] != known["version"]));
    all.extend_from_slice(counts);
    all.sort_by_key(|count| count["version"].to_string());
    write(REPORT, &all)
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
