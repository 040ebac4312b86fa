//! Where the kernel's control groups are mounted, and where in them a process or a path is.
//!
//! Version 2 is one tree with a list of controllers; version 1 is a tree per controller; many hosts have both. The root
//! is an argument, so that a folder with the same files serves in tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::LimitError;

/// Where control groups are mounted, usually.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// Controllers that limits need.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "io", "blkio", "pids"];

/// The version of a tree of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// A tree per controller.
    V1,
    /// One tree.
    V2,
}

/// The trees of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Controller → the root of its tree.
    pub v1: BTreeMap<String, PathBuf>,
    /// The root of the one tree, and the controllers that it has.
    pub v2: Option<(PathBuf, Vec<String>)>,
}

/// A control group in one tree, for one controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which controller.
    pub controller: String,
    /// Of which version.
    pub version: Version,
    /// The group's folder.
    pub folder: PathBuf,
}

impl Hierarchies {
    /// Looks at what is mounted below a root.
    pub fn below(root: &Path) -> Self {
        if let Some(controllers) = controllers_of(root) {
            return Self { v1: BTreeMap::new(), v2: Some((root.to_owned(), controllers)) };
        }
        let mut found = Self::default();
        let entries = std::fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
        for path in entries.map(|entry| entry.path()) {
            if let Some(controllers) = controllers_of(&path) {
                found.v2 = Some((path, controllers));
                continue;
            }
            // Such as `memory`, or `cpu,cpuacct`.
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            for controller in name.split(',').filter(|name| CONTROLLERS.contains(name)) {
                if path.join("cgroup.procs").exists() {
                    found.v1.insert(controller.to_owned(), path.clone());
                }
            }
        }
        found
    }

    /// Controllers that limits need and that some tree has, with the version.
    pub fn available(&self) -> Vec<(&str, Version)> {
        let v2 = self.v2.iter().flat_map(|(_, controllers)| controllers).map(|name| (name.as_str(), Version::V2));
        let v1 = self.v1.keys().map(|name| (name.as_str(), Version::V1));
        v2.filter(|(name, _)| CONTROLLERS.contains(name)).chain(v1).collect()
    }

    /// The group of a path, in every tree that has it.
    pub fn places_of(&self, path: &str) -> Result<Vec<Place>, LimitError> {
        self.places(|_| Some(path.to_owned()), path)
    }

    /// The groups of a process, from its /proc/PID/cgroup (cgroups(7)).
    pub fn places_in(&self, text: &str) -> Result<Vec<Place>, LimitError> {
        let path_in = |wanted: Option<&str>| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            let line = lines.find(|(controllers, _)| match wanted {
                None => controllers.is_empty(),
                Some(wanted) => controllers.split(',').any(|name| name == wanted),
            });
            line.map(|(_, path)| path.to_owned())
        };
        self.places(path_in, "the process")
    }

    fn places(&self, path_in: impl Fn(Option<&str>) -> Option<String>, about: &str) -> Result<Vec<Place>, LimitError> {
        let mut places = Vec::new();
        let mut add = |controller: &str, version, root: &Path, path: Option<String>| {
            let path = path.map(|path| path.trim_matches('/').to_owned()).filter(|path| !path.is_empty());
            let folder = path.map(|path| root.join(path)).filter(|folder| folder.is_dir());
            places.extend(folder.map(|folder| Place { controller: controller.to_owned(), version, folder }));
        };
        for (controller, root) in &self.v1 {
            add(controller, Version::V1, root, path_in(Some(controller)));
        }
        if let Some((root, controllers)) = &self.v2 {
            for controller in controllers.iter().filter(|name| CONTROLLERS.contains(&name.as_str())) {
                add(controller, Version::V2, root, path_in(None));
            }
        }
        if places.is_empty() {
            return Err(LimitError::NoInstance {
                what: format!("{about} has no control group of its own with a controller that limits need"),
                advice: "give it one below the root, with cpu, memory, io and pids".to_owned(),
            });
        }
        Ok(places)
    }

    /// Looks in every tree for a group of one of these names, as runtimes name groups after containers.
    pub fn find(&self, names: &[String]) -> Option<String> {
        let roots = self.v1.values().chain(self.v2.iter().map(|(root, _)| root));
        roots.into_iter().find_map(|root| {
            let found = find_folder(root, names, FOLDER_DEPTH_MAX)?;
            Some(format!("/{}", found.strip_prefix(root).ok()?.display()))
        })
    }
}

/// How deep containers' groups lie at most: slices, a service, the container.
const FOLDER_DEPTH_MAX: usize = 6;

fn find_folder(folder: &Path, names: &[String], depth: usize) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let folders = || entries.iter().filter(|path| path.is_dir());
    let is_named =
        |path: &&PathBuf| path.file_name().is_some_and(|name| names.iter().any(|wanted| name == wanted.as_str()));
    let here = folders().find(is_named).cloned();
    here.or_else(|| folders().filter(|_| depth > 0).find_map(|inner| find_folder(inner, names, depth - 1)))
}

/// The controllers of a version 2 tree. None: it is no such tree.
fn controllers_of(root: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(root.join("cgroup.controllers")).ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

impl Place {
    /// The processes in it. None: it cannot be read.
    pub(super) fn processes(&self) -> Option<Vec<u32>> {
        let text = std::fs::read_to_string(self.folder.join("cgroup.procs")).ok()?;
        text.lines().map(|line| line.trim().parse().ok()).collect()
    }
}

/// The first process of an instance's control groups.
pub(crate) fn first_process(places: &[Place]) -> Option<u32> {
    places.iter().find_map(|place| place.processes()?.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn trees_of_both_versions_are_told_apart() {
        let pure = tree(&[("cgroup.controllers", "cpuset cpu io memory pids\n"), ("web/cgroup.procs", "")]);
        let found = Hierarchies::below(pure.path());
        assert_eq!(found.available().len(), 4);
        assert!(found.places_of("/web").unwrap().iter().all(|place| place.version == Version::V2));
        let mixed = tree(&[
            ("cpu,cpuacct/cgroup.procs", ""),
            ("cpu,cpuacct/web/cgroup.procs", ""),
            ("memory/cgroup.procs", ""),
            ("net_cls/cgroup.procs", ""),
            ("unified/cgroup.controllers", "io\n"),
            ("unified/web/cgroup.procs", ""),
        ]);
        let found = Hierarchies::below(mixed.path());
        let names: Vec<_> =
            found.places_of("/web").unwrap().into_iter().map(|it| (it.controller, it.version)).collect();
        assert_eq!(names, [("cpu".to_owned(), Version::V1), ("io".to_owned(), Version::V2)]);
        for path in ["/", "/absent"] {
            assert!(found.places_of(path).unwrap_err().to_string().contains("of its own"), "{path}");
        }
    }

    #[test]
    fn a_process_is_found_by_its_lines_and_a_container_by_its_name() {
        let root = tree(&[
            ("cpu/cgroup.procs", ""),
            ("cpu/a/b/docker-77.scope/cgroup.procs", ""),
            ("memory/cgroup.procs", ""),
            ("memory/m/cgroup.procs", ""),
            ("unified/cgroup.controllers", "pids\n"),
            ("unified/u/cgroup.procs", ""),
        ]);
        let found = Hierarchies::below(root.path());
        let places = found.places_in("4:memory:/m\n3:cpu,cpuacct:/a/b\n0::/u\n").unwrap();
        let shown: Vec<_> = places
            .iter()
            .map(|it| (it.controller.as_str(), it.folder.strip_prefix(root.path()).unwrap().to_str().unwrap()))
            .collect();
        assert_eq!(shown, [("cpu", "cpu/a/b"), ("memory", "memory/m"), ("pids", "unified/u")]);
        assert!(found.places_in("4:memory:/\n0::/\n").is_err(), "the root is nobody's own");
        let names = ["77".to_owned(), "docker-77.scope".to_owned()];
        assert_eq!(found.find(&names).as_deref(), Some("/a/b/docker-77.scope"));
        assert_eq!(found.find(&["78".to_owned()]), None);
    }
}
