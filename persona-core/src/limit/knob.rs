//! One setting of a kernel or hypervisor, by name, and its value as text.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A setting: a file's name, or what a hypervisor calls it; where one file holds a row per device, with that row's key
/// (`io.max@254:0`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Knob(String);

/// Settings and their values, exactly as they are read.
pub type Knobs = BTreeMap<Knob, String>;

/// The names of the knobs that are known. Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the
/// kernel, and QEMU's QMP reference.
pub mod names {
    /// v2: quota and period, microseconds; `max` is no quota.
    pub const CPU_MAX: &str = "cpu.max";
    /// v2: 1 to 10,000.
    pub const CPU_WEIGHT: &str = "cpu.weight";
    /// v1: microseconds; -1 is no quota.
    pub const CFS_QUOTA: &str = "cpu.cfs_quota_us";
    /// v1: microseconds.
    pub const CFS_PERIOD: &str = "cpu.cfs_period_us";
    /// v1: 1,024 is what v2 calls 100.
    pub const CPU_SHARES: &str = "cpu.shares";
    /// v2: bytes, or `max`.
    pub const MEMORY_MAX: &str = "memory.max";
    /// v2: bytes, or `max`.
    pub const MEMORY_HIGH: &str = "memory.high";
    /// v1: bytes.
    pub const MEMORY_LIMIT: &str = "memory.limit_in_bytes";
    /// v1: bytes of memory and swap together, never less than the limit.
    pub const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";
    /// v1: 1 lets processes that need more wait instead of killing them.
    pub const OOM_CONTROL: &str = "memory.oom_control@oom_kill_disable";
    /// v2: the row of all devices, 1 to 10,000.
    pub const IO_WEIGHT: &str = "io.weight@default";
    /// v2 with BFQ: the row of all devices, 1 to 1,000.
    pub const IO_BFQ_WEIGHT: &str = "io.bfq.weight@default";
    /// v1 with BFQ: 1 to 1,000.
    pub const BLKIO_BFQ_WEIGHT: &str = "blkio.bfq.weight";
    /// v2: a row per device.
    pub const IO_MAX: &str = "io.max";
    /// v1: a row per device, bytes per second.
    pub const BLKIO_READ_BPS: &str = "blkio.throttle.read_bps_device";
    /// v1: a row per device, bytes per second.
    pub const BLKIO_WRITE_BPS: &str = "blkio.throttle.write_bps_device";
    /// v1: a row per device, operations per second.
    pub const BLKIO_READ_IOPS: &str = "blkio.throttle.read_iops_device";
    /// v1: a row per device, operations per second.
    pub const BLKIO_WRITE_IOPS: &str = "blkio.throttle.write_iops_device";
    /// Both: processes and threads, or `max`.
    pub const PIDS_MAX: &str = "pids.max";
    /// QEMU: bytes that the guest has.
    pub const BALLOON: &str = "balloon";
    /// QEMU: a row per block device.
    pub const THROTTLE: &str = "throttle";
}

impl Knob {
    /// The knob of this name, or of this row of it.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The knob of one row of a file.
    pub fn row_of(file: &str, row: &str) -> Self {
        Self(format!("{file}@{row}"))
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        self.0.split_once('@').map_or(&self.0, |(file, _)| file)
    }

    /// The key of its row, for a file that has rows.
    pub fn row(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, row)| row)
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part of the kernel that it belongs to: what stands before the first point.
    pub fn controller(&self) -> &str {
        self.0.split(['.', '@']).next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// A number out of a value; `max` and -1 are more than any other. None: it is no number.
pub fn amount(value: &str) -> Option<u64> {
    match value.trim() {
        "max" | "-1" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_controller_a_file_and_perhaps_a_row() {
        for (name, controller, file, row) in [
            ("cpu.max", "cpu", "cpu.max", None),
            ("io.max@254:0", "io", "io.max", Some("254:0")),
            ("throttle@disk0", "throttle", "throttle", Some("disk0")),
        ] {
            let knob = Knob::new(name);
            assert_eq!((knob.controller(), knob.file(), knob.row()), (controller, file, row));
            assert_eq!(row.map_or(knob.clone(), |row| Knob::row_of(file, row)), knob);
        }
    }

    #[test]
    fn no_limit_is_more_than_any_number() {
        assert!(amount("max") > amount("9223372036854771712") && amount("-1") == amount("max"));
        assert_eq!(amount("default 5"), None);
    }
}
