//! `cargo xtask soak`: many random and mutated frames through every program, held against the model of them; what went
//! through is kept in `docs/benchmarks/frames.json`. Other subjects have files of their own.

mod kills;
mod shrinks;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::Tests;
use crate::command::workspace_root;
use crate::setup::{self, Purpose};

/// What a line of the test begins with; one JSON object follows.
const MARK: &str = "frames: ";

/// Worlds that the frames are spread over.
const WORLD_COUNT: u64 = 4;

/// The test that prints them.
const TEST: &str = "programs::fuzz::";

/// What else can be soaked.
#[derive(Debug, clap::Subcommand)]
enum Subject {
    /// Managers that are killed at random moments under clients that write: nothing acknowledged is lost.
    Kills(kills::Args),
    /// Memory that shrinks at random under a process that allocates: nobody is killed. Here and in a guest, half an hour.
    Shrinks(shrinks::Args),
}

/// How long to go on.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    subject: Option<Subject>,
    /// Frames through every program: over an underlay of either family, with rewritten and with configured leases, a
    /// quarter each.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(4..))]
    frames: u64,
    /// Which frames: the same seed gives the same. Default: by the clock.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs one subject; without a name the frames.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.subject {
        Some(Subject::Kills(args)) => kills::run(args),
        Some(Subject::Shrinks(args)) => shrinks::run(args),
        None => run_frames(args),
    }
}

/// Runs the frames, showing how far they are, and writes what was counted.
fn run_frames(args: &Args) -> Result<()> {
    setup::require_root()?;
    setup::ensure(&[Purpose::Build, Purpose::Test])?;
    let tests = Tests::build_optimised()?;
    let seed = args.seed.unwrap_or_else(clock_seed);
    println!("{} frames through every program, seed {seed}", args.frames);
    let frames = args.frames.div_ceil(WORLD_COUNT);
    let variables = [format!("PERSONA_TEST_FRAMES={frames}"), format!("PERSONA_TEST_SEED={seed}")];
    let mut command = tests.elevated(&variables)?;
    command.args(["--test-threads=1", "--nocapture", TEST]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut counts = Vec::new();
    for line in output.lines() {
        let line = line.context("the test's output cannot be read")?;
        println!("{line}");
        // The first one stands behind the test's name.
        if let Some((_, json)) = line.split_once(MARK) {
            counts.push(serde_json::from_str::<Value>(json).context("the test printed what is no JSON")?);
        }
    }
    let status = child.wait().context("the test cannot be waited for")?;
    if !status.success() {
        bail!("programs and model disagree: the frame and the seed stand above");
    }
    write("docs/benchmarks/frames.json", &counts)
}

fn clock_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs())
}

/// Keeps counts in a file of the tree, a line each.
fn write(report: &str, counts: &[Value]) -> Result<()> {
    if counts.is_empty() {
        bail!("the test printed no counts");
    }
    let path = workspace_root().join(report);
    let rows: Vec<String> = counts.iter().map(|count| format!("  {count}")).collect();
    let json = format!("[\n{}\n]\n", rows.join(",\n"));
    std::fs::write(&path, json).with_context(|| format!("{} cannot be written", path.display()))
}
