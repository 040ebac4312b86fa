//! Leaves the host as it was: every link, filter, queue, program and map of ours goes.

use std::path::{Path, PathBuf};

use super::attach;
use super::bpffs;
use super::clsact::{self, FilterNote};
use super::error::DataplaneError;
use super::offloads;
use super::sys;

/// What [`detach`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DetachReport {
    /// Links and filters, by the name of their pin: program and interface index.
    pub links: Vec<String>,
    /// Maps, by name.
    pub maps: Vec<String>,
    /// Devices whose offloads were put back.
    pub offloads: Vec<String>,
    /// Whether the bpffs was ours and was unmounted.
    pub unmounted: bool,
}

/// Removes all links, filters and pins of all roles, and unmounts the bpffs if we mounted it. Links go first, so that
/// no program runs over maps that are half gone.
pub fn detach(bpffs: &Path) -> Result<DetachReport, DataplaneError> {
    let mut report = DetachReport::default();
    if !bpffs.exists() || !sys::is_bpffs(bpffs).map_err(|source| failed(bpffs, "looking at it", source))? {
        return Ok(report);
    }
    for role in bpffs::ROLES {
        let directory = bpffs.join(role);
        remove_links(&directory.join("links"), &mut report)?;
        for folder in bpffs::MAP_FOLDERS {
            report.maps.extend(empty(&directory.join(folder))?);
        }
        remove_if_empty(&directory)?;
    }
    report.maps.sort();
    report.maps.dedup();
    empty_queues(&bpffs.join("queues"))?;
    report.offloads =
        offloads::restore(bpffs).map_err(|source| failed(bpffs, "putting offloads back noted in", source))?;
    if bpffs::is_ours(bpffs) {
        bpffs::release(bpffs)?;
        report.unmounted = true;
    } else {
        // It stays where it is a mount point or holds what is not ours.
        let _ = std::fs::remove_dir(bpffs);
    }
    Ok(report)
}

fn remove_links(directory: &Path, report: &mut DetachReport) -> Result<(), DataplaneError> {
    for entry in entries(directory)? {
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match FilterNote::read(&entry) {
            Some(note) => {
                let ifindex = attach::ifindex_of(&entry).unwrap_or(0);
                clsact::remove(&note, ifindex, &entry).map_err(|source| failed(&entry, "removing", source))?;
            }
            None => attach::remove_link(&entry).map_err(|source| failed(&entry, "removing", source))?,
        }
        report.links.push(name);
    }
    report.links.sort();
    remove_if_empty(directory)
}

/// Notes on queues whose devices are gone by now.
fn empty_queues(directory: &Path) -> Result<(), DataplaneError> {
    for entry in entries(directory)? {
        std::fs::remove_dir(&entry).map_err(|source| failed(&entry, "removing", source))?;
    }
    remove_if_empty(directory)
}

/// Removes all pins in a directory and the directory; says which.
fn empty(directory: &Path) -> Result<Vec<String>, DataplaneError> {
    let mut removed = Vec::new();
    for entry in entries(directory)? {
        std::fs::remove_file(&entry).map_err(|source| failed(&entry, "removing", source))?;
        removed.extend(entry.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    remove_if_empty(directory)?;
    Ok(removed)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, DataplaneError> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let read = |source| failed(directory, "reading", source);
    let entries = std::fs::read_dir(directory).map_err(read)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(read)).collect()
}

fn remove_if_empty(directory: &Path) -> Result<(), DataplaneError> {
    match std::fs::remove_dir(directory) {
        Err(source) if source.raw_os_error() == Some(libc::ENOTEMPTY) => Ok(()),
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(failed(directory, "removing", source)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, action: &'static str, source: std::io::Error) -> DataplaneError {
    DataplaneError::Bpffs { path: PathBuf::from(path), action, source }
}
