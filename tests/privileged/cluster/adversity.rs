//! What an agent does when its host fails it: a workload's device vanishes, a desired state cannot be applied. Another
//! workload's traffic never notices.

use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{EventView, Explanation, NodeView, WorkloadView};
use persona_tests::findings::Findings;
use persona_tests::load::echo::{EchoClient, EchoCount};
use persona_tests::sys::Signal;
use persona_tests::world::{Hook, NODE, WORKLOADS, World};

use super::{check, start};

/// Echo packets per second.
const ECHO_PACKETS_PER_SEC: u32 = 500;

/// How long the agent and the manager may take to notice and to tell.
const NOTICE_TIME: Duration = Duration::from_secs(30);

/// Long enough for traffic to show whether it goes on.
const LOOK_TIME: Duration = Duration::from_millis(1_500);

/// Carries small packets, but no persona of the fixture with its encapsulation.
const SMALL_UNDERLAY_MTU: &str = "link set up0 mtu 1300";
const WHOLE_UNDERLAY_MTU: &str = "link set up0 mtu 1500";

#[test]
fn an_agent_outlives_what_its_host_takes_away() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("a device vanishes", |findings| device_vanishes(world, findings));
        findings.run("a state cannot be applied", |findings| state_is_rejected(world, findings));
        findings.run("the agent", |_| world.check_processes());
    });
}

fn device_vanishes(world: &World, findings: &mut Findings) -> Result<()> {
    let echo = start_echo(world, "w2")?;
    world.namespaces.node.ip("link del w1")?;
    let is_gone = |workload: &WorkloadView| !workload.attached;
    world.ctl.wait_for("w1 to be unattached", &["workload", "get", "workload/n1/w1"], NOTICE_TIME, is_gone)?;
    findings.note("`workload get` shows it unattached", "unattached", true);
    let is_told = |events: &Vec<EventView>| events.iter().any(|event| event.name == "workload.vanished");
    let (events, _) = world.ctl.wait_for("the event", &["events"], NOTICE_TIME, is_told)?;
    let event = events.iter().find(|event| event.name == "workload.vanished").context("waited for it")?;
    let has_advice = event.message.contains("w1") && event.message.contains("until it comes back");
    findings.note("an event names it and says when it is well again", event.message.clone(), has_advice);
    recreate(world, "w1")?;
    let is_back = |workload: &WorkloadView| workload.attached;
    world.ctl.wait_for("w1 to be attached", &["workload", "get", "workload/n1/w1"], NOTICE_TIME, is_back)?;
    note_echo(findings, "the other workload loses nothing", echo.finish());
    let own = start_echo(world, "w1")?;
    std::thread::sleep(LOOK_TIME);
    let own = own.finish();
    findings.note("with its device back it has its way out", describe(own), own.returned * 10 > own.sent * 9);
    Ok(())
}

fn state_is_rejected(world: &World, findings: &mut Findings) -> Result<()> {
    let before: NodeView = world.ctl.json(&["node", "get", NODE])?;
    let echo = start_echo(world, "w2")?;
    // Frozen: a manager that has been told of the MTU refuses the switch itself.
    let agent = world.agent.as_ref().context("no agent runs")?;
    agent.signal(Signal::Stop)?;
    let switched = world
        .namespaces
        .node
        .ip(SMALL_UNDERLAY_MTU)
        .and_then(|_| world.ctl.text(&["switch", "workload/n1/w2", "tokyo-standard"]));
    agent.signal(Signal::Continue)?;
    switched?;
    let is_rejected = |node: &NodeView| node.rejected.is_some();
    let (node, _) = world.ctl.wait_for("the rejection", &["node", "get", NODE], NOTICE_TIME, is_rejected)?;
    let rejection = node.rejected.context("waited for it")?;
    let has_advice = rejection.reason.contains("lower the persona's mtu") && rejection.reason.contains("1300");
    findings.note("the reason says what to change", rejection.reason, has_advice);
    std::thread::sleep(LOOK_TIME);
    let held: NodeView = world.ctl.json(&["node", "get", NODE])?;
    let measured = format!("desired {}, applied {}", held.desired, held.applied);
    let is_held = held.applied >= before.applied && held.applied < rejection.generation;
    findings.note("the previous generation stays in force", measured, is_held);
    world.namespaces.node.ip(WHOLE_UNDERLAY_MTU)?;
    let is_applied = |node: &NodeView| node.rejected.is_none() && node.applied == node.desired;
    let (node, time) =
        world.ctl.wait_for("the state to be applied", &["node", "get", NODE], NOTICE_TIME, is_applied)?;
    findings.note("with the MTU back it is applied", format!("{} after {time:?}", node.applied), true);
    let in_force = |answer: &Explanation| answer.assignment.in_force;
    world.ctl.wait_for("the switch to be in force", &["explain", "workload/n1/w2"], NOTICE_TIME, in_force)?;
    note_echo(findings, "traffic of the previous one goes on without a loss", echo.finish());
    Ok(())
}

/// The device comes back under its name, with another index and address.
fn recreate(world: &World, name: &str) -> Result<()> {
    let place = WORKLOADS.iter().find(|place| place.name == name).context("no such workload")?;
    world.attach(place, world.workload(name))
}

fn start_echo(world: &World, workload: &str) -> Result<EchoClient> {
    let echo = EchoClient::start(world.workload(workload), ECHO_PACKETS_PER_SEC)?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(echo)
}

fn note_echo(findings: &mut Findings, expected: &str, count: EchoCount) {
    findings.note(expected, describe(count), count.lost() == 0 && count.sent > 0);
}

fn describe(count: EchoCount) -> String {
    format!("{} of {} lost", count.lost(), count.sent)
}
