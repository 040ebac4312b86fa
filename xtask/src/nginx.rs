//! nginx for the tests: unpacked into the cache, never installed, so that no service and no configuration is touched.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cache_dir, find_program, output_of, quietly};
use crate::packages;

/// Packages that hold the program, as Debian 12 and Ubuntu name them.
const PROGRAM_PACKAGES: [&str; 3] = ["nginx", "nginx-core", "nginx-light"];

/// Rounds of fetching what the last round's packages depend on.
const DEPENDENCY_ROUNDS_MAX: usize = 4;

/// The program: the machine's own, or the one in the cache.
pub(crate) fn find() -> Option<PathBuf> {
    find_program("nginx").or_else(|| Some(unpacked().ok()?.join("usr/sbin/nginx")).filter(|path| path.is_file()))
}

/// Folders in which the unpacked program's libraries lie.
fn library_path(root: &Path) -> OsString {
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = ["usr/lib", "lib"].map(|folder| root.join(folder).join(&machine));
    std::env::join_paths(folders).expect("the cache's path has no colon")
}

fn unpacked() -> Result<PathBuf> {
    Ok(cache_dir()?.join("nginx"))
}

/// Downloads and unpacks it with the libraries that this machine lacks.
pub(crate) fn install() -> Result<()> {
    if !packages::has_apt() {
        bail!("nginx cannot be unpacked: there is no apt-get here; install nginx so that it is on PATH");
    }
    if !PROGRAM_PACKAGES.iter().any(|package| packages::is_available(package)) {
        packages::update()?;
    }
    let root = unpacked()?;
    std::fs::create_dir_all(&root).with_context(|| format!("{} cannot be made", root.display()))?;
    let program = root.join("usr/sbin/nginx");
    let mut fetched = Vec::new();
    for package in PROGRAM_PACKAGES {
        if !program.is_file() && fetch(package, &root).is_ok() {
            fetched.push(package.to_owned());
        }
    }
    if !program.is_file() {
        bail!("none of the packages {} has nginx: install nginx by hand", PROGRAM_PACKAGES.join(", "));
    }
    for _ in 0..DEPENDENCY_ROUNDS_MAX {
        if missing_libraries(&program, &root)?.is_empty() {
            return Ok(());
        }
        fetched = fetch_dependencies(&fetched, &root)?;
    }
    let missing = missing_libraries(&program, &root)?;
    if !missing.is_empty() {
        bail!("the unpacked nginx lacks {}: install nginx by hand", missing.join(", "));
    }
    Ok(())
}

fn fetch(package: &str, root: &Path) -> Result<()> {
    let script =
        "set -e; rm -rf \"$2\"; mkdir -p \"$2\"; cd \"$2\"; apt-get download \"$1\"; dpkg-deb -x ./*.deb \"$3\"";
    let folder = root.join("download");
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", package]).arg(&folder).arg(root);
    let outcome = quietly(&format!("nginx-{package}"), &format!("unpacking {package} into the cache"), &mut command);
    std::fs::remove_dir_all(&folder).ok(); // only a download; the next one makes it anew
    outcome.map(drop)
}

fn fetch_dependencies(packages: &[String], root: &Path) -> Result<Vec<String>> {
    let mut fetched = Vec::new();
    for package in packages {
        let text = output_of(Command::new("apt-cache").args(["depends", "--important", package]).env("LC_ALL", "C"))?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        for name in names.filter(|name| name.starts_with("lib") && *name != "libc6") {
            fetch(name, root)?;
            fetched.push(name.to_owned());
        }
    }
    Ok(fetched)
}

fn missing_libraries(program: &Path, root: &Path) -> Result<Vec<String>> {
    let text = output_of(Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", library_path(root)))?;
    let missing = text.lines().filter(|line| line.contains("not found"));
    Ok(missing.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}
