//! Programs and libraries of Python that lie in the cache, each release in a venv of its own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{cache_dir, find_program, quietly};

/// A package of PyPI in the release that is known to work.
pub(crate) struct Venv {
    /// Its name.
    pub(crate) package: &'static str,
    /// Its release.
    pub(crate) version: &'static str,
}

/// A file in a venv that has all that it should: pip may have been broken off.
const COMPLETE: &str = "complete";

impl Venv {
    /// Where it is, if it is there.
    pub(crate) fn find(&self) -> Option<String> {
        self.program("").map(|path| path.display().to_string())
    }

    /// A file in it.
    pub(crate) fn program(&self, path: &str) -> Option<PathBuf> {
        self.root().filter(|root| root.join(COMPLETE).is_file()).map(|root| root.join(path))
    }

    /// Makes it anew.
    pub(crate) fn install(&self) -> Result<()> {
        let Self { package, version } = self;
        let python = find_program("python3").context("python3 is missing: install it with its venv module")?;
        let venv = self.root().context("there is no place for tools")?;
        let mut make = Command::new(python);
        make.args(["-m", "venv", "--clear"]).arg(&venv);
        quietly(&format!("{package}-venv"), &format!("making a venv for {package} (python3-venv)"), &mut make)?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", &format!("{package}=={version}")]);
        quietly(&format!("{package}-pip"), &format!("fetching {package}"), &mut pip)?;
        std::fs::write(venv.join(COMPLETE), "").with_context(|| format!("{} cannot be written to", venv.display()))
    }

    fn root(&self) -> Option<PathBuf> {
        Some(cache_dir().ok()?.join(format!("{}-{}", self.package, self.version)))
    }
}
