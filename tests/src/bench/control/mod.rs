//! The control plane under a fleet: simulated nodes and edges over real TLS, the manager a process of its own.

mod etcd;
mod fleet;
mod manager;
pub mod planner;
mod readers;
pub mod simulator;

use std::time::{Duration, Instant};

use anyhow::Result;
use persona_core::wire::api::Switch;
use serde_json::{Value, json};

use super::measures::Run;
use super::row::{Better, Goal, Row};
use super::samples::Samples;
use crate::sys::monotonic_time;
use etcd::{Etcd, percentiles};
use fleet::Fleet;
use manager::Manager;
use readers::Readers;

/// Nodes whose switches are timed one by one.
const SWITCHED_NODE_COUNT: u32 = 1_000;

/// Nodes with a crowd of workloads each, as many as one may have.
const CROWDED_NODE_COUNT: u32 = 12;
const CROWD: u32 = 4_096;

/// Leases that are given with nothing beside it, and how many of them in one transaction.
const GIVEN_LEASE_COUNT: u32 = 100_000;
const LEASE_BATCH: u32 = 4_096;

/// Switches of a round.
const SWITCH_COUNT: u32 = 100;

/// Nodes of the large fleet: the first number for which the manager may have enough files open.
const LARGE_NODE_COUNTS: [u32; 2] = [20_000, 18_000];

/// Files that a manager has open beside its nodes' connections.
const OTHER_FILE_COUNT: u64 = 1_000;

/// How often nodes report that nothing else is told, milliseconds: a manager's default.
const REPORT_MS: u32 = 1_000;

/// What stands beside a switch: one commit and one event, where a switch takes two commits and edges that learn first.
const PUT: &str = "a put to its watcher, etcd";

/// Whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// A thousand nodes: how long a switch takes until its node has acknowledged that it is in force, and how many questions a
/// second are answered.
pub fn thousand(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say(&format!("thousand: {SWITCHED_NODE_COUNT} nodes join"));
    let manager = Manager::start(run.ledger, REPORT_MS)?;
    manager.apply(documents(SWITCHED_NODE_COUNT, 1))?;
    let mut fleet = Fleet::join(&manager, SWITCHED_NODE_COUNT, 1, PATIENCE)?;
    fleet.until("all wear the default", PATIENCE, |fleet| fleet.all_wear("plain", 1))?;
    let readers = Readers::new(&manager)?;
    let etcd = Etcd::start(run.ledger, SWITCHED_NODE_COUNT)?;
    let [mut p50, mut p99, mut put_p50, mut put_p99, mut reads]: [Samples; 5] = Default::default();
    let [mut everybody, mut everybody_put]: [Samples; 2] = Default::default();
    for round in 0..run.rounds {
        run.say(&format!("thousand: round {} of {}", round + 1, run.rounds));
        // To and fro: in the end all wear the default again.
        let switches =
            ["other", "plain"].into_iter().flat_map(|persona| switched_nodes().map(move |node| (node, persona)));
        let took_ms = switches.map(|(node, persona)| switch(&manager, &mut fleet, node, persona));
        percentiles(took_ms.collect::<Result<_>>()?, [&mut p50, &mut p99]);
        let put_ms = switched_nodes().map(|node| etcd.put_to_watcher_ms(node)).collect::<Result<_>>()?;
        percentiles(put_ms, [&mut put_p50, &mut put_p99]);
        let version = round + 2;
        let start = monotonic_time()?;
        manager.apply(documents(SWITCHED_NODE_COUNT, version))?;
        fleet.until("all have the change", PATIENCE, |fleet| fleet.all_wear("plain", version))?;
        everybody.push((fleet.last_ns() as f64 - start.as_nanos() as f64) / 1e6);
        everybody_put.push(etcd.put_to_all_ms(SWITCHED_NODE_COUNT)?);
        reads.push(readers.answers_per_sec(SWITCHED_NODE_COUNT)?);
        run.step();
    }
    let fan_out = Row::new("thousand/change of all", "ms", Better::Less, everybody);
    Ok(vec![
        Row::new("thousand/switch/p50", "ms", Better::Less, p50).beside(PUT, put_p50).reach(Goal::AtMost(10.0)),
        Row::new("thousand/switch/p99", "ms", Better::Less, p99).beside(PUT, put_p99).reach(Goal::AtMost(50.0)),
        fan_out.beside("one put to all watchers of etcd", everybody_put),
        Row::new("thousand/reads", "answers/s", Better::More, reads).reach(Goal::AtLeast(20_000.0)),
    ])
}

/// A few nodes from all over the fleet.
fn switched_nodes() -> impl Iterator<Item = u32> {
    (0..SWITCH_COUNT / 2).map(|index| index * (SWITCHED_NODE_COUNT * 2 / SWITCH_COUNT))
}

/// How many leases a second are given, in batches, until the last is durable; and how many subjects of nodes with as many workloads
/// as a node may have get theirs when a binding comes that selects all: then each is decided, and nodes and edges are told meanwhile.
pub fn leases(run: &Run<'_>) -> Result<Vec<Row>> {
    let given = leases_given(run)?;
    let mut rate = Samples::default();
    for round in 0..run.rounds_of_a_long_measure() {
        run.say(&format!("leases: round {}: workloads are found", round + 1));
        let manager = Manager::start(run.ledger, 10_000)?;
        let lease_count = CROWDED_NODE_COUNT * CROWD;
        let mut documents = documents(lease_count, 1);
        let binding = documents.pop();
        manager.apply(documents)?;
        let mut fleet = Fleet::join(&manager, CROWDED_NODE_COUNT, CROWD, PATIENCE)?;
        run.say(&format!("leases: round {}: a binding selects all", round + 1));
        let start = Instant::now();
        manager.apply(binding.into_iter().collect())?;
        manager.wait_for_lease(u64::from(lease_count))?;
        rate.push(f64::from(lease_count) / start.elapsed().as_secs_f64());
        fleet.until("all are dressed", PATIENCE, |fleet| fleet.dressed_count() == lease_count)?;
        run.step();
    }
    Ok(vec![
        Row::new("leases/given", "leases/s", Better::More, given).reach(Goal::AtLeast(50_000.0)),
        Row::new("leases/decided and told", "subjects/s", Better::More, rate),
    ])
}

fn leases_given(run: &Run<'_>) -> Result<Samples> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rate = Samples::default();
    for round in 0..run.rounds {
        run.say(&format!("leases: round {}: {GIVEN_LEASE_COUNT} are given", round + 1));
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("store.sqlite");
        rate.push(runtime.block_on(persona_manager::leases_per_sec(&store, GIVEN_LEASE_COUNT, LEASE_BATCH))?);
    }
    Ok(rate)
}

/// Milliseconds from the command until the manager knows that a node's workload wears the other persona.
fn switch(manager: &Manager, fleet: &mut Fleet, node: u32, persona: &str) -> Result<f64> {
    let switch = Switch {
        subject: format!("workload/n{node}/w0").parse()?,
        persona: persona.parse()?,
        for_ms: None,
        cut_after_ms: Some(0),
    };
    let start = monotonic_time()?;
    manager.ask(manager.client.switch(&switch))?;
    fleet.until("a switched workload wears its persona", PATIENCE, |fleet| {
        let worn = fleet.nodes.get(&node).and_then(|node| node.wears.as_ref());
        worn.is_some_and(|worn| worn.0 == persona)
    })?;
    Ok((fleet.nodes[&node].applied_ns as f64 - start.as_nanos() as f64) / 1e6)
}

/// As many nodes as may be: memory, a change that reaches all, and how soon all are back after the manager died.
pub fn large(run: &Run<'_>) -> Result<Vec<Row>> {
    let node_count = as_many_as_may_be();
    run.say(&format!("large: {node_count} nodes join"));
    let mut manager = Manager::start(run.ledger, REPORT_MS)?;
    manager.apply(documents(node_count, 1))?;
    let start = Instant::now();
    let mut fleet = Fleet::join(&manager, node_count, 1, PATIENCE)?;
    fleet.until("all wear the default", PATIENCE, |fleet| fleet.all_wear("plain", 1))?;
    let joined = start.elapsed();
    let [mut everybody, mut back, mut answer, mut memory, mut idle]: [Samples; 5] = Default::default();
    for round in 0..run.rounds_of_a_long_measure() {
        run.say(&format!("large: round {}: a change that reaches all", round + 1));
        let version = round + 2;
        let start = monotonic_time()?;
        manager.apply(documents(node_count, version))?;
        fleet.until("all have the change", PATIENCE, |fleet| fleet.all_wear("plain", version))?;
        everybody.push((fleet.last_ns() as f64 - start.as_nanos() as f64) / 1e9);
        run.say(&format!("large: round {}: the manager is killed", round + 1));
        let (start, worked) = (Instant::now(), manager.processor_secs()?);
        std::thread::sleep(Duration::from_secs(5));
        idle.push((manager.processor_secs()? - worked) / start.elapsed().as_secs_f64() * 100.0);
        let (secs, slowest_ms) = come_back(&mut manager, &mut fleet, node_count)?;
        back.push(secs);
        answer.push(slowest_ms);
        memory.push(manager.memory_mib()?);
        run.step();
    }
    let name = |what: &str| format!("large/nodes-{node_count}/{what}");
    Ok(vec![
        Row::new(name("join"), "s", Better::Less, Samples::from_iter([joined.as_secs_f64()])),
        Row::new(name("change of all"), "s", Better::Less, everybody).reach(Goal::AtMost(10.0)),
        Row::new(name("all back"), "s", Better::Less, back).reach(Goal::AtMost(30.0)),
        Row::new(name("slowest answer meanwhile"), "ms", Better::Less, answer).reach(Goal::AtMost(1_000.0)),
        Row::new(name("memory"), "MiB", Better::Less, memory).reach(Goal::AtMost(1_536.0)),
        Row::new(name("idle processor"), "% of a core", Better::Less, idle),
    ])
}

/// Nodes for which the manager may have enough files open.
fn as_many_as_may_be() -> u32 {
    let file_count_max = persona_ctl::open_files::raise_limit().unwrap_or(u64::MAX);
    let room = file_count_max.saturating_sub(OTHER_FILE_COUNT);
    LARGE_NODE_COUNTS.into_iter().find(|count| u64::from(*count) <= room).unwrap_or(room as u32)
}

/// Kills the manager and starts it again: seconds until all are back, and the slowest answer that an operator got once it
/// answered at all, milliseconds.
fn come_back(manager: &mut Manager, fleet: &mut Fleet, node_count: u32) -> Result<(f64, f64)> {
    let start = Instant::now();
    manager.restart()?;
    fleet.until("the connections end", PATIENCE, |fleet| fleet.connected_count() < node_count)?;
    manager.wait()?;
    let mut slowest_ms: f64 = 0.0;
    loop {
        let asked = Instant::now();
        manager.ask(manager.client.edges())?;
        slowest_ms = slowest_ms.max(asked.elapsed().as_secs_f64() * 1e3);
        fleet.take_what_is_there(Duration::from_millis(50));
        if fleet.connected_count() == node_count {
            return Ok((start.elapsed().as_secs_f64(), slowest_ms));
        }
        anyhow::ensure!(start.elapsed() < PATIENCE, "not all came back");
    }
}

/// A pool with room for all, two personas, and a binding by which all wear the first. Versions differ in a rate.
fn documents(subject_count: u32, version: u32) -> Vec<Value> {
    // A block of 1,024 ports each, twice while a subject switches, in 63 blocks of an address.
    let prefix = 32 - (subject_count * 2).div_ceil(63).next_power_of_two().ilog2();
    let persona = |name: &str, rate: u32| {
        json!({
            "apiVersion": "persona/v1", "kind": "Persona", "metadata": { "name": name },
            "spec": { "network": { "egress": { "pools": ["pool"] } }, "qos": { "egressRate": format!("{rate}mbit") } },
        })
    };
    vec![
        json!({ "apiVersion": "persona/v1", "kind": "EgressPool", "metadata": { "name": "pool" },
            "spec": { "addresses": [format!("100.64.0.0/{prefix}")], "group": simulator::GROUP, "quarantine": "1s" } }),
        persona("plain", 10 + version),
        persona("other", 10),
        json!({ "apiVersion": "persona/v1", "kind": "Binding", "metadata": { "name": "all" },
            "spec": { "selector": { "kind": "workload" }, "personas": ["plain", "other"], "default": "plain" } }),
    ]
}
