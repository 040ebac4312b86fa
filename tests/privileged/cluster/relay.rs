//! A node and the edge that answers for its workload's address do not hear each other: what comes in there goes once
//! through a peer (docs/packets.md §9). The path is cut in both directions and in either; another node hears the edge, which
//! therefore stays in service.

use anyhow::{Context, Result};
use persona_core::wire::api::{EdgeView, EventView, NodeView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::capture::Capture;
use persona_tests::load::download::Download;
use persona_tests::netns::{Namespace, run};
use persona_tests::steps::{SUBJECT, view};
use persona_tests::world::{EDGES as PLACES, EdgePlace, FIRST_NODE, Hook, NODE, SECOND_NODE, World};

use super::half_dead::{EDGES, LOOK_TIME, NOTICE_TIME, describe, owner, start_echo, wait_until_whole};
use super::{W3, check, start};

/// What a peer passes on: the reserved last byte of the Geneve header is 1.
const RELAYED: &str = "udp port 6081 and udp[15] = 1";

/// Bytes by which a download shows that it runs: more than any buffer on the way holds.
const MORE_BYTES: u64 = 8 << 20;

/// Which direction between node and edge carries nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Both,
    ToEdge,
    ToNode,
}

#[test]
fn packets_to_a_node_that_an_edge_does_not_hear_go_once_through_a_peer() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("another node", |_| add_node_that_hears(world));
        for cut in [Cut::Both, Cut::ToEdge, Cut::ToNode] {
            findings.run(&format!("{cut:?}"), |findings| path_is_cut(world, cut, findings));
        }
        findings.run("the processes", |_| world.check_processes());
    });
}

/// Until the other node hears the edge too, nobody would be left who does, and its peer would take over.
fn add_node_that_hears(world: &mut World) -> Result<()> {
    world.add_node(SECOND_NODE, &[W3])?;
    let (question, heard) = (["node", "get", SECOND_NODE.name], view::hears_frankfurt);
    world.ctl.wait_for("the other node to hear both edges", &question, NOTICE_TIME, heard).map(drop)
}

fn path_is_cut(world: &World, cut: Cut, findings: &mut Findings) -> Result<()> {
    wait_until_whole(world)?;
    let victim = owner(world)?;
    let peer = EDGES.into_iter().find(|edge| *edge != victim).context("there are two")?;
    let place = PLACES.into_iter().find(|place| place.name == victim).context("an edge of the topology")?;
    let silent_before = silences(&world.ctl.list(&["events"])?);
    let download = Download::start(world.workload("w1"), "/endless")?;
    download.wait_for_bytes(MORE_BYTES, patient(NOTICE_TIME))?;
    set_path(world, &place, cut, true)?;
    let is_silent = |node: &NodeView| node.edges.iter().any(|edge| edge.edge.as_str() == victim && !edge.alive);
    world.ctl.wait_for("the node to miss it", &["node", "get", NODE], NOTICE_TIME, is_silent)?;
    let is_told = |events: &Vec<EventView>| silences(events) > silent_before;
    let (_, time) = world.ctl.wait_for("the edge to miss the node", &["events"], NOTICE_TIME, is_told)?;
    findings.note(format!("{victim} says that it does not hear the node"), view::ms(time), true);

    let bytes = download.bytes();
    let grown = download.wait_for_bytes(bytes + MORE_BYTES, patient(NOTICE_TIME));
    findings.note("a download that began before goes on", format!("{} MiB", download.bytes() >> 20), grown.is_ok());
    download.stop()?;
    let (outside, delivered) = (&world.namespaces.edges[place.name], delivered_by(world, peer)?);
    let came_in = outside.device_bytes("out0")?.0;
    let capture = Capture::start(world, &format!("relay-{cut:?}"), &world.namespaces.underlay, place.name, RELAYED)?;
    let echo = start_echo(world)?;
    std::thread::sleep(LOOK_TIME);
    let count = echo.finish();
    let relayed = capture.finish()?.len() as u64;
    findings.note("echoes come back", describe(count), count.lost() * 100 < count.sent);
    let came_in = outside.device_bytes("out0")?.0 - came_in;
    let measured = format!("{came_in} bytes of {} packets", count.returned);
    findings.note(format!("they came in at {victim}"), measured, came_in > count.returned * 40);
    let measured = format!("{relayed} packets");
    findings.note(
        format!("{victim} passed each on to {peer} once, marked"),
        measured,
        relayed.abs_diff(count.returned) < count.sent / 100,
    );
    let is_counted = |edge: &EdgeView| ingress_packets(edge) >= delivered + count.returned;
    let (edge, _) = world.ctl.wait_for("the peer's count", &["edge", "get", peer], NOTICE_TIME, is_counted)?;
    let measured = format!("{} packets", ingress_packets(&edge) - delivered);
    findings.note(format!("{peer} counts them, who sent them to the node"), measured, true);
    set_path(world, &place, cut, false)?;
    wait_until_whole(world)
}

/// Packets inwards of the workload's persona, as an edge counts them.
fn delivered_by(world: &World, edge: &str) -> Result<u64> {
    view::persona_traffic_at_edges(world, view::lease_of(world, SUBJECT)?.vni.0)?; // they stand still now
    Ok(ingress_packets(&world.ctl.json::<EdgeView>(&["edge", "get", edge])?))
}

fn ingress_packets(edge: &EdgeView) -> u64 {
    edge.counters.personas.values().map(|traffic| traffic.ingress_packets).sum()
}

/// How often an edge said that it does not hear the node.
fn silences(events: &[EventView]) -> usize {
    events.iter().filter(|event| event.name == "node.silent").count()
}

/// Cuts the path between the node and an edge, or mends it: the bridge drops what it would put out at the far end's port.
/// Both keep reaching everybody else.
fn set_path(world: &World, place: &EdgePlace, cut: Cut, is_cut: bool) -> Result<()> {
    let (node, edge) = ((NODE, FIRST_NODE.address), (place.name, place.inside));
    let ways: &[_] = match cut {
        Cut::Both => &[(node, edge), (edge, node)],
        Cut::ToEdge => &[(node, edge)],
        Cut::ToNode => &[(edge, node)],
    };
    ways.iter().try_for_each(|((_, from), (to, _))| set_way(&world.namespaces.underlay, from, to, is_cut))
}

/// What comes from an address and would leave by a port goes into a queue that holds nothing.
fn set_way(bridge: &Namespace, from: &str, port: &str, is_cut: bool) -> Result<()> {
    let tc = |words: &str| {
        let all: Vec<&str> = ["-n", &bridge.name].into_iter().chain(words.split_whitespace()).collect();
        run("tc", &all).map(drop)
    };
    if !is_cut {
        return tc(&format!("qdisc del dev {port} root"));
    }
    tc(&format!("qdisc add dev {port} root handle 1: htb"))?;
    tc(&format!("class add dev {port} parent 1: classid 1:9 htb rate 8kbit"))?;
    tc(&format!("qdisc add dev {port} parent 1:9 bfifo limit 1"))?;
    tc(&format!("filter add dev {port} parent 1: protocol ip u32 match ip src {from}/32 flowid 1:9"))
}
