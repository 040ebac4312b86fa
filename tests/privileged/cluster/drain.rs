//! Edges are weighed, drained, brought back and deleted under traffic, a node is drained, and a switch that cuts old flows
//! does so after the time that it was given, says so, and counts them.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use persona_core::wire::api::{EventView, LeaseView, NodeView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::download::Download;
use persona_tests::load::echo::{EchoClient, EchoCount};
use persona_tests::steps::switch::switch_to;
use persona_tests::steps::{FRANKFURT, SUBJECT, TOKYO, view};
use persona_tests::world::{ECHO_PORT, Hook, INTERNET_ADDRESS, NODE, World};

use super::half_dead::{EDGES, describe, wait_until_whole};
use super::{check, start};

/// Flows that show how an edge group shares them, their first port, and the bytes that each sends once.
const FLOW_COUNT: u16 = 800;
const PORT_FIRST: u16 = 20_000;
const FLOW_BYTES: usize = 1_200;

/// Echo packets per second.
const ECHO_PACKETS_PER_SEC: u32 = 500;

/// How long what a step waits for may take.
const STEP_TIME: Duration = Duration::from_secs(30);

/// Bytes by which a download shows that it runs: more than any buffer on the way holds.
const MORE_BYTES: u64 = 4 << 20;

/// The grace that a switch gives.
const GRACE: &str = "6s";

/// Long enough for what is queued for a connection that was cut.
const QUEUED_TIME: Duration = Duration::from_secs(2);

#[test]
fn edges_are_weighed_drained_and_deleted_under_traffic_and_a_switch_may_cut() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("weights", |findings| weights_are_shares(world, findings));
        findings.run("cut", |findings| switch_cuts_what_is_left(world, findings));
        findings.run("drain", |findings| edge_is_drained_and_comes_back(world, findings));
        findings.run("node", |findings| drained_node_goes_on(world, findings));
        findings.run("delete", |findings| edge_is_deleted(world, findings));
        findings.run("processes", |_| world.check_processes());
    });
}

/// With 10 against 100, one in eleven flows takes the edge: 9 %, by chance (binomial, 800 flows) 5 to 13 %.
fn weights_are_shares(world: &World, findings: &mut Findings) -> Result<()> {
    wait_until_whole(world)?;
    weigh(world, "10")?;
    let share = share_of(world, "fra1")?;
    findings.note(
        "fra1 with weight 10 of 110 takes 5 to 13 % of the flows",
        percent(share),
        (0.05..0.13).contains(&share),
    );
    weigh(world, "100")?;
    let share = share_of(world, "fra1")?;
    findings.note("and with an equal one 43 to 57 %", percent(share), (0.43..0.57).contains(&share));
    Ok(())
}

/// Sets the weight of fra1, and waits until the node has it in force.
fn weigh(world: &World, weight: &str) -> Result<()> {
    world.ctl.text(&["edge", "weight", "fra1", weight])?;
    wait_until_applied(world)
}

pub(super) fn wait_until_applied(world: &World) -> Result<()> {
    let is_applied = |node: &NodeView| node.applied >= node.desired;
    world.ctl.wait_for("the node to apply", &["node", "get", NODE], STEP_TIME, is_applied).map(drop)
}

/// Which share of new flows leaves through an edge of Frankfurt.
pub(super) fn share_of(world: &World, edge: &str) -> Result<f64> {
    let read = |edge: &str| Ok::<_, anyhow::Error>(world.namespaces.edges[edge].device_bytes("in0")?.0);
    let before = EDGES.map(read);
    // The same ports each time, so that the lease's are not used up.
    let sockets = (0..FLOW_COUNT).map(|at| UdpSocket::bind(("0.0.0.0", PORT_FIRST + at)));
    let sockets = world.workload("w1").run_inside(|| sockets.collect::<std::io::Result<Vec<_>>>())??;
    for socket in &sockets {
        socket.send_to(&[0x5a; FLOW_BYTES], (INTERNET_ADDRESS, ECHO_PORT))?;
        std::thread::sleep(Duration::from_micros(500)); // the persona's rate is 40 Mbit/s
    }
    std::thread::sleep(Duration::from_millis(300));
    let mut carried = [0.0; EDGES.len()];
    for (at, before) in before.into_iter().enumerate() {
        carried[at] = (read(EDGES[at])? - before?) as f64;
    }
    let at = EDGES.iter().position(|name| *name == edge).context("an edge of Frankfurt")?;
    Ok(carried[at] / carried.iter().sum::<f64>())
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A download and an echo are under the old lease when the switch comes. They go on for the grace, and no longer.
fn switch_cuts_what_is_left(world: &World, findings: &mut Findings) -> Result<()> {
    let old = view::lease_of(world, SUBJECT)?;
    let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
    let download = Download::start(world.workload("w1"), "/endless")?;
    download.wait_for_bytes(MORE_BYTES, STEP_TIME)?;
    world.ctl.text(&["switch", SUBJECT, TOKYO, &format!("--cut={GRACE}"), "--wait"])?;
    let lease: LeaseView = world.ctl.json(&["lease", "get", &old.id.to_string()])?;
    let is_announced = lease.state == "retiring" && lease.cut_at_ms.is_some();
    findings.note(
        "the lease tells when its flows are cut",
        format!("{} {:?}", lease.state, lease.cut_at_ms),
        is_announced,
    );
    let told = told(world, "lease.cut-announced")?;
    findings.note("and so does an event", told.join("; "), told.iter().any(|message| message.ends_with(GRACE)));
    let bytes = download.bytes();
    download.wait_for_bytes(bytes + 1, STEP_TIME).context("within the grace")?;
    let is_cut = |events: &Vec<EventView>| events.iter().any(|event| event.name == "lease.cut");
    world.ctl.wait_for("the cut", &["events"], STEP_TIME, is_cut)?;
    let messages = told_cut(world)?;
    // The echo and the download at least; the flows of the steps before may live still.
    let count = messages.iter().filter_map(|message| message.split(' ').next()?.parse::<u64>().ok()).sum::<u64>();
    findings.note("the cut is told with a count", messages.join("; "), count >= 2);
    std::thread::sleep(QUEUED_TIME);
    let bytes = download.bytes();
    std::thread::sleep(QUEUED_TIME);
    let more = download.bytes() - bytes;
    findings.note("the download stands still", format!("{more} bytes more"), more == 0);
    let returned = echo.returned();
    std::thread::sleep(Duration::from_secs(1));
    let after = echo.returned() - returned;
    findings.note("UDP goes on under the new lease", format!("{after} came back in a second"), after > 100);
    echo.finish();
    drop(download);
    let counted = |node: &NodeView| node.counters.cut_flows >= count;
    let (node, _) = world.ctl.wait_for("the counter", &["node", "get", NODE], STEP_TIME, counted)?;
    findings.note("the node's counter has them", node.counters.cut_flows.to_string(), node.counters.cut_flows == count);
    switch_to(world, SUBJECT, FRANKFURT).map(drop)
}

fn told_cut(world: &World) -> Result<Vec<String>> {
    told(world, "lease.cut")
}

fn told(world: &World, name: &str) -> Result<Vec<String>> {
    let events = world.ctl.list::<EventView>(&["events"])?.into_iter();
    Ok(events.filter(|event| event.name == name).map(|event| event.message).collect())
}

fn edge_is_drained_and_comes_back(world: &World, findings: &mut Findings) -> Result<()> {
    // What measures shares fills queues, so it comes when nothing else is under way.
    let load = Load::start(world)?;
    let victim = view::carrying_edge(world, "in0")?;
    world.ctl.text(&["edge", "drain", &victim, "--wait"])?;
    load.finish(findings, "the drain of an edge loses nothing")?;
    let share = share_of(world, &victim)?;
    findings.note(format!("new flows avoid {victim}"), percent(share), share < 0.05);
    let load = Load::start(world)?;
    world.ctl.text(&["edge", "undrain", &victim])?;
    wait_until_applied(world)?;
    wait_until_whole(world)?;
    load.finish(findings, "nor does its return")?;
    let share = share_of(world, &victim)?;
    findings.note(format!("flows come back to {victim}"), percent(share), share > 0.3);
    Ok(())
}

/// Whoever wears something on a drained node goes on.
fn drained_node_goes_on(world: &World, findings: &mut Findings) -> Result<()> {
    let load = Load::start(world)?;
    world.ctl.text(&["node", "drain", NODE])?;
    wait_until_applied(world)?;
    let (client, lease) = (view::seen_by_server(world, "w1")?, view::lease_of(world, SUBJECT)?);
    findings.note("its workloads keep what they wear", format!("{client:?}"), view::is_inside(&lease, client));
    world.ctl.text(&["node", "undrain", NODE])?;
    wait_until_applied(world)?;
    load.finish(findings, "a drained node loses nothing")
}

/// An edge that was drained is deleted: it forgets its leases, and the other carries everything.
fn edge_is_deleted(world: &mut World, findings: &mut Findings) -> Result<()> {
    let load = Load::start(world)?;
    let victim = view::carrying_edge(world, "in0")?;
    world.ctl.text(&["edge", "drain", &victim, "--wait"])?;
    delete(world, &victim)?;
    wait_until_deleted(world, &victim)?;
    wait_until_applied(world)?;
    // Its process would go on knocking at the manager.
    world.kill_edge_process(&victim)?;
    findings.note("an edge that has forgotten its leases is deleted", &victim, true);
    load.finish(findings, "its going loses nothing")
}

/// Deletes an edge; that is refused while the last reports still show traffic there.
fn delete(world: &World, edge: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        match world.ctl.text(&["edge", "delete", edge]) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > STEP_TIME => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// Events tell of it, not the list: the edge's process registers again at once.
fn wait_until_deleted(world: &World, edge: &str) -> Result<()> {
    let (start, about) = (Instant::now(), format!("edge/{edge}"));
    let is_it = |event: &EventView| event.name == "agent.deleted" && event.about == about;
    while !world.ctl.list::<EventView>(&["events"])?.iter().any(is_it) {
        ensure!(start.elapsed() < patient(STEP_TIME), "waited {STEP_TIME:?} for {about} to be deleted");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// An echo and a download, which no change may break.
pub(super) struct Load {
    echo: EchoClient,
    download: Download,
}

impl Load {
    pub(super) fn start(world: &World) -> Result<Self> {
        let echo = EchoClient::start(world.workload("w1"), ECHO_PACKETS_PER_SEC)?;
        let download = Download::start_fitting(world.workload("w1"), "/endless")?;
        download.wait_for_bytes(MORE_BYTES, STEP_TIME)?;
        Ok(Self { echo, download })
    }

    pub(super) fn finish(self, findings: &mut Findings, expected: &str) -> Result<()> {
        let (count, bytes) = self.counts()?;
        findings.note(expected, format!("{}; {bytes} MiB", describe(count)), count.lost() == 0 && count.sent > 0);
        Ok(())
    }

    /// Ends both; the download goes on to its stop, or this fails. Gives what came of the echo, and MiB.
    pub(super) fn counts(self) -> Result<(EchoCount, u64)> {
        let bytes = self.download.bytes();
        self.download.wait_for_bytes(bytes + MORE_BYTES, STEP_TIME)?;
        let bytes = self.download.stop()?;
        Ok((self.echo.finish(), bytes >> 20))
    }
}
