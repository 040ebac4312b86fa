//! What is asked of a package manager, and which one a system has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use persona_core::software::{Change, Packages, Simulated};

use super::apt::Apt;

/// A package manager that does not do as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackageError {
    /// A program of it cannot be started.
    #[error("{program} cannot be started")]
    Start {
        /// Which.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A program of it failed.
    #[error("{program} failed: {told}")]
    Failed {
        /// Which, with what it was to do.
        program: String,
        /// The end of what it said.
        told: String,
    },
    /// The change would take more away than anybody said.
    #[error("that would remove {names} too: nobody wants that; remove what depends on it, or ask for other versions")]
    Removes {
        /// Which packages.
        names: String,
    },
    /// What would be replaced cannot be had again, so there would be no way back.
    #[error("{package} {version} is installed and no repository offers it any more: it could not be put back")]
    NoWayBack {
        /// Which package.
        package: String,
        /// The version that is installed.
        version: String,
        /// Why.
        source: Box<PackageError>,
    },
    /// What should be there afterwards is not.
    #[error("{program} said that it was done, and {what}")]
    NotDone {
        /// Which.
        program: &'static str,
        /// What there is instead.
        what: String,
    },
    /// The record cannot be kept; nothing is changed without one.
    #[error("record {path} cannot be kept")]
    Record {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A package manager. Every call blocks until it is done.
pub(super) trait PackageManager: Send {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Everything that is installed.
    fn installed(&self) -> Result<Packages, PackageError>;

    /// The versions in which packages are offered. One that is offered in none is missing.
    fn offered(&self, packages: &[&str]) -> Result<BTreeMap<String, Vec<String>>, PackageError>;

    /// Asks repositories what they offer now.
    fn refresh(&self) -> Result<(), PackageError>;

    /// What a change would do. Files stand for the packages that they hold.
    fn simulate(&self, change: &Change, files: &BTreeMap<String, PathBuf>) -> Result<Simulated, PackageError>;

    /// Brings a change about, whole. The same files as were simulated.
    fn change(&self, change: &Change, files: &BTreeMap<String, PathBuf>) -> Result<(), PackageError>;

    /// Puts a package's file into a folder.
    fn fetch(&self, package: &str, version: &str, folder: &Path) -> Result<PathBuf, PackageError>;

    /// Holds packages at their versions, or no longer.
    fn hold(&self, packages: &[&str], is_held: bool) -> Result<(), PackageError>;

    /// Notes that packages were installed because others need them, or by themselves.
    fn mark(&self, packages: &[&str], is_automatic: bool) -> Result<(), PackageError>;

    /// Finishes what was interrupted.
    fn mend(&self) -> Result<(), PackageError>;
}

/// Package managers that are known by a program of theirs and cannot be used.
const UNKNOWN: [(&str, &str); 4] =
    [("usr/bin/dnf", "dnf"), ("usr/bin/yum", "yum"), ("sbin/apk", "apk"), ("usr/bin/pacman", "pacman")];

/// The package manager of the system below a root.
///
/// # Errors
/// There is none that can be used; a sentence that says which would be.
pub(super) fn find(root: &Path) -> Result<Box<dyn PackageManager>, String> {
    if root.join("usr/bin/apt-get").exists() && root.join("usr/bin/dpkg").exists() {
        return Ok(Box::new(Apt::below(root)));
    }
    let other = UNKNOWN.iter().find(|(path, _)| root.join(path).exists()).map(|(_, name)| *name);
    let found =
        other.map_or("none that is known".to_owned(), |name| format!("{name}, which nobody has taught this agent yet"));
    Err(format!("packages are installed with apt and dpkg (Debian, Ubuntu); this system has {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_package_managers_are_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let told = |root: &Path| find(root).err().unwrap_or_default();
        assert!(told(root.path()).contains("none that is known"));
        std::fs::create_dir_all(root.path().join("sbin")).unwrap();
        std::fs::write(root.path().join("sbin/apk"), "").unwrap();
        assert!(told(root.path()).contains("this system has apk"), "{}", told(root.path()));
    }
}
