//! From a configuration to an instance's whereabouts: control groups by path, by container or by process, and a monitor.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use persona_core::limit::InstanceKind;
use serde_json::Value;

use super::bus;
use super::config::{InstanceConfig, LimitsConfig, Source};
use super::devices;
use super::docker;
use super::error::LimitError;
use super::hierarchies::{Hierarchies, Place, Version};
use super::qmp::Qmp;
use super::whereabouts::Whereabouts;
use crate::privilege;

/// Longest state file of a runtime that is read, bytes.
const STATE_BYTES_MAX: u64 = 4 << 20;

/// An instance that was found, and what is worth knowing about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub whereabouts: Whereabouts,
    /// Why something of it is left alone.
    pub note: Option<String>,
}

/// Finds a workload's instance. Blocks for as long as a runtime takes to answer.
pub fn find(instance: &InstanceConfig, config: &LimitsConfig) -> Result<Found, LimitError> {
    let trees = Hierarchies::below(&config.cgroup_root);
    let (kind, places, monitor, note) = match &instance.source {
        Source::Cgroup(path) => (InstanceKind::Processes, trees.places_of(path)?, None, None),
        Source::Container { socket, name } => {
            (InstanceKind::Processes, container_places(&trees, socket, name)?, None, None)
        }
        Source::Unit(name) => (InstanceKind::Processes, unit_places(&trees, name)?, None, None),
        Source::Oci(path) => (InstanceKind::Processes, oci_places(&trees, path)?, None, None),
        Source::Guest(path) => {
            let (places, note) = guest_places(&trees, path)?;
            (InstanceKind::Guest, places, Some(path.clone()), note)
        }
    };
    if kind == InstanceKind::Processes {
        refuse_our_own(&places)?;
    }
    let devices = match instance.io_devices.as_slice() {
        [] => devices::disks(&config.sys_block),
        given => given.iter().map(|device| devices::number_of(device)).collect::<Result<_, _>>()?,
    };
    let unit = if let Source::Unit(name) = &instance.source { Some(name.clone()) } else { None };
    Ok(Found { whereabouts: Whereabouts { kind, places, devices, monitor, unit }, note })
}

/// systemd sets limits in the v2 tree; of a v1 tree it knows some only, in other words.
fn unit_places(trees: &Hierarchies, name: &str) -> Result<Vec<Place>, LimitError> {
    let no_instance = |what: &str, advice: &str| LimitError::NoInstance {
        what: format!("unit {name} {what}"),
        advice: advice.to_owned(),
    };
    let path = match bus::control_group(name) {
        Ok(path) if path.is_empty() => {
            return Err(no_instance("does not run", "start it; it is taken up when it runs"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(no_instance("is not loaded", "start it, or correct unit"));
        }
        answered => answered.map_err(LimitError::NoSystemd)?,
    };
    let mut places = trees.places_of(&path)?;
    places.retain(|place| place.version == Version::V2);
    if places.is_empty() {
        return Err(no_instance("is in no control group of version 2", "use limit_cgroup in its place"));
    }
    Ok(places)
}

/// By the engine's process id where that means the same here, else by the name that the group must have.
fn container_places(trees: &Hierarchies, socket: &Path, name: &str) -> Result<Vec<Place>, LimitError> {
    let container = docker::inspect(socket, name)?;
    let no_group =
        |what: String| LimitError::NoInstance { what, advice: "start it; it is taken up when it runs".to_owned() };
    if !container.state.running {
        return Err(no_group(format!("container {name} does not run")));
    }
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", container.state.pid)).unwrap_or_default();
    if text.contains(&container.id) {
        return trees.places_in(&text);
    }
    match trees.find(&container.group_names()) {
        Some(path) => trees.places_of(&path),
        None => Err(no_group(format!("container {name} has no control group named after {}", container.id))),
    }
}

/// The first process that a runtime's state file names; InvalidData where it names none.
pub(crate) fn first_process_of(state: &Path) -> std::io::Result<u32> {
    let mut text = String::new();
    let file = std::fs::File::open(state)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, STATE_BYTES_MAX), &mut text)?;
    let state: Value = serde_json::from_str(&text).unwrap_or_default();
    let pid = ["init_process_pid", "pid"].iter().find_map(|key| state.get(key)?.as_u64());
    pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// runc writes the first process as `init_process_pid` into state.json, crun as `pid` into status.
fn oci_places(trees: &Hierarchies, path: &Path) -> Result<Vec<Place>, LimitError> {
    let advice = "oci_state is runc's state.json, such as /run/runc/NAME/state.json, or crun's /run/crun/NAME/status";
    let no_instance = |what: String| LimitError::NoInstance { what, advice: advice.to_owned() };
    let pid = privilege::first_process(path).map_err(|source| match source.kind() {
        ErrorKind::InvalidData => no_instance(format!("{} names no first process", path.display())),
        _ => LimitError::Read { path: path.to_owned(), source },
    })?;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    trees.places_in(&groups.map_err(|_| no_instance(format!("process {pid} of {} does not run", path.display())))?)
}

/// A guest's process may be limited only where the control group is its own.
fn guest_places(trees: &Hierarchies, path: &Path) -> Result<(Vec<Place>, Option<String>), LimitError> {
    let pid = Qmp::connect(path)?.process()?;
    let groups = super::cgroup::read(Path::new(&format!("/proc/{pid}/cgroup")))?;
    let places = trees.places_in(&groups).unwrap_or_default();
    let (own, shared): (Vec<Place>, Vec<Place>) = places.into_iter().partition(|place| is_alone(place, pid));
    let has_cpu = own.iter().any(|place| place.controller == "cpu");
    let note = (!has_cpu).then(|| {
        let folders: BTreeSet<String> = shared.iter().map(|place| place.folder.display().to_string()).collect();
        let where_ = folders.into_iter().collect::<Vec<_>>().join(", ");
        format!(
            "QEMU (process {pid}) has no control group of its own{}: its processor time is not limited; start it in one",
            if where_.is_empty() { String::new() } else { format!(", others are in {where_} too") }
        )
    });
    Ok((own, note))
}

fn is_alone(place: &Place, pid: u32) -> bool {
    let processes = place.processes().unwrap_or_default();
    !processes.is_empty() && processes.iter().all(|process| *process == pid)
}

/// A limit on a group with this process in it would hold the agent back that has to lift it again.
fn refuse_our_own(places: &[Place]) -> Result<(), LimitError> {
    let own = std::process::id();
    let holds_us = |place: &&Place| place.processes().is_some_and(|processes| processes.contains(&own));
    match places.iter().find(holds_us) {
        None => Ok(()),
        Some(place) => Err(LimitError::NoInstance {
            what: format!("{} holds this agent too", place.folder.display()),
            advice: "run the agent in another control group than its workloads".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(root: &Path) -> LimitsConfig {
        LimitsConfig { cgroup_root: root.join("cgroup"), sys_block: root.join("block"), ..LimitsConfig::default() }
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn instance(source: Source) -> InstanceConfig {
        InstanceConfig { source, io_devices: vec!["8:0".to_owned()] }
    }

    #[test]
    fn a_path_is_found_and_the_agents_own_group_is_refused() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "cgroup/cgroup.controllers", "cpu memory");
        put(root.path(), "cgroup/web/cgroup.procs", "1\n");
        put(root.path(), "cgroup/own/cgroup.procs", &format!("{}\n", std::process::id()));
        let found = find(&instance(Source::Cgroup("/web".into())), &config(root.path())).unwrap();
        assert_eq!((found.whereabouts.places.len(), found.whereabouts.devices), (2, vec!["8:0".to_owned()]));
        let error = find(&instance(Source::Cgroup("/own".into())), &config(root.path())).unwrap_err();
        assert!(error.to_string().contains("this agent too"), "{error}");
    }

    #[test]
    fn a_state_of_a_runtime_leads_to_its_first_process() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "cgroup/cgroup.controllers", "cpu");
        for (state, reason) in [
            (r#"{"init_process_pid": 4194305}"#, "does not run"),
            (r#"{"pid": 4194305, "cgroup-path": "/x"}"#, "does not run"),
            ("{}", "names no first process"),
            ("nonsense", "names no first process"),
        ] {
            put(root.path(), "state.json", state);
            let error = find(&instance(Source::Oci(root.path().join("state.json"))), &config(root.path())).unwrap_err();
            assert!(error.to_string().contains(reason), "{state}: {error}");
        }
    }
}
