//! A router in the underlay whose next link is narrower than what nodes and edges were told: its errors about tunnel
//! packets make packets smaller in both directions, and senders are told, over an underlay of either family.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use persona_core::wire::api::EventView;
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::download::Download;
use persona_tests::netns::Namespace;
use persona_tests::steps::SUBJECT;
use persona_tests::sys::{self, PathMtu};
use persona_tests::world::{EDGES, FIRST_NODE, Families, Hook, INTERNET_ADDRESS, INTERNET_ADDRESS6, World};

use super::large::{client_of, connected, open, payload, receives, wait_for_refusal};
use super::{check_with, start};

/// What the router's link carries, bytes.
const NARROW: u32 = 1_400;

/// What fitted before: the persona's MTU.
const MTU: usize = 1_400;

/// Where the internet host listens.
const PORT: u16 = 7_779;

/// How long what a step waits for may take.
const STEP_TIME: Duration = Duration::from_secs(60);

/// Bytes by which a download shows that it runs: more than any buffer on the way holds.
const MORE_BYTES: u64 = 8 << 20;

#[test]
fn a_narrow_router_in_an_ipv4_underlay_makes_packets_smaller() {
    check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| narrow_router(world, findings, 36));
}

#[test]
fn a_narrow_router_in_an_ipv6_underlay_makes_packets_smaller() {
    check_with(Hook::Auto, Families::BothOverIpv6, |world, findings| narrow_router(world, findings, 56));
}

fn narrow_router(world: &mut World, findings: &mut Findings, encapsulation: u32) {
    start(world, findings);
    if !findings.all_ok() {
        return; // nothing that follows could say anything
    }
    let mtu = NARROW - encapsulation;
    findings.run("downloads", |findings| downloads_go_on(world, findings));
    findings.run("senders", |findings| senders_are_told(world, findings, mtu));
    findings.run("events", |findings| events_say_so(world, findings, mtu));
    findings.run("the processes", |_| world.check_processes());
}

/// Connections of both families from before the link became narrow: their segments fitted, and do not any more.
fn downloads_go_on(world: &World, findings: &mut Findings) -> Result<()> {
    let servers = [INTERNET_ADDRESS, INTERNET_ADDRESS6];
    let start = |server: &str| Download::start_from(server.parse()?, world.workload("w1"), "/endless");
    let downloads = servers.map(start).into_iter().collect::<Result<Vec<_>>>()?;
    downloads.iter().try_for_each(|download| download.wait_for_bytes(MORE_BYTES, patient(STEP_TIME)))?;
    narrow(world)?;
    for (server, download) in servers.iter().zip(downloads) {
        let bytes = download.bytes();
        let grown = download.wait_for_bytes(bytes + MORE_BYTES, patient(STEP_TIME));
        let measured = format!("{} MiB more", (download.bytes() - bytes) >> 20);
        findings.note(format!("a download from {server} goes on"), measured, grown.is_ok());
        download.stop()?;
    }
    Ok(())
}

/// What fitted is refused where it may not be cut, with the size that fits; that arrives.
fn senders_are_told(world: &World, findings: &mut Findings, mtu: u32) -> Result<()> {
    for address in [INTERNET_ADDRESS, INTERNET_ADDRESS6] {
        let internet = &world.namespaces.internet;
        let server = open(internet, SocketAddr::new(address.parse()?, PORT), PathMtu::Required)?;
        let socket = connected(world, "w2", server.local_addr()?, PathMtu::Required)?;
        let client = client_of(&socket, &server)?;
        internet.run_inside(|| server.connect(client))??;
        let overhead = if client.is_ipv4() { 28 } else { 48 };
        for (who, sender, receiver) in [("w2", &socket, &server), ("the internet host", &server, &socket)] {
            let refusal = wait_for_refusal(sender, MTU - overhead)?;
            let known = sys::path_mtu_of(sender)?;
            let from = sender.local_addr()?.ip();
            findings.note(format!("{who} at {from}: EMSGSIZE"), format!("{refusal}, MTU {known}"), known == mtu);
            let fitting = payload(mtu as usize - overhead, 7);
            // Errors that messages about earlier ones left behind come first.
            (0..20).find_map(|_| sender.send(&fitting).ok()).context("what fits is refused too")?;
            let measured = format!("{} bytes", fitting.len());
            findings.note("what fits just so arrives", measured, receives(receiver, &fitting));
        }
    }
    Ok(())
}

fn events_say_so(world: &World, findings: &mut Findings, mtu: u32) -> Result<()> {
    let node = FIRST_NODE.underlay_address(world.families);
    let told = |events: &[EventView], about: &str, size: u32| {
        let size = format!(" {size} bytes");
        let mut lowered = events.iter().filter(|event| event.name == "mtu.lowered" && event.about == about);
        lowered.any(|event| event.message.contains(&size))
    };
    let all_told = |events: &Vec<EventView>| told(events, SUBJECT, mtu) && told(events, &node, NARROW);
    let (_, time) = world.ctl.wait_for("both to be told", &["events"], STEP_TIME, all_told)?;
    findings.note("node and edge say so", format!("mtu.lowered, after {} ms", time.as_millis()), true);
    Ok(())
}

/// Leads the ways between the node and all edges by the underlay's namespace, as a router whose own way on is narrow.
fn narrow(world: &World) -> Result<()> {
    let (router, families) = (&world.namespaces.underlay, world.families);
    let is_ipv6 = families == Families::BothOverIpv6;
    let (gateway, bits, flag) = if is_ipv6 { ("fd77::1", 128, "-6") } else { ("192.168.77.1", 32, "-4") };
    let node = FIRST_NODE.underlay_address(families);
    for (path, value) in [("net/ipv4/conf/br0/send_redirects", "0"), ("net/ipv4/conf/all/send_redirects", "0")] {
        router.write_sysctl(path, value)?;
    }
    let lead = |from: &Namespace, device: &str, to: &str| {
        // A router that sends a packet back where it came from says so; nobody shall listen.
        from.write_sysctl(&format!("net/ipv6/conf/{device}/accept_redirects"), "0")?;
        from.ip(&format!("{flag} route add {to}/{bits} via {gateway} dev {device}")).map(drop)
    };
    let widths = EDGES.iter().map(|edge| edge.underlay_address(families)).chain([node.clone()]);
    for far_end in widths {
        router.ip(&format!("{flag} route add {far_end}/{bits} dev br0 mtu {NARROW}"))?;
    }
    router.write_sysctl("net/ipv4/ip_forward", "1")?;
    router.write_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    for edge in EDGES {
        let inside = edge.underlay_address(families);
        lead(&world.namespaces.node, "up0", &inside)?;
        lead(&world.namespaces.edges[edge.name], "in0", &node)?;
    }
    Ok(())
}
