//! What the processors of the machine have worked, all together or for one process, and the memory that one has.

use std::fs;

use anyhow::{Context, Result, bail};

/// Ticks a second in `/proc/stat` and `/proc/PID/stat`: `USER_HZ`, which is 100 on every architecture that is measured here (proc(5)).
const TICKS_PER_SEC: f64 = 100.0;

/// Seconds that the processors have worked since boot, all together: neither idle, nor waiting, nor taken by the hypervisor.
pub fn busy_secs() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat cannot be read")?;
    busy_of(&text).context("/proc/stat has no line of all processors")
}

/// Seconds that processors have worked for a process: user and system time, fields 14 and 15 of proc_pid_stat(5).
pub fn process_secs(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    let rest = text.rsplit_once(')').map(|(_, rest)| rest).context("no name in stat")?;
    let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
    let [user, system] = ticks[..] else { bail!("no times in stat") };
    Ok((user + system) / TICKS_PER_SEC)
}

/// Memory of a process, MiB, by the name that proc_pid_status(5) has for it: `VmRSS` in use, `VmHWM` the most it ever had.
pub fn memory_mib(pid: u32, name: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("no {name} in status"))? / 1024.0)
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
