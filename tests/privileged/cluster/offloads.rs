//! Batches of UDP over an underlay of veth, which hands them over whole: roles see to it, and `detach` undoes what they did.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use persona_tests::findings::Findings;
use persona_tests::netns::Namespace;
use persona_tests::sys::send_batch;
use persona_tests::world::{Hook, INTERNET_ADDRESS, NODE, World};

use super::{check, start};

const BATCH_PORT: u16 = 7900;
/// Datagrams of a batch, and their size.
const COUNT: usize = 8;
const BYTES: u16 = 1_000;

/// How long a batch may take to come through, and how often one is sent: it may go before the lease is in force.
const WAIT: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 5;

#[test]
fn batches_of_udp_get_through_and_detach_puts_offloads_back() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("batches", |findings| batches(world, findings));
            findings.run("detach", |findings| put_back(world, findings));
        }
    });
}

fn batches(world: &World, findings: &mut Findings) -> Result<()> {
    for (name, device, namespace) in devices(world) {
        let is_on = segments_udp(namespace, device)?;
        findings.note(format!("{name} switched tx-udp-segmentation off at {device}"), (!is_on).to_string(), !is_on);
    }
    let internet = world.namespaces.internet.run_inside(|| UdpSocket::bind(("0.0.0.0", BATCH_PORT)))??;
    let inside = world.workload("w1").run_inside(|| UdpSocket::bind("0.0.0.0:0"))??;
    let server: SocketAddr = (INTERNET_ADDRESS.parse::<std::net::IpAddr>()?, BATCH_PORT).into();
    let (numbers, client) = exchange(&inside, server, &internet)?;
    findings.note("a batch from the workload arrives", format!("{numbers:?}"), numbers.len() == COUNT);
    let client = client.context("nobody was heard")?;
    let (numbers, _) = exchange(&internet, client, &inside)?;
    findings.note("a batch to the workload arrives", format!("{numbers:?}"), numbers.len() == COUNT);
    Ok(())
}

/// Sends batches until one arrived whole; says which datagrams did, and from whom they seemed to come.
fn exchange(from: &UdpSocket, to: SocketAddr, at: &UdpSocket) -> Result<(BTreeSet<u8>, Option<SocketAddr>)> {
    let bytes: Vec<u8> = (0..COUNT).flat_map(|number| vec![number as u8; BYTES.into()]).collect();
    at.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (mut numbers, mut sender) = (BTreeSet::new(), None);
    for _round in 0..ROUNDS {
        send_batch(from, BYTES, &bytes, to)?;
        let (start, mut datagram) = (Instant::now(), [0; 2_000]);
        while numbers.len() < COUNT && start.elapsed() < WAIT {
            let Ok((length, address)) = at.recv_from(&mut datagram) else { continue };
            if length == usize::from(BYTES) {
                numbers.insert(datagram[0]);
                sender = Some(address);
            }
        }
        if numbers.len() == COUNT {
            break;
        }
    }
    Ok((numbers, sender))
}

fn put_back(world: &mut World, findings: &mut Findings) -> Result<()> {
    world.agent.as_mut().context("no agent runs")?.stop()?;
    world.edges.get_mut("fra1").context("no edge runs")?.stop()?;
    for (name, device, namespace) in devices(world) {
        world.detach_role(name)?;
        let is_on = segments_udp(namespace, device)?;
        findings.note(format!("after detach of {name} it is on again at {device}"), is_on.to_string(), is_on);
    }
    Ok(())
}

fn devices(world: &World) -> [(&'static str, &'static str, &Namespace); 2] {
    [(NODE, "up0", &world.namespaces.node), ("fra1", "in0", &world.namespaces.edges["fra1"])]
}

fn segments_udp(namespace: &Namespace, device: &str) -> Result<bool> {
    let output = namespace.command("ethtool")?.args(["-k", device]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find(|line| line.trim().starts_with("tx-udp-segmentation:"));
    Ok(line.with_context(|| format!("{device} has no such offload:\n{text}"))?.contains(": on"))
}
