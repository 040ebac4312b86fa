//! Leaves the host as it was: every link, program and map of ours goes.

use std::path::{Path, PathBuf};

use super::bpffs;
use super::error::DataplaneError;
use super::sys;

/// What [`detach`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DetachReport {
    /// Links, by the name of their pin: program and interface index.
    pub links: Vec<String>,
    /// Maps, by name.
    pub maps: Vec<String>,
    /// Whether the bpffs was ours and was unmounted.
    pub unmounted: bool,
}

/// Removes all links and pins of both roles, and unmounts the bpffs if we mounted it. Links go first, so that no program
/// runs over maps that are half gone.
pub fn detach(bpffs: &Path) -> Result<DetachReport, DataplaneError> {
    let mut report = DetachReport::default();
    if !bpffs.exists() || !sys::is_bpffs(bpffs).map_err(|source| failed(bpffs, "looking at it", source))? {
        return Ok(report);
    }
    for role in ["node", "edge"] {
        let directory = bpffs.join(role);
        report.links.extend(empty(&directory.join("links"))?);
        report.maps.extend(empty(&directory.join("maps"))?);
        if directory.exists() {
            std::fs::remove_dir(&directory).map_err(|source| failed(&directory, "removing", source))?;
        }
    }
    if bpffs::is_ours(bpffs) {
        bpffs::release(bpffs)?;
        report.unmounted = true;
    }
    Ok(report)
}

/// Removes all pins in a directory and the directory; says which.
fn empty(directory: &Path) -> Result<Vec<String>, DataplaneError> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|source| failed(directory, "reading", source))? {
        let entry = entry.map_err(|source| failed(directory, "reading", source))?;
        std::fs::remove_file(entry.path()).map_err(|source| failed(&entry.path(), "removing", source))?;
        removed.push(entry.file_name().to_string_lossy().into_owned());
    }
    std::fs::remove_dir(directory).map_err(|source| failed(directory, "removing", source))?;
    removed.sort();
    Ok(removed)
}

fn failed(path: &Path, action: &'static str, source: std::io::Error) -> DataplaneError {
    DataplaneError::Bpffs { path: PathBuf::from(path), action, source }
}
