//! A look at the host itself, from /proc; the folder is an argument, so that one with the same files serves in tests.

use std::path::Path;

use super::look::Look;
use crate::limits::stalled_us;

/// Ticks per second of the times in /proc/stat (USER_HZ, the same on every architecture that is supported).
const TICKS_PER_SEC: f64 = 100.0;

/// Bytes of a sector in /proc/diskstats, whatever the disk's own are.
const SECTOR_BYTES: f64 = 512.0;

/// What a host has, for workloads that nothing limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct HostSize {
    /// Processors.
    pub(super) cpu_count: Option<f64>,
    /// Memory, bytes.
    pub(super) memory_bytes: Option<u64>,
}

/// Looks at a host, and says what it has. Disks are given as `MAJOR:MINOR`.
pub(super) fn look_at(proc: &Path, disks: &[String]) -> (Look, HostSize) {
    let mut look = Look::default();
    let read = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
    let cpu_count = processors(&read("stat"), &mut look);
    let memory_bytes = memory(&read("meminfo"), &mut look);
    let load = read("loadavg").split_whitespace().next().and_then(|word| word.parse().ok());
    look.level("cpu.load", load);
    look.total("memory.oom_kills", row(&read("vmstat"), "oom_kill").map(|count| count as f64));
    disk(&read("diskstats"), disks, &mut look);
    for (signal, file) in [("cpu.pressure", "cpu"), ("memory.pressure", "memory"), ("io.pressure", "io")] {
        look.total(signal, stalled_us(&proc.join("pressure").join(file)).map(|us| us as f64 / 1e6));
    }
    (look, HostSize { cpu_count, memory_bytes })
}

/// How much room of a file system is taken, of what others than root may use (statvfs(3)).
pub(super) fn look_at_disk(root: &Path, look: &mut Look) {
    let Ok(found) = rustix::fs::statvfs(root) else { return };
    let taken = found.f_blocks.saturating_sub(found.f_bfree);
    let room = taken + found.f_bavail;
    look.level("disk.usage", (room > 0).then(|| taken as f64 / room as f64));
}

/// `cpu user nice system idle iowait irq softirq steal …`, and a line for each processor (proc_stat(5)).
fn processors(text: &str, look: &mut Look) -> Option<f64> {
    let is_one =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let count = text.lines().filter(is_one).count();
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = all.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else { return None };
    let busy = user + nice + system + irq + softirq;
    look.total("cpu.usage", Some(busy as f64 / TICKS_PER_SEC));
    look.cpu_permitted = (count > 0).then_some(count as f64);
    look.cpu_permitted
}

fn memory(text: &str, look: &mut Look) -> Option<u64> {
    let bytes = |key: &str| row(text, &format!("{key}:")).map(|kib| kib << 10);
    let total = bytes("MemTotal")?;
    let used = bytes("MemFree").map(|free| total.saturating_sub(free) as f64);
    let kept = bytes("MemAvailable").map(|available| total.saturating_sub(available) as f64);
    look.level("memory.bytes", used);
    look.level("memory.working_set", kept);
    look.level("memory.usage", kept.filter(|_| total > 0).map(|kept| kept / total as f64));
    Some(total)
}

/// `8 0 sda reads merged sectors ms writes merged sectors …` (Documentation/admin-guide/iostats.rst).
fn disk(text: &str, disks: &[String], look: &mut Look) {
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = format!("{}:{}", words.first()?, words.get(1)?);
        let figure = |at: usize| words.get(at)?.parse::<u64>().ok();
        let figures = [figure(3)?, figure(5)?, figure(7)?, figure(9)?];
        disks.contains(&number).then_some(figures)
    });
    let sum = rows.reduce(|sum, row| std::array::from_fn(|at| sum[at] + row[at]));
    let Some([reads, sectors_read, writes, sectors_written]) = sum else { return };
    look.total("io.read_operations", Some(reads as f64));
    look.total("io.read_bytes", Some(sectors_read as f64 * SECTOR_BYTES));
    look.total("io.write_operations", Some(writes as f64));
    look.total("io.write_bytes", Some(sectors_written as f64 * SECTOR_BYTES));
}

/// The first number of the line that begins with a key.
fn row(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix([' ', '\t']))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pressure")).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    #[test]
    fn a_host_is_read_and_what_it_does_not_tell_is_missing() {
        let folder = host(&[
            ("stat", "cpu  100 20 30 1000 50 5 5 40 0 0\ncpu0 1 1 1 1 1 1 1\ncpu1 1 1 1 1 1 1 1\nintr 5\n"),
            ("meminfo", "MemTotal:       1000 kB\nMemFree:         200 kB\nMemAvailable:    600 kB\n"),
            ("loadavg", "0.25 0.10 0.05 1/200 4711\n"),
            ("vmstat", "oom_kill_x 9\noom_kill 3\n"),
            (
                "diskstats",
                " 8 0 sda 10 0 8 1 20 0 16 1 0 0 0\n 8 1 sda1 9 0 9 9 9 0 9 9 0 0 0\n 8 16 sdb 1 0 1 1 1 0 1 1 0 0 0\n",
            ),
            ("pressure/cpu", "some avg10=1.00 avg60=0.00 avg300=0.00 total=2500000\nfull total=1\n"),
        ]);
        let (look, size) = look_at(folder.path(), &["8:0".to_owned(), "8:16".to_owned()]);
        assert_eq!(size, HostSize { cpu_count: Some(2.0), memory_bytes: Some(1_024_000) });
        let level = |name| look.levels.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let total = |name| look.totals.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        assert_eq!((total("cpu.usage"), look.cpu_permitted), (Some(1.6), Some(2.0)));
        assert_eq!((level("memory.bytes"), level("memory.usage")), (Some(819_200.0), Some(0.4)));
        assert_eq!(level("cpu.load"), Some(0.25));
        assert_eq!((total("memory.oom_kills"), total("cpu.pressure")), (Some(3.0), Some(2.5)));
        assert_eq!((total("io.read_bytes"), total("io.write_operations")), (Some(9.0 * 512.0), Some(21.0)));
        assert_eq!(total("memory.pressure"), None);
        let (look, size) = look_at(Path::new("/nowhere"), &[]);
        assert_eq!((look, size), (Look::default(), HostSize::default()));
        let mut disk = Look::default();
        look_at_disk(folder.path(), &mut disk);
        assert!((0.0..=1.0).contains(&disk.levels[0].1), "{disk:?}");
    }
}
