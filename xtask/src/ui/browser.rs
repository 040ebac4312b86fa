//! Chromium without a screen, from Debian's package or as the machine has it.

use std::path::PathBuf;

use anyhow::Result;

use crate::command::find_program;
use crate::packages;

/// What it is called, the smallest first.
const PROGRAMS: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

/// The program.
pub(crate) fn program() -> Option<PathBuf> {
    PROGRAMS.iter().find_map(|name| find_program(name))
}

/// Where it is.
pub(crate) fn find() -> Option<String> {
    program().map(|path| path.display().to_string())
}

/// Installs it with a font; neither starts anything.
pub(crate) fn install() -> Result<()> {
    packages::install(&["chromium-headless-shell", "fonts-dejavu-core"]).map(drop)
}
