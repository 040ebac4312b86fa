//! `cargo xtask bench dataplane | instances | control`: builds, then runs `persona-bench` as root; the report goes to `docs/benchmarks/`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::binaries;
use crate::command::{show, workspace_root};
use crate::setup::{self, Purpose};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, clap::Subcommand)]
enum Subject {
    /// Programs, rates and whole paths, ours and the kernel's own way in turns; under 15 minutes on two quiet cores.
    Dataplane(MeasureArgs),
    /// Criteria of a fleet, limits of a container beside the Docker Engine's, the agent itself; optimised, six minutes once built.
    Instances(MeasureArgs),
    /// A manager under thousands of simulated nodes, of which `thousand` takes two minutes once built; optimised.
    Control(MeasureArgs),
}

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
    setup::require_root()?;
    setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Benchmarks])?;
    let (name, args, [persona_ctl, bench]) = match &args.subject {
        // What is measured runs in the kernel.
        Subject::Dataplane(args) => {
            let built = [binaries::build_persona_ctl()?, binaries::build("persona-tests", "persona-bench")?];
            ("dataplane", args, built)
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
