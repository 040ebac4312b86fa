//! What the container did and was held to, looked at again and again while the steps run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use persona_core::wire::api::{SignalsView, WorkloadView};

use super::container::SUBJECT;
use super::limits::{cpu_limit, memory_limit_mib};
use crate::ctl::Ctl;
use crate::world::World;

/// How long to wait between two looks: signals are measured once a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// One look.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Since the recorder was started, seconds.
    pub seconds: f64,
    /// Processors in use, as the manager knows it.
    pub cpu_usage: Option<f64>,
    /// Processors that the kernel allows; none: all.
    pub cpu_limit: Option<f64>,
    /// Memory that the kernel allows, MiB; none: all.
    pub memory_limit_mib: Option<u64>,
    /// The persona whose limits are in force.
    pub persona: Option<String>,
}

/// Looks until it is told to finish.
pub(super) struct Recorder {
    is_done: Arc<AtomicBool>,
    looks: JoinHandle<Vec<Look>>,
}

impl Recorder {
    /// Starts to look at the container, whose control group is this.
    pub(super) fn start(world: &World, group: &str) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let (ctl, group, ends) = (world.ctl.clone(), group.to_owned(), Arc::clone(&is_done));
        let looks = thread::spawn(move || {
            let (start, mut looks) = (Instant::now(), Vec::new());
            while !ends.load(Ordering::Relaxed) {
                looks.push(look(&ctl, &group, start));
                thread::sleep(INTERVAL);
            }
            looks
        });
        Self { is_done, looks }
    }

    /// All looks.
    pub(super) fn finish(self) -> Vec<Look> {
        self.is_done.store(true, Ordering::Relaxed);
        self.looks.join().expect("looking does not panic")
    }
}

fn look(ctl: &Ctl, group: &str, start: Instant) -> Look {
    let signals = ctl.json::<SignalsView>(&["signal", "list", SUBJECT]).ok();
    let usage = signals.and_then(|view| view.signals.into_iter().find(|signal| signal.name == "cpu.usage"));
    let workload = ctl.json::<WorkloadView>(&["workload", "get", SUBJECT]).ok();
    Look {
        seconds: start.elapsed().as_secs_f64(),
        cpu_usage: usage.map(|signal| signal.value),
        cpu_limit: cpu_limit(group),
        memory_limit_mib: memory_limit_mib(group),
        persona: workload.and_then(|view| view.limits?.persona),
    }
}
