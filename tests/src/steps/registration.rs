//! Step 1: the manager, three edges and a node come up; the workloads are given their persona, with a reason.

use std::time::Duration;

use anyhow::Result;
use persona_core::wire::api::{EdgeView, Explanation, Page, Status};

use super::{FRANKFURT, SUBJECT, view};
use crate::findings::Findings;
use crate::world::{WORKLOADS, World};

/// How long everything may take to register and come into force.
const START_TIME: Duration = Duration::from_secs(60);

/// Starts all roles and waits for the assignment.
pub fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    world.start_manager()?;
    world.apply_documents()?;
    world.start_edges_and_agent()?;
    let outcome = wait_for_all(world, findings);
    world.check_processes()?;
    outcome
}

fn wait_for_all(world: &World, findings: &mut Findings) -> Result<()> {
    let written_out = world.extra_agent_config.matches("[[workload]]").count();
    let workload_count = WORKLOADS.len() + world.extra_workloads.len() + written_out;
    let all_up = |status: &Status| {
        status.nodes == (1, 1) && status.edges == (3, 3) && status.workloads as usize >= workload_count
    };
    let (status, time) = world.ctl.wait_for("all to register", &["status"], START_TIME, all_up)?;
    let measured = format!(
        "{} node, {} edges, {} workloads after {}",
        status.nodes.0,
        status.edges.0,
        status.workloads,
        view::ms(time)
    );
    findings.note(format!("1 node, 3 edges, {workload_count} workloads registered"), measured, true);

    let in_force = |answer: &Explanation| answer.assignment.in_force && answer.lease.is_some();
    let (explanation, time) =
        world.ctl.wait_for("the persona to be in force", &["explain", SUBJECT], START_TIME, in_force)?;
    let network = explanation.assignment.sections.get("network");
    let (persona, reason) = network
        .map_or(("none".to_owned(), String::new()), |section| (section.persona.to_string(), section.reason.clone()));
    let measured = format!("{persona} after {}: {reason}", view::ms(time));
    findings.note(format!("w1 wears {FRANKFURT}, with a reason"), measured, persona == FRANKFURT && !reason.is_empty());
    wait_for_probes(world, findings)
}

/// The node must have heard the edges that carry its leases before flows are asked of it. The others it need not know.
fn wait_for_probes(world: &World, findings: &mut Findings) -> Result<()> {
    let heard = view::hears_frankfurt;
    let (node, _) = world.ctl.wait_for("the node to hear its edges", &["node", "get", "n1"], START_TIME, heard)?;
    let times: Vec<String> =
        node.edges.iter().map(|edge| format!("{} {} µs", edge.edge, edge.rtt_us.unwrap_or(0))).collect();
    findings.note("the node hears the edges of its persona", times.join(", "), true);
    let up = |answer: &serde_json::Value| edges_up(answer) == Some(3);
    world.ctl.wait_for("all edges to be up", &["edge", "list"], START_TIME, up)?;
    Ok(())
}

fn edges_up(answer: &serde_json::Value) -> Option<usize> {
    let edges: Vec<EdgeView> = match serde_json::from_value::<Page<EdgeView>>(answer.clone()) {
        Ok(page) => page.items,
        Err(_) => serde_json::from_value(answer.clone()).ok()?,
    };
    Some(edges.iter().filter(|edge| edge.state == "up").count())
}
