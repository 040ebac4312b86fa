//! Step 4: a switch under load. Old flows keep their lease and feel nothing, new flows follow the new persona.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use persona_core::wire::api::Explanation;

use super::{SUBJECT, TOKYO, view};
use crate::findings::Findings;
use crate::load::download::Download;
use crate::load::echo::EchoClient;
use crate::world::World;

/// The longest gap that a download may have across a switch, or twice the longest that the machine makes by itself.
const GAP_MAX: Duration = Duration::from_millis(100);

/// How long the machine is looked at before: about as long as the download goes on after the switch.
const BASELINE_TIME: Duration = Duration::from_secs(3);

/// Echo packets per second across the switch.
const ECHO_PACKETS_PER_SEC: u32 = 1_000;

/// How long a switch may take to come into force.
const SWITCH_TIME: Duration = Duration::from_secs(30);

/// How long the rest of the download may take.
const DOWNLOAD_TIME: Duration = Duration::from_secs(30);

/// Switches during a download and an echo, then goes back.
pub fn run(world: &mut World, findings: &mut Findings) -> Result<()> {
    let old = view::lease_of(world, SUBJECT)?;
    let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
    let gap_max = GAP_MAX.max(gap_without_switch(world)? * 2);
    let download = Download::start_fitting(world.workload("w1"), "/file")?;
    download.wait_for_bytes(8 << 20, DOWNLOAD_TIME)?;
    download.mark();

    let time = switch_to(world, SUBJECT, TOKYO)?;
    let new = view::lease_of(world, SUBJECT)?;
    let client = view::seen_by_server(world, "w1")?;
    let measured = format!("{}:{}, {} after the command", client.0, client.1, view::ms(time));
    findings.note(format!("a new connection shows {}", view::describe(&new)), measured, view::is_inside(&new, client));

    let seen = download.client().and_then(|text| view::parse_client(&text)).context("the server named no client")?;
    let (bytes, gap) = download.finish(DOWNLOAD_TIME)?;
    let expected = format!("the download ends through {}, no gap over {}", old.space, view::ms(gap_max));
    let measured = format!("{} MiB, longest gap {}", bytes >> 20, view::ms(gap));
    findings.note(expected, measured, view::is_inside(&old, seen) && gap <= gap_max);

    let count = echo.finish();
    let measured = format!("{} of {} lost, longest gap {}", count.lost(), count.sent, view::ms(count.worst_gap));
    findings.note("an echo of 1,000/s across the switch loses nothing", measured, count.lost() == 0 && count.sent > 0);
    switch_to(world, SUBJECT, super::FRANKFURT).map(drop)
}

/// The longest gap of the same download while nothing changes: the machine's own.
fn gap_without_switch(world: &World) -> Result<Duration> {
    let download = Download::start_fitting(world.workload("w1"), "/endless")?;
    download.wait_for_bytes(1 << 20, DOWNLOAD_TIME)?;
    download.mark();
    std::thread::sleep(BASELINE_TIME);
    let gap = download.worst_gap();
    download.stop().map(|_| gap)
}

/// Switches a subject by hand, waits until the new persona is in force, and gives the time from the command to that.
pub fn switch_to(world: &World, subject: &str, persona: &str) -> Result<Duration> {
    let start = Instant::now();
    world.ctl.text(&["switch", subject, persona])?;
    let in_force = |answer: &Explanation| {
        let network = answer.assignment.sections.get("network");
        answer.assignment.in_force && network.is_some_and(|section| section.persona.as_str() == persona)
    };
    world.ctl.wait_for("the switch to be in force", &["explain", subject], SWITCH_TIME, in_force)?;
    Ok(start.elapsed())
}
