//! Edges that are half dead (design §3.1): a link is cut, the process is killed or frozen, everybody is dead, an edge
//! flaps. What can be carried on is; what cannot is a counted drop, and all is well again afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use persona_core::ids::Generation;
use persona_core::wire::api::{EdgeView, EventView, Explanation, NodeView};
use persona_tests::findings::Findings;
use persona_tests::load::capture::Capture;
use persona_tests::load::echo::{EchoClient, EchoCount};
use persona_tests::steps::view;
use persona_tests::sys::Signal;
use persona_tests::world::{EdgeSide, Hook, LinkState, NODE, World};

use super::{check, start};

pub(super) const EDGES: [&str; 2] = ["fra1", "fra2"];

/// Echo packets per second.
const ECHO_PACKETS_PER_SEC: u32 = 500;

/// How long everybody may take to notice and to tell.
pub(super) const NOTICE_TIME: Duration = Duration::from_secs(30);

/// How long an edge may take to be back in service: the manager holds one that relapses for longer each time.
const RETURN_TIME: Duration = Duration::from_secs(90);

/// Long enough for traffic to show whether it goes on.
pub(super) const LOOK_TIME: Duration = Duration::from_secs(2);

/// Four announcements are made of a take-over; on a busy machine some of them are late and fall together.
const ANNOUNCEMENT_COUNT_MIN: usize = 2;

/// The longest gap that a cut may make on a busy machine; the aim is 250 ms.
const GAP_MAX: Duration = Duration::from_secs(2);

#[test]
fn edges_that_are_half_dead_are_recognised_from_every_side() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("process killed", |findings| process_is_killed(world, findings));
        findings.run("process frozen", |findings| process_is_frozen(world, findings));
        findings.run("outside cut", |findings| link_is_cut(world, EdgeSide::Outside, findings));
        findings.run("inside cut", |findings| link_is_cut(world, EdgeSide::Inside, findings));
        findings.run("all dead", |findings| all_are_dead(world, findings));
        findings.run("catching up", |findings| edge_catches_up(world, findings));
        findings.run("slower probes", |findings| probes_follow_the_setting(world, findings));
        findings.run("flapping", |findings| edge_flaps(world, findings));
        findings.run("processes", |_| world.check_processes());
    });
}

/// Nothing changes in the data path when a process dies; only its slow path goes with it.
fn process_is_killed(world: &mut World, findings: &mut Findings) -> Result<()> {
    wait_until_whole(world)?;
    let echo = start_echo(world)?;
    world.kill_edge_process("fra1")?;
    std::thread::sleep(LOOK_TIME);
    note_heard(world, findings)?;
    world.start_edge("fra1")?;
    std::thread::sleep(LOOK_TIME);
    note_lossless(findings, "death and return of the process lose nothing", echo.finish());
    wait_until_whole(world)
}

fn process_is_frozen(world: &mut World, findings: &mut Findings) -> Result<()> {
    let echo = start_echo(world)?;
    world.edges["fra1"].signal(Signal::Stop)?;
    std::thread::sleep(LOOK_TIME);
    let outcome = note_heard(world, findings);
    world.edges["fra1"].signal(Signal::Continue)?;
    outcome?;
    std::thread::sleep(LOOK_TIME);
    note_lossless(findings, "a frozen process loses nothing, nor does its waking up", echo.finish());
    wait_until_whole(world)
}

/// Both edges are heard: again, where the machine has been too busy for a few probes.
fn note_heard(world: &World, findings: &mut Findings) -> Result<()> {
    let heard = view::hears_frankfurt;
    world.ctl.wait_for("the node to hear the edge", &["node", "get", NODE], NOTICE_TIME, heard)?;
    findings.note("the node hears the edge as before", "alive", true);
    Ok(())
}

/// The edge that answers for the workload's address loses one of its links.
fn link_is_cut(world: &mut World, side: EdgeSide, findings: &mut Findings) -> Result<()> {
    let victim = owner(world)?;
    let survivor = EDGES.into_iter().find(|edge| *edge != victim).context("there are two")?;
    let echo = start_echo(world)?;
    let router = &world.namespaces.router;
    let announcements = Capture::start(world, &format!("announced-{side:?}"), router, "seg0", "arp")?;
    world.namespaces.set_edge_link(&victim, side, LinkState::Cut)?;
    let is_silent = |node: &NodeView| node.edges.iter().any(|edge| edge.edge.as_str() == victim && !edge.alive);
    let (_, time) = world.ctl.wait_for("the node to miss it", &["node", "get", NODE], NOTICE_TIME, is_silent)?;
    findings.note(format!("{side:?}: the node misses {victim}"), view::ms(time), true);
    let address = leased_address(world)?;
    let has_taken_over = |edge: &EdgeView| edge.owned.contains(&address);
    let (_, time) = world.ctl.wait_for("the take-over", &["edge", "get", survivor], NOTICE_TIME, has_taken_over)?;
    findings.note(format!("{survivor} answers for {address}"), view::ms(time), true);
    std::thread::sleep(LOOK_TIME);
    world.namespaces.set_edge_link(&victim, side, LinkState::Whole)?;
    wait_until_whole(world)?;
    std::thread::sleep(LOOK_TIME);
    let frames = announcements.finish_framed()?;
    for (edge, what) in [(survivor, "takes over"), (victim.as_str(), "takes back")] {
        let made = announced(world, edge, address, &frames)?;
        let expected = format!("{side:?}: {edge}, which {what} {address}, announces it to everybody and says it again");
        findings.note(expected, format!("{made} gratuitous ARP frames"), made >= ANNOUNCEMENT_COUNT_MIN);
    }
    let count = echo.finish();
    let expected = format!("{side:?}: traffic goes on after a gap, and once more when the link is back");
    findings.note(expected, describe(count), count.worst_gap < GAP_MAX && count.returned * 10 > count.sent * 7);
    Ok(())
}

/// How often an edge has told everybody that an address is at its own: requests for the address by the address (RFC 5227 §3).
fn announced(world: &World, edge: &str, address: std::net::IpAddr, frames: &[String]) -> Result<usize> {
    let mac = world.namespaces.edge_mac(edge, "out0")?;
    let sent = format!("{mac} > ff:ff:ff:ff:ff:ff");
    let told = format!("who-has {address} tell {address}");
    Ok(frames.iter().filter(|frame| frame.contains(&sent) && frame.contains(&told)).count())
}

/// With no edge left, packets are dropped with a reason, and flow again when one is back.
fn all_are_dead(world: &mut World, findings: &mut Findings) -> Result<()> {
    let echo = start_echo(world)?;
    for edge in EDGES {
        world.namespaces.set_edge_links(edge, LinkState::Cut)?;
    }
    let no_edge = |node: &NodeView| node.counters.drops.get("no-edge").copied().unwrap_or(0);
    let before = no_edge(&view::node(world)?);
    let are_counted = |node: &NodeView| no_edge(node) > before + u64::from(ECHO_PACKETS_PER_SEC) / 2;
    let (node, _) = world.ctl.wait_for("counted drops", &["node", "get", NODE], NOTICE_TIME, are_counted)?;
    findings.note("packets are dropped as no-edge", format!("{} of them", no_edge(&node) - before), true);
    let returned = echo.returned();
    for edge in EDGES {
        world.namespaces.set_edge_links(edge, LinkState::Whole)?;
    }
    wait_until_whole(world)?;
    std::thread::sleep(LOOK_TIME);
    let count = echo.finish();
    let after = count.returned - returned;
    findings.note("the same flow goes on", format!("{after} came back since"), after > 100);
    Ok(())
}

/// Leases change hands while an edge is cut off: it serves again only once it knows of it.
fn edge_catches_up(world: &mut World, findings: &mut Findings) -> Result<()> {
    let victim = owner(world)?;
    world.namespaces.set_edge_links(&victim, LinkState::Cut)?;
    let is_down = |edge: &EdgeView| edge.state == "down";
    world.ctl.wait_for("the edge to be down", &["edge", "get", &victim], NOTICE_TIME, is_down)?;
    world.ctl.text(&["switch", "workload/n1/w1", "frankfurt-low-latency"])?;
    let in_force = |answer: &Explanation| answer.assignment.in_force;
    world.ctl.wait_for("the switch", &["explain", "workload/n1/w1"], NOTICE_TIME, in_force)?;
    let survivor = EDGES.into_iter().find(|edge| *edge != victim).context("there are two")?;
    let table: EdgeView = world.ctl.json(&["edge", "get", survivor])?;
    let echo = start_echo(world)?;
    let up_count = |events: &[EventView]| events.iter().filter(|event| is_up_event(event, &victim)).count();
    let before = up_count(&world.ctl.list::<EventView>(&["events"])?);
    world.namespaces.set_edge_links(&victim, LinkState::Whole)?;
    let is_told = |events: &Vec<EventView>| up_count(events) > before;
    let (events, time) = world.ctl.wait_for("its first answer", &["events"], NOTICE_TIME, is_told)?;
    let newest = events.iter().filter(|event| is_up_event(event, &victim)).max_by_key(|event| event.time_ms);
    let message = newest.map(|event| event.message.clone()).unwrap_or_default();
    let shown = message.rsplit(' ').next().and_then(generation);
    let expected = format!("{victim} answers, {} after its return, with the newest lease table", view::ms(time));
    findings.note(expected, message, shown.is_some_and(|shown| shown >= table.applied));
    wait_until_whole(world)?;
    std::thread::sleep(LOOK_TIME);
    let count = echo.finish();
    let is_smooth = count.lost() * 100 < count.sent;
    findings.note("flows of the new lease hardly notice", describe(count), is_smooth);
    world.ctl.text(&["switch", "workload/n1/w1", "frankfurt-standard"])?;
    world.ctl.wait_for("the switch back", &["explain", "workload/n1/w1"], NOTICE_TIME, in_force)?;
    Ok(())
}

/// With 200 ms × 5 an edge that is gone is missed after the fourth silent interval at the earliest.
fn probes_follow_the_setting(world: &World, findings: &mut Findings) -> Result<()> {
    set_probe(world, 200, 5)?;
    let cut = Instant::now();
    world.namespaces.set_edge_links("fra1", LinkState::Cut)?;
    let is_silent = |node: &NodeView| node.edges.iter().any(|edge| edge.edge.as_str() == "fra1" && !edge.alive);
    world.ctl.wait_for("the node to miss it", &["node", "get", NODE], NOTICE_TIME, is_silent)?;
    let time = cut.elapsed();
    let expected = "probed every 200 ms, dead after 5, the edge is missed after 800 ms at the earliest";
    findings.note(expected, view::ms(time), time >= Duration::from_millis(800));
    world.namespaces.set_edge_links("fra1", LinkState::Whole)?;
    set_probe(world, 50, 3)?;
    wait_until_whole(world)
}

/// Sets how edges are probed, and waits until the node does so.
fn set_probe(world: &World, interval_ms: u32, multiplier: u8) -> Result<()> {
    let body = format!("{{\"intervalMs\": {interval_ms}, \"multiplier\": {multiplier}}}");
    let socket = world.ctl.manager.strip_prefix("unix:").context("tests ask over the manager's own socket")?;
    let url = "http://manager/v1/settings/probe";
    let mut curl = world.ctl.namespace.command("curl")?;
    curl.args(["--silent", "--show-error", "--fail", "--request", "PUT", "--header", "content-type: application/json"]);
    curl.args(["--header", "if-match: *"]);
    let output = curl.args(["--data", &body, "--unix-socket", socket, url]).output()?;
    anyhow::ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr).trim());
    let is_applied = |node: &NodeView| node.applied >= node.desired;
    world.ctl.wait_for("the node to probe so", &["node", "get", NODE], NOTICE_TIME, is_applied).map(drop)
}

/// Reads `INCARNATION.NUMBER`.
fn generation(text: &str) -> Option<Generation> {
    let (incarnation, number) = text.split_once('.')?;
    Some(Generation::new(incarnation.parse().ok()?, number.parse().ok()?))
}

/// The node's word that an edge answers.
fn is_up_event(event: &EventView, edge: &str) -> bool {
    event.name == "edge.up" && event.message.contains(&format!("edge {edge} answers"))
}

/// An edge that comes and goes costs gaps, and leaves nothing behind.
fn edge_flaps(world: &mut World, findings: &mut Findings) -> Result<()> {
    let echo = start_echo(world)?;
    for _flap in 0..6 {
        world.namespaces.set_edge_links("fra1", LinkState::Cut)?;
        std::thread::sleep(Duration::from_millis(400));
        world.namespaces.set_edge_links("fra1", LinkState::Whole)?;
        std::thread::sleep(Duration::from_millis(400));
    }
    wait_until_whole(world)?;
    let count = echo.finish();
    let has_survived = count.returned * 2 > count.sent && count.worst_gap < GAP_MAX;
    findings.note("most of the traffic goes on meanwhile", describe(count), has_survived);
    let echo = start_echo(world)?;
    std::thread::sleep(LOOK_TIME);
    note_lossless(findings, "afterwards nothing is lost", echo.finish());
    let owned: Vec<EdgeView> =
        view::edges(world)?.into_iter().filter(|edge| edge.group.as_str() == "frankfurt").collect();
    let count: usize = owned.iter().map(|edge| edge.owned.len()).sum();
    let is_shared = owned.iter().all(|edge| !edge.owned.is_empty());
    findings.note("both answer for their share again", format!("{count} addresses"), is_shared);
    Ok(())
}

/// Both edges up, heard by the node, and each address of the group answered for by one.
pub(super) fn wait_until_whole(world: &World) -> Result<()> {
    let heard = view::hears_frankfurt;
    world.ctl.wait_for("the node to hear both edges", &["node", "get", NODE], RETURN_TIME, heard)?;
    for edge in EDGES {
        let is_whole = |view: &EdgeView| view.state == "up" && !view.owned.is_empty();
        world.ctl.wait_for("both edges to be whole", &["edge", "get", edge], RETURN_TIME, is_whole)?;
    }
    Ok(())
}

pub(super) fn leased_address(world: &World) -> Result<std::net::IpAddr> {
    let lease = view::lease_of(world, "workload/n1/w1")?;
    lease.space.address().map(Into::into).context("an IPv4 lease")
}

/// The edge that answers for the workload's address.
pub(super) fn owner(world: &World) -> Result<String> {
    let address = leased_address(world)?;
    let owners = view::edges(world)?.into_iter().filter(|edge| edge.owned.contains(&address));
    owners.map(|edge| edge.name.to_string()).next().with_context(|| format!("nobody answers for {address}"))
}

pub(super) fn start_echo(world: &World) -> Result<EchoClient> {
    let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(echo)
}

fn note_lossless(findings: &mut Findings, expected: &str, count: EchoCount) {
    findings.note(expected, describe(count), count.lost() == 0 && count.sent > 0);
}

pub(super) fn describe(count: EchoCount) -> String {
    format!("{} of {} lost, worst gap {}", count.lost(), count.sent, view::ms(count.worst_gap))
}
