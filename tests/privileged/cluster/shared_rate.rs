//! `qos.shared` from the document to the wire: two workloads together get what their persona has, each the same of it, both
//! ways; one alone gets nearly all. One that leaves the persona takes its class along, and the last one the persona's.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use persona_core::wire::api::Status;
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::paced::pace;
use persona_tests::steps::{TOKYO, view};
use persona_tests::world::{Hook, INTERNET_ADDRESS, World};

use super::{PERSONA, check, start};

/// What goes into the persona: a total instead of rates.
const QOS: &str = "  qos: { guaranteedRate: 4mbit, shared: { egressRate: 20mbit, ingressRate: 16mbit } }";

/// The persona's totals, up and down.
const TOTAL_BPS: f64 = 20e6;
const TOTAL_DOWN_BPS: f64 = 16e6;
/// What one alone must get of the total downwards: more than an equal part, as long as it takes until it has it.
const ALONE_SHARE: f64 = 0.75;
/// Bytes of a datagram's payload, and of its IP packet.
const PAYLOAD_LENGTH: usize = 1_200;
const PACKET_LENGTH: u64 = 1_228;
/// What each sender offers, relative to the total.
const OFFER: f64 = 0.9;
/// How long they send.
const RUN_TIME: Duration = Duration::from_secs(4);
/// What the queues of both still hold when the last packet has been offered, as time of the total.
const QUEUE_TIME: Duration = Duration::from_millis(250);
/// How far the sum may be from the total.
const TOLERANCE: f64 = 0.05;
/// A busy machine may leave queues dry; then a run is done again.
const RUN_COUNT_MAX: u32 = 6;
/// How long a change may take to be in force.
const FORCE_TIME: Duration = Duration::from_secs(20);

#[test]
fn wearers_of_a_persona_share_its_total() {
    check(Hook::Auto, |world, findings| {
        start(world, findings);
        if findings.all_ok() {
            findings.run("shared rates", |findings| run(world, findings));
        }
    });
}

fn run(world: &World, findings: &mut Findings) -> Result<()> {
    world.apply("shared.yaml", &format!("{PERSONA}{QOS}\n"))?;
    wait_for(world, |classes| inner(classes).len() == 1 && below(classes).len() == 2)?;
    let mut offer = offer_both(world)?;
    for _again in 1..RUN_COUNT_MAX {
        if offer.passed_bps >= TOTAL_BPS * (1.0 - TOLERANCE) {
            break;
        }
        offer = offer_both(world)?;
    }
    let is_total = (offer.passed_bps / TOTAL_BPS - 1.0).abs() <= TOLERANCE;
    let expected = format!("two senders of {} have {} together", view::mbit(OFFER * TOTAL_BPS), view::mbit(TOTAL_BPS));
    findings.note(expected, view::mbit(offer.passed_bps), is_total);
    let sum: u64 = offer.of_class.iter().sum();
    let shares: Vec<f64> = offer.of_class.iter().map(|bytes| *bytes as f64 / sum as f64).collect();
    let is_equal = shares.len() == 2 && shares.iter().all(|share| *share > 0.4);
    findings.note("each has about half of it", format!("{shares:.2?}"), is_equal);

    downwards(world, findings)?;

    world.ctl.text(&["switch", "workload/n1/w2", TOKYO, "--wait"])?;
    wait_for(world, |classes| inner(classes).len() == 1 && below(classes).len() == 1)?;
    findings.note("who leaves the persona leaves no class below it", "1 is left", true);
    world.ctl.text(&["switch", "workload/n1/w1", TOKYO, "--wait"])?;
    wait_for(world, |classes| inner(classes).is_empty() && classes.len() == 2)?;
    findings.note("the last one takes the persona's class along", "2 that stand alone", true);
    let is_quiet = |status: &Status| status.rejected.is_empty() && status.behind.is_empty();
    world.ctl.wait_for("an end without rejections", &["status"], FORCE_TIME, is_quiet)?;
    Ok(())
}

/// Datagrams to both, then to one alone.
fn downwards(world: &World, findings: &mut Findings) -> Result<()> {
    let server = world.namespaces.internet.run_inside(|| UdpSocket::bind((INTERNET_ADDRESS, 0)))??;
    let clients = [client_of(world, "w1", &server)?, client_of(world, "w2", &server)?];
    server.set_nonblocking(true)?;
    let addresses = clients.each_ref().map(|(_, address)| *address);
    let mut both_bps = send_down(world, &server, &addresses)?;
    for _again in 1..RUN_COUNT_MAX {
        if both_bps >= TOTAL_DOWN_BPS * (1.0 - TOLERANCE) {
            break;
        }
        both_bps = send_down(world, &server, &addresses)?;
    }
    let is_total = (both_bps / TOTAL_DOWN_BPS - 1.0).abs() <= TOLERANCE;
    let expected = format!("downwards two have {} together", view::mbit(TOTAL_DOWN_BPS));
    findings.note(expected, view::mbit(both_bps), is_total);
    let mut alone_bps = 0.0;
    for _again in 0..RUN_COUNT_MAX {
        alone_bps = send_down(world, &server, &addresses[..1])?;
        if alone_bps >= TOTAL_DOWN_BPS * ALONE_SHARE {
            break;
        }
    }
    let is_most = (ALONE_SHARE..=1.0 + TOLERANCE).contains(&(alone_bps / TOTAL_DOWN_BPS));
    findings.note("one alone gets most of it within seconds", view::mbit(alone_bps), is_most);
    Ok(())
}

/// A socket of a workload, and what the server has to address so that it gets something.
fn client_of(world: &World, name: &str, server: &UdpSocket) -> Result<(UdpSocket, SocketAddr)> {
    let socket = world.workload(name).run_inside(|| UdpSocket::bind("0.0.0.0:0"))??;
    server.set_read_timeout(Some(patient(FORCE_TIME)))?;
    socket.send_to(b"hello", server.local_addr()?)?;
    let (_, address) = server.recv_from(&mut [0; 16]).context("the first datagram does not arrive")?;
    Ok((socket, address))
}

/// Sends to each nearly as much as all may have; inner bits per second that came through their queues.
fn send_down(world: &World, server: &UdpSocket, to: &[SocketAddr]) -> Result<f64> {
    let bytes =
        || -> Result<u64> { Ok(view::inner_bytes_of_queue(world, "w1")? + view::inner_bytes_of_queue(world, "w2")?) };
    let before = bytes()?;
    let start = Instant::now();
    pace(start, RUN_TIME, OFFER * TOTAL_DOWN_BPS / 8.0 / PACKET_LENGTH as f64, || {
        for address in to {
            let _ = server.send_to(&[7; PAYLOAD_LENGTH], address);
        }
    });
    let seconds = start.elapsed();
    // What waits still comes.
    std::thread::sleep(QUEUE_TIME);
    let queued = if to.len() > 1 { QUEUE_TIME } else { Duration::ZERO };
    Ok((bytes()? - before) as f64 * 8.0 / (seconds + queued).as_secs_f64())
}

/// What a run gave.
struct Offer {
    /// Inner bits per second that passed both queues, as the edges count them.
    passed_bps: f64,
    /// Bytes by class of a workload.
    of_class: Vec<u64>,
}

/// Both workloads send for a while, each nearly as much as both may.
fn offer_both(world: &World) -> Result<Offer> {
    let bind = |name: &str| world.workload(name).run_inside(|| UdpSocket::bind("0.0.0.0:0"));
    let sockets = [bind("w1")??, bind("w2")??];
    sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    let sink = world.namespaces.internet.run_inside(|| UdpSocket::bind((INTERNET_ADDRESS, 0)))??;
    let destination = sink.local_addr()?;
    let vni = view::lease_of(world, "workload/n1/w1")?.vni.0;
    let before = (view::persona_traffic_at_edges(world, vni)?.egress_bytes, bytes_below(world)?);
    let start = Instant::now();
    pace(start, RUN_TIME, OFFER * TOTAL_BPS / 8.0 / PACKET_LENGTH as f64, || {
        for socket in &sockets {
            // A full send buffer is as good as a full queue.
            let _ = socket.send_to(&[7; PAYLOAD_LENGTH], destination);
        }
    });
    let seconds = (start.elapsed() + QUEUE_TIME).as_secs_f64();
    let bytes = view::persona_traffic_at_edges(world, vni)?.egress_bytes - before.0;
    let after = bytes_below(world)?;
    ensure!(after.len() == before.1.len(), "classes came or went meanwhile");
    let of_class = after.iter().zip(&before.1).map(|(after, before)| after - before).collect();
    Ok(Offer { passed_bps: bytes as f64 * 8.0 / seconds, of_class })
}

/// A class on the uplink.
#[derive(Debug)]
struct Class {
    handle: String,
    /// None: it stands alone.
    parent: Option<String>,
    bytes: u64,
}

/// Our classes on the uplink. `tc` has no JSON for them.
fn classes(world: &World) -> Result<Vec<Class>> {
    let mut tc = world.namespaces.node.command("tc")?;
    let output = tc.args(["-s", "class", "show", "dev", "up0"]).output().context("tc does not start")?;
    let mut classes: Vec<Class> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), classes.last_mut()) {
            (["class", "htb", handle, "root", ..], _) => {
                classes.push(Class { handle: (*handle).to_owned(), parent: None, bytes: 0 });
            }
            (["class", "htb", handle, "parent", parent, ..], _) => {
                classes.push(Class { handle: (*handle).to_owned(), parent: Some((*parent).to_owned()), bytes: 0 });
            }
            (["Sent", bytes, ..], Some(class)) => class.bytes = bytes.parse().context("no count of bytes")?,
            _ => {}
        }
    }
    Ok(classes)
}

/// Those that have others below them.
fn inner(classes: &[Class]) -> Vec<&Class> {
    let is_parent = |class: &&Class| classes.iter().any(|below| below.parent.as_ref() == Some(&class.handle));
    classes.iter().filter(is_parent).collect()
}

/// Those that stand below another.
fn below(classes: &[Class]) -> Vec<&Class> {
    classes.iter().filter(|class| class.parent.is_some()).collect()
}

/// What passed each class below another.
fn bytes_below(world: &World) -> Result<Vec<u64>> {
    Ok(below(&classes(world)?).into_iter().map(|class| class.bytes).collect())
}

fn wait_for(world: &World, satisfies: impl Fn(&[Class]) -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        let classes = classes(world)?;
        if satisfies(&classes) {
            return Ok(());
        }
        if start.elapsed() > patient(FORCE_TIME) {
            bail!("waited {:?}: {classes:?}", patient(FORCE_TIME));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
