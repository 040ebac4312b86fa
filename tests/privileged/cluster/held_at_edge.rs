//! `qos.enforceAt: edge` from the document to the wire: the node has no queue, an edge at TC delays and an edge at XDP drops, and
//! what comes out is the rate itself, both ways.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::api::{Explanation, NodeView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::iperf::Direction;
use persona_tests::load::paced::{Offer, Paced, received};
use persona_tests::steps::{FRANKFURT, SUBJECT, view};
use persona_tests::world::{EDGES, Hook, World};

use super::{PERSONA, check, start};

/// What goes into the persona.
const QOS: &str = "  qos: { egressRate: 8mbit, ingressRate: 12mbit, enforceAt: edge }";
const RATES: [(Direction, f64); 2] = [(Direction::Up, 8e6), (Direction::Down, 12e6)];
/// What is offered, relative to the rate: no more than the safety net lets pass in the long run, and much more.
const OFFERS: [f64; 2] = [1.2, 2.0];
/// How far the rate may be from what it shall be.
const TOLERANCE: f64 = 0.05;
/// A busy machine may leave a sender or a receiver without a processor; then a run is done again.
const RUN_COUNT_MAX: u32 = 5;
/// How long a change may take to be in force.
const FORCE_TIME: Duration = Duration::from_secs(20);

#[test]
fn an_edge_at_tc_delays_what_is_beyond_the_rate() {
    story(Hook::Auto);
}

#[test]
fn an_edge_at_xdp_drops_what_is_beyond_the_rate() {
    story(Hook::Xdp);
}

fn story(hook: Hook) {
    check(hook, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("rates held at edges", |findings| run(world, findings));
        }
    });
}

fn run(world: &World, findings: &mut Findings) -> Result<()> {
    world.apply("held.yaml", &format!("{PERSONA}{QOS}\n"))?;
    let in_force = |answer: &Explanation| {
        let worn = answer.assignment.sections.get("qos");
        answer.assignment.in_force && worn.is_some_and(|worn| worn.persona.as_str() == FRANKFURT && worn.version == 2)
    };
    world.ctl.wait_for("the version to be worn", &["explain", SUBJECT], FORCE_TIME, in_force)?;
    let is_applied = |node: &NodeView| node.applied == node.desired;
    world.ctl.wait_for("the node to know", &["node", "get", "n1"], FORCE_TIME, is_applied)?;
    let classes = if world.hook == Hook::Xdp { 0 } else { 2 };
    wait_for_classes(world, classes)?;
    findings.note("classes of two subjects on each Frankfurt edge, each way", format!("{classes} each"), true);
    let node = class_count(world, None, "up0")? + class_count(world, None, "w1")?;
    findings.note("no class at the node", node.to_string(), node == 0);

    let flow = Paced::connect(world, "w1")?;
    for (direction, rate_bps) in RATES {
        for offer in OFFERS {
            let bps = measure(&flow, direction, rate_bps, offer);
            let expected = format!("{direction:?}: {offer} times the rate comes out as {}", view::mbit(rate_bps));
            findings.note(expected, view::mbit(bps), is_held(bps, rate_bps));
        }
    }
    world.apply("free.yaml", PERSONA)?;
    wait_for_classes(world, 0)?;
    findings.note("without rates no class is left", "0", true);
    Ok(())
}

fn is_held(bps: f64, rate_bps: f64) -> bool {
    (bps / rate_bps - 1.0).abs() <= TOLERANCE
}

fn measure(flow: &Paced, direction: Direction, rate_bps: f64, offer: f64) -> f64 {
    let (time, settled) = (Duration::from_millis(3_500), Duration::from_millis(2_000));
    let offer = Offer { direction, bps: offer * rate_bps, time, settled };
    let mut bps = 0.0;
    for _again in 0..RUN_COUNT_MAX {
        bps = received(&[flow], offer)[0];
        if is_held(bps, rate_bps) {
            break;
        }
    }
    bps
}

/// Waits until the Frankfurt edges have so many classes on each of their devices.
fn wait_for_classes(world: &World, wanted: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut counts = Vec::new();
        for edge in EDGES.iter().filter(|edge| edge.group == "frankfurt") {
            counts.extend([class_count(world, Some(edge.name), "in0")?, class_count(world, Some(edge.name), "out0")?]);
        }
        if counts.iter().all(|count| *count == wanted) {
            return Ok(());
        }
        if begun.elapsed() > patient(FORCE_TIME) {
            bail!("waited {:?} for {wanted} classes each: {counts:?}", patient(FORCE_TIME));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Classes on a device of an edge, or of the node.
fn class_count(world: &World, edge: Option<&str>, device: &str) -> Result<usize> {
    let namespace = edge.map_or(&world.namespaces.node, |edge| &world.namespaces.edges[edge]);
    let output =
        namespace.command("tc")?.args(["class", "show", "dev", device]).output().context("tc does not start")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with("class htb")).count())
}
