//! How much of the host's processor time is in use, and how much of it goes into packets: these are carried in interrupts, so
//! the process's own time says nothing.

use std::path::Path;

/// Looks again and again; each look tells of the time since the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Processor {
    last: Option<Ticks>,
}

/// Shares of the host's processor time, millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    /// In use, whoever's.
    pub busy: u32,
    /// In interrupts, hard and soft: XDP and TC programs run there. So does what else devices bring, which counts as packets' too.
    pub packet_path: u32,
}

/// Processor time since the host started, in ticks of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    packet_path: u64,
    all: u64,
}

impl Processor {
    /// What was in use since the last look. None: this is the first, or the host does not tell.
    pub(super) fn look(&mut self, stat: &Path) -> Option<Use> {
        let now = ticks(&std::fs::read_to_string(stat).ok()?)?;
        let before = self.last.replace(now)?;
        let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let share = |now: u64, before: u64| (now.saturating_sub(before).min(all) as f64 / all as f64 * 1e6) as u32;
        let (busy, packet_path) = (share(now.busy, before.busy), share(now.packet_path, before.packet_path));
        Some(Use { busy, packet_path })
    }
}

/// `cpu user nice system idle iowait irq softirq steal …` (proc_stat(5)); what a guest takes is in `user` already.
fn ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let figures: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let (idle, waiting, hard, soft) = (figures.get(3)?, figures.get(4)?, figures.get(5)?, figures.get(6)?);
    let all = figures.iter().sum();
    Some(Ticks { busy: all - idle - waiting, packet_path: hard + soft, all })
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
            ("cpu  150 20 30 1150 50 5 5 40 7 7\n", Some((250_000, 0))),
            ("cpu  150 20 30 1150 50 5 5 40 7 7\n", None),
            ("cpu  150 20 30 1150 150 5 5 40 7 7\n", Some((0, 0))),
            ("cpu  160 20 30 1220 150 6 24 40 7 7\n", Some((300_000, 200_000))),
            ("intr 5\n", None),
        ] {
            std::fs::write(&stat, text).unwrap();
            let told = processor.look(&stat).map(|share| (share.busy, share.packet_path));
            assert_eq!(told, expected, "{text}");
        }
        assert_eq!(processor.look(Path::new("/nowhere")), None);
    }
}
