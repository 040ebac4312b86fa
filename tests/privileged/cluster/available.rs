//! An uplink that carries less than its device says: once it has been busy for a while, its node asks for a new assignment with what
//! it carried. Nothing is sent to find that out.

use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{EventView, Explanation};
use persona_tests::findings::Findings;
use persona_tests::load::iperf::Direction;
use persona_tests::load::paced::{Offer, Paced, received};
use persona_tests::steps::{SUBJECT, UNSHAPED};
use persona_tests::world::{Hook, World};

use super::drain::wait_until_applied;
use super::{check, start, wait_for};

/// How long a question may take: the pause after the one at the start, and a pass.
const ASKING_TIME: Duration = Duration::from_secs(30);

/// What the uplink carries, megabits per second with all headers. A little more is offered, so that probes still come through.
const UPLINK_MBIT: f64 = 10.0;
const OFFERED_BPS: f64 = 10.8e6;

/// Long enough for a spell of three seconds, what has to stay so for three more, and a busy machine.
const OFFER_TIME: Duration = Duration::from_secs(20);

#[test]
fn a_node_asks_again_with_what_its_busy_uplink_carried() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("available rate", |findings| run(world, findings));
            findings.run("processes", |_| world.check_processes());
        }
    });
}

/// Somebody else's queue, which holds the uplink to less than a veth says.
fn narrow(world: &World) -> Result<()> {
    let mut command = world.namespaces.node.command("tc")?;
    let words = format!("qdisc replace dev up0 root tbf rate {UPLINK_MBIT}mbit burst 32kb latency 60ms");
    let status = command.args(words.split_whitespace()).status().context("tc does not start")?;
    anyhow::ensure!(status.success(), "tc {words}");
    Ok(())
}

fn run(world: &World, findings: &mut Findings) -> Result<()> {
    // Without rates, nothing of ours stands at the uplink.
    world.apply("unshaped.yaml", UNSHAPED)?;
    wait_until_applied(world)?;
    narrow(world)?;
    wait_for(ASKING_TIME, || Ok(!asked(world)?.is_empty()))?;
    let before = asked(world)?.iter().any(|message| message.contains("available rate"));
    findings.note("nothing is said of an uplink that was not busy", before.to_string(), !before);
    let offer = Offer { direction: Direction::Up, bps: OFFERED_BPS, time: OFFER_TIME, settled: Duration::from_secs(2) };
    received(&[&Paced::connect(world, "w1")?], offer);
    let is_said = || Ok(asked(world)?.iter().any(|message| message.contains("available rate")));
    wait_for(ASKING_TIME, is_said)?;
    let messages = asked(world)?;
    let message = messages.iter().find(|message| message.contains("available rate")).context("it was there")?;
    let told = message.rsplit("→ ").find_map(|rest| rest.split_once(" Mbit/s")?.0.parse::<f64>().ok());
    let is_right = told.is_some_and(|mbit| (UPLINK_MBIT * 0.5..UPLINK_MBIT * 1.1).contains(&mbit));
    findings.note(format!("it asks again, with about {UPLINK_MBIT} Mbit/s"), message, is_right);
    let is_kept = |answer: &Explanation| {
        let network = answer.assignment.sections.get("network");
        network.is_some_and(|section| section.reason.contains("Mbit/s on its busy uplink"))
    };
    let (answer, _) = world.ctl.wait_for("the reason", &["explain", SUBJECT], ASKING_TIME, is_kept)?;
    let reason = answer.assignment.sections.get("network").map(|section| section.reason.clone()).unwrap_or_default();
    findings.note("and it is part of the reason", reason, true);
    Ok(())
}

/// What the node has asked.
fn asked(world: &World) -> Result<Vec<String>> {
    let events: Vec<EventView> = world.ctl.list(&["events"])?;
    let asked = events.into_iter().filter(|event| event.name == "assignment.asked");
    Ok(asked.map(|event| event.message).collect())
}
