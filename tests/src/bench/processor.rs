//! What all processors of the machine have worked.

use std::fs;

use anyhow::{Context, Result};

/// Ticks a second in `/proc/stat`: `USER_HZ`, which is 100 on every architecture that is measured here (proc(5)).
const TICKS_PER_SEC: f64 = 100.0;

/// Seconds that the processors have worked since boot, all together: neither idle, nor waiting, nor taken by the hypervisor.
pub fn busy_secs() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat cannot be read")?;
    busy_of(&text).context("/proc/stat has no line of all processors")
}

/// user, nice, system, (idle, iowait,) irq and softirq.
fn busy_of(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq) as f64 / TICKS_PER_SEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_no_work() {
        let stat = "cpu  100 20 300 9000 800 7 30 5000 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_of(stat), Some(4.57));
        assert_eq!(busy_of("intr 5\n"), None);
    }
}
