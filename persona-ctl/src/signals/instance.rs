//! A look at a workload's instance, from its control groups.

use std::time::{Duration, Instant};

use super::host::HostSize;
use super::look::{Look, Looks, Values};
use crate::limits::{Gauge, InstanceConfig, LimitsConfig, Measurements, find};

/// An instance that was not found, or is gone, is looked for again after this time: runtimes take theirs to answer.
const FIND_INTERVAL: Duration = Duration::from_secs(5);

/// One workload's instance.
#[derive(Debug)]
pub(super) struct Instance {
    config: InstanceConfig,
    gauge: Option<Gauge>,
    looked_for: Option<Instant>,
    looks: Looks,
}

impl Instance {
    /// Nothing is looked at yet.
    pub(super) fn new(config: InstanceConfig) -> Self {
        Self { config, gauge: None, looked_for: None, looks: Looks::default() }
    }

    /// What it uses now. Blocks for as long as a runtime takes to answer.
    pub(super) fn turn(&mut self, limits: &LimitsConfig, size: HostSize) -> Values {
        let found = self.find(limits).and_then(|gauge| gauge.follow().ok());
        match found {
            Some(measured) => self.looks.next(Instant::now(), look_of(&measured, size)),
            None => {
                self.gauge = None;
                self.looks.start_anew();
                Values::default()
            }
        }
    }

    fn find(&mut self, limits: &LimitsConfig) -> Option<&mut Gauge> {
        let is_due = self.looked_for.is_none_or(|at| at.elapsed() >= FIND_INTERVAL);
        if self.gauge.is_none() && is_due {
            self.looked_for = Some(Instant::now());
            // Why it is not found is told where limits are kept. A guest may get a group of its own after it has started.
            let mut places = find(&self.config, limits).map(|found| found.whereabouts.places).unwrap_or_default();
            // How many processes there are is no signal.
            places.retain(|place| place.controller != "pids");
            self.gauge = (!places.is_empty()).then(|| Gauge::at(&places));
        }
        self.gauge.as_mut()
    }
}

/// What control groups tell, as signals. Without limits of its own an instance may use the host's all.
fn look_of(measured: &Measurements, size: HostSize) -> Look {
    let mut look = Look::default();
    let seconds = |us: Option<u64>| us.map(|us| us as f64 / 1e6);
    let number = |value: Option<u64>| value.map(|value| value as f64);
    look.total("cpu.usage", seconds(measured.cpu_us));
    look.cpu_permitted = match (measured.cpu_permitted, size.cpu_count) {
        (Some(quota), Some(count)) => Some(quota.min(count)),
        (quota, count) => quota.or(count),
    };
    look.share("cpu.throttling", measured.throttled_period_count, measured.period_count);
    look.total("cpu.pressure", seconds(measured.cpu_stalled_us));
    look.level("memory.bytes", number(measured.memory_bytes));
    look.level("memory.working_set", number(measured.working_set_bytes));
    let permitted =
        measured.memory_permitted_bytes.into_iter().chain(size.memory_bytes).min().filter(|bytes| *bytes > 0);
    let usage = measured.working_set_bytes.zip(permitted);
    look.level("memory.usage", usage.map(|(used, permitted)| (used as f64 / permitted as f64).min(1.0)));
    look.total("memory.pressure", seconds(measured.memory_stalled_us));
    look.total("memory.oom_kills", number(measured.oom_kill_count));
    look.total("io.read_bytes", number(measured.read_bytes));
    look.total("io.write_bytes", number(measured.written_bytes));
    look.total("io.read_operations", number(measured.read_count));
    look.total("io.write_operations", number(measured.write_count));
    look.total("io.pressure", seconds(measured.io_stalled_us));
    look
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_is_permitted_and_of_the_host_where_nothing_limits() {
        let size = HostSize { cpu_count: Some(4.0), memory_bytes: Some(1_000) };
        let of = |cpu_permitted, memory_permitted_bytes| {
            let working_set_bytes = Some(200);
            let look = look_of(
                &Measurements { cpu_permitted, memory_permitted_bytes, working_set_bytes, ..Measurements::default() },
                size,
            );
            (look.cpu_permitted, look.levels.iter().find(|(name, _)| *name == "memory.usage").map(|(_, value)| *value))
        };
        assert_eq!(of(None, None), (Some(4.0), Some(0.2)));
        assert_eq!(of(Some(0.5), Some(250)), (Some(0.5), Some(0.8)));
        assert_eq!(of(Some(9.0), Some(u64::MAX)), (Some(4.0), Some(0.2)));
        let nothing = look_of(&Measurements::default(), HostSize::default());
        assert_eq!(nothing, Look::default(), "what is not told is missing, not zero");
    }

    #[test]
    fn an_instance_that_is_not_there_is_looked_for_again() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = root.path().join("cgroup");
        std::fs::create_dir_all(&cgroups).unwrap();
        let limits = LimitsConfig {
            cgroup_root: cgroups.clone(),
            sys_block: root.path().join("block"),
            ..LimitsConfig::default()
        };
        let source = crate::limits::Source::Cgroup("/web".into());
        let mut instance = Instance::new(InstanceConfig { source, io_devices: vec!["8:0".to_owned()] });
        assert!(instance.find(&limits).is_none());
        std::fs::write(cgroups.join("cgroup.controllers"), "memory pids").unwrap();
        std::fs::create_dir(cgroups.join("web")).unwrap();
        assert!(instance.find(&limits).is_none(), "not before its time");
        instance.looked_for = None;
        let gauge = instance.find(&limits).expect("it is there by now");
        for (file, text) in [("memory.current", "3"), ("memory.stat", ""), ("memory.events", "")] {
            std::fs::write(cgroups.join("web").join(file), text).unwrap();
        }
        let found = gauge.read().unwrap();
        assert_eq!((found.memory_bytes, found.pid_count), (Some(3), None));
    }
}
