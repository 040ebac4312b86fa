//! What has to be undone: processes, mounts, namespaces and folders, in the reverse of the order in which they came.
//!
//! The ledger is shared with whoever hears Ctrl-C, so that a run that is broken off leaves nothing behind either.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::sys;

/// One thing to undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// Kill a process that we started and still hold.
    Kill(u32),
    /// Unmount what is mounted there.
    Unmount(PathBuf),
    /// Remove a named network namespace.
    RemoveNamespace(String),
    /// Remove a folder with all in it.
    RemoveFolder(PathBuf),
    /// Remove a control group that we named, wherever it is, with the empty ones below it.
    RemoveCgroup(String),
}

/// Everything that a run has made and not yet undone.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Undo>>>);

impl Ledger {
    /// Notes something before it is made.
    pub fn note(&self, undo: Undo) {
        self.entries().push(undo);
    }

    /// Forgets something that is gone already.
    pub fn strike(&self, undo: &Undo) {
        self.entries().retain(|entry| entry != undo);
    }

    /// Undoes everything, newest first, and goes on past what fails; returns what failed.
    pub fn undo_all(&self) -> Vec<String> {
        let mut entries = self.entries();
        let failures = entries.iter().rev().filter_map(|undo| undo.run().err()).collect();
        entries.clear();
        failures
    }

    /// Forgets everything without undoing it, and returns it as a shell script that would.
    pub fn into_script(&self) -> String {
        let mut entries = self.entries();
        let lines: Vec<String> = entries.iter().rev().map(Undo::to_shell).collect();
        entries.clear();
        lines.join("\n") + "\n"
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Undo>> {
        // A panic while the lock is held leaves the list whole: every change to it is one call.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Undo {
    fn run(&self) -> Result<(), String> {
        match self {
            Self::Kill(pid) => sys::kill(*pid, sys::Signal::Kill).map_err(|error| format!("kill {pid}: {error}")),
            Self::Unmount(path) => run_tool(Command::new("umount").arg("--lazy").arg(path)),
            Self::RemoveNamespace(name) => run_tool(Command::new("ip").args(["netns", "delete", name])),
            Self::RemoveFolder(path) => {
                std::fs::remove_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
            }
            Self::RemoveCgroup(name) => run_tool(Command::new("sh").arg("-c").arg(remove_cgroup_script(name))),
        }
    }

    fn to_shell(&self) -> String {
        match self {
            Self::Kill(pid) => format!("kill -9 {pid}"),
            Self::Unmount(path) => format!("umount --lazy '{}'", path.display()),
            Self::RemoveNamespace(name) => format!("ip netns delete {name}"),
            Self::RemoveFolder(path) => format!("rm -rf '{}'", path.display()),
            Self::RemoveCgroup(name) => remove_cgroup_script(name),
        }
    }
}

/// Control groups are removed one by one, the deepest first, in every hierarchy. Processes that have just been killed
/// stay in them for a moment.
fn remove_cgroup_script(name: &str) -> String {
    format!(
        "for group in /sys/fs/cgroup/'{name}' /sys/fs/cgroup/*/'{name}'; do for try in 1 2 3 4 5 6 7 8 9 10; do \
         [ -d \"$group\" ] || break; find \"$group\" -depth -type d -exec rmdir {{}} + 2> /dev/null || sleep 0.2; done; \
         [ ! -d \"$group\" ] || {{ echo \"$group is left\" >&2; exit 1; }}; done"
    )
}

fn run_tool(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_undone_in_reverse_and_once() {
        let ledger = Ledger::default();
        let folder = tempfile::tempdir().unwrap().keep();
        ledger.note(Undo::RemoveFolder(folder.clone()));
        ledger.note(Undo::Kill(1));
        ledger.strike(&Undo::Kill(1));
        assert_eq!(ledger.undo_all(), Vec::<String>::new());
        assert!(!folder.exists());
        assert_eq!(ledger.into_script(), "\n");
    }
}
