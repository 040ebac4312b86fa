//! Rates with real packets both ways: exact in inner bytes, whatever size packets have, by classes everywhere and by departure
//! times where the kernel has `fq`.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use persona_common::ENCAPSULATION_LENGTH_V4;
use persona_ctl::agent::plain_shaper;
use persona_ctl::dataplane::departures::class_of;
use persona_ctl::dataplane::{Departures, HeldRate, Hook, NodeDataplane};
use persona_ctl::netlink::{FlowsOf, HANDLE_MAJOR};
use persona_tests::load::paced::pace;
use persona_tests::sys;

use super::namespace::Namespace;
use super::path::Chain;
use crate::peers::interop::{self, FQ};

/// Low enough for an emulated guest. The line is half a second, so that a sender that pauses for less changes nothing, and less
/// than what a socket may have under way.
const RATE_BPS: u64 = 1_000_000;
const RATE: HeldRate = HeldRate { rate_bps: RATE_BPS, burst_bytes: 6_000, queue_bytes: 60_000 };
/// Cells of the directions.
const UP: u16 = 1;
const DOWN: u16 = 2;
/// Bytes of IPv4 and UDP headers.
const HEADERS_LENGTH: usize = 28;
/// The largest packet, bytes.
const MTU: u16 = 1_400;
/// What is offered, relative to the rate.
const OFFER: f64 = 2.0;
/// How long is sent, and from when on is measured: by then the line is long.
const SENT: Duration = Duration::from_millis(4_500);
const BEGUN: Duration = Duration::from_millis(1_500);
/// How far the rate may be from what it shall be.
const TOLERANCE: f64 = 0.02;
/// A sender or a receiver without a processor may spoil a run.
const RUN_COUNT_MAX: u32 = 4;

#[test]
fn departure_times_hold_inner_bytes_to_the_rate() {
    if interop::lacks(FQ) {
        return;
    }
    let chain = Chain::new();
    let (mut node, _edge) = (chain.open_node(), chain.open_edge(Hook::Tc));
    let devices = [chain.node.ifindex("u0"), chain.node.ifindex("w0")];
    queues(&chain.node, devices, Change::Raise);
    let departures =
        Departures { cells: [(UP, RATE), (DOWN, RATE)].into(), devices: [(devices[0], 0), (devices[1], DOWN)].into() };
    name_class(&chain, &mut node, &departures, class_of(UP));
    judge(&chain, &node);
    assert!(node.counters().unwrap().drops["queue-full"] > 0, "what was offered beyond the rate is counted");
    chain.node.enter(|| node.trim_departures(&Departures::default()).unwrap());
    queues(&chain.node, devices, Change::Remove);
}

#[test]
fn classes_hold_inner_bytes_to_the_rate() {
    let chain = Chain::new();
    let (mut node, _edge) = (chain.open_node(), chain.open_edge(Hook::Tc));
    let up = plain_shaper(RATE_BPS, MTU, ENCAPSULATION_LENGTH_V4 as u16);
    let mut down = plain_shaper(RATE_BPS, MTU, 0);
    down.default_minor = 1;
    let shapers = [(chain.node.ifindex("u0"), up), (chain.node.ifindex("w0"), down)];
    chain.node.netlink(async |netlink| {
        for (ifindex, shaper) in &shapers {
            netlink.raise_shaper(*ifindex, shaper).await.unwrap();
        }
        assert_eq!(netlink.shapers().await.unwrap(), shapers.clone().into());
    });
    name_class(&chain, &mut node, &Departures::default(), u32::from(HANDLE_MAJOR) << 16 | 1);
    judge(&chain, &node);
    chain.node.netlink(async |netlink| {
        for (ifindex, _) in &shapers {
            netlink.remove_shaper(*ifindex).await.unwrap();
        }
    });
}

/// The workload's packets name what holds them upwards.
fn name_class(chain: &Chain, node: &mut NodeDataplane, departures: &Departures, class: u32) {
    let mut tables = chain.node_tables();
    tables.subjects[0].network.as_mut().unwrap().egress_class = class;
    chain.node.enter(|| {
        node.raise_departures(departures).unwrap();
        node.apply(&tables).unwrap();
        node.trim_departures(departures).unwrap();
    });
}

fn judge(chain: &Chain, node: &NodeDataplane) {
    let (inside, outside) = connected(chain);
    for length in [1_300, 100] {
        for (direction, sender, receiver) in [("up", &inside, &outside), ("down", &outside, &inside)] {
            let mut rate_bps = measure(sender, receiver, length);
            for _again in 1..RUN_COUNT_MAX {
                if is_held(rate_bps) {
                    break;
                }
                rate_bps = measure(sender, receiver, length);
            }
            let error = rate_bps / RATE_BPS as f64 - 1.0;
            eprintln!("{direction}, packets of {length} bytes: {rate_bps:.0} bit/s, {:+.2} %", error * 100.0);
            assert!(is_held(rate_bps), "{direction}, {length} bytes: {rate_bps}, {:?}", node.counters());
        }
    }
}

fn is_held(rate_bps: f64) -> bool {
    (rate_bps / RATE_BPS as f64 - 1.0).abs() <= TOLERANCE
}

enum Change {
    Raise,
    Remove,
}

fn queues(at: &Namespace, devices: [u32; 2], change: Change) {
    at.netlink(async |netlink| {
        for (ifindex, flows) in devices.into_iter().zip([FlowsOf::Many, FlowsOf::OneSubject]) {
            match change {
                Change::Raise => netlink.raise_fair_queue(ifindex, flows).await.unwrap(),
                Change::Remove => netlink.remove_fair_queue(ifindex).await.unwrap(),
            }
        }
        let expected = if matches!(change, Change::Raise) { devices.into() } else { [].into() };
        assert_eq!(netlink.fair_queues().await.unwrap(), expected);
    });
}

/// A flow from the workload to the server, both ends connected.
fn connected(chain: &Chain) -> (UdpSocket, UdpSocket) {
    let outside = chain.server.enter(|| UdpSocket::bind((chain.family.server(), 7_300)).unwrap());
    let inside = chain.workload.enter(|| UdpSocket::bind((chain.client, 0)).unwrap());
    inside.connect((chain.family.server(), 7_300)).unwrap();
    for socket in [&inside, &outside] {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        sys::enlarge_receive_buffer(socket).unwrap();
    }
    inside.send(b"hello").unwrap();
    let (_, client) = outside.recv_from(&mut [0; 16]).unwrap();
    outside.connect(client).unwrap();
    outside.send(b"welcome").unwrap();
    inside.recv(&mut [0; 16]).unwrap();
    (inside, outside)
}

/// Bits per second of inner IP bytes that come out while twice the rate goes in.
fn measure(sender: &UdpSocket, receiver: &UdpSocket, length: usize) -> f64 {
    drain(receiver);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let payload = vec![7; length - HEADERS_LENGTH];
            let per_sec = OFFER * RATE_BPS as f64 / 8.0 / length as f64;
            pace(start, SENT, per_sec, || assert_eq!(sender.send(&payload).unwrap(), payload.len()));
        });
        let mut seen: Vec<Instant> = Vec::new();
        let mut buffer = [0; 2_048];
        while start.elapsed() < SENT {
            receiver.recv(&mut buffer).unwrap();
            if start.elapsed() > BEGUN {
                seen.push(Instant::now());
            }
        }
        let (first, last) = (seen.first().unwrap(), seen.last().unwrap());
        ((seen.len() - 1) * length * 8) as f64 / last.duration_since(*first).as_secs_f64()
    })
}

/// Waits until nothing of the last run comes any more.
fn drain(receiver: &UdpSocket) {
    receiver.set_read_timeout(Some(Duration::from_millis(1_500))).unwrap();
    while receiver.recv(&mut [0; 2_048]).is_ok() {}
    receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
}
