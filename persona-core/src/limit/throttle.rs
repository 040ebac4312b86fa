//! QEMU's throttling of one block device, as one value of text: `bps=0 bps_rd=1048576 …`.
//!
//! Names and rules are those of QMP's `block_set_io_throttle`: a total excludes the same figure per direction, and a
//! burst (`…_max`) needs its rate.

use std::collections::BTreeMap;
use std::fmt;

/// Figures that are always there.
const RATES: [&str; 6] = ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"];

/// Figures that are there when they are not zero.
const BURSTS: [&str; 13] = [
    "bps_max",
    "bps_rd_max",
    "bps_wr_max",
    "iops_max",
    "iops_rd_max",
    "iops_wr_max",
    "bps_max_length",
    "bps_rd_max_length",
    "bps_wr_max_length",
    "iops_max_length",
    "iops_rd_max_length",
    "iops_wr_max_length",
    "iops_size",
];

/// What a block device is held to, by QMP's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Throttle(BTreeMap<String, u64>);

impl Throttle {
    /// Takes the figures out of what `figure` gives by name; what it does not know is zero.
    pub fn read(figure: impl Fn(&str) -> Option<u64>) -> Self {
        let all = RATES.iter().chain(&BURSTS).map(|name| ((*name).to_owned(), figure(name).unwrap_or(0)));
        let mut throttle = Self(all.filter(|(name, value)| RATES.contains(&name.as_str()) || *value != 0).collect());
        // QEMU says a length of one second for bursts that are not there.
        let lonely = |name: &str| name.strip_suffix("_length").is_some_and(|max| figure(max).unwrap_or(0) == 0);
        throttle.0.retain(|name, _| !lonely(name));
        throttle
    }

    /// Reads the text that `Display` makes.
    pub fn parse(text: &str) -> Self {
        let figures = text.split_whitespace().filter_map(|word| word.split_once('='));
        let figures: BTreeMap<&str, u64> =
            figures.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect();
        Self::read(|name| figures.get(name).copied())
    }

    /// Its figures by QMP's names.
    pub fn figures(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Figures of reads and writes: bytes, bytes, operations, operations; zero is no limit.
    pub(super) fn rates(&self) -> [u64; 4] {
        let of = |name: &str, total: &str| match (self.get(name), self.get(total)) {
            (0, total) => total,
            (own, _) => own,
        };
        [of("bps_rd", "bps"), of("bps_wr", "bps"), of("iops_rd", "iops"), of("iops_wr", "iops")]
    }

    /// The same, with these rates set. A total that stood there goes over to the direction that is not set.
    pub(super) fn with(&self, rates: [Option<u64>; 4]) -> Self {
        let mut next = self.clone();
        next.set("bps", ["bps_rd", "bps_wr"], [rates[0], rates[1]]);
        next.set("iops", ["iops_rd", "iops_wr"], [rates[2], rates[3]]);
        next
    }

    fn set(&mut self, total: &str, directions: [&str; 2], rates: [Option<u64>; 2]) {
        if rates == [None, None] {
            return;
        }
        let before = self.get(total);
        self.0.insert(total.to_owned(), 0);
        self.forget_burst(total);
        for (name, rate) in directions.into_iter().zip(rates) {
            match rate {
                Some(rate) => {
                    self.0.insert(name.to_owned(), rate);
                    self.forget_burst(name);
                }
                None if before != 0 => drop(self.0.insert(name.to_owned(), before)),
                None => {}
            }
        }
    }

    fn forget_burst(&mut self, name: &str) {
        self.0.remove(&format!("{name}_max"));
        self.0.remove(&format!("{name}_max_length"));
    }

    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        formatter.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_reads_back_and_keeps_what_is_not_set() {
        let none = Throttle::parse("");
        assert_eq!(none.to_string(), "bps=0 bps_rd=0 bps_wr=0 iops=0 iops_rd=0 iops_wr=0");
        let set = none.with([Some(5), None, None, Some(7)]);
        assert_eq!((set.rates(), Throttle::parse(&set.to_string())), ([5, 0, 0, 7], set.clone()));
        let burst = Throttle::parse("bps=9 bps_max=20 bps_max_length=2 iops_rd=3");
        let held = burst.with([Some(5), None, None, None]);
        assert_eq!(held.to_string(), "bps=0 bps_rd=5 bps_wr=9 iops=0 iops_rd=3 iops_wr=0");
        assert_eq!(Throttle::read(|name| (name == "bps_max_length").then_some(1)), none);
    }
}
