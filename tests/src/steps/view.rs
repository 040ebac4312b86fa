//! What steps ask again and again, by the command line: leases, counters, who carries a flow, what the server sees.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use persona_core::wire::agent::Traffic;
use persona_core::wire::api::{EdgeView, Explanation, LeaseView, NodeView};

use crate::ctl::patient;
use crate::world::{EDGES, INTERNET_ADDRESS, World};

/// Longer than the time between two reports of an agent, and between two of its readings of counters.
const REPORT_MS: u64 = 1_200;

/// How long a report may take on a machine that is busy with something else.
const REPORT_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of the Ethernet header, which a queue counts too.
const ETHERNET_BYTES: u64 = 14;

/// How often counters are asked for until they stand still.
const SETTLE_ROUNDS_MAX: usize = 6;

/// The lease that a subject's new flows use.
pub fn lease_of(world: &World, subject: &str) -> Result<LeaseView> {
    let explanation: Explanation = world.ctl.json(&["explain", subject])?;
    explanation.lease.with_context(|| format!("{subject} has no lease"))
}

/// Whether an address and port, as the server saw them, lie in a lease.
pub fn is_inside(lease: &LeaseView, client: (Ipv4Addr, u16)) -> bool {
    lease.space.address() == Some(client.0)
        && lease.ports.iter().any(|(first, last)| (*first..=*last).contains(&client.1))
}

/// A lease in words.
pub fn describe(lease: &LeaseView) -> String {
    lease.space.to_string()
}

/// Asks the internet host who it sees, with a new connection of curl.
pub fn seen_by_server(world: &World, workload: &str) -> Result<(Ipv4Addr, u16)> {
    let mut curl = world.workload(workload).command("curl")?;
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", &format!("http://{INTERNET_ADDRESS}/whoami")]);
    let output = curl.output().context("curl does not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_client(&text)
        .with_context(|| format!("curl got {text:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Reads `ADDRESS PORT`.
pub fn parse_client(text: &str) -> Option<(Ipv4Addr, u16)> {
    let (address, port) = text.trim().split_once(' ')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

/// The node as the manager sees it.
pub fn node(world: &World) -> Result<NodeView> {
    world.ctl.json(&["node", "get", crate::world::NODE])
}

/// Whether the node hears both edges of the Frankfurt group.
pub fn hears_frankfurt(node: &NodeView) -> bool {
    ["fra1", "fra2"].iter().all(|name| node.edges.iter().any(|edge| edge.edge.as_str() == *name && edge.alive))
}

/// The edges as the manager sees them.
pub fn edges(world: &World) -> Result<Vec<EdgeView>> {
    world.ctl.list(&["edge", "list"])
}

/// A subject's counters at its node, once they stand still.
pub fn subject_traffic(world: &World, subject: &str) -> Result<Traffic> {
    settled(|| {
        let node = node(world)?;
        let found = node.counters.subjects.into_iter().find(|entry| entry.subject.to_string() == subject);
        Ok((found.map(|entry| entry.traffic).unwrap_or_default(), node.seen_ms))
    })
}

/// Inner IP bytes that our queue on a workload's device has let through.
pub fn inner_bytes_of_queue(world: &World, device: &str) -> Result<u64> {
    let output = world.namespaces.node.command("tc")?.args(["-s", "-j", "qdisc", "show", "dev", device]).output()?;
    let queues: serde_json::Value = serde_json::from_slice(&output.stdout).context("tc's answer is not JSON")?;
    let queue = queues.as_array().into_iter().flatten().find(|queue| queue["kind"] == "htb");
    let count = |name: &str| queue.and_then(|queue| queue[name].as_u64());
    let (bytes, packets) = count("bytes").zip(count("packets")).with_context(|| format!("{device} has no queue"))?;
    Ok(bytes - packets * ETHERNET_BYTES)
}

/// A persona's counters over all edges, once they stand still.
pub fn persona_traffic_at_edges(world: &World, vni: u32) -> Result<Traffic> {
    settled(|| {
        let all = edges(world)?;
        let of_persona = all.iter().filter_map(|edge| edge.counters.personas.get(&vni));
        let sum = of_persona.fold(Traffic::default(), |sum, traffic| Traffic {
            egress_packets: sum.egress_packets + traffic.egress_packets,
            egress_bytes: sum.egress_bytes + traffic.egress_bytes,
            ingress_packets: sum.ingress_packets + traffic.ingress_packets,
            ingress_bytes: sum.ingress_bytes + traffic.ingress_bytes,
        });
        let running = all.iter().filter(|edge| world.edges.contains_key(edge.name.as_str()));
        Ok((sum, running.map(|edge| edge.seen_ms).min().context("no edge runs")?))
    })
}

/// Reads until two readings agree, of reports that were made after this was asked and at different times. A reading
/// tells counters, and when the oldest report was made that it is of.
fn settled(read: impl Fn() -> Result<(Traffic, u64)>) -> Result<Traffic> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let (mut last, mut reported_ms) = read_after(&read, now.as_millis() as u64 + REPORT_MS)?;
    for _ in 0..SETTLE_ROUNDS_MAX {
        let (next, next_ms) = read_after(&read, reported_ms + REPORT_MS)?;
        if next == last {
            break;
        }
        (last, reported_ms) = (next, next_ms);
    }
    Ok(last)
}

/// Reads until every report is at least this young.
fn read_after(read: impl Fn() -> Result<(Traffic, u64)>, after_ms: u64) -> Result<(Traffic, u64)> {
    let start = Instant::now();
    loop {
        let (traffic, reported_ms) = read()?;
        if reported_ms >= after_ms {
            return Ok((traffic, reported_ms));
        }
        ensure!(start.elapsed() < patient(REPORT_TIME_MAX), "no report for {REPORT_TIME_MAX:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The edge that carries most of a busy direction now: `in0` receives what nodes send out, `out0` what comes back.
pub fn carrying_edge(world: &World, device: &str) -> Result<String> {
    let read = || -> Result<Vec<(u64, &str)>> {
        let running = EDGES.iter().filter(|edge| world.edges.contains_key(edge.name));
        running.map(|edge| Ok((world.namespaces.edges[edge.name].device_bytes(device)?.0, edge.name))).collect()
    };
    let before = read()?;
    std::thread::sleep(Duration::from_millis(200));
    let after = read()?;
    let growth = before.iter().zip(&after).map(|(before, after)| (after.0 - before.0, after.1));
    growth.max().map(|(_, name)| name.to_owned()).context("no edge runs")
}

/// Milliseconds, for people.
pub fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

/// Megabits per second, for people.
pub fn mbit(bps: f64) -> String {
    format!("{:.1} Mbit/s", bps / 1e6)
}
