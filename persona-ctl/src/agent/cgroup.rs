//! Control groups of the v2 tree: from a path, as people write it, to the id that the kernel calls the group by.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The id of a group: the inode number of its directory. None: there is no such group, or no v2 tree.
pub(crate) fn id_of(path: &str) -> Option<u64> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    id_below(&tree(&mounts)?, path)
}

/// The ids of those groups that are there.
pub(super) fn ids_of<'a>(paths: impl Iterator<Item = &'a String>) -> BTreeMap<String, u64> {
    let mut paths = paths.peekable();
    if paths.peek().is_none() {
        return BTreeMap::new();
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(tree) = tree(&mounts) else { return BTreeMap::new() };
    paths.filter_map(|path| Some((path.clone(), id_below(&tree, path)?))).collect()
}

fn id_below(tree: &Path, path: &str) -> Option<u64> {
    let facts = std::fs::metadata(tree.join(path.trim_start_matches('/'))).ok()?;
    facts.is_dir().then(|| facts.ino())
}

/// Where the root of the v2 tree is mounted (proc_pid_mountinfo(5): root is the fourth field, the mount point the fifth, and the
/// type follows the dash).
fn tree(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(mount_point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_tree_is_found_among_all_mounts() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let v1 = "32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        let part = "33 30 0:29 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup rw";
        for (mounts, expected) in [
            (unified.to_owned(), Some("/sys/fs/cgroup")),
            (format!("{v1}\n{hybrid}"), Some("/sys/fs/cgroup/unified")),
            (format!("{part}\n{hybrid}"), Some("/sys/fs/cgroup/unified")),
            (v1.to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(tree(&mounts), expected.map(PathBuf::from), "{mounts}");
        }
    }

    #[test]
    fn a_group_is_its_directory() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("system.slice/web.service")).unwrap();
        std::fs::write(tree.path().join("cgroup.procs"), "").unwrap();
        let id = id_below(tree.path(), "/system.slice/web.service").unwrap();
        assert_eq!(id, std::fs::metadata(tree.path().join("system.slice/web.service")).unwrap().ino());
        assert_eq!(id_below(tree.path(), "/gone"), None);
        assert_eq!(id_below(tree.path(), "/cgroup.procs"), None, "a file is no group");
    }
}
