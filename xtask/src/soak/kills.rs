//! `cargo xtask soak kills`: managers that are killed hundreds of times under clients that write, on both stores. What was
//! counted is printed as a table and kept in `docs/benchmarks/kills.json`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::write;
use crate::binaries;
use crate::command::workspace_root;
use crate::setup::{self, Purpose};

/// What a line of the test begins with; one JSON object follows.
const MARK: &str = "kills: ";

/// Where the counts are kept.
const REPORT: &str = "docs/benchmarks/kills.json";

/// The columns of the table, and their keys.
const COLUMNS: [(&str, &str); 8] = [
    ("scene", "scene"),
    ("kills", "kills"),
    ("acknowledged", "acknowledgedWrites"),
    ("lost", "lostWrites"),
    ("ports held twice", "portsHeldTwice"),
    ("events", "eventsFollowed"),
    ("missed or repeated", "eventsMissedOrRepeated"),
    ("chain whole", "chainIsWhole"),
];

/// How often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills in each scene: one manager on SQLite, one on PostgreSQL, two on PostgreSQL.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Only scenes whose name contains this, such as sqlite or postgres; nothing is kept then.
    filter: Option<String>,
}

/// Kills, and shows what was found after each scene.
pub(super) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Test])?;
    let built = binaries::build_endurance()?;
    // A copy: it starts itself anew for half an hour, and may be built anew meanwhile.
    let program = workspace_root().join("target/xtask/endurance");
    std::fs::copy(&built, &program).with_context(|| format!("{} cannot be written", program.display()))?;
    let mut command = Command::new(&program);
    command.args(["--nocapture", "--test-threads=1"]);
    command.env("PERSONA_KILL_COUNT", args.count.to_string()).env("PERSONA_REQUIRE_TOOLS", "1");
    match &args.filter {
        Some(filter) => command.arg(filter),
        None => command.args(["kill::a_killed", "kill::two_managers"]),
    };
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("the test does not start")?;
    let mut counts: Vec<Value> = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line.context("the test's output cannot be read")?;
        println!("{line}");
        if let Some((_, json)) = line.split_once(MARK) {
            counts.push(serde_json::from_str(json).context("the test printed what is no JSON")?);
        }
    }
    let status = child.wait().context("the test cannot be waited for")?;
    print_table(&counts);
    if !status.success() {
        bail!("something was lost or came twice: it stands above");
    }
    if args.filter.is_some() {
        return Ok(());
    }
    write(REPORT, &counts)
}

fn print_table(counts: &[Value]) {
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows: Vec<Vec<String>> =
        counts.iter().map(|count| COLUMNS.iter().map(|(_, key)| cell(&count[*key])).collect()).collect();
    let head: Vec<String> = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(&rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].len()).max().unwrap_or(0);
    for row in &all {
        let cells: Vec<String> =
            row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column))).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}
