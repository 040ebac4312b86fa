//! How much of the processor time that an instance wanted it got. Who hardly ran has not shown how much memory he needs: on a busy
//! machine, or under a quota, time in which nothing happens says little.

use std::path::Path;
use std::time::Duration;

/// Threads that are looked at; of more the first stand for all.
const THREAD_COUNT_MAX: usize = 256;

/// What the threads of an instance have run so far, and waited for a processor, all together. Nothing is known: all zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// On processors, nanoseconds.
    pub ran_ns: u64,
    /// Ready to run, nanoseconds.
    pub waited_ns: u64,
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
        let at = |ran_ns, waited_ns| Progress { ran_ns, waited_ns };
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
    fn threads_are_added_up_and_what_is_gone_is_left_out() {
        let proc = tempfile::tempdir().unwrap();
        for (thread, text) in [("7/task/7", "100 20 3\n"), ("7/task/8", "5 1 1\n"), ("9/task/9", "nonsense\n")] {
            std::fs::create_dir_all(proc.path().join(thread)).unwrap();
            std::fs::write(proc.path().join(thread).join("schedstat"), text).unwrap();
        }
        assert_eq!(Progress::of(proc.path(), &[7, 8, 9]), Progress { ran_ns: 105, waited_ns: 21 });
        let own = Progress::of(Path::new("/proc"), &[std::process::id()]);
        assert!(own.ran_ns > 0 || !Path::new("/proc/self/schedstat").exists(), "{own:?}");
    }
}
