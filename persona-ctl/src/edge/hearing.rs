//! Which nodes the edge hears: the reflecting program stamps each node's probes, and this thread looks at the stamps once
//! per probe interval.
//!
//! The stamps are the kernel's, so a pause of this process is no silence of the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use persona_core::wire::desired::ProbeItem;

use super::guardian::News;
use crate::dataplane::HeardReader;
use crate::host::error_chain;

/// The clock that the stamps are of may stand still for this long (CONFIG_HZ=100).
const CLOCK_GRAIN: Duration = Duration::from_millis(10);
/// Looking at a node's stamp takes one system call; with very many nodes the looks are spread out.
const LOOK_TIME_PER_NODE: Duration = Duration::from_micros(20);

/// The running listener. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Hearing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    is_stopping: AtomicBool,
    plan: Mutex<Plan>,
}

#[derive(Debug, Clone, Default)]
struct Plan {
    probe: ProbeItem,
    nodes: BTreeSet<IpAddr>,
}

impl Hearing {
    /// Starts the thread, with nobody to listen for yet.
    pub(super) fn start(reader: HeardReader, news: SyncSender<News>) -> io::Result<Self> {
        let shared = Arc::new(Shared { is_stopping: AtomicBool::new(false), plan: Mutex::default() });
        let thread = std::thread::Builder::new().name("persona-heard".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &reader, &news)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Listens for these nodes from now on, which probe this often.
    pub(super) fn set_nodes(&self, probe: ProbeItem, nodes: BTreeSet<IpAddr>) {
        *self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner) = Plan { probe, nodes };
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that listens for nodes had panicked");
        }
    }
}

fn run(shared: &Shared, reader: &HeardReader, news: &SyncSender<News>) {
    let mut told = BTreeMap::new();
    let mut said = String::new();
    while !shared.is_stopping.load(Ordering::Relaxed) {
        let plan = shared.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut ages = BTreeMap::new();
        for node in &plan.nodes {
            match reader.age(*node) {
                Ok(age) => drop(ages.insert(*node, age)),
                Err(error) if said == error_chain(&error) => {}
                Err(error) => {
                    said = error_chain(&error);
                    tracing::error!(error = said, "it cannot be seen when nodes were heard");
                }
            }
        }
        for (node, is_heard) in changes(&mut told, &ages, limit(&plan.probe)) {
            if news.send(News::Node(node, is_heard)).is_err() {
                return;
            }
        }
        let interval = Duration::from_millis(plan.probe.interval_ms.max(1).into());
        std::thread::sleep(interval.max(LOOK_TIME_PER_NODE * plan.nodes.len() as u32));
    }
}

fn limit(probe: &ProbeItem) -> Duration {
    Duration::from_millis(u64::from(probe.interval_ms.max(1)) * u64::from(probe.multiplier.max(1))) + CLOCK_GRAIN
}

/// What is to be told: nodes that are new, and nodes that fell silent or speak again. Nodes that are gone are forgotten.
fn changes(
    told: &mut BTreeMap<IpAddr, bool>,
    ages: &BTreeMap<IpAddr, Option<Duration>>,
    limit: Duration,
) -> Vec<(IpAddr, bool)> {
    told.retain(|node, _| ages.contains_key(node));
    let mut changes = Vec::new();
    for (node, age) in ages {
        let is_heard = age.is_some_and(|age| age < limit);
        if told.insert(*node, is_heard) != Some(is_heard) {
            changes.push((*node, is_heard));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_return_are_told_once() {
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let limit = limit(&ProbeItem { interval_ms: 50, multiplier: 3 });
        let mut told = BTreeMap::new();
        let ages = |age_ms: Option<u64>| {
            BTreeMap::from([(one, Some(Duration::ZERO)), (two, age_ms.map(Duration::from_millis))])
        };
        for (age_ms, expected) in [
            (None, vec![(one, true), (two, false)]),
            (None, vec![]),
            (Some(0), vec![(two, true)]),
            (Some(159), vec![]),
            (Some(160), vec![(two, false)]),
            (Some(10), vec![(two, true)]),
        ] {
            assert_eq!(changes(&mut told, &ages(age_ms), limit), expected, "{age_ms:?}");
        }
        assert!(changes(&mut told, &BTreeMap::from([(one, Some(Duration::ZERO))]), limit).is_empty());
        assert_eq!(changes(&mut told, &ages(Some(10)), limit), [(two, true)], "a node that comes back is new");
    }
}
