//! Simulated nodes and edges in processes of their own, and what they have seen.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use persona_core::wire::agent::Role;

use super::manager::Manager;
use super::simulator::{Kind, Seen, What};

/// How many are in one process.
const PROCESS_COUNT_MAX: u32 = 9_000;

/// Edges of the one group that there is.
const EDGE_COUNT: u32 = 4;

/// Edges' numbers begin here.
const EDGE_FIRST: u32 = 1_000_000;

/// A fleet.
pub(super) struct Fleet {
    /// Ends when this is dropped: its standard input does.
    processes: Vec<Child>,
    seen: Receiver<Seen>,
    /// What was seen last, of nodes.
    pub(super) nodes: BTreeMap<u32, Node>,
    node_count: u32,
}

/// What a node saw last.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// When the manager last knew that a state is in force, nanoseconds of the monotonic clock.
    pub(super) applied_ns: u64,
    /// How many of its workloads wear something.
    pub(super) dressed: u32,
    /// What its first workload wears, and in which version.
    pub(super) wears: Option<(String, u32)>,
    /// Whether it is connected and has said what is in force.
    pub(super) is_connected: bool,
}

impl Fleet {
    /// Starts edges, then nodes, and waits until all have joined and are connected.
    pub(super) fn join(manager: &Manager, node_count: u32, workloads: u32, time_max: Duration) -> Result<Self> {
        let (sender, seen) = channel();
        let mut fleet = Self { processes: Vec::new(), seen, nodes: BTreeMap::new(), node_count };
        fleet.start(manager, Kind::Edge, (EDGE_FIRST, EDGE_COUNT), 0, &sender)?;
        let share = node_count.div_ceil(node_count.div_ceil(PROCESS_COUNT_MAX).max(2));
        for first in (0..node_count).step_by(share as usize) {
            let count = share.min(node_count - first);
            fleet.start(manager, Kind::Node, (first, count), workloads, &sender)?;
        }
        fleet.until("all are connected", time_max, |fleet| fleet.connected_count() == node_count)?;
        Ok(fleet)
    }

    fn start(
        &mut self,
        manager: &Manager,
        kind: Kind,
        (first, count): (u32, u32),
        workloads: u32,
        sender: &Sender<Seen>,
    ) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        let (name, role) = if kind == Kind::Edge { ("edge", Role::Edge) } else { ("node", Role::Node) };
        let token = manager.token(role, count)?;
        command.args(["simulate", "--kind", name, "--token", &token, "--url", &manager.url()]);
        command.args(["--first", &first.to_string(), "--count", &count.to_string()]);
        command.args(["--workloads", &workloads.to_string()]).arg("--roots").arg(manager.roots());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the simulated fleet does not start")?;
        let output = BufReader::new(child.stdout.take().context("it has an output")?);
        let sender = sender.clone();
        std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let seen = lines.filter_map(|line| serde_json::from_str(&line).ok());
            for seen in seen {
                if sender.send(seen).is_err() {
                    return;
                }
            }
        });
        self.processes.push(child);
        Ok(())
    }

    /// Takes in what was seen until it is as wanted.
    pub(super) fn until(&mut self, what: &str, time_max: Duration, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !is_so(self) {
            ensure!(start.elapsed() < time_max, "not in {time_max:?}: {what} ({})", self.standing());
            self.take_what_is_there(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Takes in what was seen; waits for the first of it.
    pub(super) fn take_what_is_there(&mut self, wait: Duration) {
        let first = self.seen.recv_timeout(wait).ok();
        first.into_iter().for_each(|seen| self.take(seen));
        while let Ok(seen) = self.seen.try_recv() {
            self.take(seen);
        }
    }

    fn take(&mut self, seen: Seen) {
        if seen.agent >= EDGE_FIRST {
            return;
        }
        let node = self.nodes.entry(seen.agent).or_default();
        match seen.what {
            What::Lost => node.is_connected = false,
            What::Applied { dressed, wears } => {
                *node = Node { applied_ns: seen.at_ns, dressed, wears, is_connected: true };
            }
        }
    }

    /// How many are connected.
    pub(super) fn connected_count(&self) -> u32 {
        self.nodes.values().filter(|node| node.is_connected).count() as u32
    }

    /// How many workloads wear something.
    pub(super) fn dressed_count(&self) -> u32 {
        self.nodes.values().map(|node| node.dressed).sum()
    }

    /// Whether the first workload of every node wears this version.
    pub(super) fn all_wear(&self, persona: &str, version: u32) -> bool {
        let wears = |node: &Node| node.wears.as_ref().is_some_and(|worn| worn.0 == persona && worn.1 == version);
        self.nodes.len() == self.node_count as usize && self.nodes.values().all(wears)
    }

    /// When the last of all was through, nanoseconds.
    pub(super) fn last_ns(&self) -> u64 {
        self.nodes.values().map(|node| node.applied_ns).max().unwrap_or(0)
    }

    fn standing(&self) -> String {
        let (connected, dressed) = (self.connected_count(), self.dressed_count());
        format!("{connected} of {} connected, {dressed} workloads dressed", self.node_count)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.processes {
            drop(child.stdin.take());
            child.wait().ok(); // it ends with its input
        }
    }
}
