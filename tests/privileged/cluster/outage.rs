//! What an outage of all managers costs agents and edges: next to no processor time and no memory. Then the manager comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use persona_core::wire::api::Status;
use persona_tests::bench::processor::{memory_mib, process_secs};
use persona_tests::findings::Findings;
use persona_tests::steps::view;
use persona_tests::world::{Hook, NODE, World};

use super::{check, start};

/// Waiting times have reached their longest, and the dead man has had his say, after this time.
const SETTLE_TIME: Duration = Duration::from_secs(6);

/// How long is measured.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// A role may work for this share of a processor while nobody tells it anything; probes and sweeps go on. Tests run programs that are
/// not optimised.
const SHARE_MAX: f64 = 0.10;

/// It may have so much more memory of its own afterwards, MiB: what it reads of its program for the first time is not counted.
const GROWTH_MIB_MAX: f64 = 4.0;

/// How long all may take to be back.
const RETURN_TIME: Duration = Duration::from_secs(30);

#[test]
fn an_outage_costs_agents_and_edges_next_to_nothing() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("no manager", |findings| nobody_is_there(world, findings));
        findings.run("it is back", |findings| manager_is_back(world, findings));
        findings.run("the processes", |_| world.check_processes());
    });
}

fn nobody_is_there(world: &mut World, findings: &mut Findings) -> Result<()> {
    world.manager.as_mut().context("no manager runs")?.kill()?;
    std::thread::sleep(SETTLE_TIME);
    let (began, before) = (Instant::now(), roles(world)?);
    std::thread::sleep(LOOK_TIME);
    let secs = began.elapsed().as_secs_f64();
    for (before, after) in before.iter().zip(roles(world)?) {
        let share = (after.worked_secs - before.worked_secs) / secs;
        let measured = format!("{:.2} % of a processor, {:.1} to {:.1} MiB", share * 100.0, before.mib, after.mib);
        let is_idle = share < SHARE_MAX && after.mib - before.mib < GROWTH_MIB_MAX;
        findings.note(format!("{} waits", after.name), measured, is_idle);
    }
    Ok(())
}

fn manager_is_back(world: &mut World, findings: &mut Findings) -> Result<()> {
    world.start_manager()?;
    let all_up = |status: &Status| status.nodes == (1, 1) && status.edges == (3, 3);
    let (_, time) = world.ctl.wait_for("all to be back", &["status"], RETURN_TIME, all_up)?;
    findings.note("all are back by themselves", view::ms(time), true);
    Ok(())
}

/// What a role has used so far.
struct Used {
    name: String,
    worked_secs: f64,
    mib: f64,
}

fn roles(world: &World) -> Result<Vec<Used>> {
    let edges = world.edges.iter().map(|(name, edge)| (name.as_str(), edge));
    let roles = world.agent.iter().map(|agent| (NODE, agent)).chain(edges);
    let used = roles.map(|(name, role)| {
        let pid = role.pid().with_context(|| format!("{name} does not run"))?;
        Ok(Used { name: name.to_owned(), worked_secs: process_secs(pid)?, mib: memory_mib(pid, "RssAnon")? })
    });
    used.collect()
}
