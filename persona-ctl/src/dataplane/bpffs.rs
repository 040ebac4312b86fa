//! Where the pins are: `<bpffs>/ROLE/maps` and `<bpffs>/ROLE/links`; notes on queues: `<bpffs>/queues`.

use std::path::{Path, PathBuf};

use super::error::DataplaneError;
use super::sys;

/// An empty directory in the bpffs that says that we mounted it.
const MOUNTED_BY_US: &str = "mounted-by-persona";

/// Roles that pin something, by the name of their folder.
pub(super) const ROLES: [&str; 4] = ["node", "edge", "gateway", "delivery"];

/// Folders of a role in which maps are pinned.
pub(super) const MAP_FOLDERS: [&str; 3] = ["maps", "maps-next", "rehearsal"];

/// The pins of one role.
#[derive(Debug, Clone)]
pub(super) struct PinDirectory {
    /// Where maps are pinned.
    pub(super) maps: PathBuf,
    /// Where maps are pinned until an upgrade is finished.
    pub(super) next: PathBuf,
    /// Where links are pinned.
    pub(super) links: PathBuf,
}

impl PinDirectory {
    /// Mounts the bpffs if there is none, and makes the directories.
    pub(super) fn prepare(bpffs: &Path, role: &str) -> Result<Self, DataplaneError> {
        let failed = |action| move |source| DataplaneError::Bpffs { path: bpffs.to_owned(), action, source };
        std::fs::create_dir_all(bpffs).map_err(failed("making the mount point"))?;
        if !sys::is_bpffs(bpffs).map_err(failed("looking at it"))? {
            sys::mount_bpffs(bpffs).map_err(failed("mounting"))?;
            std::fs::create_dir_all(bpffs.join(MOUNTED_BY_US)).map_err(failed("writing"))?;
        }
        let [maps, next, links] = ["maps", "maps-next", "links"].map(|folder| bpffs.join(role).join(folder));
        let directory = Self { maps, next, links };
        std::fs::create_dir_all(&directory.maps).map_err(failed("writing"))?;
        std::fs::create_dir_all(&directory.links).map_err(failed("writing"))?;
        Ok(directory)
    }

    /// The pins that a role left there.
    pub(super) fn existing(bpffs: &Path, role: &str) -> Result<Self, DataplaneError> {
        let [maps, next, links] = ["maps", "maps-next", "links"].map(|folder| bpffs.join(role).join(folder));
        let directory = Self { maps, next, links };
        if directory.maps.is_dir() { Ok(directory) } else { Err(DataplaneError::NotPinned { path: directory.maps }) }
    }
}

/// Whether the bpffs was mounted by us.
pub(super) fn is_ours(bpffs: &Path) -> bool {
    bpffs.join(MOUNTED_BY_US).exists()
}

/// Removes the sign that the bpffs is ours and unmounts it.
pub(super) fn release(bpffs: &Path) -> Result<(), DataplaneError> {
    let failed = |action| move |source| DataplaneError::Bpffs { path: bpffs.to_owned(), action, source };
    std::fs::remove_dir(bpffs.join(MOUNTED_BY_US)).map_err(failed("writing"))?;
    sys::unmount(bpffs).map_err(failed("unmounting"))
}
