//! Running other programs: quietly with the output in a log and the elapsed time on the screen, or shown as it comes.
//!
//! What needs root goes through [`as_root`], which is `sudo` for everyone else. Cargo itself never runs as root's
//! stand-in: things are built first, and only finished binaries are elevated.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Lines of a failed command's log that are shown.
const LOG_TAIL_LINES: usize = 30;

/// The root of the workspace.
pub(crate) fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// Where tools that are only ours are kept: `${XDG_CACHE_HOME:-~/.cache}/persona`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => bail!("neither XDG_CACHE_HOME nor HOME is set, so there is no place for tools: set one of them"),
    };
    Ok(base.join("persona"))
}

/// The program of that name on PATH or where administrators' tools lie.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether this process has root's rights.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A command that runs with root's rights.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let sudo = find_program("sudo")
        .with_context(|| format!("{} needs root: run as root, or install sudo", program.as_ref().to_string_lossy()))?;
    let mut command = Command::new(sudo);
    command.arg(program);
    Ok(command)
}

/// Cargo as the user has it, in the workspace, without what this cargo run has put into the environment.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    command
}

/// Runs a command with its output on the screen.
pub(crate) fn show(what: &str, command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{what}: {command:?} does not start"))?;
    if !status.success() {
        bail!("{what} failed: {command:?} ended with {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed, trimmed.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command with its output in `target/xtask/NAME.log`, showing what it does and for how long. On failure the end
/// of the log is in the error.
pub(crate) fn quietly(name: &str, doing: &str, command: &mut Command) -> Result<Duration> {
    let folder = workspace_root().join("target/xtask");
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let log_path = folder.join(format!("{}.log", name.replace(['/', ' '], "-")));
    let log = File::create(&log_path).with_context(|| format!("{} cannot be written", log_path.display()))?;
    let progress = spinner(doing);
    let start = Instant::now();
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let status = command.status().with_context(|| format!("{doing}: {command:?} does not start"));
    progress.finish_and_clear();
    let status = status?;
    if !status.success() {
        bail!("{doing} failed ({status}); the end of {}:\n{}", log_path.display(), tail_of(&log_path));
    }
    Ok(start.elapsed())
}

fn spinner(doing: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})").expect("the template is valid");
    let progress = ProgressBar::new_spinner().with_style(style).with_message(doing.to_owned());
    progress.enable_steady_tick(Duration::from_millis(120));
    if progress.is_hidden() {
        println!("  {doing} …");
    }
    progress
}

fn tail_of(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
