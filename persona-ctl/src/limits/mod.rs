//! Limits of real instances: found, read, written in the safe order, read back, kept, and put back.
//!
//! ```text
//!   configuration ─ find ─► whereabouts ─► Instance (cgroup files, QMP)
//!   persona ─ translate ─► knobs ─ plan ─► transaction ─► record
//! ```
//! What a persona means and in which order differences are written is decided in `persona_core::limit`; this module
//! reads and writes. A process that dies at any moment leaves a record by which the next one puts things right; one that
//! stops leaves limits as they are.

mod backend;
mod bus;
mod cgroup;
mod config;
mod devices;
mod docker;
mod error;
mod find;
mod group_files;
mod hierarchies;
mod keeper;
mod measure;
mod peer;
mod probe;
mod progress;
mod qemu;
mod qmp;
mod qmp_answers;
mod record_file;
mod transaction;
mod unit;
mod watch;
mod whereabouts;
mod workload;

pub use backend::{Backend, Instance, MemoryState};
pub(crate) use bus::set_unit_properties_here as set_unit_properties;
pub use cgroup::CgroupFiles;
pub(crate) use cgroup::{boot_id, is_knob_file};
pub use config::{Drift, InstanceConfig, LimitsConfig, Source};
pub(crate) use devices::disks;
pub use docker::SOCKET as DOCKER_SOCKET;
pub(crate) use docker::{Container, inspect_here as inspect_container};
pub use error::LimitError;
pub(crate) use find::first_process_of;
pub use find::{Found, find};
pub(crate) use hierarchies::first_process;
pub use hierarchies::{Hierarchies, Place, Version};
pub use keeper::{Keeper, Restored, restore_everything};
pub(crate) use measure::stalled_us;
pub use measure::{Gauge, Measurements, measure};
pub use probe::probe;
pub use progress::Progress;
pub use qemu::QemuMonitor;
pub use record_file::{Kept, Records};
pub use transaction::{Applied, Journal, Patience, apply, recover};
pub use watch::Watch;
pub use whereabouts::Whereabouts;
pub use workload::{Common, Limited, Told, Wish};
