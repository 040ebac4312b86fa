//! What an edge does beside carrying packets: it reflects probes, answers ARP, and follows its tables.

use persona_common::probe::{Reply, decode_reply, encode_request};
use persona_core::ids::Generation;
use persona_ctl::dataplane::tables::*;

use super::edge_frames::{Ip6, Tunnel};
use super::edge_world::*;
use super::frames::{Ip, MAC_A, ethernet};

/// A UDP packet without a checksum between addresses of one family.
fn unsummed(source: std::net::IpAddr, destination: std::net::IpAddr, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let datagram = [ports[0], ports[1], 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
    let datagram = [&datagram[..], payload].concat();
    match (source, destination) {
        (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
            Ip::new(source, destination, 17).packet(&datagram)
        }
        (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
            Ip6::new(source, destination).packet(17, &datagram)
        }
        _ => panic!("both addresses are of one family"),
    }
}

#[test]
fn probes_are_reflected_while_the_outside_answers() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let kind = if underlay.edge.is_ipv4() { 0x0800 } else { 0x86dd };
            let asked = unsummed(underlay.node, underlay.edge, [40_000, 6081], &encode_request(7, 99, true));
            let mut payload = encode_request(7, 99, true);
            payload[13] = 2;
            payload[39] = 11;
            assert_eq!(decode_reply(&payload), Some(Reply { sequence: 7, sent_ns: 99, generation: 11 }));
            let reply = unsummed(underlay.edge, underlay.node, [6081, 40_000], &payload);
            for flavour in Flavour::BOTH {
                edge.set_outside_alive(true).unwrap();
                let (verdict, bytes) = flavour.run(edge, "inside", &ethernet(kind, &asked));
                assert_eq!((verdict, hex(&bytes)), (Verdict::Redirect, hex(&back(&reply))), "{flavour:?}");
                edge.set_outside_alive(false).unwrap();
                flavour.drops(edge, "inside", &ethernet(kind, &asked), "probe-silenced");
                // Other control packets are the host's.
                let other = Tunnel { is_control: true, ..underlay.from_node() }.frame(&asked);
                assert_eq!(flavour.run(edge, "inside", &other), (Verdict::Pass, other), "{flavour:?}");
            }
        });
    }
}

#[test]
fn arp_is_answered_for_owned_addresses_only() {
    with_edge(Underlay::V6, |edge| {
        let head = [0, 1, 8, 0, 6, 4, 0];
        let request = [&head[..], &[1], &MAC_A, &SERVER.octets(), &[0; 6], &EGRESS.octets()].concat();
        let request = ethernet(0x0806, &request);
        let reply = [&head[..], &[2], &OWN_MAC, &EGRESS.octets(), &MAC_A, &SERVER.octets()].concat();
        let reply = [&MAC_A[..], &OWN_MAC, &[8, 6], &reply].concat();
        for flavour in Flavour::BOTH {
            edge.set_owned(EGRESS.into(), false).unwrap();
            assert_eq!(flavour.run(edge, "outside", &request), (Verdict::Pass, request.clone()), "{flavour:?}");
            edge.set_owned(EGRESS.into(), true).unwrap();
            assert_eq!(flavour.run(edge, "outside", &request), (Verdict::Redirect, reply.clone()), "{flavour:?}");
        }
        // An address that leaves the tables is no longer answered for.
        let tables = EdgeTables { addresses: vec![], leases: vec![], ..Underlay::V6.tables() };
        edge.apply(&tables).unwrap();
        assert_eq!(edge.owned().unwrap(), Default::default());
    });
}

#[test]
fn an_edge_follows_its_tables() {
    with_edge(Underlay::V4, |edge| {
        let tables = || Underlay::V4.tables();
        let port = |port| Underlay::V4.from_node().frame(&Ip::new(EGRESS, SERVER, 17).udp(port, 53, b"x"));
        let prefix = || Underlay::V4.from_node().frame(&Ip6::new(EGRESS6, SERVER6).udp(1, 53, b"x"));
        edge.apply(&EdgeTables { leases: vec![], generation: Generation(12), ..tables() }).unwrap();
        Flavour::Tc.drops(edge, "inside", &port(PORT), "unleased");
        Flavour::Tc.drops(edge, "inside", &prefix(), "unleased");
        edge.apply(&tables()).unwrap();
        assert_eq!(Flavour::Tc.run(edge, "inside", &port(PORT)).0, Verdict::Redirect);
        assert_eq!(Flavour::Tc.run(edge, "inside", &prefix()).0, Verdict::Redirect);
        // The pool is cut otherwise, and another prefix of the same network comes before it: both get new cells.
        let mut cut = tables();
        cut.addresses[0].block_bits = 9;
        cut.prefixes.push(("2001:db8:7::".parse().unwrap(), 60));
        cut.leases.retain(|lease| lease.space.prefix().is_some());
        let space = LeaseSpace::Ports { address: EGRESS, block_bits: 9, blocks: vec![10] };
        cut.leases.push(EdgeLeaseEntry { space, ..cut.leases[0].clone() });
        edge.apply(&cut).unwrap();
        assert_eq!(Flavour::Tc.run(edge, "inside", &port(10 << 9)).0, Verdict::Redirect);
        assert_eq!(Flavour::Tc.run(edge, "inside", &prefix()).0, Verdict::Redirect);
        Flavour::Tc.drops(edge, "inside", &port(11 << 9), "unleased");
    });
}
