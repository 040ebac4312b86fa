//! Control groups of a test's own, on either version, and what the kernel says of their limits.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::ledger::{Ledger, Undo};

const ROOT: &str = "/sys/fs/cgroup";

/// The trees of version 1 that limits and measuring need.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "blkio"];

/// Parts of the names of files that limits are written to, and of such as count instead.
const LIMIT_PARTS: [&str; 8] =
    ["cfs_", "cpu.shares", "limit_in_bytes", "weight", "_device", ".max", ".high", "oom_control"];
const COUNT_PARTS: [&str; 2] = ["usage", "failcnt"];

/// The bytes of every file of a group that limits are written to.
pub type LimitFiles = BTreeMap<PathBuf, String>;

/// The root of every tree: one on version 2.
pub fn trees() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").is_file() {
        return vec![root.to_owned()];
    }
    CONTROLLERS.iter().map(|name| root.join(name)).filter(|tree| tree.join("cgroup.procs").is_file()).collect()
}

/// Makes a group in every tree; it goes with the ledger.
pub fn make(ledger: &Ledger, name: &str) -> Result<()> {
    ledger.note(Undo::RemoveCgroup(name.to_owned()));
    trees()
        .iter()
        .map(|tree| tree.join(name))
        .try_for_each(|folder| fs::create_dir(&folder).with_context(|| format!("{} cannot be made", folder.display())))
}

/// Moves a process into a group, in every tree.
pub fn enter(name: &str, pid: u32) -> Result<()> {
    trees().iter().map(|tree| tree.join(name).join("cgroup.procs")).try_for_each(|file| {
        fs::write(&file, pid.to_string()).with_context(|| format!("{pid} cannot be moved into {}", file.display()))
    })
}

/// Where a group lies in the tree of a controller.
pub fn folder_of(group: &str, controller: &str) -> Result<PathBuf> {
    let root = Path::new(ROOT);
    let places = [root.join(controller).join(group), root.join(group)];
    places.into_iter().find(|place| place.is_dir()).with_context(|| format!("{group} is nowhere"))
}

/// Every file of a group that limits are written to.
pub fn limit_files(group: &str) -> Result<LimitFiles> {
    let mut files = BTreeMap::new();
    for controller in ["cpu", "memory", "blkio", "pids"] {
        let Ok(folder) = folder_of(group, controller) else { continue };
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
            let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
            if has(&LIMIT_PARTS) && !has(&COUNT_PARTS) {
                files.insert(path.clone(), fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    Ok(files)
}

/// What differs, for people.
pub fn differences(before: &LimitFiles, after: &LimitFiles) -> String {
    let other = before.iter().filter(|(path, text)| after.get(*path) != Some(text));
    let told: Vec<String> =
        other.map(|(path, text)| format!("{}: {text:?} {:?}", path.display(), after.get(path))).collect();
    if told.is_empty() { format!("{} files, none differs", before.len()) } else { told.join("; ") }
}

/// The text of the first of `files` that a group has, without its line end.
pub fn read_first(group: &str, controller: &str, files: &[&str]) -> Result<String> {
    let folder = folder_of(group, controller)?;
    let text = files.iter().find_map(|file| fs::read_to_string(folder.join(file)).ok());
    text.map(|text| text.trim().to_owned()).with_context(|| format!("{group} has none of {}", files.join(", ")))
}
