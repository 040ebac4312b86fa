//! Policing at an edge: what keeps to its rate passes, what is beyond 1.25 times of it is a counted drop and nothing else.
//!
//! The programs' clock stands still to the second, and a packet at these rates is worth eight: how many pass is exact.

use std::path::Path;

use aya::maps::{Array, Map, MapData};
use persona_common::edge::EdgeConfig;
use persona_common::encapsulation::RELAY;
use persona_core::ids::{SubjectNumber, Vni};
use persona_ctl::dataplane::EdgeDataplane;
use persona_ctl::dataplane::tables::*;
use persona_tests::sys;

use super::edge_frames::{Ip6, Tunnel};
use super::edge_world::*;
use super::frames::{Ip, ethernet};
use super::kept;
use super::run::{Facts, new_drops, run_tc};
use super::world::is_privileged;

/// Bits per second; an edge polices at 156.25 bytes per second.
const RATE_BPS: u64 = 1_000;
/// Bytes of every packet here.
const PACKET_LENGTH: usize = 1_300;
/// Packets that pass at once: 65,536 bytes may be due when the last of them comes.
const BURST_COUNT: usize = 51;
/// Packets that pass after a minute more: 9,375 bytes are through.
const MINUTE_COUNT: usize = 7;
/// More than a bucket lets pass.
const OFFERED_COUNT: usize = 80;

const A: SubjectNumber = SubjectNumber(70);

/// An edge's clock in the test's hand.
struct Held {
    config: Array<MapData, EdgeConfig>,
    now_secs: u32,
}

impl Held {
    fn new(bpffs: &Path) -> Self {
        let pin = MapData::from_pin(bpffs.join("edge/maps/EDGE_CONFIG")).unwrap();
        Self { config: Map::Array(pin).try_into().unwrap(), now_secs: kernel_secs() }
    }

    /// Says the time; before each packet.
    fn hold(&mut self) {
        self.write(self.now_secs.wrapping_sub(kernel_secs()));
    }

    fn write(&mut self, clock_offset_secs: u32) {
        let config = self.config.get(&0, 0).unwrap();
        self.config.set(0, EdgeConfig { clock_offset_secs, ..config }, 0).unwrap();
    }
}

fn kernel_secs() -> u32 {
    sys::coarse_time().unwrap().as_secs() as u32
}

/// Runs a test with an edge whose clock stands still.
fn with_held(underlay: Underlay, test: impl FnOnce(&mut EdgeDataplane, &mut Held) + Send) {
    if !is_privileged() {
        return;
    }
    kept::with_edge(|mut edge, world| {
        edge.apply(&underlay.tables()).unwrap();
        let mut held = Held::new(&world.bpffs());
        test(&mut edge, &mut held);
        held.write(0);
        edge
    });
}

/// A has these rates under all its leases, with full buckets.
fn police(edge: &mut EdgeDataplane, underlay: Underlay, egress_bps: Option<u64>, ingress_bps: Option<u64>) {
    edge.apply(&underlay.tables()).unwrap();
    edge.apply(&policed(underlay, egress_bps, ingress_bps)).unwrap();
}

fn policed(underlay: Underlay, egress_bps: Option<u64>, ingress_bps: Option<u64>) -> EdgeTables {
    policed_so(underlay, egress_bps, ingress_bps, Policing::BehindNode)
}

fn policed_so(underlay: Underlay, egress_bps: Option<u64>, ingress_bps: Option<u64>, policing: Policing) -> EdgeTables {
    let mut tables = underlay.tables();
    for lease in tables.leases.iter_mut().filter(|lease| lease.vni == Vni(VNI)) {
        lease.policed = Some(PolicedSubject { number: A, egress_bps, ingress_bps, burst_bytes: 0, policing });
    }
    tables
}

/// How many of the frames pass until the first is dropped, which must be for its rate alone.
fn passed(edge: &EdgeDataplane, held: &mut Held, flavour: Flavour, (side, frame): &(&str, Vec<u8>)) -> usize {
    for count in 0..OFFERED_COUNT {
        held.hold();
        let before = edge.counters().unwrap().drops;
        let (verdict, _) = flavour.run(edge, side, frame);
        let drops = new_drops(&before, &edge.counters().unwrap().drops);
        match verdict {
            Verdict::Redirect => assert_eq!(drops, [], "{flavour:?} {side}"),
            other => {
                assert_eq!((other, drops), (Verdict::Drop, vec![("policed".to_owned(), 1)]), "{flavour:?} {side}");
                return count;
            }
        }
    }
    OFFERED_COUNT
}

/// Packets of one length from A and to A, by the stages that carry them: the ordinary one, that of whole addresses, IPv6.
fn frames(underlay: Underlay) -> Vec<(&'static str, Vec<u8>)> {
    let (payload, payload6) = (&[7; PACKET_LENGTH - 28], &[7; PACKET_LENGTH - 48]);
    let out = [
        Ip::new(EGRESS, SERVER, 17).udp(PORT, 53, payload),
        Ip::new(WHOLE, SERVER, 17).udp(80, 53, payload),
        Ip6::new(EGRESS6, SERVER6).udp(1, 53, payload6),
    ];
    let into = [
        (0x0800, Ip::new(SERVER, EGRESS, 17).udp(53, PORT, payload)),
        (0x0800, Ip::new(SERVER, WHOLE, 17).udp(53, 80, payload)),
        (0x86dd, Ip6::new(SERVER6, EGRESS6).udp(53, 1, payload6)),
    ];
    let out = out.map(|inner| ("inside", underlay.from_node().frame(&inner)));
    let into = into.map(|(kind, packet)| ("outside", ethernet(kind, &packet)));
    out.into_iter().chain(into).collect()
}

#[test]
fn a_burst_passes_then_no_more_than_time_gives_back() {
    for underlay in Underlay::BOTH {
        with_held(underlay, |edge, held| {
            for flavour in Flavour::BOTH {
                for frame in frames(underlay) {
                    police(edge, underlay, Some(RATE_BPS), Some(RATE_BPS));
                    assert_eq!(passed(edge, held, flavour, &frame), BURST_COUNT, "{flavour:?} {}", frame.0);
                    held.now_secs += 60;
                    assert_eq!(passed(edge, held, flavour, &frame), MINUTE_COUNT, "{flavour:?} {}", frame.0);
                    held.now_secs += 3_600;
                    assert_eq!(passed(edge, held, flavour, &frame), BURST_COUNT, "no more than a burst is saved");
                }
            }
        });
    }
}

#[test]
fn where_no_queue_can_stand_an_edge_polices_at_the_rate_itself() {
    with_held(Underlay::V4, |edge, held| {
        let (out, into) = (&frames(Underlay::V4)[0], &frames(Underlay::V4)[3]);
        for flavour in Flavour::BOTH {
            edge.apply(&Underlay::V4.tables()).unwrap();
            let rates = (Some(RATE_BPS), Some(RATE_BPS * 8 / 5));
            edge.apply(&policed_so(Underlay::V4, rates.0, rates.1, Policing::AtRate)).unwrap();
            assert_eq!([out, into].map(|frame| passed(edge, held, flavour, frame)), [BURST_COUNT; 2], "{flavour:?}");
            held.now_secs += 60;
            // 7,500 bytes and 12,000 are through.
            assert_eq!([out, into].map(|frame| passed(edge, held, flavour, frame)), [6, 9], "{flavour:?}");
        }
    });
}

#[test]
fn where_queues_stand_a_packet_names_its_class_and_its_direction() {
    with_held(Underlay::V4, |edge, held| {
        let frames = frames(Underlay::V4);
        for (rates, classes) in
            [((Some(RATE_BPS), Some(RATE_BPS)), [0x7e50_0014, 0x7e50_0015]), ((None, Some(RATE_BPS)), [0, 0x7e50_0015])]
        {
            police(edge, Underlay::V4, rates.0, rates.1);
            let class = |edge: &EdgeDataplane, held: &mut Held, (side, frame): &(&str, Vec<u8>)| {
                held.hold();
                run_tc(edge.programs(), &format!("edge_{side}"), frame, Facts::default()).priority
            };
            let of_all = |edge: &EdgeDataplane, held: &mut Held| {
                frames.iter().map(|frame| class(edge, held, frame)).collect::<Vec<_>>()
            };
            assert_eq!(of_all(edge, held), [0; 6], "the node's queues hold it");
            edge.apply(&policed_so(Underlay::V4, rates.0, rates.1, Policing::InClass(0x14))).unwrap();
            let [out, into] = classes;
            assert_eq!(of_all(edge, held), [out, out, out, into, into, into]);
            // What is far beyond is dropped all the same.
            assert!(passed(edge, held, Flavour::Tc, &frames[3]) < BURST_COUNT);
        }
    });
}

#[test]
fn a_subjects_leases_share_a_bucket_and_each_direction_has_its_own() {
    with_held(Underlay::V4, |edge, held| {
        let frames = frames(Underlay::V4);
        let [out, whole, out6, into, into_whole, into6] = &frames[..] else { unreachable!() };
        for flavour in Flavour::BOTH {
            police(edge, Underlay::V4, Some(RATE_BPS), Some(RATE_BPS));
            let before = edge.counters().unwrap().personas[&Vni(VNI)];
            assert_eq!(passed(edge, held, flavour, out), BURST_COUNT);
            assert_eq!([whole, out6].map(|frame| passed(edge, held, flavour, frame)), [0, 0], "{flavour:?}");
            assert_eq!(passed(edge, held, flavour, into6), BURST_COUNT, "{flavour:?}");
            assert_eq!([into, into_whole].map(|frame| passed(edge, held, flavour, frame)), [0, 0], "{flavour:?}");
            // What is dropped is no traffic.
            let after = edge.counters().unwrap().personas[&Vni(VNI)];
            let burst = (BURST_COUNT as u64, (BURST_COUNT * PACKET_LENGTH) as u64);
            for (packets, bytes) in [
                (after.egress_packets - before.egress_packets, after.egress_bytes - before.egress_bytes),
                (after.ingress_packets - before.ingress_packets, after.ingress_bytes - before.ingress_bytes),
            ] {
                assert_eq!((packets, bytes), burst, "{flavour:?}");
            }
            // Another subject under no rate passes as ever.
            let of_b = Tunnel { vni: VNI_OF_B, source: Underlay::V4.node_b, ..Underlay::V4.from_node() };
            let of_b = of_b.frame(&Ip::new(EGRESS, SERVER, 17).udp(PORT_OF_B, 53, b"x"));
            assert_eq!(passed(edge, held, flavour, &("inside", of_b)), OFFERED_COUNT, "{flavour:?}");
        }
    });
}

#[test]
fn without_a_rate_everything_passes_and_rates_change_under_traffic() {
    with_held(Underlay::V4, |edge, held| {
        let frames = frames(Underlay::V4);
        let (out, into) = (&frames[0], &frames[3]);
        let tables = |egress_bps, ingress_bps| policed(Underlay::V4, egress_bps, ingress_bps);
        for flavour in Flavour::BOTH {
            police(edge, Underlay::V4, None, Some(RATE_BPS));
            assert_eq!(passed(edge, held, flavour, out), OFFERED_COUNT, "{flavour:?}: only downwards");
            assert_eq!(passed(edge, held, flavour, into), BURST_COUNT, "{flavour:?}");
            // The same again fills no bucket; nor does a rate of the other direction.
            for egress_bps in [None, Some(2 * RATE_BPS)] {
                edge.apply(&tables(egress_bps, Some(RATE_BPS))).unwrap();
                assert_eq!(passed(edge, held, flavour, into), 0, "{flavour:?}");
            }
            edge.apply(&tables(Some(RATE_BPS), None)).unwrap();
            assert_eq!(passed(edge, held, flavour, into), OFFERED_COUNT, "{flavour:?}: only upwards");
            assert_eq!(passed(edge, held, flavour, out), BURST_COUNT, "{flavour:?}");
            edge.apply(&Underlay::V4.tables()).unwrap();
            assert_eq!(passed(edge, held, flavour, out), OFFERED_COUNT, "{flavour:?}: no rate at all");
        }
    });
}

#[test]
fn a_packet_counts_as_what_it_becomes_on_the_wire() {
    with_held(Underlay::V4, |edge, held| {
        police(edge, Underlay::V4, Some(RATE_BPS), None);
        let (_, frame) = &frames(Underlay::V4)[0];
        // Payload of 1,272 bytes in 13 packets with headers of 28 bytes each: 1,636 bytes.
        let facts = Facts { gso_size: 100, gso_segs: 13, ..Facts::default() };
        let before = edge.counters().unwrap().personas[&Vni(VNI)];
        // The kernel's test run says how large segments are, but not of which kind: nothing can be taken from in front of
        // them, and the counters are what is left to look at.
        let is_within = |_: &usize| {
            held.hold();
            run_tc(edge.programs(), "edge_inside", frame, facts);
            !edge.counters().unwrap().drops.contains_key("policed")
        };
        let count = (0..OFFERED_COUNT).take_while(is_within).count();
        let after = edge.counters().unwrap().personas[&Vni(VNI)];
        assert_eq!(after.egress_bytes - before.egress_bytes, 1_636 * count as u64);
        assert_eq!(count, 65_536 / 1_636 + 1);
    });
}

#[test]
fn a_packet_that_a_peer_carries_is_policed_there() {
    with_held(Underlay::V4, |edge, held| {
        let frames = frames(Underlay::V4);
        police(edge, Underlay::V4, None, Some(RATE_BPS));
        let mut writer = edge.ownership_writer().unwrap();
        writer.set_peer_alive(PEER, true).unwrap();
        assert!(writer.set_node_heard(Underlay::V4.node, false).unwrap());
        for frame in &frames[3..] {
            assert_eq!(passed(edge, held, Flavour::Tc, frame), OFFERED_COUNT, "passed on to the peer");
        }
        // What a peer passes on is carried here, whatever this edge hears of the node.
        let relayed = |packet: &[u8]| {
            let tunnel = Tunnel::new(Underlay::V4.peer, Underlay::V4.edge, 0);
            ("inside", Tunnel { marker: RELAY, ..tunnel }.frame(packet))
        };
        assert_eq!(passed(edge, held, Flavour::Tc, &relayed(&frames[3].1[14..])), BURST_COUNT);
        assert_eq!(passed(edge, held, Flavour::Tc, &relayed(&frames[5].1[14..])), 0);
    });
}
