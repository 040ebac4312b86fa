//! The edge's safety net: what of a subject that no queue holds gets through, and whether it takes anything of one that a queue
//! at its node holds.

use anyhow::Result;
use persona_common::police::POLICED_PERCENT;

use super::chain::{Chain, Holder, Kind};
use super::measures::Run;
use super::rates::{Counted, connection, datagrams};
use super::row::{Better, Goal, Row};
use super::samples::Samples;

const MBIT: u64 = 1_000_000;
/// Rates of the subject.
const RATES_BPS: [u64; 3] = [MBIT, 10 * MBIT, 100 * MBIT];
/// What is offered where no queue holds it, times the rate.
const OFFER: f64 = 2.0;
const PACKET_BYTES: usize = 1_300;
/// How far off what gets through may be, percent of what is let through.
const GOAL_PERCENT: f64 = 5.0;

/// Datagrams at twice the rate, and a connection that is held to it.
pub fn measure(run: &Run<'_>) -> Result<Vec<Row>> {
    run.say("policing: a chain of namespaces is built");
    let mut chain = Chain::build(run, Kind::Ours)?;
    let rounds = run.rounds_of_a_long_measure();
    let mut rows = Vec::new();
    for rate_bps in RATES_BPS {
        let (mut off, mut dropped) = (Samples::default(), Samples::default());
        for round in 0..rounds {
            run.say(&format!("policing: {} Mbit/s, round {} of {rounds}", rate_bps / MBIT, round + 1));
            chain.police(rate_bps)?;
            let arrived = datagrams(&chain, OFFER * rate_bps as f64, PACKET_BYTES, Counted::at(rate_bps))?;
            let let_through = rate_bps as f64 * POLICED_PERCENT as f64 / 100.0;
            off.push((arrived / let_through - 1.0).abs() * 100.0);
            chain.hold(Holder::Classes, rate_bps)?;
            let before = chain.policed_count()?;
            connection(&chain, Counted::at(rate_bps))?;
            dropped.push((chain.policed_count()? - before) as f64);
            chain.let_go()?;
        }
        let name = |what| format!("policing/{}mbit/{what}", rate_bps / MBIT);
        let row = Row::new(name("udp"), "% off 1.25 times the rate", Better::Less, off);
        rows.push(row.reach(Goal::AtMost(GOAL_PERCENT)));
        let row = Row::new(name("tcp-dropped"), "packets", Better::Less, dropped);
        rows.push(row.reach(Goal::NeverMoreThan(0.0)));
    }
    drop(chain);
    run.ledger.undo_all().into_iter().for_each(|failure| eprintln!("clean-up: {failure}"));
    Ok(rows)
}
