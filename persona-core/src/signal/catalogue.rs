//! Every signal there is: what is measured of a workload or its host, and the two open families that others fill.
//!
//! `cpu.utilisation` is the subject's, `host.cpu.utilisation` its host's, and `guest.cpu.utilisation` what a guest's own kernel
//! says, by the agent inside. `external.NAME` is pushed over the API with a
//! lifetime, `metric.NAME` comes from the workload's own `/metrics`; both are numbers whose unit nobody declared.

use std::fmt;
use std::str::FromStr;

use super::unit::Unit;
use crate::nearest::nearest;

/// Longest name, bytes.
const NAME_LENGTH_MAX: usize = 100;

/// Before the name of a signal of the subject's host.
const HOST: &str = "host.";

/// Before the name of a signal that is measured inside a guest.
const GUEST: &str = "guest.";

/// Families whose names are free.
const OPEN_FAMILIES: [&str; 2] = ["external.", "metric."];

/// What is known of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalInfo {
    /// Its name.
    pub name: &'static str,
    /// What it measures.
    pub unit: Unit,
    /// Whether it is a share of a whole, from 0 to 1.
    pub is_share: bool,
    /// What it is, for people.
    pub about: &'static str,
}

const fn share(name: &'static str, about: &'static str) -> SignalInfo {
    SignalInfo { name, unit: Unit::NONE, is_share: true, about }
}

const fn plain(name: &'static str, unit: Unit, about: &'static str) -> SignalInfo {
    SignalInfo { name, unit, is_share: false, about }
}

/// What agents measure, of workloads, of hosts (`host.` before the name) and inside guests (`guest.`), in the order of names.
pub const MEASURED: &[SignalInfo] = &[
    plain(
        "cpu.load",
        Unit::NONE,
        "processes that run or wait for a processor or a disk, mean over a minute; of whole systems",
    ),
    share("cpu.pressure", "share of time in which something waited for a processor (PSI, some)"),
    share("cpu.throttling", "share of enforcement periods in which the limit held processes back"),
    plain("cpu.usage", Unit::NONE, "processors in use"),
    share("cpu.utilisation", "processors in use, as a share of those permitted"),
    share("disk.usage", "room of the root file system that is taken; of whole systems"),
    share("io.pressure", "share of time in which something waited for a disk (PSI, some)"),
    plain("io.read_bytes", Unit::BYTES_PER_SECOND, "read from disks"),
    plain("io.read_operations", Unit::PER_SECOND, "reads from disks"),
    plain("io.write_bytes", Unit::BYTES_PER_SECOND, "written to disks"),
    plain("io.write_operations", Unit::PER_SECOND, "writes to disks"),
    plain("memory.bytes", Unit::BYTES, "memory in use"),
    plain("memory.oom_kills", Unit::PER_SECOND, "processes killed for want of memory"),
    share("memory.pressure", "share of time in which something waited for memory (PSI, some)"),
    share("memory.usage", "memory in use that cannot be dropped at once, as a share of what is permitted"),
    plain("memory.working_set", Unit::BYTES, "memory in use that cannot be dropped at once"),
    plain("network.connections", Unit::PER_SECOND, "flows that open, either way: the request rate"),
    plain("network.drops", Unit::PER_SECOND, "packets dropped"),
    plain("network.egress_bytes", Unit::BYTES_PER_SECOND, "inner bytes sent"),
    plain("network.egress_packets", Unit::PER_SECOND, "packets sent"),
    plain("network.ingress_bytes", Unit::BYTES_PER_SECOND, "inner bytes received"),
    plain("network.ingress_packets", Unit::PER_SECOND, "packets received"),
    plain("network.processed_bytes", Unit::BYTES_PER_SECOND, "inner bytes of both directions: the data processed"),
];

/// A signal's name, which the catalogue knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalName(String);

/// A name that the catalogue does not know, with what would be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {given}; {advice}")]
pub struct UnknownSignal {
    /// What was given.
    pub given: String,
    /// What would be valid.
    pub advice: String,
}

impl SignalName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is known of it. None: a member of an open family.
    pub fn info(&self) -> Option<&'static SignalInfo> {
        let name = [HOST, GUEST].iter().find_map(|prefix| self.0.strip_prefix(prefix)).unwrap_or(&self.0);
        MEASURED.iter().find(|info| info.name == name)
    }

    /// What it measures. None: nobody declared it.
    pub fn unit(&self) -> Option<Unit> {
        self.info().map(|info| info.unit)
    }

    /// Whether others push it.
    pub fn is_external(&self) -> bool {
        self.0.starts_with(OPEN_FAMILIES[0])
    }
}

impl FromStr for SignalName {
    type Err = UnknownSignal;
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let open = OPEN_FAMILIES.iter().find_map(|family| text.strip_prefix(family));
        let name = Self(text.to_owned());
        let is_known = open.map_or_else(|| name.info().is_some(), is_word) && text.len() <= NAME_LENGTH_MAX;
        if is_known { Ok(name) } else { Err(UnknownSignal { given: text.to_owned(), advice: advice(text, open) }) }
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// Lower-case words of letters, digits and `_`, joined by points.
fn is_word(name: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && part.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
    };
    name.split('.').all(is_part)
}

fn advice(given: &str, open: Option<&str>) -> String {
    if open.is_some() {
        return format!("after the family write a-z, 0-9, _ and points, at most {NAME_LENGTH_MAX} bytes in all");
    }
    let own = [HOST, GUEST].into_iter().find_map(|prefix| Some((prefix, given.strip_prefix(prefix)?)));
    let (prefix, name) = own.unwrap_or(("", given));
    let meant = nearest(name, MEASURED.iter().map(|info| info.name));
    if let Some(name) = meant {
        return format!("did you mean {prefix}{name}?");
    }
    let family = given.split('.').next().unwrap_or(given);
    let of_family = MEASURED.iter().map(|info| info.name).filter(|name| name.split('.').next() == Some(family));
    let mut valid: Vec<&str> = of_family.collect();
    if valid.is_empty() {
        valid = MEASURED.iter().map(|info| info.name).collect();
    }
    format!("valid: {}, each also with host. or guest. before it, external.NAME and metric.NAME", valid.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_or_refused_with_what_would_be_valid() {
        let good = [
            "cpu.utilisation",
            "host.memory.usage",
            "guest.disk.usage",
            "external.surge_expected",
            "metric.http.requests_total",
        ];
        good.iter().for_each(|name| assert_eq!(name.parse::<SignalName>().unwrap().as_str(), *name));
        let bad = [
            ("cpu.utilization", "did you mean cpu.utilisation?"),
            ("host.cpu.utilisatio", "did you mean host.cpu.utilisation?"),
            ("guest.cpu.utilisatio", "did you mean guest.cpu.utilisation?"),
            ("memory.colour_of_the_sky", "valid: memory.bytes, memory.oom_kills"),
            ("x", "external.NAME"),
            ("external.Surge", "after the family write a-z"),
            ("external.", "after the family write a-z"),
        ];
        for (name, expected) in bad {
            let error = name.parse::<SignalName>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_catalogue_is_sorted_and_names_each_signal_once() {
        assert!(MEASURED.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(MEASURED.iter().all(|info| is_word(info.name)));
    }
}
