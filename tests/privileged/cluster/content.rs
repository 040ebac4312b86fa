//! Closeness to content: edges measure their ways to what a persona names, from their outside devices, and its wearer goes where that
//! is clearly closer. Towards the underlay nothing is measured, whoever names it.
//!
//! The internet host answers echoes in place of its kernel, and some askers wait: as if they were farther away.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{EdgeView, Explanation, LeaseView};
use persona_tests::findings::Findings;
use persona_tests::load::capture::Capture;
use persona_tests::load::far::FarEchoes;
use persona_tests::steps::view;
use persona_tests::world::{EDGES, Hook, INTERNET_ADDRESS, World};

use super::{check, start};

/// How long it may take until edges have asked what to measure and have told it.
const MEASURING_TIME: Duration = Duration::from_secs(90);

/// How much farther one group is: clearly, on a busy machine too.
const FARTHER: Duration = Duration::from_millis(150);

const SUBJECT: &str = "workload/n1/w1";

/// The node's address on the underlay.
const FORBIDDEN: &str = "192.168.77.11";

const DOCUMENTS: &str = "
apiVersion: persona/v1
kind: Persona
metadata: { name: near-content }
spec:
  network:
    egress: { pools: [frankfurt, tokyo] }
    edges: { content: { prefix: 198.51.100.10 } }
---
apiVersion: persona/v1
kind: Persona
metadata: { name: curious }
spec:
  network:
    egress: { pools: [frankfurt] }
    edges: { content: { prefix: 192.168.77.11 } }
---
apiVersion: persona/v1
kind: Binding
metadata: { name: near }
spec:
  selector: { kind: workload }
  personas: [near-content, curious]
";

#[test]
fn a_wearer_goes_where_its_content_is_closer() {
    check(Hook::Auto, |world, findings| {
        // Private networks may hold content; the underlay is none all the same.
        world.extra_edge_config = "contents = { allow = [\"192.168.0.0/16\"] }\n".to_owned();
        start(world, findings);
        if findings.all_ok() {
            findings.run("closeness", |findings| run(world, findings));
            findings.run("processes", |_| world.check_processes());
        }
    });
}

fn run(world: &World, findings: &mut Findings) -> Result<()> {
    let addresses: Vec<Ipv4Addr> = EDGES.iter().map(|place| place.outside.parse()).collect::<Result<_, _>>()?;
    let far = addresses.iter().zip(EDGES).filter(|(_, place)| place.group == "frankfurt");
    let _echoes = FarEchoes::start(&world.namespaces.internet, far.map(|(address, _)| (*address, FARTHER)).collect())?;
    for place in EDGES {
        world.namespaces.edges[place.name].ip("route add default via 203.0.113.1 dev out0")?;
    }
    let filter = format!("dst host {FORBIDDEN} and (icmp[icmptype] == icmp-echo or tcp dst port 443)");
    let forbidden = Capture::start(world, "forbidden", &world.namespaces.node, "up0", &filter)?;
    world.apply("content.yaml", DOCUMENTS)?;
    world.ctl.text(&["switch", SUBJECT, "near-content"])?;

    for place in EDGES {
        let has_measured = |edge: &EdgeView| edge.content_rtt_us.contains_key(INTERNET_ADDRESS);
        let (edge, time) =
            world.ctl.wait_for("the edge to measure", &["edge", "get", place.name], MEASURING_TIME, has_measured)?;
        let rtt = Duration::from_micros(edge.content_rtt_us[INTERNET_ADDRESS].into());
        let is_far = place.group == "frankfurt";
        let told = format!("{} after {}", view::ms(rtt), view::ms(time));
        findings.note(
            format!("{} is {}", place.name, if is_far { "far" } else { "near" }),
            told,
            (rtt >= FARTHER) == is_far,
        );
    }
    let is_there = |answer: &Explanation| {
        answer.assignment.in_force
            && answer.lease.as_ref().is_some_and(|lease: &LeaseView| lease.pool.as_str() == "tokyo")
    };
    let (answer, time) = world.ctl.wait_for("the move", &["explain", SUBJECT], MEASURING_TIME, is_there)?;
    let chosen = answer.considered.iter().find(|it| it.chosen).context("what it wears was considered")?;
    let points = chosen.scores.get("content").copied();
    let told = format!("{points:?} points, after {}", view::ms(time));
    findings.note(
        "its wearer leases where it is near, and explain says why",
        told,
        points.is_some_and(|it| it > -15.0),
    );
    let lease = view::lease_of(world, SUBJECT)?;
    let client = view::seen_by_server(world, "w1")?;
    findings.note(
        format!("the server sees {}", view::describe(&lease)),
        format!("{}:{}", client.0, client.1),
        view::is_inside(&lease, client),
    );

    let fleet: serde_json::Value = serde_json::from_str(&curl(world, "http://manager/v1/fleet")?)?;
    let of_edge = |name: &str| {
        let edges = fleet["edges"].as_array()?;
        edges.iter().find(|edge| edge["name"] == name)?["contentRttMs"][INTERNET_ADDRESS].as_f64()
    };
    findings.note("the fleet says so too", format!("tok1: {:?} ms", of_edge("tok1")), of_edge("tok1").is_some());

    // The edges were told of both at once, and have measured the other one.
    let packets = forbidden.finish()?;
    findings.note("nothing is measured towards the underlay", format!("{packets:?}"), packets.is_empty());
    let edge: EdgeView = world.ctl.json(&["edge", "get", "fra1"])?;
    findings.note("nor told of it", format!("{:?}", edge.content_rtt_us), !edge.content_rtt_us.contains_key(FORBIDDEN));
    Ok(())
}

fn curl(world: &World, url: &str) -> Result<String> {
    let socket = world.ctl.manager.strip_prefix("unix:").context("tests ask over the manager's own socket")?;
    let mut curl = world.ctl.namespace.command("curl")?;
    let output = curl.args(["--silent", "--show-error", "--fail", "--unix-socket", socket, url]).output()?;
    anyhow::ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
