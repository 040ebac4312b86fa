//! apt and dpkg (apt-get(8), apt-mark(8), dpkg-query(1)), of this system or of one below another root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use persona_core::software::{Change, Packages, Simulated, read_offered, read_packages};

use super::manager::{PackageError, PackageManager};

/// Bytes of what a program said that are kept of it.
const TOLD_LENGTH_MAX: usize = 1_000;

/// How a package is written by dpkg-query.
const FORMAT: &str = "${binary:Package} ${Version} ${db:Status-Want} ${db:Status-Status} ${Architecture}\n";

/// How apt-get is asked for everything: nobody is there to answer, configuration files stay as they are, and another one
/// that holds dpkg's lock is waited for.
const OPTIONS: [&str; 8] = [
    "--yes",
    "--quiet",
    "--no-install-recommends",
    "--allow-downgrades",
    "--allow-change-held-packages",
    "-oDPkg::Options::=--force-confold",
    "-oDPkg::Options::=--force-confdef",
    "-oDPkg::Lock::Timeout=120",
];

/// apt below a root.
#[derive(Debug)]
pub(super) struct Apt {
    root: PathBuf,
}

impl Apt {
    pub(super) fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn is_here(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A program of apt. Where the system is below another root, its own configuration says so.
    fn apt(&self, program: &'static str) -> Command {
        let mut command = plain(program);
        if !self.is_here() {
            command.env("APT_CONFIG", self.root.join("etc/apt/apt.conf"));
        }
        command
    }

    fn dpkg(&self, program: &'static str) -> Command {
        let mut command = plain(program);
        if !self.is_here() {
            command.arg(format!("--root={}", self.root.display()));
        }
        command
    }

    fn get(&self, change: &Change, files: &BTreeMap<String, PathBuf>, is_simulated: bool) -> Command {
        let mut command = self.apt("apt-get");
        command.args(OPTIONS);
        if is_simulated {
            command.arg("--simulate");
        }
        command.args(["--purge", "install", "--"]);
        for (package, version) in &change.install {
            match files.get(package) {
                Some(file) => command.arg(file),
                None => command.arg(format!("{package}={version}")),
            };
        }
        // Removals stand behind a minus, so that one run does both.
        command.args(change.remove.iter().map(|package| format!("{package}-")));
        command
    }
}

impl PackageManager for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn installed(&self) -> Result<Packages, PackageError> {
        let mut query = self.dpkg("dpkg-query");
        query.args(["--show", "--showformat", FORMAT]);
        // With nothing in its database it fails, and says so.
        let rows = match run("dpkg-query", query) {
            Err(PackageError::Failed { told, .. }) if told.contains("no packages found") => String::new(),
            other => other?,
        };
        let mut automatic = self.apt("apt-mark");
        automatic.arg("showauto");
        Ok(read_packages(&rows, &run("apt-mark", automatic)?))
    }

    fn offered(&self, packages: &[&str]) -> Result<BTreeMap<String, Vec<String>>, PackageError> {
        let mut command = self.apt("apt-cache");
        command.arg("madison").arg("--").args(packages);
        Ok(read_offered(&run("apt-cache", command)?))
    }

    fn refresh(&self) -> Result<(), PackageError> {
        let mut command = self.apt("apt-get");
        command.args(["--quiet", "update"]);
        run("apt-get update", command).map(drop)
    }

    fn simulate(&self, change: &Change, files: &BTreeMap<String, PathBuf>) -> Result<Simulated, PackageError> {
        Ok(Simulated::read(&run("apt-get --simulate", self.get(change, files, true))?))
    }

    fn change(&self, change: &Change, files: &BTreeMap<String, PathBuf>) -> Result<(), PackageError> {
        run("apt-get install", self.get(change, files, false)).map(drop)
    }

    fn fetch(&self, package: &str, version: &str, folder: &Path) -> Result<PathBuf, PackageError> {
        let own = folder.join(format!("{package}_{version}").replace([':', '/'], "%"));
        let failed = |source| PackageError::Record { path: own.clone(), source };
        if let Some(file) = only_file(&own) {
            return Ok(file);
        }
        std::fs::create_dir_all(&own).map_err(failed)?;
        let mut command = self.apt("apt-get");
        // Downloads as whoever it runs as: the folder is ours alone.
        command.args(["--quiet", "-oAPT::Sandbox::User=root", "download", "--"]).arg(format!("{package}={version}"));
        command.current_dir(&own);
        run("apt-get download", command)?;
        let what = format!("no file of {package} {version} is there");
        only_file(&own).ok_or(PackageError::NotDone { program: "apt-get download", what })
    }

    fn hold(&self, packages: &[&str], is_held: bool) -> Result<(), PackageError> {
        self.note(packages, if is_held { "hold" } else { "unhold" })
    }

    fn mark(&self, packages: &[&str], is_automatic: bool) -> Result<(), PackageError> {
        self.note(packages, if is_automatic { "auto" } else { "manual" })
    }

    fn mend(&self) -> Result<(), PackageError> {
        let mut command = self.dpkg("dpkg");
        command.args(["--force-confold", "--force-confdef", "--configure", "--pending"]);
        run("dpkg --configure", command)?;
        let mut command = self.apt("apt-get");
        command.args(OPTIONS).args(["--fix-broken", "install"]);
        run("apt-get --fix-broken", command).map(drop)
    }
}

impl Apt {
    fn note(&self, packages: &[&str], what: &str) -> Result<(), PackageError> {
        if packages.is_empty() {
            return Ok(());
        }
        let mut command = self.apt("apt-mark");
        command.arg(what).arg("--").args(packages);
        run("apt-mark", command).map(drop)
    }
}

fn plain(program: &'static str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("APT_LISTCHANGES_FRONTEND", "none");
    command
}

/// Runs to the end, however long that takes: a package manager that is killed leaves a system half changed.
fn run(what: &'static str, mut command: Command) -> Result<String, PackageError> {
    let output = command.output().map_err(|source| PackageError::Start { program: what, source })?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = if errors.trim().is_empty() { said } else { errors.into_owned() };
    let told: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let told = told.join("; ");
    let start =
        (0..=told.len().saturating_sub(TOLD_LENGTH_MAX)).rev().find(|at| told.is_char_boundary(*at)).unwrap_or(0);
    Err(PackageError::Failed { program: what.to_owned(), told: told[start..].to_owned() })
}

fn only_file(folder: &Path) -> Option<PathBuf> {
    let mut files = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.find(|path| path.extension().is_some_and(|extension| extension == "deb"))
}
