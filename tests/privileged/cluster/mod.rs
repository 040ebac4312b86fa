//! The whole system in network namespaces: the demo's steps as tests, more kills, and edges forced to XDP.

mod adversity;
mod available;
mod bypass;
mod clocks;
mod conditions;
mod configured;
mod content;
mod dead_man;
mod drain;
mod encrypted;
mod encrypted_keys;
mod firewall;
mod flapping;
mod fleet_total;
mod flow_export;
mod guest;
mod hairpin;
mod half_dead;
mod held_at_edge;
mod impair;
mod ipv6;
mod ipv6_edges;
mod judge;
mod kills;
mod large;
mod metrics;
mod monitor;
mod monitoring;
mod offloads;
mod outage;
mod planned;
mod prefer_ipv6;
mod relay;
mod requests;
mod rollout;
mod shared_rate;
mod steps;
mod subjects;
mod told;
mod underlay_mtu;
mod xdp;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::ledger::Ledger;
use persona_tests::steps::{self as demo, UNSHAPED as PERSONA};
use persona_tests::world::{Families, Hook, WorkloadPlace, World};

/// A workload of the second node, where a world has one.
pub(crate) const W3: WorkloadPlace = WorkloadPlace {
    name: "w3",
    address: "10.10.5.2",
    gateway: "10.10.5.1",
    address6: "fd00:10:10:5::2",
    gateway6: "fd00:10:10:5::1",
};

/// Whether tests may run: without root they are skipped with a word, which CI makes a failure.
pub(crate) fn may_run() -> bool {
    if std::fs::File::options().write(true).open("/proc/sys/net/ipv4/ip_forward").is_ok() {
        return true;
    }
    let required = std::env::var_os("PERSONA_REQUIRE_PRIVILEGED").is_some();
    assert!(!required, "network namespaces need root, and PERSONA_REQUIRE_PRIVILEGED is set");
    eprintln!("SKIP: network namespaces need root");
    false
}

/// Builds a world, lets the steps run in it, and fails with the table and the logs if a line is not ok.
pub(crate) fn check(hook: Hook, steps: impl FnOnce(&mut World, &mut Findings)) {
    check_with(hook, Families::Ipv4, steps);
}

/// The same in a world of these families.
pub(crate) fn check_with(hook: Hook, families: Families, steps: impl FnOnce(&mut World, &mut Findings)) {
    if !may_run() {
        return;
    }
    let mut world = World::build_with(&Ledger::default(), hook, families).unwrap();
    let mut findings = Findings::default();
    steps(&mut world, &mut findings);
    println!("{}", findings.table());
    assert!(findings.all_ok(), "{}\n{}", findings.table(), world.log_tails());
}

/// The steps that every other one builds on.
pub(crate) fn start(world: &mut World, findings: &mut Findings) {
    findings.run("1 registration", |findings| demo::registration::run(world, findings));
}

/// Looks again and again until it satisfies.
fn wait_for(limit: Duration, satisfies: impl Fn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !satisfies()? {
        if start.elapsed() > patient(limit) {
            bail!("waited {:?}", patient(limit));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
