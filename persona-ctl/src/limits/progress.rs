//! How far an instance got while its memory is watched: how much of the processor time that it wanted, and how much memory it took.
//!
//! Time in which nothing happens says little about what it needs: on a busy machine, or under a quota, it hardly ran; on a
//! slow one it took long for each page. So time counts as far as it ran, and who works is watched until he has been round
//! all that he holds a few times, or for long.

use std::path::Path;
use std::time::Duration;

/// Threads that are looked at; of more the first stand for all.
const THREAD_COUNT_MAX: usize = 256;

/// Who takes, or runs, less than one in so many of what he could is idle.
const IDLE_DIVISOR: u64 = 64;

/// How often who works has to have taken the most that he ever held. Whose need comes every third time at the latest shows it in three such rounds.
const ROUND_COUNT: u64 = 3;

/// Bytes of a page that is taken on a fault; of a huge one as many count.
const PAGE_BYTES: u64 = 4_096;

/// What the threads of an instance have run so far, and waited for a processor, all together, and what they took. Nothing is
/// known: all zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// On processors, nanoseconds.
    pub ran_ns: u64,
    /// Ready to run, nanoseconds.
    pub waited_ns: u64,
    /// Pages that they took on a fault.
    pub fault_count: u64,
}

/// What somebody has shown of his needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// He is idle: there is nothing to see.
    Idle,
    /// He works, and more may be seen.
    Working,
    /// He has been round all that he ever held.
    All,
}

impl Progress {
    /// That of these processes (`/proc/PID/task/TID/schedstat`, Documentation/scheduler/sched-stats.rst). A kernel without such counts,
    /// and a process that has ended, are left out.
    pub(super) fn of(proc: &Path, processes: &[u32]) -> Self {
        let threads = processes.iter().flat_map(|process| {
            let entries = std::fs::read_dir(proc.join(format!("{process}/task"))).into_iter().flatten();
            entries.filter_map(|entry| Some(entry.ok()?.path().join("schedstat")))
        });
        let mut sum = Self::default();
        for path in threads.take(THREAD_COUNT_MAX) {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let mut words = text.split_whitespace().map(|word| word.parse::<u64>().ok());
            let (Some(Some(ran)), Some(Some(waited))) = (words.next(), words.next()) else { continue };
            sum.ran_ns += ran;
            sum.waited_ns += waited;
        }
        sum
    }

    /// What was seen since `before`, of somebody who never held more than `peak_bytes`.
    pub(super) fn shown(self, before: Self, time: Duration, peak_bytes: u64) -> Shown {
        let took_bytes = self.fault_count.saturating_sub(before.fault_count).saturating_mul(PAGE_BYTES);
        let ran = Duration::from_nanos(self.ran_ns.saturating_sub(before.ran_ns));
        if took_bytes / ROUND_COUNT >= peak_bytes {
            Shown::All
        } else if took_bytes <= peak_bytes / IDLE_DIVISOR
            && ran.as_nanos() <= time.as_nanos() / u128::from(IDLE_DIVISOR)
        {
            Shown::Idle
        } else {
            Shown::Working
        }
    }

    /// How much of the time since `before` counts: the share of what was wanted that was had. Who wanted nothing had it all.
    pub(super) fn counted(self, before: Self, time: Duration) -> Duration {
        let ran = self.ran_ns.saturating_sub(before.ran_ns) as f64;
        let waited = self.waited_ns.saturating_sub(before.waited_ns) as f64;
        if waited == 0.0 { time } else { time.mul_f64(ran / (ran + waited)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_as_far_as_the_instance_got_to_run() {
        let second = Duration::from_secs(1);
        let at = |ran_ns, waited_ns| Progress { ran_ns, waited_ns, fault_count: 0 };
        for (before, after, expected_ms) in [
            (at(0, 0), at(0, 0), 1_000),
            (at(5, 5), at(9, 5), 1_000),
            (at(100, 100), at(200, 400), 250),
            (at(100, 100), at(100, 900), 0),
            (at(900, 900), at(10, 10), 1_000),
        ] {
            let counted = after.counted(before, second).as_millis();
            assert_eq!(counted, expected_ms, "{before:?} {after:?}");
        }
    }

    #[test]
    fn who_works_has_shown_all_when_he_took_three_times_what_he_ever_held() {
        let (second, page) = (Duration::from_secs(1), PAGE_BYTES);
        let shown = |ran_ns: u64, fault_count: u64| {
            let before = Progress { ran_ns: 5, waited_ns: 5, fault_count: 5 };
            let after = Progress { ran_ns: 5 + ran_ns, waited_ns: 5, fault_count: 5 + fault_count };
            after.shown(before, second, 6_400 * page)
        };
        assert_eq!(shown(0, 0), Shown::Idle);
        assert_eq!(shown(15_000_000, 100), Shown::Idle);
        assert_eq!(shown(16_000_000, 100), Shown::Working, "who runs may ask yet");
        assert_eq!(shown(0, 101), Shown::Working);
        assert_eq!(shown(900_000_000, 19_199), Shown::Working);
        assert_eq!(shown(900_000_000, 19_200), Shown::All);
    }

    #[test]
    fn threads_are_added_up_and_what_is_gone_is_left_out() {
        let proc = tempfile::tempdir().unwrap();
        for (thread, text) in [("7/task/7", "100 20 3\n"), ("7/task/8", "5 1 1\n"), ("9/task/9", "nonsense\n")] {
            std::fs::create_dir_all(proc.path().join(thread)).unwrap();
            std::fs::write(proc.path().join(thread).join("schedstat"), text).unwrap();
        }
        assert_eq!(Progress::of(proc.path(), &[7, 8, 9]), Progress { ran_ns: 105, waited_ns: 21, fault_count: 0 });
        let own = Progress::of(Path::new("/proc"), &[std::process::id()]);
        assert!(own.ran_ns > 0 || !Path::new("/proc/self/schedstat").exists(), "{own:?}");
    }
}
