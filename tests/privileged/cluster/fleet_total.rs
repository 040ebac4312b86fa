//! `qos.shared.scope: fleet` from the document to the wire: wearers on two nodes have the total together, half of it each while
//! both want more, and one has nearly all of it when the other sends nothing. Without the manager shares stay.

use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{Explanation, NodeView};
use persona_tests::findings::Findings;
use persona_tests::load::iperf::Direction;
use persona_tests::load::paced::{Offer, Paced, received};
use persona_tests::steps::view;
use persona_tests::world::{Hook, SECOND_NODE, World};

use super::{PERSONA, W3, check, start};

/// What goes into the persona.
const QOS: &str = "  qos: { shared: { scope: fleet, egressRate: 20mbit } }";
const TOTAL_BPS: f64 = 20e6;
/// What each sender offers, relative to the total.
const OFFER: f64 = 0.9;
/// How long is sent at a time, and from when on is measured.
const RUN_TIME: Duration = Duration::from_secs(4);
const SETTLED: Duration = Duration::from_secs(1);
/// How far the sum may be from the total.
const TOLERANCE: f64 = 0.05;
/// What one alone must get of it: more than half, as long as it takes until it has it.
const ALONE_SHARE: f64 = 0.8;
/// Divisions take some seconds, and a busy machine may leave queues dry.
const RUN_COUNT_MAX: u32 = 6;
/// How long a change may take to be in force.
const FORCE_TIME: Duration = Duration::from_secs(30);

#[test]
fn wearers_on_two_nodes_share_one_total() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("a total over two nodes", |findings| run(world, findings));
        }
    });
}

fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    world.apply("fleet.yaml", &format!("{PERSONA}{QOS}\n"))?;
    world.add_node(SECOND_NODE, &[W3])?;
    let in_force = |answer: &Explanation| answer.assignment.in_force && answer.lease.is_some();
    world.ctl.wait_for("w3 to wear its persona", &["explain", "workload/n2/w3"], FORCE_TIME, in_force)?;
    let hears = |node: &NodeView| view::hears_frankfurt(node) && has_share(node);
    for name in ["n1", "n2"] {
        world.ctl.wait_for("a share of the total", &["node", "get", name], FORCE_TIME, hears)?;
    }
    let flows = [Paced::connect(world, "w1")?, Paced::connect(world, "w3")?];
    let [first, second] = &flows;

    let both = until(&[first, second], |bps| {
        let sum: f64 = bps.iter().sum();
        (sum / TOTAL_BPS - 1.0).abs() <= TOLERANCE && bps.iter().all(|bps| bps / sum > 0.4)
    });
    let expected = format!("two nodes have {} together, about half each", view::mbit(TOTAL_BPS));
    findings.note(expected, words(&both.0), both.1);
    let alone = until(&[first], |bps| (ALONE_SHARE..=1.0 + TOLERANCE).contains(&(bps[0] / TOTAL_BPS)));
    findings.note("one alone gets most of it within seconds", words(&alone.0), alone.1);

    world.manager.take().context("the manager runs")?.kill()?;
    let without = received(&[first, second], offer());
    let sum: f64 = without.iter().sum();
    let holds = sum <= TOTAL_BPS * (1.0 + TOLERANCE) && without[0] > without[1];
    findings.note("without the manager shares stay as they are", words(&without), holds);
    world.start_manager()?;
    let again = until(&[first, second], |bps| {
        bps.iter().sum::<f64>() <= TOTAL_BPS * (1.0 + TOLERANCE) && bps[1] > 0.35 * TOTAL_BPS
    });
    findings.note("with it they are divided again", words(&again.0), again.1);
    Ok(())
}

fn has_share(node: &NodeView) -> bool {
    node.applied == node.desired && node.shares.iter().any(|share| share.egress_bps > 0)
}

fn offer() -> Offer {
    Offer { direction: Direction::Up, bps: OFFER * TOTAL_BPS, time: RUN_TIME, settled: SETTLED }
}

/// Sends until what comes out is as wanted. Whatever is wanted, it must never be more than the total.
fn until(flows: &[&Paced], is_so: impl Fn(&[f64]) -> bool) -> (Vec<f64>, bool) {
    let mut bps = Vec::new();
    for _again in 0..RUN_COUNT_MAX {
        bps = received(flows, offer());
        let is_too_much = bps.iter().sum::<f64>() > TOTAL_BPS * (1.0 + TOLERANCE);
        if is_too_much || is_so(&bps) {
            return (bps.clone(), !is_too_much);
        }
    }
    (bps, false)
}

fn words(bps: &[f64]) -> String {
    bps.iter().map(|bps| view::mbit(*bps)).collect::<Vec<_>>().join(" and ")
}
