//! Datagrams that are larger than the persona's MTU, of both families and in both directions: cut by the slow path where
//! the sender allows it, in fragments of the sender's in any order and over several edges, and refused with EMSGSIZE where
//! the sender forbids it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use persona_core::wire::agent::SlowPathWork;
use persona_core::wire::api::{EdgeView, NodeView};
use persona_tests::ctl::patient;
use persona_tests::findings::Findings;
use persona_tests::load::capture::Capture;
use persona_tests::load::echo::EchoServer;
use persona_tests::load::fragments::Datagram;
use persona_tests::netns::Namespace;
use persona_tests::steps::view;
use persona_tests::sys::{self, PathMtu, RawSocket};
use persona_tests::world::{EDGES, Families, Hook, INTERNET_ADDRESS, INTERNET_ADDRESS6, World};

use super::{check_with, start};

/// Where the internet host sends back what it gets, however large.
const PORT: u16 = 7778;

/// The router, which is a host of the internet too, and one that chooses the edge.
const ROUTER: [&str; 2] = ["203.0.113.1", "2001:db8:77::1"];

/// The pools' part that the workload's persona draws from.
const POOLS: [&str; 2] = ["203.0.113.64/28", "2001:db8:1::/56"];

/// The persona's MTU, and payload lengths about it: it fits just so, one packet that does not, two to thirty.
const MTU: u32 = 1_400;
const PAYLOADS: [usize; 5] = [1_372, 1_420, 3_000, 9_000, 40_000];

/// Datagrams of each length, and of each order of fragments.
const COUNT: usize = 20;

/// How long a datagram may take there and back.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How long what a step waits for may take.
const NOTICE_TIME: Duration = Duration::from_secs(15);

/// What an edge passes on to the edge that is responsible for it.
const RELAYED: &str = "udp port 6081 and udp[15] = 1";

/// Orders of four fragments.
const ORDERS: [[usize; 4]; 4] = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 1, 3, 0]];

#[test]
fn datagrams_larger_than_the_mtu_arrive_whole_or_are_refused_with_a_reason() {
    check_with(Hook::Auto, Families::BothOverIpv4, |world, findings| {
        start(world, findings);
        if !findings.all_ok() {
            return; // nothing that follows could say anything
        }
        findings.run("may be cut", |findings| senders_that_allow_it_are_cut_for(world, findings));
        findings.run("IPv6 senders cut", |findings| senders_cut_by_themselves(world, findings));
        findings.run("inward over two edges", |findings| fragments_come_in_over_two_edges(world, findings));
        findings.run("outward", |findings| fragments_leave_in_any_order(world, findings));
        findings.run("may not be cut", |findings| senders_that_forbid_it_are_told(world, findings));
        findings.run("the processes", |_| world.check_processes());
    });
}

fn senders_that_allow_it_are_cut_for(world: &World, findings: &mut Findings) -> Result<()> {
    let server = SocketAddr::new(INTERNET_ADDRESS.parse()?, PORT);
    let _echo = EchoServer::on(open(&world.namespaces.internet, server, PathMtu::Ignored)?);
    let socket = connected(world, "w1", server, PathMtu::Ignored)?;
    for length in PAYLOADS {
        let returned = (0..COUNT).filter(|number| comes_back(&socket, &payload(length, *number))).count();
        let expected = format!("{COUNT} datagrams of {length} bytes come back whole");
        findings.note(expected, returned.to_string(), returned == COUNT);
    }
    let has_cut = |node: &NodeView| node.counters.slow_path.cut > 0;
    let (node, _) = world.ctl.wait_for("the node's count", &["node", "get", "n1"], NOTICE_TIME, has_cut)?;
    findings.note("the node counts what it cut", format!("{:?}", node.counters.slow_path), true);
    let work = wait_for_edges(world, |work| work.cut > 0)?;
    findings.note("the edges count what they cut", format!("{work:?}"), true);
    Ok(())
}

/// Fragments of IPv6 are cut by the sender alone, who learns the size by a message and tries again.
fn senders_cut_by_themselves(world: &World, findings: &mut Findings) -> Result<()> {
    let server = SocketAddr::new(INTERNET_ADDRESS6.parse()?, PORT);
    let _echo = EchoServer::on(open(&world.namespaces.internet, server, PathMtu::Ignored)?);
    let socket = connected(world, "w1", server, PathMtu::Ignored)?;
    let deadline = Instant::now() + patient(NOTICE_TIME);
    while !comes_back(&socket, &payload(3_000, 0)) {
        if Instant::now() > deadline {
            bail!("no datagram of 3,000 bytes has come back");
        }
    }
    for length in PAYLOADS {
        let returned = (0..COUNT).filter(|number| comes_back(&socket, &payload(length, *number))).count();
        let expected = format!("{COUNT} datagrams of {length} bytes come back whole, once the size is known");
        findings.note(expected, returned.to_string(), returned == COUNT);
    }
    Ok(())
}

/// The router sends each fragment by another edge than the one before.
fn fragments_come_in_over_two_edges(world: &World, findings: &mut Findings) -> Result<()> {
    let router = &world.namespaces.router;
    for (address, pool) in ROUTER.into_iter().zip(POOLS) {
        let server = open(router, SocketAddr::new(address.parse()?, PORT), PathMtu::Ignored)?;
        let ways = ways_by_each_edge(router, address.parse()?, pool)?;
        let socket = connected(world, "w1", server.local_addr()?, PathMtu::Ignored)?;
        let client = client_of(&socket, &server)?;
        let capture =
            Capture::start(world, &format!("by-{}", ways.len()), &world.namespaces.underlay, "fra1", RELAYED)?;
        for (round, order) in ORDERS.iter().enumerate() {
            let received = (0..COUNT).filter(|number| {
                let id = (round * COUNT + number) as u32 + 0x9000;
                let payload = payload(3_600, *number);
                let datagram = Datagram { source: server.local_addr().unwrap(), destination: client, id, payload };
                let fragments = datagram.fragments(1_000);
                let sent = order
                    .iter()
                    .enumerate()
                    .try_for_each(|(turn, index)| ways[turn % ways.len()].send(&fragments[*index], client.ip()));
                sent.is_ok() && receives(&socket, &datagram.payload)
            });
            let received = received.count();
            let expected = format!("to {}: {COUNT} datagrams in fragments {order:?}, alternating", client.ip());
            findings.note(expected, format!("{received} arrive whole"), received == COUNT);
        }
        let relayed = capture.finish()?.len();
        // IPv6 edges go by the prefix alone; of IPv4 fragments, one edge keeps the port.
        let expected = if client.is_ipv4() { "edges pass some on to each other" } else { "no edge needs another" };
        findings.note(expected, format!("{relayed} fragments"), (relayed > 0) == client.is_ipv4());
    }
    let work = wait_for_edges(world, |work| work.released > 0)?;
    findings.note("some waited for their first at an edge", format!("{work:?}"), work.expired == 0 && work.waited > 0);
    Ok(())
}

fn fragments_leave_in_any_order(world: &World, findings: &mut Findings) -> Result<()> {
    for address in ROUTER {
        let server = open(&world.namespaces.router, SocketAddr::new(address.parse()?, PORT), PathMtu::Ignored)?;
        let to = server.local_addr()?;
        let w1 = world.workload("w1");
        for (round, order) in ORDERS.iter().enumerate() {
            // A new socket each time: the first of its packets is whichever fragment leaves first.
            let socket = connected(world, "w1", to, PathMtu::Ignored)?;
            let raw = w1.run_inside(|| RawSocket::open(to.ip()))??;
            let mut clients = std::collections::BTreeSet::new();
            let received = (0..COUNT).filter(|number| {
                let id = (round * COUNT + number) as u32 + 0x5000;
                let payload = payload(3_600, *number);
                let datagram = Datagram { source: socket.local_addr().unwrap(), destination: to, id, payload };
                let fragments = datagram.fragments(1_000);
                let sent = order.iter().try_for_each(|index| raw.send(&fragments[*index], to.ip()));
                let mut buffer = vec![0; usize::from(u16::MAX)];
                let arrived = server.recv_from(&mut buffer);
                clients.extend(arrived.as_ref().ok().map(|(_, client)| *client));
                sent.is_ok() && arrived.is_ok_and(|(length, _)| buffer[..length] == datagram.payload)
            });
            let received = received.count();
            let expected = format!("from {}: {COUNT} datagrams in fragments {order:?}", socket.local_addr()?.ip());
            let measured = format!("{received} arrive whole, from {clients:?}");
            findings.note(expected, measured, received == COUNT && clients.len() == 1);
        }
    }
    let has_waited = |node: &NodeView| node.counters.slow_path.released > 0;
    let (node, _) = world.ctl.wait_for("the node's count", &["node", "get", "n1"], NOTICE_TIME, has_waited)?;
    findings.note("some waited for their first at the node", format!("{:?}", node.counters.slow_path), true);
    Ok(())
}

fn senders_that_forbid_it_are_told(world: &World, findings: &mut Findings) -> Result<()> {
    for address in [INTERNET_ADDRESS, INTERNET_ADDRESS6] {
        let internet = &world.namespaces.internet;
        // Another address than what the senders before have learned about.
        let server = open(internet, SocketAddr::new(address.parse()?, PORT), PathMtu::Required)?;
        let socket = connected(world, "w2", server.local_addr()?, PathMtu::Required)?;
        let client = client_of(&socket, &server)?;
        internet.run_inside(|| server.connect(client))??;
        let overhead = if client.is_ipv4() { 28 } else { 48 };
        for (who, sender, receiver) in [("w2", &socket, &server), ("the internet host", &server, &socket)] {
            let refusal = wait_for_refusal(sender, 1_460 - overhead)?;
            let known = sys::path_mtu_of(sender)?;
            let measured = format!("{refusal}, MTU {known}");
            findings.note(format!("{who} at {}: EMSGSIZE", sender.local_addr()?.ip()), measured, known == MTU);
            let fitting = payload(MTU as usize - overhead, 7);
            // Errors that messages about earlier ones left behind come first.
            (0..COUNT).find_map(|_| sender.send(&fitting).ok()).context("what fits is refused too")?;
            findings.note(
                "what fits just so arrives",
                format!("{} bytes", fitting.len()),
                receives(receiver, &fitting),
            );
        }
    }
    Ok(())
}

/// Sends until the kernel knows better.
pub(super) fn wait_for_refusal(sender: &UdpSocket, length: usize) -> Result<String> {
    let deadline = Instant::now() + patient(NOTICE_TIME);
    loop {
        match sender.send(&payload(length, 0)) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Ok(error.to_string()),
            Err(error) => return Err(error).context("another error than EMSGSIZE"),
            Ok(_) if Instant::now() > deadline => bail!("{length} bytes are taken again and again"),
            Ok(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A raw socket for each edge of the group, whose packets to the pool go by that edge.
fn ways_by_each_edge(router: &Namespace, own: IpAddr, pool: &str) -> Result<Vec<RawSocket>> {
    let family = if own.is_ipv4() { "-4" } else { "-6" };
    let edges = EDGES.iter().filter(|edge| edge.group == "frankfurt");
    let ways = edges.enumerate().map(|(index, edge)| {
        let (mark, table) = (index as i32 + 1, index + 101);
        let by = if own.is_ipv4() { edge.outside.to_owned() } else { format!("2001:db8:77::{}", edge.interface6) };
        router.ip(&format!("{family} route add {pool} via {by} dev seg0 table {table}"))?;
        router.ip(&format!("{family} rule add fwmark {mark} lookup {table}"))?;
        let socket = router.run_inside(|| RawSocket::open(own))??;
        sys::mark(&socket, mark)?;
        Ok(socket)
    });
    ways.collect()
}

/// What the edges' slow paths have done together, once it satisfies.
fn wait_for_edges(world: &World, satisfies: impl Fn(&SlowPathWork) -> bool) -> Result<SlowPathWork> {
    let deadline = Instant::now() + patient(NOTICE_TIME);
    loop {
        let edges: Vec<EdgeView> = view::edges(world)?;
        let sum =
            edges.iter().map(|edge| edge.counters.slow_path).fold(SlowPathWork::default(), |sum, work| SlowPathWork {
                cut: sum.cut + work.cut,
                waited: sum.waited + work.waited,
                released: sum.released + work.released,
                expired: sum.expired + work.expired,
            });
        if satisfies(&sum) {
            return Ok(sum);
        }
        if Instant::now() > deadline {
            bail!("the edges say {sum:?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Lets the server see who the client is.
pub(super) fn client_of(socket: &UdpSocket, server: &UdpSocket) -> Result<SocketAddr> {
    socket.send(b"hello")?;
    let (_, client) = server.recv_from(&mut [0; 16]).context("the server hears nothing")?;
    Ok(client)
}

pub(super) fn open(inside: &Namespace, address: SocketAddr, path_mtu: PathMtu) -> Result<UdpSocket> {
    let socket = inside.run_inside(|| UdpSocket::bind(address))??;
    sys::set_path_mtu(&socket, path_mtu)?;
    sys::enlarge_receive_buffer(&socket)?;
    socket.set_read_timeout(Some(ANSWER_TIME))?;
    Ok(socket)
}

pub(super) fn connected(world: &World, workload: &str, server: SocketAddr, path_mtu: PathMtu) -> Result<UdpSocket> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let inside = world.workload(workload);
    let socket = open(inside, any.parse()?, path_mtu)?;
    inside.run_inside(|| socket.connect(server))??;
    Ok(socket)
}

/// Bytes that differ from datagram to datagram and within each.
pub(super) fn payload(length: usize, number: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 256 + number) as u8).collect()
}

fn comes_back(socket: &UdpSocket, payload: &[u8]) -> bool {
    socket.send(payload).is_ok() && receives(socket, payload)
}

pub(super) fn receives(socket: &UdpSocket, payload: &[u8]) -> bool {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *payload)
}
