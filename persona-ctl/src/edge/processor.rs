//! How much of the host's processor time is in use: packets are carried in the kernel, so the process's own time says nothing.

use std::path::Path;

/// Looks again and again; each look tells of the time since the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Processor {
    last: Option<Ticks>,
}

/// Processor time since the host started, in ticks of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Processor {
    /// How much was in use since the last look, millionths. None: this is the first, or the host does not tell.
    pub(super) fn look(&mut self, stat: &Path) -> Option<u32> {
        let now = ticks(&std::fs::read_to_string(stat).ok()?)?;
        let before = self.last.replace(now)?;
        let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some((now.busy.saturating_sub(before.busy).min(all) as f64 / all as f64 * 1e6) as u32)
    }
}

/// `cpu user nice system idle iowait irq softirq steal …` (proc_stat(5)); what a guest takes is in `user` already.
fn ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let figures: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let (idle, waiting) = (figures.get(3)?, figures.get(4)?);
    let all = figures.iter().sum();
    Some(Ticks { busy: all - idle - waiting, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_time_between_two_looks() {
        let folder = tempfile::tempdir().unwrap();
        let stat = folder.path().join("stat");
        let mut processor = Processor::default();
        for (text, expected) in [
            ("cpu  100 20 30 1000 50 5 5 40 7 7\ncpu0 1 1 1 1 1 1 1\n", None),
            ("cpu  150 20 30 1150 50 5 5 40 7 7\n", Some(250_000)),
            ("cpu  150 20 30 1150 50 5 5 40 7 7\n", None),
            ("cpu  150 20 30 1150 150 5 5 40 7 7\n", Some(0)),
            ("intr 5\n", None),
        ] {
            std::fs::write(&stat, text).unwrap();
            assert_eq!(processor.look(&stat), expected, "{text}");
        }
        assert_eq!(processor.look(Path::new("/nowhere")), None);
    }
}
