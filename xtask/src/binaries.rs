//! Building the programs that the tests and the demo run, and finding where cargo put them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{as_root, cache_dir, cargo};

/// Builds one target, the one that `arguments` name after `--bin` or `--test`, and returns its executable.
pub(crate) fn build(arguments: &[&str]) -> Result<PathBuf> {
    let name = arguments.iter().skip_while(|word| !["--bin", "--test"].contains(word)).nth(1);
    let name = *name.with_context(|| format!("cargo {}: no target is named", arguments.join(" ")))?;
    let mut command = cargo();
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
    // A test target brings its package's programs along, in any order.
    let ours = messages.filter(|message| message["target"]["name"] == name);
    let mut paths = ours.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    paths.next_back().with_context(|| format!("cargo {} made no executable", arguments.join(" ")))
}

/// `persona-ctl`.
pub(crate) fn build_persona_ctl() -> Result<PathBuf> {
    build(&["build", "--package", "persona-ctl", "--bin", "persona-ctl"])
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
    ] {
        if let Ok(value) = std::env::var(passed_on) {
            command.arg(format!("{passed_on}={value}"));
        }
    }
    command.args(variables);
    command.arg("PERSONA_REQUIRE_PRIVILEGED=1").arg(program);
    Ok(command)
}
