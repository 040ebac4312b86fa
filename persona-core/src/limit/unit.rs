//! Knobs of control groups of version 2 as properties of a systemd unit, which writes them itself and keeps them over a
//! `daemon-reload` (systemd.resource-control(5), org.freedesktop.systemd1(5)).

use super::knob::{Knob, amount, names};

/// What systemd calls no limit, no quota, or a default.
const UNSET: u64 = u64::MAX;

/// The period of a quota if nothing else is said, microseconds.
const PERIOD_DEFAULT_US: u64 = 100_000;

/// The weight if nothing else is said, of processor time and disks alike.
const WEIGHT_DEFAULT: u64 = 100;

/// A property, and what it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitProperty {
    /// Its name on D-Bus.
    pub name: &'static str,
    /// Its value: bytes, operations, microseconds, processes or a weight.
    pub value: u64,
    /// The block device (`MAJOR:MINOR`) that it is for; None where a property is one number.
    pub device: Option<String>,
}

/// The properties that make a knob have this value. None: systemd has none for it, or the value is none of the kernel's.
pub fn unit_properties(knob: &Knob, value: &str) -> Option<Vec<UnitProperty>> {
    let number = |name, value| Some(vec![UnitProperty { name, value, device: None }]);
    match knob.as_str() {
        names::CPU_MAX => quota(value),
        names::CPU_WEIGHT => number("CPUWeight", weight(value)?),
        names::IO_WEIGHT => number("IOWeight", weight(value)?),
        names::MEMORY_MAX => number("MemoryMax", amount(value)?),
        names::MEMORY_HIGH => number("MemoryHigh", amount(value)?),
        names::PIDS_MAX => number("TasksMax", amount(value)?),
        _ if knob.file() == names::IO_MAX => rates(knob.row()?, value),
        _ => None,
    }
}

/// systemd has the quota of a second, the kernel that of a period.
fn quota(value: &str) -> Option<Vec<UnitProperty>> {
    let (quota, period) = value.split_once(' ')?;
    let period: u64 = period.parse().ok().filter(|period| *period > 0)?;
    let per_second = match amount(quota)? {
        UNSET => UNSET,
        quota => u64::try_from(u128::from(quota) * 1_000_000 / u128::from(period)).ok()?,
    };
    let period = if period == PERIOD_DEFAULT_US { UNSET } else { period };
    let property = |name, value| UnitProperty { name, value, device: None };
    Some(vec![property("CPUQuotaPeriodUSec", period), property("CPUQuotaPerSecUSec", per_second)])
}

fn weight(value: &str) -> Option<u64> {
    let weight: u64 = value.parse().ok()?;
    Some(if weight == WEIGHT_DEFAULT { UNSET } else { weight })
}

/// `rbps=1048576 wbps=max riops=max wiops=max`, or some of it.
fn rates(device: &str, value: &str) -> Option<Vec<UnitProperty>> {
    let property = |word: &str| {
        let (key, value) = word.split_once('=')?;
        let name = match key {
            "rbps" => "IOReadBandwidthMax",
            "wbps" => "IOWriteBandwidthMax",
            "riops" => "IOReadIOPSMax",
            "wiops" => "IOWriteIOPSMax",
            _ => return None,
        };
        Some(UnitProperty { name, value: amount(value)?, device: Some(device.to_owned()) })
    };
    value.split_whitespace().map(property).collect()
}

/// Whether a name can be that of a unit with limits, and leads nowhere else as a path.
pub fn is_unit_name(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
    let stem = [".service", ".scope", ".slice"].iter().find_map(|kind| name.strip_suffix(kind));
    is_plain && name.len() < 256 && stem.is_some_and(|stem| !stem.is_empty() && !stem.starts_with('.') && stem != "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(knob: &str, value: &str) -> Option<String> {
        let properties = unit_properties(&Knob::new(knob), value)?;
        let one = |it: &UnitProperty| {
            let value = if it.value == UNSET { "unset".to_owned() } else { it.value.to_string() };
            format!("{}{}={value}", it.name, it.device.as_ref().map_or(String::new(), |device| format!("[{device}]")))
        };
        Some(properties.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn knobs_become_what_systemd_calls_them() {
        for (knob, value, expected) in [
            ("cpu.max", "50000 100000", Some("CPUQuotaPeriodUSec=unset CPUQuotaPerSecUSec=500000")),
            ("cpu.max", "max 100000", Some("CPUQuotaPeriodUSec=unset CPUQuotaPerSecUSec=unset")),
            ("cpu.max", "30000 20000", Some("CPUQuotaPeriodUSec=20000 CPUQuotaPerSecUSec=1500000")),
            ("cpu.max", "50000", None),
            ("cpu.max", "50000 0", None),
            ("cpu.weight", "200", Some("CPUWeight=200")),
            ("cpu.weight", "100", Some("CPUWeight=unset")),
            ("cpu.weight", "max", None),
            ("io.weight@default", "100", Some("IOWeight=unset")),
            ("memory.max", "max", Some("MemoryMax=unset")),
            ("memory.high", "4096", Some("MemoryHigh=4096")),
            ("pids.max", "20", Some("TasksMax=20")),
            (
                "io.max@8:0",
                "rbps=5 wbps=max riops=max wiops=7",
                Some(
                    "IOReadBandwidthMax[8:0]=5 IOWriteBandwidthMax[8:0]=unset IOReadIOPSMax[8:0]=unset IOWriteIOPSMax[8:0]=7",
                ),
            ),
            ("io.max@8:0", "xbps=5", None),
            ("io.bfq.weight@default", "100", None),
            ("cpu.shares", "1024", None),
        ] {
            assert_eq!(told(knob, value).as_deref(), expected, "{knob} {value}");
        }
    }

    #[test]
    fn names_of_units_with_limits_are_told_from_others() {
        for (name, expected) in [
            ("nginx.service", true),
            ("getty@tty1.service", true),
            ("docker-1a.scope", true),
            ("machine.slice", true),
            ("-.slice", false),
            (".service", false),
            ("nginx", false),
            ("nginx.socket", false),
            ("../nginx.service", false),
            ("a/b.service", false),
            ("a b.service", false),
        ] {
            assert_eq!(is_unit_name(name), expected, "{name}");
        }
    }
}
