//! Node in the cache, and the page's packages beside its sources, as the lock file has them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::folder;
use crate::command::{cache_dir, find_program, quietly};
use crate::packages;

/// The release of the npm package `node`.
const VERSION: &str = "22.23.3";

/// The lock file, and its copy of the time when the packages were installed.
const LOCK: &str = "package-lock.json";
const INSTALLED: &str = "node_modules/.persona/package-lock.json";

fn place() -> Result<PathBuf> {
    Ok(cache_dir()?.join(format!("node-{VERSION}")))
}

/// The program.
pub(crate) fn program() -> Result<PathBuf> {
    let program = place()?.join("node_modules/node/bin/node");
    program.is_file().then_some(program).context("no Node: run `cargo xtask setup --for page`")
}

/// Where it is.
pub(crate) fn find() -> Option<String> {
    program().ok().map(|path| path.display().to_string())
}

/// Fetches it with the npm that the machine has, or that Debian's package brings.
pub(crate) fn install() -> Result<()> {
    if find_program("npm").is_none() {
        packages::install(&["npm"])?;
    }
    let place = place()?;
    let partial = place.with_extension("partial");
    std::fs::create_dir_all(&partial).with_context(|| format!("{} cannot be made", partial.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&partial).arg(format!("node@{VERSION}"));
    quietly("node", &format!("fetching Node {VERSION} (60 MB)"), &mut npm)?;
    std::fs::rename(&partial, &place).with_context(|| format!("{} cannot be made", place.display()))
}

/// Whether the packages are those of the lock file.
pub(crate) fn find_packages() -> Option<String> {
    let read = |name: &str| std::fs::read(folder().join(name)).ok();
    (read(LOCK)? == read(INSTALLED)?).then(|| "as locked".to_owned())
}

/// Installs the packages as locked. Their install scripts do not run.
pub(crate) fn install_packages() -> Result<()> {
    let node = program()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = node.parent().map(PathBuf::from);
    // npm is a script of whichever Node comes first.
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))?;
    let mut npm = Command::new("npm");
    npm.current_dir(folder()).env("PATH", path).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    quietly("page-packages", "fetching the page's packages", &mut npm)?;
    let (lock, installed) = (folder().join(LOCK), folder().join(INSTALLED));
    let parent = installed.parent().context("it lies in a folder")?;
    std::fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    std::fs::copy(&lock, &installed).with_context(|| format!("{} cannot be written", installed.display())).map(drop)
}
