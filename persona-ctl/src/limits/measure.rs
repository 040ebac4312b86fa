//! What an instance uses and may use, read from its control groups: plain numbers, totals since the group was made.

use std::path::Path;

use super::cgroup::value_of;
use super::error::LimitError;
use super::group_files::GroupFiles;
use super::hierarchies::{Place, Version};

/// What an instance uses. An absent number is one that its control groups do not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurements {
    /// Processor time, microseconds.
    pub cpu_us: Option<u64>,
    /// Time that it was held back by its quota, microseconds.
    pub cpu_throttled_us: Option<u64>,
    /// Enforcement periods of its quota in which something ran.
    pub period_count: Option<u64>,
    /// Those in which the quota held it back.
    pub throttled_period_count: Option<u64>,
    /// Processors that its quota permits. Absent: no quota.
    pub cpu_permitted: Option<f64>,
    /// Time in which some process waited for a processor, microseconds (v2 with PSI).
    pub cpu_stalled_us: Option<u64>,
    /// Memory in use, bytes, caches included.
    pub memory_bytes: Option<u64>,
    /// Memory in use without caches that can be dropped at once, bytes.
    pub working_set_bytes: Option<u64>,
    /// Memory that it may have at most, bytes. Absent: no limit.
    pub memory_permitted_bytes: Option<u64>,
    /// Time in which some process waited for memory, microseconds (v2 with PSI).
    pub memory_stalled_us: Option<u64>,
    /// Processes that were killed for want of memory.
    pub oom_kill_count: Option<u64>,
    /// Bytes read from disks.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks.
    pub written_bytes: Option<u64>,
    /// Reads from disks.
    pub read_count: Option<u64>,
    /// Writes to disks.
    pub write_count: Option<u64>,
    /// Time in which some process waited for a disk, microseconds (v2 with PSI).
    pub io_stalled_us: Option<u64>,
    /// Processes and threads.
    pub pid_count: Option<u64>,
}

/// A group in which nothing runs is read in full at every so manieth look: the kernel adds `memory.stat` and disk counts up over
/// all processors each time, which costs ten times as much as all the rest.
const FULL_LOOK_EVERY: u32 = 10;

/// Reads what an instance uses, again and again: its files stay open, since opening one costs more than reading it.
///
/// A group that is gone or was made anew under the same name is an error of every later reading.
#[derive(Debug)]
pub struct Gauge {
    groups: Vec<GroupFiles>,
    /// What the last full reading found.
    last: Option<Measurements>,
    /// Looks since then.
    short_look_count: u32,
}

impl Gauge {
    /// The instance at these places; nothing is read yet.
    pub fn at(places: &[Place]) -> Self {
        Self { groups: places.iter().map(GroupFiles::new).collect(), last: None, short_look_count: 0 }
    }

    /// Reads everything.
    pub fn read(&mut self) -> Result<Measurements, LimitError> {
        let mut found = self.read_signs()?;
        for files in &mut self.groups {
            match (files.place().controller.as_str(), files.place().version) {
                ("cpu", Version::V2) => cpu_v2(files, &mut found)?,
                ("cpu", Version::V1) => cpu_v1(files, &mut found)?,
                ("memory", Version::V2) => memory_v2(files, &mut found)?,
                ("memory", Version::V1) => memory_v1(files, &mut found)?,
                ("io", Version::V2) => io_v2(files, &mut found)?,
                ("blkio", Version::V1) => io_v1(files, &mut found)?,
                ("pids", _) => found.pid_count = files.read("pids.current", number)?,
                _ => {}
            }
        }
        (self.last, self.short_look_count) = (Some(found.clone()), 0);
        Ok(found)
    }

    /// Reads what may have changed: all of it, unless nothing ran since the last full reading and no memory came or went. Then
    /// that is looked at, with who waits for what, and the rest now and then.
    pub fn follow(&mut self) -> Result<Measurements, LimitError> {
        let signs = self.read_signs()?;
        let is_idle = |last: &&Measurements| {
            last.cpu_us.is_some() && (last.cpu_us, last.memory_bytes) == (signs.cpu_us, signs.memory_bytes)
        };
        match self.last.as_ref().filter(is_idle) {
            Some(last) if self.short_look_count + 1 < FULL_LOOK_EVERY => {
                self.short_look_count += 1;
                let mut found = last.clone();
                self.groups.iter_mut().try_for_each(|files| read_waiting(files, &mut found))?;
                Ok(found)
            }
            _ => self.read(),
        }
    }

    /// Processor time and memory in use: in which nothing changes while nothing runs.
    fn read_signs(&mut self) -> Result<Measurements, LimitError> {
        let mut found = Measurements::default();
        for files in &mut self.groups {
            match (files.place().controller.as_str(), files.place().version) {
                ("cpu", Version::V2) => found.cpu_us = files.read("cpu.stat", |text| row(text, "usage_usec"))?,
                ("cpu", Version::V1) => found.cpu_us = cpu_time_v1(files)?,
                ("memory", Version::V2) => found.memory_bytes = files.read("memory.current", number)?,
                ("memory", Version::V1) => found.memory_bytes = files.read("memory.usage_in_bytes", number)?,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// What changes also while nothing runs.
fn read_waiting(files: &mut GroupFiles, found: &mut Measurements) -> Result<(), LimitError> {
    let stalled = |files: &mut GroupFiles, name| -> Result<Option<u64>, LimitError> {
        Ok(files.read_if_there(name, stalled_in)?.flatten())
    };
    match (files.place().controller.as_str(), files.place().version) {
        ("cpu", Version::V2) => found.cpu_stalled_us = stalled(files, "cpu.pressure")?,
        ("memory", Version::V2) => found.memory_stalled_us = stalled(files, "memory.pressure")?,
        ("io", Version::V2) => found.io_stalled_us = stalled(files, "io.pressure")?,
        _ => {}
    }
    Ok(())
}

/// Reads once what an instance at these places uses.
pub fn measure(places: &[Place]) -> Result<Measurements, LimitError> {
    Gauge::at(places).read()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn row(text: &str, key: &str) -> Option<u64> {
    value_of(text, Some(key))?.parse().ok()
}

/// As [`stalled_in`], from a file that a kernel without PSI does not have.
pub(crate) fn stalled_us(path: &Path) -> Option<u64> {
    stalled_in(&std::fs::read_to_string(path).ok()?)
}

/// `some avg10=1.23 avg60=… total=12345` (Documentation/accounting/psi.rst), in microseconds.
fn stalled_in(text: &str) -> Option<u64> {
    value_of(text, Some("some"))?.split_whitespace().find_map(|word| word.strip_prefix("total=")?.parse().ok())
}

fn cpu_v2(files: &mut GroupFiles, found: &mut Measurements) -> Result<(), LimitError> {
    files.read("cpu.stat", |text| {
        found.cpu_throttled_us = row(text, "throttled_usec");
        found.period_count = row(text, "nr_periods");
        found.throttled_period_count = row(text, "nr_throttled");
    })?;
    found.cpu_permitted = files.read_if_there("cpu.max", permitted)?.flatten();
    found.cpu_stalled_us = files.read_if_there("cpu.pressure", stalled_in)?.flatten();
    Ok(())
}

/// A quota and its period, such as `200000 100000`, as processors. None: `max`, or −1.
fn permitted(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let (quota, period) = (words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

/// The processor time itself is the cpuacct controller's, which may be mounted beside or together with cpu.
fn cpu_v1(files: &mut GroupFiles, found: &mut Measurements) -> Result<(), LimitError> {
    files.read("cpu.stat", |text| {
        found.cpu_throttled_us = row(text, "throttled_time").map(|ns| ns / 1_000);
        found.period_count = row(text, "nr_periods");
        found.throttled_period_count = row(text, "nr_throttled");
    })?;
    let quota = files.read_if_there("cpu.cfs_quota_us", number)?.flatten();
    let period = files.read_if_there("cpu.cfs_period_us", number)?.flatten().filter(|period| *period > 0);
    found.cpu_permitted = quota.zip(period).map(|(quota, period)| quota as f64 / period as f64);
    Ok(())
}

fn cpu_time_v1(files: &mut GroupFiles) -> Result<Option<u64>, LimitError> {
    let usage = match files.read_if_there("cpuacct.usage", number)?.flatten() {
        Some(here) => Some(here),
        None => files.read_beside("cpuacct", "cpuacct.usage", number)?.flatten(),
    };
    Ok(usage.map(|ns| ns / 1_000))
}

fn memory_v2(files: &mut GroupFiles, found: &mut Measurements) -> Result<(), LimitError> {
    let inactive = files.read("memory.stat", |text| row(text, "inactive_file"))?.unwrap_or(0);
    found.working_set_bytes = found.memory_bytes.map(|used| used.saturating_sub(inactive));
    found.memory_permitted_bytes = files.read_if_there("memory.max", number)?.flatten();
    found.memory_stalled_us = files.read_if_there("memory.pressure", stalled_in)?.flatten();
    found.oom_kill_count = files.read("memory.events", |text| row(text, "oom_kill"))?;
    Ok(())
}

fn memory_v1(files: &mut GroupFiles, found: &mut Measurements) -> Result<(), LimitError> {
    // Without a limit it is a number that is larger than any machine.
    found.memory_permitted_bytes = files.read_if_there("memory.limit_in_bytes", number)?.flatten();
    let inactive = files.read("memory.stat", |text| row(text, "total_inactive_file"))?.unwrap_or(0);
    found.working_set_bytes = found.memory_bytes.map(|used| used.saturating_sub(inactive));
    found.oom_kill_count = files.read("memory.oom_control", |text| row(text, "oom_kill"))?;
    Ok(())
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`, a line per device.
fn io_v2(files: &mut GroupFiles, found: &mut Measurements) -> Result<(), LimitError> {
    files.read("io.stat", |text| {
        let sum = |key: &str| -> u64 {
            text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
        };
        (found.read_bytes, found.written_bytes) = (Some(sum("rbytes=")), Some(sum("wbytes=")));
        (found.read_count, found.write_count) = (Some(sum("rios=")), Some(sum("wios=")));
    })?;
    found.io_stalled_us = files.read_if_there("io.pressure", stalled_in)?.flatten();
    Ok(())
}

/// `8:0 Read 4096`, a line per device and kind.
fn io_v1(files: &mut GroupFiles, found: &mut Measurements) -> Result<(), LimitError> {
    let sum = |text: &str, kind: &str| -> u64 {
        text.lines().filter_map(|line| line.split_once(kind)?.1.trim().parse::<u64>().ok()).sum()
    };
    let sums = |text: &str| (Some(sum(text, " Read ")), Some(sum(text, " Write ")));
    (found.read_bytes, found.written_bytes) = files.read("blkio.throttle.io_service_bytes", sums)?;
    (found.read_count, found.write_count) = files.read("blkio.throttle.io_serviced", sums)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    fn places(folder: &Path, version: Version, controllers: &[&str]) -> Vec<Place> {
        let place = |name: &&str| Place { controller: (*name).to_owned(), version, folder: folder.to_owned() };
        controllers.iter().map(place).collect()
    }

    #[test]
    fn both_versions_tell_the_same() {
        let v2 = folder(&[
            ("cpu.stat", "usage_usec 5000\nnr_periods 9\nnr_throttled 1\nthrottled_usec 70\n"),
            ("cpu.max", "150000 100000\n"),
            ("memory.max", "8192\n"),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n"),
            ("memory.current", "1000\n"),
            ("memory.stat", "anon 5\ninactive_file 400\n"),
            ("memory.events", "high 0\noom_kill 2\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n"),
            ("pids.current", "3\n"),
        ]);
        let found = measure(&places(v2.path(), Version::V2, &["cpu", "memory", "io", "pids"])).unwrap();
        let v1 = folder(&[
            ("cpu.stat", "nr_periods 9\nnr_throttled 1\nthrottled_time 70000\n"),
            ("cpu.cfs_quota_us", "150000\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("memory.limit_in_bytes", "8192\n"),
            ("cpuacct.usage", "5000000\n"),
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 400\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("blkio.throttle.io_service_bytes", "8:0 Read 11\n8:0 Write 22\n8:0 Total 33\nTotal 33\n"),
            ("blkio.throttle.io_serviced", "8:0 Read 4\n8:0 Write 6\nTotal 10\n"),
            ("pids.current", "3\n"),
        ]);
        let other = measure(&places(v1.path(), Version::V1, &["cpu", "memory", "blkio", "pids"])).unwrap();
        assert_eq!((found.cpu_stalled_us, found.cpu_permitted), (Some(9), Some(1.5)));
        assert_eq!(Measurements { cpu_stalled_us: None, ..found }, other);
        assert_eq!((other.working_set_bytes, other.oom_kill_count, other.cpu_us), (Some(600), Some(2), Some(5_000)));
    }

    #[test]
    fn an_idle_group_is_read_in_full_now_and_then_and_a_busy_one_each_time() {
        let group = folder(&[
            ("cpu.stat", "usage_usec 5\nnr_periods 1\n"),
            ("memory.current", "1000\n"),
            ("memory.stat", "inactive_file 400\n"),
            ("memory.events", "oom_kill 0\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=0 rios=1 wios=0\n"),
            ("io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"),
        ]);
        let put = |name: &str, text: &str| std::fs::write(group.path().join(name), text).unwrap();
        let mut gauge = Gauge::at(&places(group.path(), Version::V2, &["cpu", "memory", "io"]));
        let see = |found: Measurements| (found.read_bytes, found.oom_kill_count, found.io_stalled_us);
        assert_eq!(see(gauge.follow().unwrap()), (Some(1), Some(0), Some(1)));
        put("io.stat", "8:0 rbytes=9 wbytes=0 rios=1 wios=0\n");
        put("memory.max", "4096\n");
        put("io.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n");
        let idle = gauge.follow().unwrap();
        assert_eq!((idle.io_stalled_us, idle.read_bytes), (Some(7), Some(1)), "who waits is seen at once");
        put("cpu.stat", "usage_usec 6\nnr_periods 1\n");
        assert_eq!(gauge.follow().unwrap().read_bytes, Some(9), "something ran");
        put("memory.events", "oom_kill 3\n");
        put("memory.current", "900\n");
        assert_eq!(gauge.follow().unwrap().oom_kill_count, Some(3), "memory went");
        put("memory.events", "oom_kill 4\n");
        let seen: Vec<_> = (0..10).map(|_| gauge.follow().unwrap().oom_kill_count).collect();
        assert!(seen[..9].iter().all(|count| *count == Some(3)) && seen[9] == Some(4), "at the latest then: {seen:?}");
    }

    #[test]
    fn no_quota_permits_everything() {
        for text in ["max 100000", "-1 100000", "", "5 0"] {
            assert_eq!(permitted(text), None, "{text}");
        }
    }
}
