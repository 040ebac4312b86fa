//! Step 3: the persona's rates hold in both directions, for TCP and UDP, and TCP really gets them.

use anyhow::{Context, Result};

use super::{EGRESS_BPS, INGRESS_BPS, SUBJECT, view};
use crate::findings::Findings;
use crate::load::iperf::{self, Carrier, Direction};
use crate::world::World;

/// How long each run lasts, seconds.
const RUN_SECONDS: u32 = 5;

/// How far inner bytes may be from the rate.
const TOLERANCE: f64 = 0.05;

/// The share of its rate that TCP must get as payload.
const TCP_PAYLOAD_SHARE: f64 = 0.9;

/// Runs iperf3 four times.
pub fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    for direction in [Direction::Up, Direction::Down] {
        tcp(world, direction, findings)?;
        udp(world, direction, findings)?;
    }
    Ok(())
}

/// Bytes of a full packet under the demo's personas.
const MTU_BYTES: f64 = 1_400.0;

/// What UDP is offered, relative to the rate: enough that the queue never runs dry when the sender is late.
const UDP_OFFER: f64 = 1.5;

/// Upwards the edges count what came through the node's queue. Downwards the node counts before its queue, and a packet
/// that the queue drops is sent again, so resent segments are taken off.
fn tcp(world: &World, direction: Direction, findings: &mut Findings) -> Result<()> {
    let vni = view::lease_of(world, SUBJECT)?.vni.0;
    let (node_before, edges_before) =
        (view::subject_traffic(world, SUBJECT)?, view::persona_traffic_at_edges(world, vni)?);
    let run = iperf::run(world, "w1", direction, Carrier::Tcp, RUN_SECONDS)?;
    let (node, edges) = (view::subject_traffic(world, SUBJECT)?, view::persona_traffic_at_edges(world, vni)?);
    let passed_bytes = match direction {
        Direction::Up => (edges.egress_bytes - edges_before.egress_bytes) as f64,
        Direction::Down => (node.ingress_bytes - node_before.ingress_bytes) as f64 - run.retransmits as f64 * MTU_BYTES,
    };
    note_rate(findings, "TCP", direction, passed_bytes * 8.0 / run.seconds);
    let rate = rate_of(direction);
    let measured = format!("{}, {} retransmits", view::mbit(run.received_bps), run.retransmits);
    let expected = format!("TCP {}: payload at least {}", word(direction), view::mbit(rate * TCP_PAYLOAD_SHARE));
    findings.note(expected, measured, run.received_bps >= rate * TCP_PAYLOAD_SHARE);
    Ok(())
}

/// UDP is offered more than the rate, so the queue drops: upwards the edges count what came through it, downwards
/// the receiver does, with its headers added.
fn udp(world: &World, direction: Direction, findings: &mut Findings) -> Result<()> {
    let carrier = Carrier::Udp { offered_bps: (rate_of(direction) * UDP_OFFER) as u64 };
    let vni = view::lease_of(world, SUBJECT)?.vni.0;
    let before = view::persona_traffic_at_edges(world, vni)?;
    let run = iperf::run(world, "w1", direction, carrier, RUN_SECONDS)?;
    let inner_bps = match direction {
        Direction::Up => {
            let after = view::persona_traffic_at_edges(world, vni)?;
            (after.egress_bytes - before.egress_bytes) as f64 * 8.0 / run.seconds
        }
        Direction::Down => run.received_inner_bps.context("UDP runs have an inner rate")?,
    };
    note_rate(findings, "UDP", direction, inner_bps);
    Ok(())
}

fn note_rate(findings: &mut Findings, carrier: &str, direction: Direction, inner_bps: f64) {
    let rate = rate_of(direction);
    let error = inner_bps / rate - 1.0;
    let expected = format!("{carrier} {}: inner bytes within 5 % of {}", word(direction), view::mbit(rate));
    let measured = format!("{} ({:+.1} %)", view::mbit(inner_bps), error * 100.0);
    findings.note(expected, measured, error.abs() <= TOLERANCE);
}

fn rate_of(direction: Direction) -> f64 {
    match direction {
        Direction::Up => EGRESS_BPS,
        Direction::Down => INGRESS_BPS,
    }
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    }
}
