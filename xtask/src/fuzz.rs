//! `cargo xtask fuzz`: each target of `fuzz/` under libFuzzer for a bounded time, from the seeds of the tree and what earlier
//! runs have found.
//!
//! The compiler is the ordinary one: coverage counters are passes of LLVM that it has, and libFuzzer is built from source by
//! its crate. There is no address sanitizer, which wants another compiler; what is fuzzed has no `unsafe`, so that
//! panics, overflows, endless loops and too much memory are what can go wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, quietly, show, workspace_root};
use crate::setup::{self, Purpose};

/// A target: its name, folders of seeds, and the longest input that is tried, bytes.
type Target = (&'static str, &'static [&'static str], usize);

/// Every target.
const TARGETS: [Target; 12] = [
    ("document", &["tests/fixtures", "persona-ctl/packaging/examples"], 8_192),
    ("criteria", &["fuzz/seeds/criteria"], 512),
    ("wire", &["fuzz/seeds/wire"], 4_096),
    ("packet", &["fuzz/seeds/packet"], 2_048),
    ("neighbour", &["fuzz/seeds/neighbour"], 512),
    ("api", &["fuzz/seeds/api"], 4_096),
    ("exposition", &["fuzz/seeds/exposition"], 4_096),
    ("dpkg", &["fuzz/seeds/dpkg"], 4_096),
    ("qmp", &["fuzz/seeds/qmp"], 2_048),
    ("csr", &["fuzz/seeds/csr"], 1_024),
    ("dhcp", &["fuzz/seeds/dhcp"], 1_024),
    ("trace", &["fuzz/seeds/trace"], 2_048),
];

/// Targets that run at a time: each takes a processor.
const WORKER_COUNT: usize = 2;

/// How long each target runs unless somebody says otherwise, seconds.
const SECONDS: u32 = 18;

/// One input may take this long, seconds, and this much memory, MiB.
const INPUT_SECS_MAX: usize = 5;
const MEMORY_MIB_MAX: usize = 1_024;

/// What libFuzzer follows: edges between blocks by counters, where they are, and what is compared.
const COVERAGE: [&str; 4] = ["level=4", "inline-8bit-counters", "pc-table", "trace-compares"];

/// What to fuzz.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// How long each target runs, seconds.
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
    /// Only this input, once: what an earlier run has written down.
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Only this target.
    #[arg(value_parser = TARGETS.map(|(name, ..)| name))]
    target: Option<String>,
}

impl Default for Args {
    fn default() -> Self {
        Self { seconds: SECONDS, input: None, target: None }
    }
}

/// Fuzzes what the arguments name; fails with the first input that a target does not survive.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Fuzz])?;
    let mut chosen = TARGETS.iter().filter(|(name, ..)| args.target.as_deref().is_none_or(|wanted| wanted == *name));
    let programs = build()?;
    if let Some(input) = &args.input {
        let input = std::path::absolute(input)?;
        return chosen.try_for_each(|(name, ..)| show(name, Command::new(programs.join(name)).arg(&input)));
    }
    let waiting = Mutex::new(chosen);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<()> {
        while let Some(target) = next() {
            fuzz(target, &programs, args.seconds)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKER_COUNT).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })
}

/// Builds all targets and returns where they lie. Build scripts and macros are built without counters: flags are the
/// target's alone where one is named.
fn build() -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut flags = "-Cpasses=sancov-module -Ccodegen-units=1 --cfg fuzzing".to_owned();
    COVERAGE.iter().for_each(|counter| flags += &format!(" -Cllvm-args=-sanitizer-coverage-{counter}"));
    let folder = workspace_root().join("target/fuzz");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--bins", "--manifest-path", "fuzz/Cargo.toml"]);
    command.args(["--target", &triple]).arg("--target-dir").arg(&folder).env("RUSTFLAGS", flags);
    quietly("fuzz-build", "building the fuzz targets (about a minute)", &mut command)?;
    Ok(folder.join(triple).join("release"))
}

fn fuzz((name, seeds, length_max): &Target, programs: &Path, seconds: u32) -> Result<()> {
    let root = workspace_root();
    let made = |what: &str| {
        let folder = root.join("target/fuzz").join(what).join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("{} cannot be made", folder.display()))
            .map(|()| folder)
    };
    let (corpus, found) = (made("corpus")?, made("found")?);
    let mut command = Command::new(programs.join(name));
    command.current_dir(&root);
    command.arg(&corpus).args(seeds.iter().map(|folder| root.join(folder)));
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={length_max}"));
    command.arg(format!("-timeout={INPUT_SECS_MAX}")).arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    command.arg(format!("-artifact_prefix={}/", found.display())).args(["-print_final_stats=1", "-verbosity=1"]);
    let dictionary = root.join("fuzz/dictionaries").join(format!("{name}.dict"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let log = format!("fuzz-{name}");
    if let Err(error) = quietly(&log, &format!("fuzzing {name} for {seconds} s"), &mut command) {
        let again = format!("cargo xtask fuzz {name} --input FILE");
        bail!("{name} does not survive an input; the log names its file, to be tried again by `{again}`:\n{error:#}");
    }
    println!("  {name}: {}", said(&root.join(format!("target/xtask/{log}.log")))?);
    Ok(())
}

/// What a run did, out of its log.
fn said(log: &Path) -> Result<String> {
    let text = std::fs::read_to_string(log).with_context(|| format!("{} cannot be read", log.display()))?;
    let stat = |key: &str| {
        let line = text.lines().rev().find_map(|line| line.trim().strip_prefix(key));
        line.map_or("?", str::trim).to_owned()
    };
    let (tried, new) = (stat("stat::number_of_executed_units:"), stat("stat::new_units_added:"));
    let covered = text.lines().rev().find_map(|line| line.split(" cov: ").nth(1)?.split(' ').next());
    let covered = covered.with_context(|| format!("{}: nothing was covered: counters are missing", log.display()))?;
    Ok(format!("{tried} inputs, {covered} edges covered, {new} inputs kept"))
}
