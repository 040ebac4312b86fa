//! Step 5: an edge dies under a download, as by a power cut. The connection lives on; the gap is measured.

use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::{EdgeView, EventView};

use super::view;
use crate::findings::Findings;
use crate::load::download::Download;
use crate::world::World;

/// The longest gap that a kill is meant to cause: take-over before TCP's first retransmission at 200 ms, and that one's way.
const GAP_AIM: Duration = Duration::from_millis(250);

/// The longest gap on a machine that is busy with something else: the retransmission after the first, and a little.
const GAP_MAX: Duration = Duration::from_secs(1);

/// How long a download runs on after a kill.
const AFTER_KILL_TIME: Duration = Duration::from_millis(1_500);

/// How long the manager may take to see that an edge is down, or up again.
const NOTICE_TIME: Duration = Duration::from_secs(30);

/// How long the first bytes may take.
const WARM_UP_TIME: Duration = Duration::from_secs(30);

/// Kills the carrying edge again and again, by turns the one of the way out and the one of the way back.
pub fn run(world: &mut World, kill_count: u32, findings: &mut Findings) -> Result<()> {
    let mut gaps = Vec::new();
    for round in 0..kill_count {
        let device = if round % 2 == 0 { "out0" } else { "in0" };
        let (gap, victim) = kill_once(world, device).with_context(|| format!("kill {}", round + 1))?;
        gaps.push(gap);
        if round == 0 {
            note_reaction(world, &victim, findings)?;
        }
        revive(world, &victim)?;
    }
    gaps.sort();
    let list: Vec<String> = gaps.iter().map(|gap| format!("{:.0}", gap.as_secs_f64() * 1e3)).collect();
    let (aim, in_aim) = (view::ms(GAP_AIM), gaps.iter().filter(|gap| **gap < GAP_AIM).count());
    let expected = format!("{kill_count} kills: every connection lives on (aim: every gap under {aim})");
    let measured = format!("gaps in ms: {}; {in_aim} of {kill_count} under {aim}", list.join(", "));
    let worst = gaps.last().copied().unwrap_or_default();
    findings.note(expected, measured, worst < GAP_MAX);
    Ok(())
}

fn kill_once(world: &mut World, device: &str) -> Result<(Duration, String)> {
    let download = Download::start(world.workload("w1"), "/endless")?;
    download.wait_for_bytes(4 << 20, WARM_UP_TIME)?;
    let victim = view::carrying_edge(world, device)?;
    download.mark();
    world.kill_edge(&victim)?;
    std::thread::sleep(AFTER_KILL_TIME);
    let gap = download.worst_gap();
    download.wait_for_bytes(download.bytes() + (1 << 20), WARM_UP_TIME)?;
    download.stop()?;
    Ok((gap, victim))
}

fn note_reaction(world: &World, victim: &str, findings: &mut Findings) -> Result<()> {
    let is_down = |edge: &EdgeView| edge.state == "down";
    let (edge, time) = world.ctl.wait_for("the edge to be down", &["edge", "get", victim], NOTICE_TIME, is_down)?;
    let measured = format!("{victim} down {} after the download's window: {}", view::ms(time), edge.reason);
    findings.note("the manager shows the edge as down, with the reason", measured, !edge.reason.is_empty());
    let events: Vec<EventView> = world.ctl.list(&["events"])?;
    let about: Vec<&EventView> =
        events.iter().filter(|event| event.name.starts_with("edge.") && event.about.contains(victim)).collect();
    let measured = about.last().map_or("no event".to_owned(), |event| format!("{}: {}", event.name, event.message));
    findings.note(
        "an event says what was done about it",
        measured,
        about.iter().any(|event| event.name == "edge.down"),
    );
    Ok(())
}

fn revive(world: &mut World, victim: &str) -> Result<()> {
    world.revive_edge(victim)?;
    let is_up = |edge: &EdgeView| edge.state == "up";
    world.ctl.wait_for("the edge to be up again", &["edge", "get", victim], NOTICE_TIME, is_up)?;
    let heard = view::hears_frankfurt;
    world.ctl.wait_for("the node to hear it", &["node", "get", "n1"], NOTICE_TIME, heard)?;
    world.check_processes()
}
