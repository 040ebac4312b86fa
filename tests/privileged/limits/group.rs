//! A control group of a test's own, in every tree that limits need. Whatever is in it is killed and it is removed when it
//! is dropped; nothing above it is touched but the list of controllers that the v2 root hands down, which is put back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use persona_core::limit::InstanceKind;
use persona_ctl::limits::{
    CgroupFiles, Common, Hierarchies, InstanceConfig, Limited, LimitsConfig, Place, Records, Source, Version,
};
use persona_tests::sys::{self, Signal};

/// Groups made by this process.
static GROUP_COUNT: AtomicU32 = AtomicU32::new(0);

/// A group, with a folder for records.
pub(super) struct Group {
    /// Its path in every tree.
    pub path: String,
    /// Where it is.
    pub places: Vec<Place>,
    /// The disks that rates are held on.
    pub devices: Vec<String>,
    /// Where records go.
    pub state: tempfile::TempDir,
    handed_down: Vec<String>,
}

impl Group {
    /// Makes one. None: this host has no controllers, or this is not root; a word says so.
    pub(super) fn new() -> Option<Self> {
        let config = LimitsConfig::default();
        let trees = Hierarchies::below(&config.cgroup_root);
        let path = format!("/persona-limits-{}-{}", std::process::id(), GROUP_COUNT.fetch_add(1, Ordering::Relaxed));
        let handed_down = hand_down(&trees);
        let roots = trees.v1.values().chain(trees.v2.iter().filter(|_| trees.v1.is_empty()).map(|(root, _)| root));
        let made: Vec<_> = roots.map(|root| std::fs::create_dir(root.join(path.trim_start_matches('/')))).collect();
        let is_made = !made.is_empty() && made.iter().all(|made| made.is_ok());
        let places = trees.places_of(&path).unwrap_or_default();
        if !is_made || !places.iter().any(|place| place.controller == "memory") {
            assert!(std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_none(), "control groups are required: {made:?}");
            eprintln!("SKIP: needs root and control groups with a memory controller");
            return None;
        }
        let devices = disks(&config.sys_block);
        Some(Self { path, places, devices, state: tempfile::tempdir().unwrap(), handed_down })
    }

    /// The limits of whatever is in it, as an agent keeps them.
    pub(super) fn limited(&self, config: LimitsConfig) -> Limited {
        let records = Records::in_directory(self.state.path());
        let instance = InstanceConfig { source: Source::Cgroup(self.path.clone()), io_devices: self.devices.clone() };
        Limited::new("w".parse().unwrap(), Some(instance), Arc::new(Common::new(config, records)))
    }

    /// Its files as a back end.
    pub(super) fn files(&self) -> CgroupFiles {
        CgroupFiles::open(self.places.clone(), self.devices.clone(), InstanceKind::Processes)
    }

    /// Takes a process in.
    pub(super) fn take(&self, pid: u32) {
        for place in &self.places {
            std::fs::write(place.folder.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }

    /// The folder of a controller's group.
    pub(super) fn folder(&self, controller: &str) -> &Path {
        let place = self.places.iter().find(|place| place.controller == controller);
        &place.expect("the kernel has the controller").folder
    }

    /// Every byte of every file that limits are written to.
    pub(super) fn bytes(&self) -> BTreeMap<PathBuf, String> {
        let is_limit = |name: &str| {
            [
                "cpu.max",
                "cpu.weight",
                "cpu.cfs_",
                "cpu.shares",
                "memory.max",
                "memory.high",
                "memory.limit",
                "memory.memsw.limit",
            ]
            .iter()
            .any(|known| name.starts_with(known))
                || name.starts_with("io.max")
                || name.contains("weight")
                || name.contains("throttle.") && name.ends_with("_device")
                || name == "pids.max"
                || name == "memory.oom_control"
        };
        let folders = self.places.iter().flat_map(|place| std::fs::read_dir(&place.folder).unwrap());
        let files = folders.map(|entry| entry.unwrap().path());
        // Counts are no limits.
        let is_count = |name: &str| name.contains("usage") || name.contains("failcnt");
        let names = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let files = files.filter(|path| is_limit(&names(path)) && !is_count(&names(path)));
        // Beside its limit a file may say how things stand: who was let go on a moment ago may not have run yet.
        let limit_of = |text: String| match text.lines().find(|line| line.starts_with("oom_kill_disable ")) {
            Some(line) => line.to_owned(),
            None => text,
        };
        files.map(|path| (path.clone(), limit_of(std::fs::read_to_string(&path).unwrap_or_default()))).collect()
    }

    /// Processes that the kernel killed in it for want of memory.
    pub(super) fn oom_kill_count(&self) -> u64 {
        persona_ctl::limits::measure(&self.places).unwrap().oom_kill_count.unwrap()
    }

    /// Of which version its memory controller is.
    pub(super) fn version(&self) -> Version {
        self.places.iter().find(|place| place.controller == "memory").unwrap().version
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let folders: std::collections::BTreeSet<&PathBuf> = self.places.iter().map(|place| &place.folder).collect();
        for folder in folders {
            for _try in 0..100 {
                let inside = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                // One that is gone already is what is wanted.
                inside.lines().filter_map(|pid| pid.parse().ok()).for_each(|pid| drop(sys::kill(pid, Signal::Kill)));
                if std::fs::remove_dir(folder).is_ok() || !folder.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(std::thread::panicking() || !folder.exists(), "{} is left", folder.display());
        }
        for controller in &self.handed_down {
            drop(std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("-{controller}")));
        }
    }
}

/// In a tree of version 2 a group has only the controllers that the one above hands down. Returns those that it did not
/// before.
fn hand_down(trees: &Hierarchies) -> Vec<String> {
    let Some((root, available)) = trees.v2.as_ref().filter(|_| trees.v1.is_empty()) else { return Vec::new() };
    let control = root.join("cgroup.subtree_control");
    let before = std::fs::read_to_string(&control).unwrap_or_default();
    let wanted = available.iter().filter(|name| ["cpu", "memory", "io", "pids"].contains(&name.as_str()));
    let missing = wanted.filter(|name| !before.split_whitespace().any(|known| known == *name));
    missing.filter(|name| std::fs::write(&control, format!("+{name}")).is_ok()).cloned().collect()
}

fn disks(sys_block: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(sys_block).into_iter().flatten().filter_map(Result::ok);
    let disks = entries
        .filter(|entry| ["vd", "sd", "nvme"].iter().any(|kind| entry.file_name().to_string_lossy().starts_with(kind)));
    disks.map(|entry| std::fs::read_to_string(entry.path().join("dev")).unwrap().trim().to_owned()).collect()
}
