//! A persona's resources in whole numbers.

use serde::{Deserialize, Serialize};

use crate::document::Resources;

/// What an instance may use. An absent field is no business of the persona's: what was there before stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Processor time per second of all processors together, microseconds: 2,000,000 is two whole processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_sec: Option<u64>,
    /// Share of processor time against others, 1 to 10,000; 100 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Memory, at most, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    /// Memory above which processes are slowed, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high_bytes: Option<u64>,
    /// Share of disk time against others, 1 to 10,000; 100 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
    /// Bytes read per second and device, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_sec: Option<u64>,
    /// Bytes written per second and device, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes_per_sec: Option<u64>,
    /// Reads per second and device, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_per_sec: Option<u64>,
    /// Writes per second and device, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes_per_sec: Option<u64>,
    /// Processes and threads, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
}

impl From<&Resources> for Limits {
    fn from(resources: &Resources) -> Self {
        let cpu = resources.cpu.clone().unwrap_or_default();
        let memory = resources.memory.clone().unwrap_or_default();
        let io = resources.io.clone().unwrap_or_default();
        Self {
            // A checked document has at most six digits after the point.
            cpu_us_per_sec: cpu.limit.map(|processors| (processors * 1e6).round() as u64),
            cpu_weight: cpu.weight,
            memory_max_bytes: memory.max.map(|bytes| bytes.0),
            memory_high_bytes: memory.high.map(|bytes| bytes.0),
            io_weight: io.weight,
            read_bytes_per_sec: io.read_bps.map(|bytes| bytes.0),
            write_bytes_per_sec: io.write_bps.map(|bytes| bytes.0),
            reads_per_sec: io.read_iops.map(u64::from),
            writes_per_sec: io.write_iops.map(u64::from),
            pids_max: resources.pids.map(u64::from),
        }
    }
}

impl Limits {
    /// Every field that is set, by its path below `resources` in the document, with its number.
    pub fn fields(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("cpu.limit", self.cpu_us_per_sec),
            ("cpu.weight", self.cpu_weight.map(u64::from)),
            ("memory.max", self.memory_max_bytes),
            ("memory.high", self.memory_high_bytes),
            ("io.weight", self.io_weight.map(u64::from)),
            ("io.readBps", self.read_bytes_per_sec),
            ("io.writeBps", self.write_bytes_per_sec),
            ("io.readIops", self.reads_per_sec),
            ("io.writeIops", self.writes_per_sec),
            ("pids", self.pids_max),
        ];
        all.into_iter().filter_map(|(path, number)| Some((path, number?))).collect()
    }

    /// Whether it asks for anything about disks' rates.
    pub fn has_rates(&self) -> bool {
        self.rates().iter().any(Option::is_some)
    }

    /// Bytes read, bytes written, reads, writes; per second.
    pub(super) fn rates(&self) -> [Option<u64>; 4] {
        [self.read_bytes_per_sec, self.write_bytes_per_sec, self.reads_per_sec, self.writes_per_sec]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_whole_numbers() {
        let text = r#"{ "cpu": { "limit": 0.1, "weight": 200 }, "memory": { "max": "2GiB" }, "io": { "readBps": "1MiB" }, "pids": 512 }"#;
        let resources: Resources = serde_json::from_str(text).unwrap();
        let limits = Limits::from(&resources);
        let fields = [
            ("cpu.limit", 100_000),
            ("cpu.weight", 200),
            ("memory.max", 2 << 30),
            ("io.readBps", 1 << 20),
            ("pids", 512),
        ];
        assert_eq!(limits.fields(), fields);
        assert!(limits.has_rates());
        assert_eq!(serde_json::to_value(Limits::default()).unwrap(), serde_json::json!({}));
    }
}
