//! Writing a limit of a control group: below a mounted tree, one of the known files, no link on the way, and no group that
//! holds the writer itself.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat2};

use super::bounds::{Bounds, Refused};
use crate::limits::is_knob_file;

/// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP_MAGICS: [u64; 2] = [0x0027_e0eb, 0x6367_7270];

/// Longest value, bytes: a device and four rates.
const TEXT_LENGTH_MAX: usize = 256;

/// Writes a value into a group's file, which is there already.
pub(super) fn write(bounds: &Bounds, folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let mut file = match bounds {
        Bounds::Own => std::fs::OpenOptions::new().write(true).truncate(true).open(folder.join(name))?,
        Bounds::Configured(_) => {
            judge(name, text)?;
            open_below(&mounted_trees()?, folder, name)?
        }
    };
    file.write_all(text.as_bytes())
}

fn judge(name: &str, text: &str) -> Result<(), Refused> {
    if !is_knob_file(name) {
        return Err(Refused(format!("{name:?} is no limit of a control group")));
    }
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !is_plain || text.is_empty() || text.len() > TEXT_LENGTH_MAX {
        return Err(Refused(format!("the value for {name} is not one short line")));
    }
    Ok(())
}

fn open_below(trees: &[PathBuf], folder: &Path, name: &str) -> io::Result<File> {
    let (tree, group) = split(trees, folder)?;
    if holds_this_process(&group, &std::fs::read_to_string("/proc/self/cgroup")?) {
        return Err(Refused(format!("{} holds the helper itself", folder.display())).into());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, &tree, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(&root, group.join(name), flags, Mode::empty(), resolve)?;
    match CGROUP_MAGICS.contains(&(fstatfs(&file)?.f_type as u64)) {
        true => Ok(file.into()),
        false => Err(Refused(format!("{} is no control group", folder.display())).into()),
    }
}

/// The tree that a folder lies in, and its path below it, which is not empty and goes nowhere but down.
fn split(trees: &[PathBuf], folder: &Path) -> Result<(PathBuf, PathBuf), Refused> {
    let below = trees.iter().find_map(|tree| Some((tree.clone(), folder.strip_prefix(tree).ok()?.to_owned())));
    let is_plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    below
        .filter(|(_, group)| group.components().next().is_some() && is_plain(group))
        .ok_or_else(|| Refused(format!("{} lies below no tree of control groups", folder.display())))
}

/// Whether this process is in a group of this path or below it, in any tree.
fn holds_this_process(group: &Path, own: &str) -> bool {
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.into_iter().any(|path| Path::new(path.trim_start_matches('/')).starts_with(group))
}

/// Roots of all trees of control groups, as the kernel says where they are (proc_pid_mountinfo(5)); the innermost first.
fn mounted_trees() -> io::Result<Vec<PathBuf>> {
    let mut trees = trees_in(&std::fs::read_to_string("/proc/self/mountinfo")?);
    trees.sort_by_key(|tree| std::cmp::Reverse(tree.components().count()));
    Ok(trees)
}

fn trees_in(mounts: &str) -> Vec<PathBuf> {
    let tree = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, mount_point) = (fields.next()?, fields.next()?);
        let is_tree = kind.starts_with("cgroup2 ") || kind.starts_with("cgroup ");
        (is_tree && root == "/").then(|| PathBuf::from(mount_point))
    };
    mounts.lines().filter_map(tree).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lies_below_a_tree_and_goes_down_only() {
        let trees = [PathBuf::from("/sys/fs/cgroup/unified"), PathBuf::from("/sys/fs/cgroup/cpu")];
        let (tree, group) = split(&trees, Path::new("/sys/fs/cgroup/cpu/a/b")).unwrap();
        assert_eq!((tree, group), ("/sys/fs/cgroup/cpu".into(), "a/b".into()));
        for folder in ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu/../../x", "/etc", "cpu/a", "/sys/fs/cgroup/cpux/a"] {
            assert!(split(&trees, Path::new(folder)).is_err(), "{folder}");
        }
    }

    #[test]
    fn only_limits_and_short_lines_are_written() {
        assert!(judge("cpu.max", "50000 100000").is_ok() && judge("io.max", "8:0 rbps=5").is_ok());
        let long = "9".repeat(TEXT_LENGTH_MAX + 1);
        for (name, text) in [
            ("cgroup.procs", "1"),
            ("../cpu.max", "1"),
            ("cpu.max/x", "1"),
            ("", "1"),
            ("devices.allow", "a"),
            ("release_agent", "/bin/sh"),
            ("cpu.max", "1\n2"),
            ("cpu.max", ""),
            ("cpu.max", "\0"),
            ("cpu.max", &long),
        ] {
            assert!(judge(name, text).is_err(), "{name:?} {text:?}");
        }
    }

    #[test]
    fn what_is_no_control_group_is_not_opened_whatever_the_mounts_say() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("web")).unwrap();
        std::fs::write(folder.path().join("web/cpu.max"), "max").unwrap();
        std::os::unix::fs::symlink("web", folder.path().join("link")).unwrap();
        let trees = [folder.path().to_owned()];
        let error = open_below(&trees, &folder.path().join("web"), "cpu.max").unwrap_err();
        assert!(error.to_string().contains("no control group"), "{error}");
        assert!(open_below(&trees, &folder.path().join("link"), "cpu.max").is_err(), "a link leads anywhere");
        assert!(open_below(&trees, &folder.path().join("web"), "pids.max").is_err(), "nothing is made");
    }

    #[test]
    fn the_group_of_the_writer_and_those_around_it_are_left_alone() {
        let own = "4:memory:/a/b\n0::/system.slice/persona-helper.service\n";
        for (group, expected) in [
            ("system.slice", true),
            ("system.slice/persona-helper.service", true),
            ("a", true),
            ("system.slice/web.service", false),
            ("a/b/c", false),
        ] {
            assert_eq!(holds_this_process(Path::new(group), own), expected, "{group}");
        }
    }

    #[test]
    fn trees_are_found_among_the_mounts() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      33 30 0:29 /docker/1 /mnt rw - cgroup2 cgroup rw\n34 1 8:1 / / rw - ext4 /dev/vda rw";
        assert_eq!(trees_in(mounts), [PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/sys/fs/cgroup/cpu")]);
    }
}
