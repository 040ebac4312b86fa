//! What knobs say, in the words of the document.

use super::knob::{Knob, Knobs, amount, names};
use super::limits::Limits;
use super::throttle::Throttle;
use super::translate::InstanceKind;

/// From here on v1's memory limit means none: the largest number of whole pages (PAGE_COUNTER_MAX).
const NO_LIMIT_BYTES: u64 = 1 << 62;

/// The limits that an instance's knobs amount to; an absent field is not limited, or not known.
pub fn actual(knobs: &Knobs, kind: InstanceKind) -> Limits {
    let number =
        |name: &str| knobs.get(&Knob::new(name)).and_then(|value| amount(value)).filter(|number| *number < u64::MAX);
    let is_guest = kind == InstanceKind::Guest;
    let memory = |name: &str| number(name).filter(|bytes| *bytes < NO_LIMIT_BYTES && !is_guest);
    let shares = number(names::CPU_SHARES).map(|shares| (shares * 100).div_ceil(1_024));
    let io_weights = [names::IO_WEIGHT, names::IO_BFQ_WEIGHT, names::BLKIO_BFQ_WEIGHT];
    let [read_bytes_per_sec, write_bytes_per_sec, reads_per_sec, writes_per_sec] = rates(knobs, kind);
    Limits {
        cpu_us_per_sec: cpu(knobs),
        cpu_weight: number(names::CPU_WEIGHT).or(shares).and_then(|weight| weight.try_into().ok()),
        memory_max_bytes: number(names::BALLOON)
            .filter(|_| is_guest)
            .or(memory(names::MEMORY_MAX))
            .or(memory(names::MEMORY_LIMIT)),
        memory_high_bytes: memory(names::MEMORY_HIGH),
        io_weight: io_weights.into_iter().find_map(number).and_then(|weight| weight.try_into().ok()),
        read_bytes_per_sec,
        write_bytes_per_sec,
        reads_per_sec,
        writes_per_sec,
        pids_max: number(names::PIDS_MAX).filter(|_| !is_guest),
    }
}

fn cpu(knobs: &Knobs) -> Option<u64> {
    let value = |name: &str| knobs.get(&Knob::new(name)).map(String::as_str);
    let (quota, period) = match value(names::CPU_MAX) {
        Some(text) => text.split_once(' ')?,
        None => (value(names::CFS_QUOTA)?, value(names::CFS_PERIOD)?),
    };
    let (quota, period) = (amount(quota)?, amount(period).filter(|period| *period > 0)?);
    (quota < u64::MAX).then(|| u64::try_from(u128::from(quota) * 1_000_000 / u128::from(period)).unwrap_or(u64::MAX))
}

/// The least of all devices, per direction.
fn rates(knobs: &Knobs, kind: InstanceKind) -> [Option<u64>; 4] {
    let mut least = [None; 4];
    let mut take = |index: usize, rate: Option<u64>| {
        let rate = rate.filter(|rate| *rate > 0 && *rate < u64::MAX);
        least[index] = [least[index], rate].into_iter().flatten().min();
    };
    for (knob, value) in knobs {
        let index = match knob.file() {
            names::THROTTLE => {
                Throttle::parse(value)
                    .rates()
                    .into_iter()
                    .enumerate()
                    .for_each(|(index, rate)| take(index, Some(rate)));
                continue;
            }
            names::IO_MAX if kind == InstanceKind::Processes => {
                for (index, key) in ["rbps=", "wbps=", "riops=", "wiops="].into_iter().enumerate() {
                    take(index, value.split_whitespace().find_map(|word| amount(word.strip_prefix(key)?)));
                }
                continue;
            }
            names::BLKIO_READ_BPS => 0,
            names::BLKIO_WRITE_BPS => 1,
            names::BLKIO_READ_IOPS => 2,
            names::BLKIO_WRITE_IOPS => 3,
            _ => continue,
        };
        take(index, amount(value));
    }
    least
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::translate::{Surroundings, translate};
    use super::*;

    fn base(version: u8) -> Knobs {
        let v2: &[_] = &[
            ("cpu.max", "max 100000"),
            ("cpu.weight", "100"),
            ("memory.max", "max"),
            ("memory.high", "max"),
            ("io.weight@default", "100"),
            ("io.max@8:0", "rbps=max wbps=max riops=max wiops=max"),
            ("pids.max", "max"),
        ];
        let v1: &[_] = &[
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.shares", "1024"),
            ("memory.limit_in_bytes", "9223372036854771712"),
            ("blkio.throttle.read_bps_device@8:0", "0"),
            ("blkio.throttle.write_iops_device@8:0", "0"),
            ("pids.max", "max"),
        ];
        let all = if version == 2 { v2 } else { v1 };
        all.iter().map(|(name, value)| (Knob::new(name), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_not_limited_is_absent() {
        for version in [1, 2] {
            let mut limits = actual(&base(version), InstanceKind::Processes);
            limits.cpu_weight = None;
            limits.io_weight = None;
            assert_eq!(limits, Limits::default(), "v{version}");
        }
    }

    proptest! {
        #[test]
        fn what_is_wanted_reads_back(version in 1_u8..=2, cpu in 1_000_u64..64_000_000, weight in 1_u32..=10_000,
            pages in 1_u64..1 << 30, rate in 1_u64..1 << 40, pids in 1_u64..1 << 22) {
            let limits = Limits { cpu_us_per_sec: Some(cpu), cpu_weight: Some(weight), memory_max_bytes: Some(pages * 4_096),
                read_bytes_per_sec: Some(rate), writes_per_sec: Some(rate), pids_max: Some(pids), ..Limits::default() };
            let base = base(version);
            let around = Surroundings { kind: InstanceKind::Processes, base: &base, page_bytes: 4_096 };
            let wanted = translate(&limits, &around);
            prop_assert!(wanted.unsupported.is_empty());
            let mut knobs = base.clone();
            knobs.extend(wanted.knobs);
            let mut found = actual(&knobs, InstanceKind::Processes);
            found.io_weight = None;
            // A quota is whole microseconds of a period: what is lost is less than one of them.
            let lost = cpu - found.cpu_us_per_sec.take().unwrap();
            prop_assert!(lost < 10, "{cpu} lost {lost}");
            prop_assert_eq!(found, Limits { cpu_us_per_sec: None, ..limits });
        }
    }
}
