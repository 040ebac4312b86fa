//! Whose process it is: told by its network namespace, through the other end of a workload's device; in the host's own namespace by
//! its control group.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use persona_core::ids::{NodeName, SubjectId, WorkloadName};

use super::super::advice::is_below;
use super::super::config::AgentConfig;
use super::super::observe::Observed;
use crate::netlink::Netlink;
use crate::privilege;

/// Where the subjects of this node are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::agent) struct Places {
    /// Workloads with a device whose other end is in a namespace with this number.
    devices: Vec<(WorkloadName, i32)>,
    /// Control groups of the v2 tree, and whose they are.
    groups: Vec<(String, SubjectId)>,
    node: Option<NodeName>,
}

/// A process that is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Nobody {
    /// It ended, or /proc does not show it.
    #[error("process {0} cannot be looked at: it has ended, or is hidden")]
    Gone(u32),
    /// It is in no workload.
    #[error("process {0} belongs to no workload here: it is in the namespace of none and in the control group of none")]
    Unknown(u32),
    /// Several workloads share its namespace.
    #[error("process {pid} may be any of {names}: they share a network namespace or a device")]
    Several {
        /// Which process.
        pid: u32,
        /// Those that it may be.
        names: String,
    },
}

impl Places {
    /// Where they are, as a pass has seen it.
    pub(in crate::agent) fn of(config: &AgentConfig, observed: &Observed) -> Self {
        let node = config.name.clone();
        let workload = |name: &WorkloadName| SubjectId::Workload(node.clone(), name.clone());
        let device =
            |(name, index): (&WorkloadName, &u32)| Some((name.clone(), observed.link(*index)?.peer?.namespace_id?));
        let groups = config.file.workload.iter().filter_map(|it| Some((it.cgroup.clone()?, workload(it.name()))));
        let host = config.file.host.cgroup.iter().map(|group| (group.clone(), SubjectId::Node(node.clone())));
        Self {
            devices: observed.attached.iter().filter_map(device).collect(),
            groups: groups.chain(host).collect(),
            node: Some(node.clone()),
        }
    }

    /// Whose process it is. `processes` is where the kernel shows them.
    pub(super) async fn subject_of(&self, netlink: &Netlink, processes: &Path, pid: u32) -> Result<SubjectId, Nobody> {
        let folder = processes.join(pid.to_string());
        let namespace = privilege::open_namespace(&folder.join("ns/net")).map_err(|_| Nobody::Gone(pid))?;
        if is_own(&namespace, processes) {
            let text = std::fs::read_to_string(folder.join("cgroup")).map_err(|_| Nobody::Gone(pid))?;
            return self.by_group(&text).ok_or(Nobody::Unknown(pid));
        }
        let id = netlink.namespace_id(&namespace).await.ok().flatten().ok_or(Nobody::Unknown(pid))?;
        self.by_namespace(id, pid)
    }

    fn by_namespace(&self, id: i32, pid: u32) -> Result<SubjectId, Nobody> {
        let mut inside = self.devices.iter().filter(|(_, of)| *of == id).map(|(name, _)| name);
        match (inside.next(), inside.next(), &self.node) {
            (Some(name), None, Some(node)) => Ok(SubjectId::Workload(node.clone(), name.clone())),
            (Some(one), Some(two), _) => Err(Nobody::Several { pid, names: format!("{one} and {two}") }),
            _ => Err(Nobody::Unknown(pid)),
        }
    }

    /// The subject with the innermost group that the process is in (cgroups(7): the v2 group is the line of hierarchy 0).
    fn by_group(&self, text: &str) -> Option<SubjectId> {
        let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let around = self.groups.iter().filter(|(group, _)| is_below(group, own));
        around.max_by_key(|(group, _)| group.len()).map(|(_, subject)| subject.clone())
    }
}

/// Whether a namespace is that of this process.
fn is_own(namespace: &File, processes: &Path) -> bool {
    let number = |facts: std::io::Result<std::fs::Metadata>| facts.ok().map(|facts| (facts.dev(), facts.ino()));
    let own = number(std::fs::metadata(processes.join("self/ns/net")));
    own.is_some() && own == number(namespace.metadata())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let subject = |text: &str| text.parse().unwrap();
        Places {
            devices: vec![("web".parse().unwrap(), 4), ("db".parse().unwrap(), 5), ("log".parse().unwrap(), 5)],
            groups: vec![
                ("/system.slice".to_owned(), subject("node/n1")),
                ("/system.slice/app.service".to_owned(), subject("workload/n1/app")),
            ],
            node: Some("n1".parse().unwrap()),
        }
    }

    #[test]
    fn a_process_is_of_the_innermost_group_and_of_none_beside_it() {
        for (own, expected) in [
            ("0::/system.slice/app.service/worker", Some("workload/n1/app")),
            ("12:cpu:/x\n0::/system.slice/ssh.service", Some("node/n1")),
            ("0::/system.slice/app.services", Some("node/n1")),
            ("0::/user.slice", None),
            ("12:cpu:/system.slice", None),
            ("", None),
        ] {
            let found = places().by_group(own).map(|subject| subject.to_string());
            assert_eq!(found.as_deref(), expected, "{own}");
        }
    }

    #[test]
    fn a_namespace_is_of_the_workload_whose_device_leads_there() {
        assert_eq!(places().by_namespace(4, 7).unwrap().to_string(), "workload/n1/web");
        let several = places().by_namespace(5, 7).unwrap_err();
        assert!(several.to_string().contains("db and log"), "{several}");
        assert_eq!(places().by_namespace(6, 7), Err(Nobody::Unknown(7)));
        assert_eq!(Places::default().by_namespace(4, 7), Err(Nobody::Unknown(7)));
    }
}
