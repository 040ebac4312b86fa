//! Policing of real packets: datagrams at twice the rate, from a workload through its node and its edge to a server.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use persona_core::ids::{SubjectNumber, Vni};
use persona_ctl::dataplane::tables::{PolicedSubject, Policing};
use persona_ctl::dataplane::{EdgeDataplane, Hook};
use persona_tests::load::paced::pace;

use super::path::Chain;
use super::world::is_privileged;

/// Bits per second: low enough for an emulated guest, and a bucket of 1.3 seconds, so that a sender that pauses for less
/// changes nothing.
const RATE_BPS: u64 = 400_000;
/// Bytes of a datagram's payload, and of its IP packet.
const PAYLOAD_LENGTH: usize = 972;
const PACKET_LENGTH: u64 = 1_000;
/// How long is measured.
const MEASURED: Duration = Duration::from_secs(4);
/// More packets than a bucket holds, by far.
const PACKET_COUNT_MAX: u64 = 10_000;

/// Packets that an edge has let pass and dropped.
fn counts(edge: &EdgeDataplane) -> (u64, u64) {
    let counters = edge.counters().unwrap();
    let passed = counters.personas.get(&Vni(42)).map_or(0, |traffic| traffic.egress_packets);
    (passed, counters.drops.get("policed").copied().unwrap_or(0))
}

/// A sender whose packets are followed one by one.
struct Sender<'a> {
    socket: UdpSocket,
    server: UdpSocket,
    edge: &'a EdgeDataplane,
    sent: u64,
}

impl Sender<'_> {
    /// Sends one, and waits until the edge has seen it, and until the server has it; says whether it was dropped.
    fn send(&mut self) -> bool {
        let (_, dropped) = counts(self.edge);
        self.socket.send(&[7; PAYLOAD_LENGTH]).unwrap();
        self.sent += 1;
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let (passed, now_dropped) = counts(self.edge);
            if passed + now_dropped == self.sent {
                let is_dropped = now_dropped > dropped;
                if !is_dropped {
                    assert_eq!(self.server.recv(&mut [0; 2_048]).unwrap(), PAYLOAD_LENGTH);
                }
                return is_dropped;
            }
            assert!(Instant::now() < patience, "sent {}, passed {passed}, dropped {now_dropped}", self.sent);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Sends until the bucket is full: what has passed by then, and when that was.
    fn fill(&mut self) -> (u64, Instant) {
        let is_full = (0..PACKET_COUNT_MAX).any(|_| self.send());
        assert!(is_full, "nothing was policed: {:?}", self.edge.counters());
        (counts(self.edge).0, Instant::now())
    }
}

#[test]
fn twice_the_rate_comes_out_as_a_quarter_more_than_the_rate() {
    if !is_privileged() {
        return;
    }
    let chain = Chain::new();
    let _node = chain.open_node();
    let mut edge = chain.open_edge(Hook::Tc);
    let mut tables = chain.edge_tables();
    let (number, egress_bps) = (SubjectNumber(7), Some(RATE_BPS));
    let policing = Policing::BehindNode;
    tables.leases[0].policed = Some(PolicedSubject { number, egress_bps, ingress_bps: None, burst_bytes: 0, policing });
    edge.apply(&tables).unwrap();
    let server = chain.server.enter(|| UdpSocket::bind((chain.family.server(), 7_200)).unwrap());
    let socket = chain.workload.enter(|| UdpSocket::bind((chain.client, 0)).unwrap());
    socket.connect((chain.family.server(), 7_200)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut sender = Sender { socket, server, edge: &edge, sent: 0 };
    let (before, start) = sender.fill();
    let twice = 2.0 * RATE_BPS as f64 / 8.0 / PACKET_LENGTH as f64;
    let offered = pace(start, MEASURED, twice, || _ = sender.send());
    let (after, end) = sender.fill();
    let bytes = (after - before) * PACKET_LENGTH;
    let rate_bps = bytes as f64 * 8.0 / end.duration_since(start).as_secs_f64();
    let ratio = rate_bps / RATE_BPS as f64;
    eprintln!("offered {offered} packets, passed {bytes} bytes: {ratio:.3} of the rate");
    assert!((ratio / 1.25 - 1.0).abs() < 0.05, "{ratio:.3} of the rate instead of 1.25: {:?}", edge.counters());
    sender.server.set_nonblocking(true).unwrap();
    assert!(sender.server.recv(&mut [0; 2_048]).is_err(), "what was dropped came all the same");
}
