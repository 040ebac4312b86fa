//! `cargo xtask verifier`: how many instructions each kernel's verifier looks at, kept in `docs/benchmarks/verifier.json`.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::Tests;
use crate::command::workspace_root;
use crate::setup::{self, Purpose};
use crate::vm::{self, Choice};

/// What a line of the test begins with; one JSON object follows.
const MARK: &str = "verifier: ";

/// The test that prints them.
const TEST: &str = "verifier::";

/// Runs the test here and in the guests, and writes what they counted.
pub(crate) fn run() -> Result<()> {
    setup::require_root()?;
    setup::ensure(&[Purpose::Build, Purpose::Test, Purpose::Guests])?;
    let mut lines = on_this_host()?;
    let choice = Choice { filter: Some(TEST), shows_output: true, ..Choice::default() };
    lines.extend(vm::run(&choice)?.into_iter().flat_map(|(_, lines)| lines));
    let counts = read(&lines)?;
    for count in &counts {
        println!(
            "{:32} {:5} {:16} {:>8}",
            text(count, "kernel"),
            text(count, "object"),
            text(count, "program"),
            count["instructions"]
        );
    }
    let path = workspace_root().join("docs/benchmarks/verifier.json");
    let folder = path.parent().expect("it lies in a folder");
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let rows: Vec<String> = counts.iter().map(|count| format!("  {count}")).collect();
    let json = format!("[\n{}\n]\n", rows.join(",\n"));
    std::fs::write(&path, json).with_context(|| format!("{} cannot be written", path.display()))
}

fn on_this_host() -> Result<Vec<String>> {
    let tests = Tests::build()?;
    let mut command = tests.elevated(&[])?;
    command.args(["--test-threads=1", "--nocapture", TEST]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("the test failed on this host:\n{printed}");
    }
    Ok(printed.lines().map(str::to_owned).collect())
}

/// The counts in the order of kernels, objects and programs.
fn read(lines: &[String]) -> Result<Vec<Value>> {
    let marked = lines.iter().filter_map(|line| line.strip_prefix(MARK));
    let counts: Result<Vec<Value>, _> = marked.map(serde_json::from_str).collect();
    let mut counts = counts.context("the test printed what is no JSON")?;
    if counts.is_empty() {
        bail!("the test printed no counts");
    }
    counts.sort_by_key(|count| ["kernel", "object", "program"].map(|key| text(count, key).to_owned()));
    Ok(counts)
}

fn text<'a>(count: &'a Value, key: &str) -> &'a str {
    count[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_among_other_lines_and_sorted() {
        let line = |program: &str| {
            format!(r#"verifier: {{"kernel":"6.1","object":"node","program":"{program}","instructions":7}}"#)
        };
        let counts =
            read(&["test verifier ... ".to_owned(), line("guard"), line("from_edge"), "ok".to_owned()]).unwrap();
        assert_eq!(counts.iter().map(|count| text(count, "program")).collect::<Vec<_>>(), ["from_edge", "guard"]);
        assert!(read(&["nothing".to_owned()]).is_err());
    }
}
