//! Control groups of either version as a back end: files that are read, written and read back.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use persona_core::limit::{InstanceKind, Knob, Knobs, names};

use super::backend::{Backend, MemoryState};
use super::error::LimitError;
use super::group_files::{text_of, with_text_of};
use super::hierarchies::{Place, Version};
use super::progress::Progress;
use crate::privilege;

/// Files without rows, and those whose first words are one row.
const PLAIN: [&str; 14] = [
    names::CPU_MAX,
    names::CPU_WEIGHT,
    names::CFS_QUOTA,
    names::CFS_PERIOD,
    names::CPU_SHARES,
    names::MEMORY_MAX,
    names::MEMORY_HIGH,
    names::MEMORY_LIMIT,
    names::MEMORY_AND_SWAP,
    names::OOM_CONTROL,
    names::IO_WEIGHT,
    names::IO_BFQ_WEIGHT,
    names::BLKIO_BFQ_WEIGHT,
    names::PIDS_MAX,
];

/// Files with a row per device, and what a device without a row has.
const PER_DEVICE: [(&str, &str); 5] = [
    (names::IO_MAX, "rbps=max wbps=max riops=max wiops=max"),
    (names::BLKIO_READ_BPS, "0"),
    (names::BLKIO_WRITE_BPS, "0"),
    (names::BLKIO_READ_IOPS, "0"),
    (names::BLKIO_WRITE_IOPS, "0"),
];

/// Whether a file of this name holds a limit.
pub(crate) fn is_knob_file(name: &str) -> bool {
    let plain = PLAIN.iter().map(|knob| Knob::new(knob));
    plain.into_iter().any(|knob| knob.file() == name) || PER_DEVICE.iter().any(|(file, _)| *file == name)
}

/// An instance's control groups.
#[derive(Debug, Clone)]
pub struct CgroupFiles {
    places: Vec<Place>,
    devices: Vec<String>,
    kind: InstanceKind,
    /// Those of all knobs that are there; looked for once, since a group's files do not come and go.
    knobs: Vec<(Knob, PathBuf)>,
}

impl CgroupFiles {
    /// The groups at these places; rates are held on these block devices (`MAJOR:MINOR`).
    pub fn open(places: Vec<Place>, devices: Vec<String>, kind: InstanceKind) -> Self {
        let mut files = Self { places, devices, kind, knobs: Vec::new() };
        let plain = PLAIN.iter().map(|name| Knob::new(name));
        let rows = PER_DEVICE.iter().flat_map(|(file, _)| files.devices.iter().map(|row| Knob::row_of(file, row)));
        let known = plain.chain(rows).filter(|knob| files.is_for(knob));
        let there =
            known.filter_map(|knob| files.path_of(&knob).filter(|path| path.is_file()).map(|path| (knob, path)));
        files.knobs = there.collect();
        files
    }

    /// The folder of a controller's group.
    pub fn folder(&self, controller: &str) -> Option<(&Path, Version)> {
        let place = self.places.iter().find(|place| place.controller == controller)?;
        Some((&place.folder, place.version))
    }

    /// Only processor time and weights of a guest's process are limited from outside.
    fn is_for(&self, knob: &Knob) -> bool {
        self.kind == InstanceKind::Processes
            || knob.controller() == "cpu"
            || [names::IO_WEIGHT, names::IO_BFQ_WEIGHT, names::BLKIO_BFQ_WEIGHT].contains(&knob.as_str())
    }

    fn path_of(&self, knob: &Knob) -> Option<PathBuf> {
        let (folder, version) = self.folder(knob.controller())?;
        let is_other_version =
            (knob.as_str() == names::CPU_MAX || knob.as_str() == names::CPU_WEIGHT) && version == Version::V1;
        (!is_other_version).then(|| folder.join(knob.file()))
    }

    fn known_path(&self, knob: &Knob) -> Option<&Path> {
        self.knobs.iter().find(|(known, _)| known == knob).map(|(_, path)| path.as_path())
    }

    fn count_in(&self, folder: &Path, file: &str, key: &str) -> Result<u64, LimitError> {
        let path = folder.join(file);
        let text = read(&path)?;
        Ok(value_of(&text, Some(key)).and_then(|value| value.parse().ok()).unwrap_or(0))
    }
}

impl Backend for CgroupFiles {
    fn name(&self) -> &'static str {
        let versions: Vec<Version> = self.places.iter().map(|place| place.version).collect();
        match (versions.contains(&Version::V1), versions.contains(&Version::V2)) {
            (true, true) => "cgroup v1 and v2",
            (true, false) => "cgroup v1",
            _ => "cgroup v2",
        }
    }

    /// A group that is made anew has another inode, and a boot starts all counts again.
    fn identity(&mut self) -> Result<String, LimitError> {
        let mut identity = boot_id();
        for place in &self.places {
            let inode = match std::fs::metadata(&place.folder) {
                Ok(found) => found.ino(),
                Err(source) if is_mounted(&place.folder) => {
                    return Err(LimitError::Read { path: place.folder.clone(), source });
                }
                Err(_) => {
                    return Err(LimitError::NoInstance {
                        what: format!("no control groups are mounted where {} was", place.folder.display()),
                        advice: "run this where the host's control groups are seen".to_owned(),
                    });
                }
            };
            identity += &part_of_identity(place, inode);
        }
        Ok(identity)
    }

    fn observe(&mut self) -> Result<Knobs, LimitError> {
        let mut knobs = Knobs::new();
        self.show(&mut |knob, value| drop(knobs.insert(knob.clone(), value.to_owned())))?;
        Ok(knobs)
    }

    fn show(&mut self, see: &mut dyn FnMut(&Knob, &str)) -> Result<(), LimitError> {
        // Rows of one file follow one another.
        for same_file in self.knobs.chunk_by(|(_, one), (_, next)| one == next) {
            let path = &same_file[0].1;
            let show = |text: &str| {
                let shown = same_file.iter().filter_map(|(knob, _)| Some((knob, value_in(knob, text)?)));
                shown.for_each(|(knob, value)| see(knob, value));
            };
            let shown = File::open(path).and_then(|file| with_text_of(&file, show));
            shown.map_err(|source| LimitError::Read { path: path.to_owned(), source })?;
        }
        Ok(())
    }

    fn read(&mut self, knob: &Knob) -> Result<Option<String>, LimitError> {
        let Some(path) = self.known_path(knob) else { return Ok(None) };
        Ok(value_in(knob, &read(path)?).map(str::to_owned))
    }

    fn write(&mut self, knob: &Knob, value: &str) -> Result<bool, LimitError> {
        let Some(path) = self.known_path(knob) else { return Ok(false) };
        let text = match knob.row() {
            Some(row) if row.contains(':') => format!("{row} {value}"),
            _ => value.to_owned(),
        };
        let refused = |source: std::io::Error| match source.kind() {
            ErrorKind::ResourceBusy => LimitError::Busy { path: path.to_owned(), value: value.to_owned() },
            _ => LimitError::Write { path: path.to_owned(), value: value.to_owned(), source },
        };
        let (Some(folder), Some(file)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Ok(false);
        };
        // Not created: a group that has just gone must not leave a file behind in a folder of somebody's.
        privilege::write_knob(folder, file, &text).map_err(refused)?;
        Ok(true)
    }

    fn memory(&mut self) -> Result<Option<MemoryState>, LimitError> {
        let Some((folder, version)) = self.folder("memory").filter(|_| self.kind == InstanceKind::Processes) else {
            return Ok(None);
        };
        let bytes = |file: &str| Ok(read(&folder.join(file))?.trim().parse().unwrap_or(u64::MAX));
        // Kernels before 5.19 do not keep it on v2.
        let peak_bytes = |file: &str| bytes(file).unwrap_or(u64::MAX);
        Ok(Some(match version {
            Version::V2 => MemoryState {
                used_bytes: bytes("memory.current")?,
                peak_bytes: peak_bytes("memory.peak"),
                has_waiting: false,
            },
            Version::V1 => MemoryState {
                used_bytes: bytes("memory.usage_in_bytes")?,
                peak_bytes: peak_bytes("memory.max_usage_in_bytes"),
                has_waiting: self.count_in(folder, "memory.oom_control", "under_oom")? != 0,
            },
        }))
    }

    fn progress(&mut self) -> Option<Progress> {
        let is_memory = |place: &&Place| place.controller == "memory" && self.kind == InstanceKind::Processes;
        let place = self.places.iter().find(is_memory)?;
        let faults = match place.version {
            Version::V1 => "total_pgfault",
            Version::V2 => "pgfault",
        };
        let fault_count = self.count_in(&place.folder, "memory.stat", faults).unwrap_or(0);
        Some(Progress { fault_count, ..Progress::of(Path::new("/proc"), &place.processes()?) })
    }
}

fn part_of_identity(place: &Place, inode: u64) -> String {
    format!(" {}:{}={inode}", place.controller, place.folder.display())
}

/// This boot, so that numbers of the last one mean nothing.
pub(crate) fn boot_id() -> String {
    static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    });
    BOOT_ID.clone()
}

/// Whether the tree is there that a missing group was in: else its absence says nothing about the group.
fn is_mounted(folder: &Path) -> bool {
    let marks = ["cgroup.procs", "cgroup.controllers"];
    folder.ancestors().skip(1).any(|above| marks.iter().any(|mark| above.join(mark).exists()))
}

pub(super) fn read(path: &Path) -> Result<String, LimitError> {
    let text = File::open(path).and_then(|file| text_of(&file));
    text.map_err(|source| LimitError::Read { path: path.to_owned(), source })
}

/// A knob's value in its file's text. A device without a row has what stands for no limit.
fn value_in<'a>(knob: &Knob, text: &'a str) -> Option<&'a str> {
    let none = || PER_DEVICE.iter().find(|(file, _)| *file == knob.file()).map(|(_, none)| *none);
    value_of(text, knob.row()).or_else(none)
}

/// The text of a row, or all of it.
pub(super) fn value_of<'a>(text: &'a str, row: Option<&str>) -> Option<&'a str> {
    match row {
        None => Some(text.trim()),
        Some(row) => text.lines().find_map(|line| line.trim().strip_prefix(row)?.strip_prefix(' ')).map(str::trim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<Place>) {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        let controllers = ["cpu", "memory", "io", "blkio", "pids"];
        let place = |name: &&str| Place { controller: (*name).to_owned(), version, folder: folder.path().to_owned() };
        let places = controllers.iter().map(place).collect();
        (folder, places)
    }

    #[test]
    fn rows_are_read_and_written_by_their_key() {
        let files = [("io.max", "8:0 rbps=max wbps=7 riops=max wiops=max\n"), ("io.weight", "default 100\n8:0 300\n")];
        let (folder, places) = group(Version::V2, &files);
        let devices = vec!["8:0".to_owned(), "8:16".to_owned()];
        let mut files = CgroupFiles::open(places, devices, InstanceKind::Processes);
        let knobs = files.observe().unwrap();
        assert_eq!(knobs[&Knob::row_of("io.max", "8:0")], "rbps=max wbps=7 riops=max wiops=max");
        assert_eq!(knobs[&Knob::row_of("io.max", "8:16")], "rbps=max wbps=max riops=max wiops=max");
        assert_eq!(knobs[&Knob::new(names::IO_WEIGHT)], "100");
        assert!(files.write(&Knob::row_of("io.max", "8:16"), "rbps=5").unwrap());
        assert_eq!(std::fs::read_to_string(folder.path().join("io.max")).unwrap(), "8:16 rbps=5");
        assert!(files.write(&Knob::new(names::IO_WEIGHT), "200").unwrap());
        assert_eq!(std::fs::read_to_string(folder.path().join("io.weight")).unwrap(), "200");
        assert!(!files.write(&Knob::new("pids.max"), "5").unwrap(), "no such file, and none is made");
        assert!(!folder.path().join("pids.max").exists());
    }

    #[test]
    fn a_guest_is_limited_in_processor_time_and_weights_alone() {
        let files = [
            ("cpu.max", "max 100000\n"),
            ("memory.max", "max\n"),
            ("io.weight", "default 100\n"),
            ("pids.max", "max\n"),
        ];
        let (_folder, places) = group(Version::V2, &files);
        let mut files = CgroupFiles::open(places, Vec::new(), InstanceKind::Guest);
        let knobs = files.observe().unwrap();
        assert_eq!(knobs.keys().map(Knob::as_str).collect::<Vec<_>>(), ["cpu.max", "io.weight@default"]);
        assert_eq!(files.memory().unwrap(), None);
    }

    #[test]
    fn memory_is_told_in_the_words_of_each_version() {
        let (_folder, places) = group(
            Version::V2,
            &[("memory.current", "4096\n"), ("memory.peak", "8192\n"), ("memory.stat", "pgfault 7\n")],
        );
        let mut files = CgroupFiles::open(places, Vec::new(), InstanceKind::Processes);
        let state = files.memory().unwrap().unwrap();
        assert_eq!((state.used_bytes, state.peak_bytes), (4_096, 8_192));
        let oom = ("memory.oom_control", "oom_kill_disable 1\nunder_oom 1\noom_kill 0\n");
        let used = [("memory.usage_in_bytes", "8192\n"), ("memory.max_usage_in_bytes", "12288\n")];
        let (_folder, places) = group(Version::V1, &[used[0], used[1], oom]);
        let mut files = CgroupFiles::open(places, Vec::new(), InstanceKind::Processes);
        let state = files.memory().unwrap().unwrap();
        assert_eq!(state, MemoryState { used_bytes: 8_192, peak_bytes: 12_288, has_waiting: true });
        assert_eq!(files.read(&Knob::new(names::OOM_CONTROL)).unwrap().as_deref(), Some("1"));
    }

    #[test]
    fn a_group_that_is_made_anew_is_another() {
        let (folder, places) = group(Version::V2, &[]);
        let mut files = CgroupFiles::open(places, Vec::new(), InstanceKind::Processes);
        let first = files.identity().unwrap();
        assert_eq!(files.identity().unwrap(), first);
        let other = folder.path().with_extension("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::rename(&other, folder.path()).unwrap();
        assert_ne!(files.identity().unwrap(), first);
        std::fs::remove_dir(folder.path()).unwrap();
        assert!(files.identity().is_err());
    }
}
