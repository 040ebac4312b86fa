//! A node asks for a new assignment when its agent starts and when its link changes, and what it measured is part of the reason.

use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{EventView, Explanation};
use persona_tests::findings::Findings;
use persona_tests::steps::SUBJECT;
use persona_tests::world::{Hook, World};

use super::{check, start, wait_for};

/// How long a question may take: the pause after the one at the start, and a pass.
const ASKING_TIME: Duration = Duration::from_secs(20);

#[test]
fn a_node_asks_again_when_its_link_changes() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("conditions", |findings| run(world, findings));
        }
    });
}

fn run(world: &World, findings: &mut Findings) -> Result<()> {
    wait_for(ASKING_TIME, || Ok(asked(world)?.iter().any(|message| message.contains("the agent has started"))))?;
    let at_start = reason(world, "when it asked: the agent has started")?;
    findings.note("the path to its group is part of the reason", &at_start, at_start.contains("loss to frankfurt"));

    let mut command = world.namespaces.node.command("ip")?;
    let status = command.args(["link", "set", "up0", "mtu", "1480"]).status().context("ip does not start")?;
    findings.note("the uplink carries less", "1480 bytes", status.success());
    let again = reason(world, "MTU 1500 → 1480")?;
    let told = asked(world)?;
    let is_told_once = told.iter().filter(|message| message.contains("MTU 1500 → 1480")).count() == 1;
    findings.note("it asks again, once", again, is_told_once);
    Ok(())
}

/// Why the workload wears what it wears, once that says so.
fn reason(world: &World, part: &str) -> Result<String> {
    let of = |answer: &Explanation| {
        answer.assignment.sections.get("network").map(|section| section.reason.clone()).unwrap_or_default()
    };
    let is_said = |answer: &Explanation| of(answer).contains(part);
    let (answer, _) = world.ctl.wait_for(part, &["explain", SUBJECT], ASKING_TIME, is_said)?;
    Ok(of(&answer))
}

/// What the node has asked.
fn asked(world: &World) -> Result<Vec<String>> {
    let events: Vec<EventView> = world.ctl.list(&["events"])?;
    let asked = events.into_iter().filter(|event| event.name == "assignment.asked");
    Ok(asked.map(|event| event.message).collect())
}
