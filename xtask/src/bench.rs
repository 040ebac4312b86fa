//! `cargo xtask bench dataplane | instances | control`: builds, then runs `persona-bench` as root; the report goes to `docs/benchmarks/`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::binaries::{self, Tests};
use crate::command::{show, workspace_root};
use crate::setup::{self, Purpose};
use crate::vm;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, clap::Subcommand)]
enum Subject {
    /// Programs, rates and whole paths, ours and the kernel's own way in turns; under 15 minutes on two quiet cores.
    Dataplane(DataplaneArgs),
    /// Criteria of a fleet, limits of a container beside the Docker Engine's, the agent itself; optimised, six minutes once built.
    Instances(MeasureArgs),
    /// A manager under thousands of simulated nodes, of which `thousand` takes two minutes once built; optimised.
    Control(MeasureArgs),
}

#[derive(Debug, clap::Args)]
struct DataplaneArgs {
    #[command(flatten)]
    measure: MeasureArgs,
    /// In a guest whose kernel has fq, cake, WireGuard and IPVS: rates, WireGuard and a gateway, unless others are named. Its processor is emulated,
    /// so that only ratios say anything; they go to a report of their own. Ten minutes.
    #[arg(long)]
    guest: bool,
}

/// What a guest measures that the host cannot.
const IN_GUEST: [&str; 3] = ["rates", "gateway", "wireguard"];
/// What stands before a row of the report in a guest's output.
const ROW: &str = "row: ";

#[derive(Debug, clap::Args)]
struct MeasureArgs {
    /// Only these measures; what the report says of others stays. A name that there is not is answered by all that there are.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Rounds of everything, in turns; fewer than three say nothing.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
}

/// Sets up, builds, measures, and keeps the report.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Subject::Dataplane(args) = &args.subject
        && args.guest
    {
        return run_in_guest(&args.measure);
    }
    setup::require_root()?;
    setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Benchmarks])?;
    let (name, args, [persona_ctl, bench]) = match &args.subject {
        // What is measured runs in the kernel.
        Subject::Dataplane(args) => {
            let built = [binaries::build_persona_ctl()?, binaries::build("persona-tests", "persona-bench")?];
            ("dataplane", &args.measure, built)
        }
        Subject::Instances(args) => ("instances", args, binaries::build_optimised_bench()?),
        Subject::Control(args) => ("control", args, binaries::build_optimised_bench()?),
    };
    let report = workspace_root().join("docs/benchmarks");
    let folder = workspace_root().join("target/xtask/bench");
    // The elevated program writes where nothing is kept: what is kept belongs to whoever runs this.
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    copy_files(name, &report, &folder)?;
    let mut command = binaries::elevated(&bench, &persona_ctl, &[])?;
    command.arg("measure").arg(name).arg("--folder").arg(&folder).arg("--rounds").arg(args.rounds.to_string());
    if !args.only.is_empty() {
        command.arg("--only").args(&args.only);
    }
    show("the benchmark", &mut command)?;
    copy_files(name, &folder, &report)
}

/// Measures in a guest, whose output has the rows.
fn run_in_guest(args: &MeasureArgs) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Benchmarks, Purpose::Guests])?;
    let persona_ctl = binaries::build_persona_ctl()?;
    let programs = Tests { privileged: binaries::build("persona-tests", "persona-bench")?, persona_ctl };
    let rounds = args.rounds.to_string();
    let mut arguments = vec!["measure", "dataplane", "--folder", "/tmp", "--rounds", &rounds, "--print-rows", "--only"];
    arguments.extend(if args.only.is_empty() {
        IN_GUEST.to_vec()
    } else {
        args.only.iter().map(String::as_str).collect()
    });
    let lines = vm::run_program(&programs, arguments.into_iter().map(str::to_owned).collect())?;
    let rows: Vec<Value> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(ROW))
        .map(|row| serde_json::from_str(row).context("the guest printed a row that is no JSON"))
        .collect::<Result<_>>()?;
    let path = workspace_root().join("docs/benchmarks/dataplane-guest.json");
    fs::write(&path, guest_report(&fs::read_to_string(&path).unwrap_or_default(), rows))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// A row to a line; what an earlier report says of others stays.
fn guest_report(previous: &str, rows: Vec<Value>) -> String {
    let previous: Value = serde_json::from_str(previous).unwrap_or_default();
    let mut merged = previous["rows"].as_array().cloned().unwrap_or_default();
    for row in rows {
        match merged.iter_mut().find(|old| old["name"] == row["name"]) {
            Some(old) => *old = row,
            None => merged.push(row),
        }
    }
    let lines: Vec<String> = merged.iter().map(|row| format!("    {row}")).collect();
    format!("{{\n  \"rows\": [\n{}\n  ]\n}}\n", lines.join(",\n"))
}

/// Copies what belongs to the report of this name: `dataplane.json`, say, and the plots beside it.
fn copy_files(name: &str, from: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))?;
    for entry in entries {
        let file = entry?.file_name();
        let is_ours = file.to_str().is_some_and(|file| file.starts_with(name));
        if is_ours {
            // A copy in its place, not over it: an earlier one may be root's.
            let target = to.join(&file);
            fs::remove_file(&target).or_else(ignore_absence)?;
            fs::copy(from.join(&file), &target).with_context(|| format!("{} cannot be written", target.display()))?;
        }
    }
    Ok(())
}

fn ignore_absence(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_guest_replace_those_of_the_same_name() {
        let row = |name: &str, ours: u32| serde_json::json!({ "name": name, "ours": ours });
        let first = guest_report("", vec![row("a", 1), row("b", 2)]);
        let second = guest_report(&first, vec![row("b", 3), row("c", 4)]);
        let report: Value = serde_json::from_str(&second).unwrap();
        assert_eq!(report["rows"], serde_json::json!([row("a", 1), row("b", 3), row("c", 4)]));
    }

    #[test]
    fn only_the_reports_own_files_are_copied() {
        let folder = std::env::temp_dir().join(format!("xtask-bench-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        for path in [&from, &to] {
            fs::create_dir_all(path).unwrap();
        }
        for name in ["dataplane.json", "dataplane-edge.svg", "verifier.json"] {
            fs::write(from.join(name), name).unwrap();
        }
        fs::write(to.join("dataplane.json"), "old").unwrap();
        copy_files("dataplane", &from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("dataplane.json")).unwrap(), "dataplane.json");
        assert!(to.join("dataplane-edge.svg").exists() && !to.join("verifier.json").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
