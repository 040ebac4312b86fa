//! The tree's own rules: every Rust file says what it is for, arrows between crates go one way, and nothing names the
//! machine that it was written on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{cargo, output_of, workspace_root};

/// Crates that must not be reachable from a crate: the reason is in style and design.
const FORBIDDEN_DEPENDENCIES: [(&str, &[&str]); 2] = [
    // Decisions are pure: no I/O, no clock, no kernel.
    ("persona-core", &["tokio", "aya", "reqwest", "rusqlite", "axum", "libc", "rtnetlink"]),
    // The manager decides and stores; only host code touches the kernel.
    ("persona-manager", &["aya", "rtnetlink", "persona-ctl"]),
];

/// Beginnings of paths that only exist on somebody's machine.
const MACHINE_PATHS: [&str; 5] = ["/work/", "/root/", "/home/", "/Users/", "/mnt/"];

/// Files that may hold them, because they are about them.
const MACHINE_PATHS_EXEMPT: [&str; 1] = ["xtask/src/tidy.rs"];

/// Checks all rules and reports every breach.
pub(crate) fn run() -> Result<()> {
    let files = tracked_files()?;
    let mut breaches = Vec::new();
    for file in &files {
        let Ok(text) = std::fs::read_to_string(workspace_root().join(file)) else { continue };
        breaches.extend(check_header(file, &text));
        breaches.extend(check_machine_paths(file, &text));
    }
    breaches.extend(check_layers()?);
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    if !breaches.is_empty() {
        bail!("{} breaches of the tree's rules", breaches.len());
    }
    println!("tidy: {} files are fine", files.len());
    Ok(())
}

fn tracked_files() -> Result<Vec<PathBuf>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(workspace_root());
    Ok(output_of(&mut command)?.lines().map(PathBuf::from).collect())
}

fn check_header(file: &Path, text: &str) -> Option<String> {
    let is_rust = file.extension().is_some_and(|extension| extension == "rs");
    let has_header = text.starts_with("//!");
    (is_rust && !has_header)
        .then(|| format!("{}: does not open with a `//!` header that says what the file is for", file.display()))
}

fn check_machine_paths(file: &Path, text: &str) -> Vec<String> {
    let is_exempt = MACHINE_PATHS_EXEMPT.iter().any(|exempt| file == Path::new(exempt));
    let lines = text.lines().enumerate().filter(|_| !is_exempt);
    let breaches = lines.filter_map(|(index, line)| {
        let found = MACHINE_PATHS.iter().find(|path| names_path(line, path))?;
        Some(format!("{}:{}: names a path of somebody's machine ({found}…)", file.display(), index + 1))
    });
    breaches.collect()
}

/// Whether the path stands in the line as the beginning of an absolute path, not inside a longer one or a URL.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "/.-_}~:".contains(c)))
    })
}

fn check_layers() -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for (package, forbidden) in FORBIDDEN_DEPENDENCIES {
        let mut command = cargo();
        command.args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
        let tree = output_of(&mut command)?;
        let names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let reached = forbidden.iter().filter(|name| names.contains(name));
        breaches.extend(reached.map(|name| format!("{package} depends on {name}, which it must not reach")));
    }
    Ok(breaches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_asked_of_rust_files_only() {
        for (file, text, is_breach) in
            [("a.rs", "//! Why.\n", false), ("a.rs", "use std;\n", true), ("a.md", "text", false)]
        {
            assert_eq!(check_header(Path::new(file), text).is_some(), is_breach, "{file} {text:?}");
        }
    }

    #[test]
    fn machine_paths_are_found_and_lookalikes_are_not() {
        for (line, is_breach) in [
            ("see /home/someone/x", true),
            ("(\"/root/.cargo\")", true),
            ("https://example.org/home/", false),
            ("target/work/", false),
            ("~/.cache and /var/lib/persona", false),
        ] {
            assert_eq!(!check_machine_paths(Path::new("a.md"), line).is_empty(), is_breach, "{line}");
        }
    }
}
