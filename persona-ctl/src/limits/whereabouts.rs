//! Where an instance is, in words that need no configuration and no runtime to be understood again.

use std::path::PathBuf;

use persona_core::limit::InstanceKind;
use serde::{Deserialize, Serialize};

use super::backend::{Backend, Instance};
use super::cgroup::CgroupFiles;
use super::hierarchies::Place;
use super::qemu::QemuMonitor;
use super::transaction::Patience;
use super::unit::SystemdUnit;

/// Where an instance is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// What it is.
    pub kind: InstanceKind,
    /// Its control groups.
    pub places: Vec<Place>,
    /// The block devices on which rates are held, as `MAJOR:MINOR`.
    pub devices: Vec<String>,
    /// The socket of its monitor (QMP).
    pub monitor: Option<PathBuf>,
    /// The systemd unit that the control groups are of, and through which they are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl Whereabouts {
    /// Opens every back end that limits it.
    pub fn open(&self, patience: Patience) -> Instance {
        let mut backends: Vec<Box<dyn Backend>> = Vec::new();
        if let Some(unit) = &self.unit {
            backends.push(Box::new(SystemdUnit::open(unit.clone(), self.places.clone(), self.devices.clone())));
        } else if !self.places.is_empty() {
            backends.push(Box::new(CgroupFiles::open(self.places.clone(), self.devices.clone(), self.kind)));
        }
        if let Some(path) = &self.monitor {
            backends.push(Box::new(QemuMonitor::new(path.clone(), patience.shrink)));
        }
        Instance::new(self.kind, backends)
    }
}
