//! What limits mean to the knobs that an instance has: cgroup v2, cgroup v1 or QEMU, told by which knobs are there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::knob::{Knob, Knobs, amount, names};
use super::limits::Limits;
use super::throttle::Throttle;

/// Shortest quota that the kernel takes, microseconds (kernel/sched/core.c, min_cfs_quota_period).
const QUOTA_US_MIN: u64 = 1_000;

/// Longest period that the kernel takes, microseconds.
const PERIOD_US_MAX: u64 = 1_000_000;

/// Largest weight that BFQ knows.
const BFQ_WEIGHT_MAX: u32 = 1_000;

/// What an instance is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstanceKind {
    /// Processes in a control group.
    #[default]
    Processes,
    /// A guest of QEMU: a limit on the memory of its process would kill it, so memory goes by the balloon.
    Guest,
}

/// What is known of an instance, beside its limits.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// What it is.
    pub kind: InstanceKind,
    /// Every knob that it has, with the value before the first persona.
    pub base: &'a Knobs,
    /// Bytes of a page: memory is held in whole ones.
    pub page_bytes: u64,
}

/// What limits want of an instance's knobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Values that knobs shall have.
    pub knobs: Knobs,
    /// Field of the document → why it is not in force, or not as written.
    pub unsupported: BTreeMap<String, String>,
}

/// Puts limits into the words of the knobs that are there.
pub fn translate(limits: &Limits, around: &Surroundings<'_>) -> Wanted {
    let mut translation = Translation { around, wanted: Wanted::default() };
    if let Some(us_per_sec) = limits.cpu_us_per_sec {
        translation.cpu_limit(us_per_sec);
    }
    if let Some(weight) = limits.cpu_weight {
        translation.cpu_weight(weight);
    }
    if let Some(bytes) = limits.memory_max_bytes {
        translation.memory_max(bytes);
    }
    if let Some(bytes) = limits.memory_high_bytes {
        translation.memory_high(bytes);
    }
    if let Some(weight) = limits.io_weight {
        translation.io_weight(weight);
    }
    if limits.has_rates() {
        translation.rates(limits);
    }
    if let Some(count) = limits.pids_max {
        translation.pids(count);
    }
    translation.wanted
}

struct Translation<'a> {
    around: &'a Surroundings<'a>,
    wanted: Wanted,
}

impl Translation<'_> {
    fn before(&self, name: &str) -> Option<&str> {
        self.around.base.get(&Knob::new(name)).map(String::as_str)
    }

    fn want(&mut self, name: &str, value: impl ToString) {
        self.wanted.knobs.insert(Knob::new(name), value.to_string());
    }

    fn lack(&mut self, field: &str, why: impl Into<String>) {
        self.wanted.unsupported.insert(field.to_owned(), why.into());
    }

    fn is_guest(&self) -> bool {
        self.around.kind == InstanceKind::Guest
    }

    fn cpu_limit(&mut self, us_per_sec: u64) {
        let (v2, v1) = (self.before(names::CPU_MAX), self.before(names::CFS_QUOTA));
        let period = match (v2, v1) {
            (Some(value), _) => value.split_whitespace().nth(1),
            (None, Some(_)) => self.before(names::CFS_PERIOD),
            (None, None) => return self.lack("cpu.limit", no_controller("cpu")),
        };
        let is_v2 = v2.is_some();
        let period = period.and_then(amount).unwrap_or(100_000);
        let Some((quota, period)) = quota(us_per_sec, period) else {
            return self.lack("cpu.limit", "the kernel holds nobody to less than 0.001 processors");
        };
        if is_v2 {
            self.want(names::CPU_MAX, format!("{quota} {period}"));
        } else {
            self.want(names::CFS_QUOTA, quota);
            self.want(names::CFS_PERIOD, period);
        }
    }

    fn cpu_weight(&mut self, weight: u32) {
        if self.before(names::CPU_WEIGHT).is_some() {
            self.want(names::CPU_WEIGHT, weight);
        } else if self.before(names::CPU_SHARES).is_some() {
            // 100 of v2 is 1,024 of v1, and the ratio between two groups stays what it is.
            self.want(names::CPU_SHARES, (u64::from(weight) * 1_024 / 100).max(2));
        } else {
            self.lack("cpu.weight", no_controller("cpu"));
        }
    }

    fn memory_max(&mut self, bytes: u64) {
        let pages = self.in_pages(bytes);
        if self.is_guest() {
            return match self.before(names::BALLOON) {
                Some(_) => self.want(names::BALLOON, pages),
                None => self
                    .lack("memory.max", "the guest has no balloon device: start QEMU with -device virtio-balloon-pci"),
            };
        }
        if self.before(names::MEMORY_MAX).is_some() {
            return self.want(names::MEMORY_MAX, pages);
        }
        if self.before(names::MEMORY_LIMIT).is_none() {
            return self.lack("memory.max", no_controller("memory"));
        }
        let with_swap = self.before(names::MEMORY_AND_SWAP).and_then(amount);
        self.want(names::MEMORY_LIMIT, pages);
        if with_swap.is_some_and(|before| before < pages) {
            self.want(names::MEMORY_AND_SWAP, pages);
        }
    }

    fn memory_high(&mut self, bytes: u64) {
        if self.is_guest() {
            self.lack("memory.high", "a guest has what its balloon leaves it: only memory.max is in force");
        } else if self.before(names::MEMORY_HIGH).is_some() {
            self.want(names::MEMORY_HIGH, self.in_pages(bytes));
        } else if self.before(names::MEMORY_LIMIT).is_some() {
            self.lack("memory.high", "cgroup v1 slows nobody: only memory.max is in force");
        } else {
            self.lack("memory.high", no_controller("memory"));
        }
    }

    fn io_weight(&mut self, weight: u32) {
        if self.before(names::IO_WEIGHT).is_some() {
            return self.want(names::IO_WEIGHT, weight);
        }
        let bfq = [names::IO_BFQ_WEIGHT, names::BLKIO_BFQ_WEIGHT];
        let Some(name) = bfq.into_iter().find(|name| self.before(name).is_some()) else {
            let why = "the control group has neither io.weight nor BFQ's weight: the kernel needs io.cost, or a disk with the bfq scheduler";
            return self.lack("io.weight", why);
        };
        self.want(name, weight.min(BFQ_WEIGHT_MAX));
        if weight > BFQ_WEIGHT_MAX {
            self.lack("io.weight", format!("{BFQ_WEIGHT_MAX} is the most that BFQ knows, and that is in force"));
        }
    }

    fn rates(&mut self, limits: &Limits) {
        let rates = limits.rates();
        let rows: Vec<(Knob, String)> =
            self.around.base.iter().map(|(knob, value)| (knob.clone(), value.clone())).collect();
        let mut is_held = false;
        for (knob, before) in rows {
            let value = match knob.file() {
                names::THROTTLE => Some(Throttle::parse(&before).with(rates).to_string()),
                names::IO_MAX if !self.is_guest() => Some(io_max(&before, rates)),
                names::BLKIO_READ_BPS if !self.is_guest() => rates[0].map(|rate| rate.to_string()),
                names::BLKIO_WRITE_BPS if !self.is_guest() => rates[1].map(|rate| rate.to_string()),
                names::BLKIO_READ_IOPS if !self.is_guest() => rates[2].map(|rate| rate.to_string()),
                names::BLKIO_WRITE_IOPS if !self.is_guest() => rates[3].map(|rate| rate.to_string()),
                _ => None,
            };
            is_held |= value.is_some();
            self.wanted.knobs.extend(value.map(|value| (knob, value)));
        }
        let why = match self.around.kind {
            InstanceKind::Guest => "the guest has no block device",
            InstanceKind::Processes => "the control group has no io controller, or the host no disk: set io_devices",
        };
        for (field, _) in limits.fields().into_iter().filter(|(field, _)| !is_held && is_rate(field)) {
            self.lack(field, why);
        }
    }

    fn pids(&mut self, count: u64) {
        if self.is_guest() {
            self.lack("pids", "processes of a guest are its own kernel's: they are not counted from outside");
        } else if self.before(names::PIDS_MAX).is_some() {
            self.want(names::PIDS_MAX, count);
        } else {
            self.lack("pids", no_controller("pids"));
        }
    }

    fn in_pages(&self, bytes: u64) -> u64 {
        (bytes / self.around.page_bytes).max(1) * self.around.page_bytes
    }
}

fn is_rate(field: &str) -> bool {
    field.starts_with("io.") && field != "io.weight"
}

fn no_controller(name: &str) -> String {
    format!(
        "the control group has no {name} controller: enable it in its parent's cgroup.subtree_control, or mount its hierarchy"
    )
}

/// Quota and period for a share of time. The period stays what it was unless the quota would be too short in it.
fn quota(us_per_sec: u64, period: u64) -> Option<(u64, u64)> {
    let in_period = |period: u64| u64::try_from(u128::from(us_per_sec) * u128::from(period) / 1_000_000).ok();
    let fits = |period: u64| in_period(period).filter(|quota| *quota >= QUOTA_US_MIN).map(|quota| (quota, period));
    fits(period).or_else(|| fits(PERIOD_US_MAX))
}

/// A row of io.max with rates set: `rbps=max wbps=1048576 riops=max wiops=max`.
fn io_max(before: &str, rates: [Option<u64>; 4]) -> String {
    let words = ["rbps", "wbps", "riops", "wiops"].into_iter().zip(rates).map(|(key, rate)| {
        let old = before.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        format!("{key}={}", rate.map_or_else(|| old.unwrap_or("max").to_owned(), |rate| rate.to_string()))
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(text: &str) -> Knobs {
        let lines = text.lines().map(str::trim).filter_map(|line| line.split_once(" = "));
        lines.map(|(name, value)| (Knob::new(name), value.to_owned())).collect()
    }

    fn all() -> Limits {
        Limits {
            cpu_us_per_sec: Some(1_500_000),
            cpu_weight: Some(200),
            memory_max_bytes: Some((64 << 20) + 5),
            memory_high_bytes: Some(48 << 20),
            io_weight: Some(5_000),
            read_bytes_per_sec: Some(1_000_000),
            writes_per_sec: Some(70),
            pids_max: Some(512),
            ..Limits::default()
        }
    }

    fn check(kind: InstanceKind, base: &str, expected: &str, unsupported: &[&str]) {
        let base = knobs(base);
        let wanted = translate(&all(), &Surroundings { kind, base: &base, page_bytes: 4_096 });
        assert_eq!(wanted.knobs, knobs(expected));
        assert_eq!(wanted.unsupported.keys().map(String::as_str).collect::<Vec<_>>(), unsupported);
    }

    #[test]
    fn version_2_takes_everything() {
        let base = "cpu.max = max 100000
            cpu.weight = 100
            memory.max = max
            memory.high = max
            io.weight@default = 100
            io.max@254:0 = rbps=max wbps=77 riops=max wiops=max
            pids.max = max";
        let expected = "cpu.max = 150000 100000
            cpu.weight = 200
            memory.max = 67108864
            memory.high = 50331648
            io.weight@default = 5000
            io.max@254:0 = rbps=1000000 wbps=77 riops=max wiops=70
            pids.max = 512";
        check(InstanceKind::Processes, base, expected, &[]);
    }

    #[test]
    fn version_1_says_what_it_lacks() {
        let base = "cpu.cfs_quota_us = -1
            cpu.cfs_period_us = 50000
            cpu.shares = 1024
            memory.limit_in_bytes = 9223372036854771712
            memory.memsw.limit_in_bytes = 33554432
            blkio.bfq.weight = 100
            blkio.throttle.read_bps_device@254:0 = 0
            blkio.throttle.write_bps_device@254:0 = 0
            blkio.throttle.write_iops_device@254:0 = 0
            pids.max = max";
        let expected = "cpu.cfs_quota_us = 75000
            cpu.cfs_period_us = 50000
            cpu.shares = 2048
            memory.limit_in_bytes = 67108864
            memory.memsw.limit_in_bytes = 67108864
            blkio.bfq.weight = 1000
            blkio.throttle.read_bps_device@254:0 = 1000000
            blkio.throttle.write_iops_device@254:0 = 70
            pids.max = 512";
        check(InstanceKind::Processes, base, expected, &["io.weight", "memory.high"]);
    }

    #[test]
    fn a_guest_is_never_held_by_its_process_memory() {
        let base = "cpu.max = max 100000
            cpu.weight = 100
            memory.max = max
            memory.high = max
            io.max@254:0 = rbps=max wbps=max riops=max wiops=max
            pids.max = max
            balloon = 268435456
            throttle@disk0 = bps=0 bps_rd=0 bps_wr=0 iops=0 iops_rd=0 iops_wr=0";
        let expected = "cpu.max = 150000 100000
            cpu.weight = 200
            balloon = 67108864
            throttle@disk0 = bps=0 bps_rd=1000000 bps_wr=0 iops=0 iops_rd=0 iops_wr=70";
        check(InstanceKind::Guest, base, expected, &["io.weight", "memory.high", "pids"]);
    }

    #[test]
    fn without_controllers_every_field_is_named() {
        let fields =
            ["cpu.limit", "cpu.weight", "io.readBps", "io.weight", "io.writeIops", "memory.high", "memory.max", "pids"];
        check(InstanceKind::Processes, "", "", &fields);
    }

    #[test]
    fn a_short_quota_takes_a_longer_period() {
        for (us_per_sec, period, expected) in [
            (500_000, 100_000, Some((50_000, 100_000))),
            (10_000, 100_000, Some((1_000, 100_000))),
            (9_999, 100_000, Some((9_999, 1_000_000))),
            (999, 100_000, None),
        ] {
            assert_eq!(quota(us_per_sec, period), expected);
        }
    }
}
