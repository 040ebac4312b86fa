//! The `[limits]` section of an agent's file, and the keys of a workload that say which instance it is.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hierarchies;
use super::transaction::Patience;

/// How limits are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// What is done when somebody else changes a limit.
    pub drift: Drift,
    /// How long memory may take to shrink before it is given up, seconds.
    pub shrink_secs: u64,
    /// Where control groups are mounted.
    pub cgroup_root: PathBuf,
    /// Where the host's block devices are listed.
    pub sys_block: PathBuf,
}

/// What is done when somebody else changes a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// It is put back within a second, and told.
    #[default]
    Repair,
    /// It is told and left, until the persona changes.
    Report,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            drift: Drift::default(),
            shrink_secs: Patience::default().shrink.as_secs(),
            cgroup_root: hierarchies::ROOT.into(),
            sys_block: "/sys/block".into(),
        }
    }
}

impl LimitsConfig {
    /// How long memory may take.
    pub fn patience(&self) -> Patience {
        Patience { shrink: Duration::from_secs(self.shrink_secs), ..Patience::default() }
    }
}

/// Which instance a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Processes in a control group; a path from the root of the trees.
    Cgroup(String),
    /// A container of a Docker Engine, by name or id.
    Container {
        /// The engine's socket.
        socket: PathBuf,
        /// Its name.
        name: String,
    },
    /// A container of runc or crun, by the file in which the runtime keeps its state.
    Oci(PathBuf),
    /// A unit of this host's systemd, by its name.
    Unit(String),
    /// A guest, by the socket of its monitor (QMP).
    Guest(PathBuf),
}

/// A workload's instance, with the devices on which its rates are held; none means every disk of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceConfig {
    /// Which instance.
    pub source: Source,
    /// Whole disks, as files or `MAJOR:MINOR`.
    pub io_devices: Vec<String>,
}
