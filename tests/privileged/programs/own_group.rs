//! A control group of the v2 tree that this process is in for a while.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The group; the process goes back where it was, and the group goes away, when this is dropped.
pub(super) struct OwnGroup {
    before: PathBuf,
    place: PathBuf,
}

impl OwnGroup {
    /// A child of the group that the process is in.
    pub(super) fn new(name: &str) -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a kernel with control groups v2");
        let before = tree().join(path);
        let place = before.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&place).unwrap();
        enter(&place);
        Self { before, place }
    }

    /// Its path in the tree.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.place.strip_prefix(tree()).unwrap().display())
    }

    /// What the kernel calls it.
    pub(super) fn id(&self) -> u64 {
        std::fs::metadata(&self.place).unwrap().ino()
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        enter(&self.before);
        std::fs::remove_dir(&self.place).unwrap();
    }
}

fn enter(group: &Path) {
    std::fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

fn tree() -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let tree = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2");
    tree.expect("a mounted tree of control groups v2")[1].into()
}
