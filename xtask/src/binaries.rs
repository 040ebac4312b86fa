//! Building the programs that the tests and the demo run, and finding where cargo put them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{as_root, cache_dir, cargo, workspace_root};

/// What tests are built of, always the same: another choice of packages has other features, and so everything is built
/// anew.
pub(crate) const TESTED: [&str; 3] = ["--workspace", "--exclude", "persona-ebpf"];

/// What the privileged tests need.
#[derive(Debug)]
pub(crate) struct Tests {
    /// The test binary.
    pub(crate) privileged: PathBuf,
    /// `persona-ctl`, as its own tests have it.
    pub(crate) persona_ctl: PathBuf,
}

impl Tests {
    /// Builds both. A test of the command line brings its package's program along.
    pub(crate) fn build() -> Result<Self> {
        Self::build_with(&[])
    }

    /// The same for millions of frames: the model of the data plane is four times as fast, and takes minutes to build.
    pub(crate) fn build_optimised() -> Result<Self> {
        Self::build_with(&["--config", "profile.dev.package.persona-tests.opt-level=3"])
    }

    fn build_with(options: &[&str]) -> Result<Self> {
        let targets = ["--no-run", "--test", "privileged", "--test", "command_line"];
        let built = executables(&[&["test"], options, &TESTED[..], &targets].concat())?;
        Ok(Self { privileged: built.of("privileged")?, persona_ctl: built.of("persona-ctl")? })
    }

    /// The test binary with root's rights.
    pub(crate) fn elevated(&self, variables: &[String]) -> Result<Command> {
        elevated(&self.privileged, &self.persona_ctl, variables)
    }
}

/// How a program for others finds its C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// glibc, this machine's version or a later one where it runs.
    Shared,
    /// musl, inside: it runs wherever there is a kernel.
    Static,
}

/// The target of statically linked programs, as rustc names it.
pub(crate) fn static_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// `persona-ctl` as it is given to others: without debug information, and in profile `release` optimised and naming no folder of
/// this machine.
pub(crate) fn build_for_others(linkage: Linkage, profile: &str) -> Result<PathBuf> {
    let strip = format!("profile.{profile}.strip=\"debuginfo\"");
    let (target, flags) = (static_target(), flags_for_others()?);
    let mut arguments = vec!["build", "--package", "persona-ctl", "--bin", "persona-ctl", "--locked"];
    arguments.extend(["--profile", profile, "--config", &strip]);
    if linkage == Linkage::Static {
        arguments.extend(["--target", &target]);
    }
    // Other flags would have everything built anew that tests have built.
    let variables = if profile == "release" { vec![("RUSTFLAGS", flags.as_str())] } else { Vec::new() };
    executables_with(&arguments, &variables)?.of("persona-ctl")
}

fn flags_for_others() -> Result<String> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo_home = cargo_home.or(home).context("neither CARGO_HOME nor HOME is set")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    Ok(format!("{} {}", remap(&workspace_root(), "persona"), remap(&cargo_home, "cargo")))
}

/// `persona-ctl` and the benchmark, optimised: what is measured there is our own code, and not the kernel's.
pub(crate) fn build_optimised_bench() -> Result<[PathBuf; 2]> {
    let packages = ["--package", "persona-ctl", "--package", "persona-tests"];
    let programs = ["--bin", "persona-ctl", "--bin", "persona-bench"];
    let built = executables(&[&["build", "--release"], &packages[..], &programs].concat())?;
    Ok([built.of("persona-ctl")?, built.of("persona-bench")?])
}

/// The tests in which managers and databases die.
pub(crate) fn build_endurance() -> Result<PathBuf> {
    executables(&[&["test"], &TESTED[..], &["--no-run", "--test", "endurance"]].concat())?.of("endurance")
}

/// Builds one program and returns its executable.
pub(crate) fn build(package: &str, program: &str) -> Result<PathBuf> {
    executables(&["build", "--package", package, "--bin", program])?.of(program)
}

/// Executables by the name of their target.
struct Executables(Vec<(String, PathBuf)>);

impl Executables {
    fn of(&self, target: &str) -> Result<PathBuf> {
        let found = self.0.iter().find(|(name, _)| name == target);
        found.map(|(_, path)| path.clone()).with_context(|| format!("cargo made no executable of {target}"))
    }
}

fn executables(arguments: &[&str]) -> Result<Executables> {
    executables_with(arguments, &[])
}

fn executables_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Executables> {
    let mut command = cargo();
    command.envs(variables.iter().copied());
    command
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let named = |message: serde_json::Value| {
        Some((message["target"]["name"].as_str()?.to_owned(), message["executable"].as_str()?.into()))
    };
    Ok(Executables(messages.filter_map(named).collect()))
}

/// `persona-ctl`.
pub(crate) fn build_persona_ctl() -> Result<PathBuf> {
    build("persona-ctl", "persona-ctl")
}

/// A finished binary with root's rights, told where `persona-ctl` and the cache are.
pub(crate) fn elevated(program: &PathBuf, persona_ctl: &PathBuf, variables: &[String]) -> Result<Command> {
    let mut command = as_root("env")?;
    let variable = |name: &str, value: &PathBuf| format!("{name}={}", value.display());
    command.arg(variable("PERSONA_CTL", persona_ctl)).arg(variable("PERSONA_CACHE", &cache_dir()?));
    for passed_on in [
        "PERSONA_LOG",
        "RUST_BACKTRACE",
        "PERSONA_TEST_KEEP",
        "PERSONA_TEST_KILLS",
        "PERSONA_TEST_FRAMES",
        "PERSONA_TEST_SEED",
        "PERSONA_TRACES",
    ] {
        if let Ok(value) = std::env::var(passed_on) {
            command.arg(format!("{passed_on}={value}"));
        }
    }
    command.args(variables);
    command.arg("PERSONA_REQUIRE_PRIVILEGED=1").arg(program);
    Ok(command)
}
