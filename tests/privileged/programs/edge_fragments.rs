//! Fragments at an edge: outward by their id, inward by the edge that is responsible, in and out of order.

use persona_common::addr::address_be;
use persona_common::edge::rendezvous_weight;
use persona_common::flow::{entropy_port, flow_hash};
use persona_ctl::dataplane::tables::EdgeTables;

use super::edge_frames::Tunnel;
use super::edge_world::*;
use super::frames::{Ip, checksum, ethernet};

/// A fragment of a UDP datagram: id, offset in bytes, whether more follow.
fn fragment(ip: Ip, id: u16, offset: u16, has_more: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = Ip { dont_fragment: false, ..ip }.packet(payload);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&((offset / 8) | if has_more { 0x2000 } else { 0 }).to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20], 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The first bytes of a datagram that goes on.
fn head(source: u16, destination: u16, length: usize) -> Vec<u8> {
    let mut head = [source, destination, 3_000, 0].map(u16::to_be_bytes).concat();
    head.resize(length, 5);
    head
}

fn hash(id: u16) -> u32 {
    flow_hash(address_be(EGRESS.octets()), address_be(SERVER.octets()), id.into(), 17)
}

/// An id whose fragments are this edge's, or its peer's.
fn id_of(own: bool, from: u16) -> u16 {
    let weight = |id, edge: persona_core::ids::EdgeNumber| rendezvous_weight(hash(id), edge.0.into());
    (from..).find(|id| (weight(*id, OWN) > weight(*id, PEER)) == own).unwrap()
}

#[test]
fn fragments_go_out_under_ids_of_their_block() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let ip = |ttl| Ip { ttl, ..Ip::new(EGRESS, SERVER, 17) };
            let first = |ttl, id| fragment(ip(ttl), id, 0, true, &head(PORT, 53, 80));
            let later = |ttl, id| fragment(ip(ttl), id, 80, false, &[6; 33]);
            for flavour in Flavour::BOTH {
                for id in [5 << 10, (5 << 10) + 1023] {
                    for (inner, expected) in [(later(64, id), later(63, id)), (first(64, id), first(63, id))] {
                        flavour.sends(edge, "inside", &underlay.from_node().frame(&inner), ROUTER_MAC, &expected);
                    }
                }
                for (reason, inner) in [
                    ("unleased", later(64, 7)),
                    ("unleased", first(64, 9 << 10)),
                    ("unknown-peer", fragment(ip(64), 9 << 10, 0, true, &head(PORT_OF_B, 53, 80))),
                    ("unknown-peer", later(64, 9 << 10)),
                    ("unleased", fragment(ip(64), 5 << 10, 0, true, &head(PORT_OF_B, 53, 80))),
                    ("unleased", fragment(ip(64), 5 << 10, 0, true, &head(9000, 53, 80))),
                    ("malformed", fragment(ip(64), 5 << 10, 80, true, &[6; 33])),
                    ("fragment", fragment(Ip { protocol: 6, ..ip(64) }, 5 << 10, 0, true, &[0; 8])),
                    ("malformed", fragment(ip(64), 5 << 10, 0, true, &[])),
                ] {
                    flavour.drops(edge, "inside", &underlay.from_node().frame(&inner), reason);
                }
                // A whole address has any id.
                let whole = |ttl| fragment(Ip { ttl, ..Ip::new(WHOLE, SERVER, 17) }, 7, 80, false, &[6; 33]);
                let frame = underlay.from_node().frame(&whole(64));
                flavour.sends(edge, "inside", &frame, ROUTER_MAC, &whole(63));
            }
        });
    }
}

#[test]
fn the_responsible_edge_remembers_the_port_of_first_fragments() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            edge.ownership_writer().unwrap().set_peer_alive(PEER, true).unwrap();
            let mut id = 0;
            for flavour in Flavour::BOTH {
                id = id_of(true, id + 1);
                let ip = |ttl| Ip { ttl, ..Ip::new(SERVER, EGRESS, 17) };
                let first = |ttl| fragment(ip(ttl), id, 0, true, &head(53, PORT, 80));
                let later = |ttl| fragment(ip(ttl), id, 80, false, &[6; 33]);
                let tunnel = Tunnel { port: entropy_port(hash(id)), ..underlay.to_node() };
                // Out of order: it waits, untouched.
                let waiting = Tunnel {
                    port: 0,
                    vni: 0,
                    marker: 3,
                    is_control: true,
                    ..Tunnel::new(underlay.edge, underlay.edge, 0)
                };
                flavour.hands_over(edge, "outside", &ethernet(0x0800, &later(64)), &waiting.around(&later(64)));
                for (packet, inner) in [(first(64), first(63)), (later(64), later(63))] {
                    flavour.sends(edge, "outside", &ethernet(0x0800, &packet), NODE_MAC, &tunnel.around(&inner));
                }
                // What a peer passes on is never passed on again, whoever is responsible.
                let others = id_of(false, id);
                let relayed = Tunnel { marker: 1, vni: 0, ..Tunnel::new(underlay.peer, underlay.edge, 0) };
                let packet = |ttl, part: u16| match part {
                    0 => fragment(ip(ttl), others, 0, true, &head(53, PORT, 80)),
                    _ => fragment(ip(ttl), others, 80, false, &[6; 33]),
                };
                let tunnel = Tunnel { port: entropy_port(hash(others)), ..underlay.to_node() };
                for part in [0, 1] {
                    let frame = relayed.frame(&packet(64, part));
                    flavour.sends(edge, "inside", &frame, NODE_MAC, &tunnel.around(&packet(63, part)));
                }
                id = others;
            }
        });
    }
}

#[test]
fn fragments_of_another_edge_are_passed_on_while_it_is_alive() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let mut writer = edge.ownership_writer().unwrap();
            let id = id_of(false, 1);
            let ip = Ip::new(SERVER, EGRESS, 17);
            let first = fragment(ip, id, 0, true, &head(53, PORT, 80));
            let later = fragment(ip, id, 80, false, &[6; 33]);
            let relay = Tunnel {
                port: entropy_port(hash(id)),
                marker: 1,
                vni: 0,
                ..Tunnel::new(underlay.edge, underlay.peer, 0)
            };
            for flavour in Flavour::BOTH {
                writer.set_peer_alive(PEER, true).unwrap();
                for packet in [&later, &first] {
                    flavour.sends(edge, "outside", &ethernet(0x0800, packet), PEER_MAC, &relay.around(packet));
                }
                writer.set_peer_alive(PEER, false).unwrap();
                let (_, bytes) = flavour.run(edge, "outside", &ethernet(0x0800, &first));
                assert_eq!(bytes[bytes.len() - 80..], first[20..], "it takes them itself");
                let tunnel = Tunnel { marker: 0, vni: VNI, destination: underlay.node, ..relay.clone() };
                let mut counted = later.clone();
                counted[8] = 63;
                counted[10..12].fill(0);
                let sum = checksum(&counted[..20], 0);
                counted[10..12].copy_from_slice(&sum.to_be_bytes());
                flavour.sends(edge, "outside", &ethernet(0x0800, &later), NODE_MAC, &tunnel.around(&counted));
            }
        });
    }
}

#[test]
fn a_fragment_that_nobody_can_wait_for_is_a_counted_drop() {
    with_edge(Underlay::V4, |edge| {
        edge.apply(&EdgeTables { slow_ifindex: None, ..Underlay::V4.tables() }).unwrap();
        let later = fragment(Ip::new(SERVER, EGRESS, 17), 3, 80, false, &[6; 33]);
        for flavour in Flavour::BOTH {
            flavour.drops(edge, "outside", &ethernet(0x0800, &later), "no-slow-path");
        }
    });
}
