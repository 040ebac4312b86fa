//! Fragments in both directions, and what waits or is cut in the slow path.

use persona_common::addr::address_be;
use persona_common::flow::{entropy_port, flow_hash};

use super::frames::{Ip, ethernet, geneve};
use super::nat_frames::{fragment, header_length, with_id, with_options};
use super::nat_world::*;
use super::run::{Facts, TC_REDIRECT, new_drops, run_tc};
use super::world::LOOPBACK;

const ID: u16 = 0x1234;

fn with_slow_path() -> Wish {
    // Any device serves: a test run only says where it would go.
    Wish { slow_ifindex: Some(LOOPBACK), ..Wish::default() }
}

fn fragmentable(ip: Ip) -> Ip {
    Ip { dont_fragment: false, ..ip }
}

fn id_of(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[4], packet[5]])
}

/// The frame in which something waits in the slow path.
fn waiting(packet: &[u8], marker: u8, number: u32) -> Vec<u8> {
    let mut tunnel = geneve(number.into(), 0.into(), 0, 0, packet);
    tunnel[29] = 0x80;
    tunnel[35] = marker;
    ethernet(0x0800, &tunnel)
}

#[test]
fn fragments_leave_under_one_id_of_the_block_and_by_one_edge() {
    with_nat(&with_slow_path(), |nat| {
        let payload: Vec<u8> = (0..3000u32).map(|at| at as u8).collect();
        for (what, protocol, sent, expected) in [
            (
                "UDP",
                17,
                fragmentable(from_workload(17)).udp(INNER_PORT, 9, &payload),
                fragmentable(leased(17)).udp(OUTER_PORT, 9, &payload),
            ),
            (
                "UDP without a checksum",
                17,
                fragmentable(from_workload(17)).udp_unsummed(INNER_PORT, 9, &payload),
                fragmentable(leased(17)).udp_unsummed(OUTER_PORT, 9, &payload),
            ),
            (
                "TCP",
                6,
                fragmentable(from_workload(6)).tcp(INNER_PORT, 9, SYN, &mss(1460), &payload),
                fragmentable(leased(6)).tcp(OUTER_PORT, 9, SYN, &mss(1360), &payload),
            ),
            (
                "UDP with options",
                17,
                with_options(&fragmentable(from_workload(17)).udp(INNER_PORT, 9, &payload), &[148, 4, 0, 0]),
                with_options(&fragmentable(leased(17)).udp(OUTER_PORT, 9, &payload), &[148, 4, 0, 0]),
            ),
        ] {
            let first = nat.run_out(&fragment(&sent, ID, 0, 1200));
            assert_eq!(first.verdict, TC_REDIRECT, "{what}");
            let new_id = id_of(&first.bytes[50..]);
            assert_eq!(new_id >> 10, 5, "{what}: an id among the block's ports");
            let source = address_be(EGRESS.octets());
            let hash = flow_hash(source, address_be(SERVER.octets()), u32::from(new_id), protocol);
            for (from, to) in [(0, 1200), (2400, 4000), (1200, 2400)] {
                let outcome = if from == 0 { None } else { Some(nat.run_out(&fragment(&sent, ID, from, to))) };
                let bytes = outcome.as_ref().map_or(&first.bytes, |outcome| &outcome.bytes);
                let inner = fragment(&expected, new_id, from, to);
                let tunnel = geneve(NODE, EDGE, entropy_port(hash), VNI, &inner);
                assert_eq!(*bytes, ethernet(0x0800, &tunnel), "{what} from {from}");
            }
        }
    });
}

#[test]
fn each_packet_gets_an_id_of_its_own_and_entries_grow_old() {
    with_nat(&with_slow_path(), |nat| {
        let packet = fragmentable(from_workload(17)).udp(INNER_PORT, 9, &[0; 3000]);
        let first = |nat: &Nat, id| id_of(&nat.out(&fragment(&packet, id, 0, 1200)).unwrap());
        let ids: std::collections::BTreeSet<u16> = (0..100).map(|id| first(nat, id)).collect();
        assert_eq!(ids.len(), 100);
        let new_id = first(nat, ID);
        nat.advance(14);
        assert_eq!(nat.out(&fragment(&packet, ID, 1200, 2400)).map(|inner| id_of(&inner)), Ok(new_id));
        nat.advance(1);
        let late = fragment(&packet, ID, 1200, 2400);
        assert_eq!(nat.run_out(&late).bytes, waiting(&late, 2, 0), "an old entry is another packet's");
    });
}

#[test]
fn later_fragments_whose_first_is_missing_wait() {
    with_nat(&with_slow_path(), |nat| {
        let packet = fragmentable(from_workload(17)).udp(INNER_PORT, 9, &[7; 3000]);
        let later = fragment(&packet, ID, 1200, 2400);
        let outcome = nat.run_out(&later);
        assert_eq!(outcome.verdict, TC_REDIRECT);
        assert_eq!(outcome.bytes, waiting(&later, 2, 0), "untouched, from subject 0");
        let reply = fragmentable(from_server(17)).udp(9, OUTER_PORT, &[7; 3000]);
        let later = fragment(&reply, ID, 1200, 2400);
        let outcome = nat.run_in(&later);
        assert_eq!(outcome.verdict, TC_REDIRECT);
        assert_eq!(outcome.bytes, waiting(&later, 3, 0), "untouched, out of its tunnel");
    });
    with_nat(&Wish::default(), |nat| {
        let packet = fragmentable(from_workload(17)).udp(INNER_PORT, 9, &[7; 3000]);
        assert_eq!(nat.out(&fragment(&packet, ID, 1200, 2400)), Err("no-slow-path".to_owned()));
        let reply = fragmentable(from_server(17)).udp(9, OUTER_PORT, &[7; 3000]);
        assert_eq!(nat.inward(&fragment(&reply, ID, 1200, 2400)), Err("no-slow-path".to_owned()));
    });
}

#[test]
fn fragments_from_outside_follow_their_first() {
    with_nat(&with_slow_path(), |nat| {
        nat.udp_port(INNER_PORT, (SERVER, 9)).unwrap();
        nat.out(&from_workload(1).icmp(8, INNER_PORT)).unwrap();
        let payload: Vec<u8> = (0..3000u32).map(|at| (at * 7) as u8).collect();
        let sent = fragmentable(from_server(17)).udp(9, OUTER_PORT, &payload);
        let expected = fragmentable(delivered(17)).udp(9, INNER_PORT, &payload);
        for (from, to) in [(0, 1200), (2400, 4000), (1200, 2400)] {
            let got = nat.inward(&fragment(&sent, ID, from, to)).unwrap();
            assert_eq!(got, fragment(&expected, ID, from, to), "from {from}");
        }
        let other = Ip { source: OTHER_SERVER, ..fragmentable(from_server(17)) }.udp(9, OUTER_PORT, &payload);
        let later = fragment(&other, ID, 1200, 2400);
        assert_eq!(nat.run_in(&later).bytes, waiting(&later, 3, 0), "another sender's is another packet");
        let strange = fragmentable(from_server(17)).udp(9, OUTER_PORT + 1, &payload);
        assert_eq!(nat.inward(&fragment(&strange, 9, 0, 1200)), Err("no-mapping".to_owned()));
        let frame = ethernet(0x0800, &geneve(EDGE, NODE, 50_000, VNI + 1, &fragment(&sent, ID, 1200, 2400)));
        let before = nat.drops();
        run_tc(nat.node.programs(), "from_edge", &frame, Facts::default());
        assert_eq!(new_drops(&before, &nat.drops()), [("vni-mismatch".to_owned(), 1)]);
    });
}

#[test]
fn tiny_overlapping_and_impossible_fragments_are_refused() {
    with_nat(&with_slow_path(), |nat| {
        let tcp = fragmentable(from_workload(6)).tcp(INNER_PORT, 9, SYN, &mss(1460), &[0; 3000]);
        let udp = fragmentable(from_workload(17)).udp(INNER_PORT, 9, &[0; 3000]);
        let at_offset = |packet: &[u8], word: u16| {
            let mut packet = packet.to_vec();
            packet[6..8].copy_from_slice(&word.to_be_bytes());
            with_id(packet, ID)
        };
        for (what, reason, packet) in [
            ("TCP header cut after the ports", "fragment", fragment(&tcp, ID, 0, 8)),
            ("TCP header cut before the flags' end", "fragment", fragment(&tcp, ID, 0, 16)),
            ("TCP options cut", "fragment", fragment(&from_options(&tcp), ID, 0, 24)),
            ("TCP overlap over the flags", "fragment", fragment(&tcp, ID, 8, 1200)),
            ("no payload", "malformed", fragment(&udp, ID, 0, 0)),
            ("payload no multiple of eight", "malformed", fragment(&udp, ID, 0, 1201)),
            ("beyond the largest packet", "malformed", at_offset(&fragment(&udp, ID, 1200, 2400), 0x1fff)),
        ] {
            assert_eq!(nat.out(&packet), Err(reason.to_owned()), "{what}");
        }
        let fits = fragment(&udp, ID, 0, 8);
        assert_eq!(header_length(&fits) + 8, fits.len());
        assert!(nat.out(&fits).is_ok(), "a UDP header and nothing more is a first fragment");
    });
}

/// A SYN with 40 bytes of TCP options: its header is 60 bytes long.
fn from_options(packet: &[u8]) -> Vec<u8> {
    let _ = packet;
    fragmentable(from_workload(6)).tcp(INNER_PORT, 9, SYN, &[1; 40], &[0; 3000])
}

#[test]
fn what_is_too_big_and_may_be_cut_goes_to_the_slow_path_as_if_it_fitted() {
    with_nat(&with_slow_path(), |nat| {
        let payload = vec![7; 2000];
        let before = nat.drops();
        let outcome = nat.run_out(&fragmentable(from_workload(17)).udp(INNER_PORT, 9, &payload));
        assert_eq!((outcome.verdict, new_drops(&before, &nat.drops())), (TC_REDIRECT, vec![]));
        let id = id_of(&outcome.bytes[50..]);
        assert_eq!(id >> 10, 5, "its fragments will be told by an id of the block");
        let inner = with_id(fragmentable(leased(17)).udp(OUTER_PORT, 9, &payload), id);
        let hash = flow_hash(address_be(EGRESS.octets()), address_be(SERVER.octets()), u32::from(id), 17);
        assert_eq!(outcome.bytes, ethernet(0x0800, &geneve(NODE, EDGE, entropy_port(hash), VNI, &inner)));
        let exact = fragmentable(from_workload(17)).udp(INNER_PORT, 9, &[7; 1372]);
        assert_eq!(nat.out(&exact).map(|inner| inner.len()), Ok(1400), "the largest that fits needs no cut");
    });
    with_nat(&Wish::default(), |nat| {
        let packet = fragmentable(from_workload(17)).udp(INNER_PORT, 9, &[7; 2000]);
        assert_eq!(nat.out(&packet), Err("no-slow-path".to_owned()));
    });
}
