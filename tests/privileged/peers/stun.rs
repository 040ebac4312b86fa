//! coturn's STUN server and client: what a WebRTC application finds out about the NAT that it is behind (RFC 5780), and
//! what it can rely on across a switch.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use persona_core::wire::api::LeaseView;
use persona_tests::findings::Findings;
use persona_tests::peers::coturn::{self, Discovery};
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{SUBJECT, TOKYO, view};
use persona_tests::world::{INTERNET_ADDRESS, World};

use super::in_cluster;

/// The server's second address.
const SECOND_ADDRESS: &str = "198.51.100.11";

/// The local address and port of a client that asks again later.
const LOCAL: [&str; 4] = ["-L", "10.10.1.2", "-l", "40444"];

/// A persona that lets in only whom its subject has sent to.
const STRICT_DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: frankfurt-strict }
spec:
  network:
    egress: { pools: [frankfurt], portsPerSubject: 1024, filtering: address-and-port-dependent }
    mtu: 1400
    protocols: [tcp, udp, icmp]
    edges: { group: frankfurt }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: workloads }
spec:
  selector: { kind: workload }
  personas: [frankfurt-standard, frankfurt-low-latency, tokyo-standard, frankfurt-strict]
  default: frankfurt-standard
";

#[test]
fn stun_finds_endpoint_independent_mapping_and_filtering() {
    in_cluster("STUN", |world, findings| {
        let internet = &world.namespaces.internet;
        internet.add_address("eth0", &format!("{SECOND_ADDRESS}/24"))?;
        let addresses = [INTERNET_ADDRESS, SECOND_ADDRESS];
        let _server = coturn::start(&world.ledger, internet, &world.folder, addresses)?;
        behaviour(world, findings, "-m", "NAT with Endpoint Independent Mapping!")?;
        behaviour(world, findings, "-f", "NAT with Endpoint Independent Filtering!")?;
        across_a_switch(world, findings)?;
        world.apply("strict.yaml", STRICT_DOCUMENTS)?;
        switch_to(world, SUBJECT, "frankfurt-strict")?;
        behaviour(world, findings, "-m", "NAT with Endpoint Independent Mapping!")?;
        behaviour(world, findings, "-f", "NAT with Address and Port Dependent Filtering!")
    });
}

fn behaviour(world: &World, findings: &mut Findings, option: &str, verdict: &str) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let found = coturn::discover(world.workload("w1"), INTERNET_ADDRESS, &[option])?;
    findings.note(verdict, found.verdicts.join(", "), found.verdicts == [verdict]);
    let is_one = found.reflexive.iter().all(|seen| *seen == found.reflexive[0]);
    note_reflexive(findings, "every answer shows the same mapping", &found, is_one, &lease);
    Ok(())
}

/// A socket that goes on talking keeps its mapping; another one gets the new persona's.
fn across_a_switch(world: &World, findings: &mut Findings) -> Result<()> {
    let old = view::lease_of(world, SUBJECT)?;
    let before = ask(world)?;
    switch_to(world, SUBJECT, TOKYO)?;
    let new = view::lease_of(world, SUBJECT)?;
    let after = ask(world)?;
    let is_same = reflexive(&before)? == reflexive(&after)?;
    note_reflexive(findings, "after the switch the same socket keeps its mapping", &after, is_same, &old);
    let fresh = coturn::discover(world.workload("w1"), INTERNET_ADDRESS, &["-m"])?;
    note_reflexive(findings, "another socket shows the new persona", &fresh, true, &new);
    Ok(())
}

fn ask(world: &World) -> Result<Discovery> {
    coturn::discover(world.workload("w1"), INTERNET_ADDRESS, &[&["-m"], &LOCAL[..]].concat())
}

fn reflexive(found: &Discovery) -> Result<SocketAddr> {
    found.reflexive.first().copied().with_context(|| format!("no answer: {}", found.text))
}

fn note_reflexive(findings: &mut Findings, what: &str, found: &Discovery, also: bool, lease: &LeaseView) {
    let is_leased = |seen: &SocketAddr| match seen {
        SocketAddr::V4(seen) => view::is_inside(lease, (*seen.ip(), seen.port())),
        SocketAddr::V6(_) => false,
    };
    let ok = also && !found.reflexive.is_empty() && found.reflexive.iter().all(is_leased);
    findings.note(format!("{what}, in {}", view::describe(lease)), format!("{:?}", found.reflexive), ok);
}
