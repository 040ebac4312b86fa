//! An edge that comes and goes is held back for longer each time, and the other edge of its group carries on meanwhile.

use anyhow::{Context, Result};
use persona_core::wire::api::{EdgeView, EventView};
use persona_tests::findings::Findings;
use persona_tests::world::{Hook, LinkState, World};

use super::half_dead::{NOTICE_TIME, start_echo, wait_until_whole};
use super::{check, start};

const EDGE: &str = "fra1";

/// What the manager holds it back for after each relapse, milliseconds (docs/architecture.md).
const HOLDS_MS: [u64; 4] = [1_000, 2_000, 4_000, 8_000];

#[test]
fn an_edge_that_flaps_is_held_back_for_longer_each_time() {
    check(Hook::Auto, |world, findings| {
        // As in a fleet that nobody kills edges in for the sake of a test.
        world.hold_max_ms = 300_000;
        start(world, findings);
        if findings.all_ok() {
            findings.run("flapping", |findings| flap(world, findings));
            findings.run("processes", |_| world.check_processes());
        }
    });
}

fn flap(world: &World, findings: &mut Findings) -> Result<()> {
    wait_until_whole(world)?;
    let echo = start_echo(world)?;
    for (relapses, hold_ms) in HOLDS_MS.into_iter().enumerate() {
        world.namespaces.set_edge_links(EDGE, LinkState::Cut)?;
        wait_for_edge(world, "the edge to be down", |edge| edge.state == "down")?;
        world.namespaces.set_edge_links(EDGE, LinkState::Whole)?;
        let times = if relapses == 0 { "once".to_owned() } else { format!("{} times", relapses + 1) };
        let told = format!("held back for {hold_ms} ms: it went down {times} lately");
        let held = wait_for_edge(world, "the hold", |edge| edge.reason.contains("held back for"))?;
        findings.note(format!("relapse {}: {told}", relapses + 1), &held.reason, held.reason.contains(&told));
        wait_for_edge(world, "the edge to serve", |edge| edge.state == "up")?;
        let held_ms = last_absence_ms(world)?;
        findings.note(format!("it was away for {hold_ms} ms at least"), format!("{held_ms} ms"), held_ms >= hold_ms);
    }
    let count = echo.finish();
    let told = format!("{} of {} came back", count.returned, count.sent);
    findings.note("most of the traffic goes on through the other edge", told, count.returned * 2 > count.sent);
    Ok(())
}

fn wait_for_edge(world: &World, what: &str, is_so: impl Fn(&EdgeView) -> bool) -> Result<EdgeView> {
    Ok(world.ctl.wait_for(what, &["edge", "get", EDGE], NOTICE_TIME, is_so)?.0)
}

/// From the manager's last word that the edge is down to its last word that it is up, by the manager's clock.
fn last_absence_ms(world: &World) -> Result<u64> {
    let events: Vec<EventView> = world.ctl.list(&["events"])?;
    let about = format!("edge/{EDGE}");
    let last = |name: &str| {
        let said = events.iter().filter(|event| event.name == name && event.about == about && event.actor == "manager");
        said.map(|event| event.time_ms).max().with_context(|| format!("an event {name}"))
    };
    Ok(last("edge.up")?.saturating_sub(last("edge.down")?))
}
