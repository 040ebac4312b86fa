//! Step 7: the manager and the agent die and come back under traffic, and no packet is lost.

use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{NodeView, Status};

use super::{SUBJECT, view};
use crate::findings::Findings;
use crate::load::echo::{EchoClient, EchoCount};
use crate::world::{NODE, World};

/// Echo packets per second.
const ECHO_PACKETS_PER_SEC: u32 = 1_000;

/// How long a role stays dead.
const DEAD_TIME: Duration = Duration::from_millis(1_500);

/// How long a role may take to be back.
const RETURN_TIME: Duration = Duration::from_secs(30);

/// Kills both, one after the other.
pub fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    kill_manager(world, findings)?;
    kill_agent(world, findings)
}

fn kill_manager(world: &mut World, findings: &mut Findings) -> Result<()> {
    let lease = view::lease_of(world, SUBJECT)?;
    let echo = start_echo(world)?;
    world.manager.as_mut().context("the manager runs")?.kill()?;
    std::thread::sleep(DEAD_TIME);
    let client = view::seen_by_server(world, "w1");
    let measured =
        client.as_ref().map_or_else(|error| format!("{error:#}"), |client| format!("{}:{}", client.0, client.1));
    let is_inside = client.is_ok_and(|client| view::is_inside(&lease, client));
    findings.note("without the manager, a new connection shows the persona", measured, is_inside);
    world.start_manager()?;
    note_echo(findings, "the manager is killed and restarted: no packet lost", echo.finish());
    let all_up = |status: &Status| status.nodes.0 == 1 && status.edges.0 == 3;
    world.ctl.wait_for("all to be back", &["status"], RETURN_TIME, all_up)?;
    Ok(())
}

fn kill_agent(world: &mut World, findings: &mut Findings) -> Result<()> {
    let before = view::subject_traffic(world, SUBJECT)?;
    let echo = start_echo(world)?;
    world.agent.as_mut().context("the agent runs")?.kill()?;
    std::thread::sleep(DEAD_TIME);
    world.start_agent()?;
    std::thread::sleep(DEAD_TIME);
    world.check_processes()?;
    let count = echo.finish();
    note_echo(findings, "the agent is killed (SIGKILL) and restarted: no packet lost", count);
    // The manager knows the old figures until the new agent has reported its first.
    let growth_of = |node: &NodeView| {
        let all = node.counters.subjects.iter().filter(|entry| entry.subject.to_string() == SUBJECT);
        all.map(|entry| entry.traffic.egress_packets).sum::<u64>().saturating_sub(before.egress_packets)
    };
    let has_grown = |node: &NodeView| growth_of(node) >= count.sent;
    let (node, _) = world.ctl.wait_for("the counters to go on", &["node", "get", NODE], RETURN_TIME, has_grown)?;
    let growth = growth_of(&node);
    let measured = format!("{} packets before, {growth} more after {} were sent", before.egress_packets, count.sent);
    findings.note("the counters go on", measured, before.egress_packets > 0 && growth >= count.sent);
    Ok(())
}

fn start_echo(world: &World) -> Result<EchoClient> {
    let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(echo)
}

fn note_echo(findings: &mut Findings, expected: &str, count: EchoCount) {
    let measured = format!("{} of {} lost, longest gap {}", count.lost(), count.sent, view::ms(count.worst_gap));
    findings.note(expected, measured, count.lost() == 0 && count.sent > 0);
}
