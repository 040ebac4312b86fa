//! A gateway's packets, in and out, at both hooks and in both families: every way of delivery, what passes, what is dropped.

use std::net::IpAddr;

use persona_common::addr::address6;
use persona_common::flow::{TCP, entropy_port};
use persona_common::gateway::{Endpoint, gateway_hash};
use persona_ctl::dataplane::gateway_tables::*;

use super::edge_frames::{Ip6, Tunnel};
use super::edge_world::{Flavour, Verdict, hex};
use super::frames::{Ip, MAC_A, MAC_B, ethernet};
use super::gateway_world::*;

/// Each case once per family and hook.
fn each(
    services: impl Fn(Family) -> Vec<ServiceEntry>,
    test: impl Fn(&mut persona_ctl::dataplane::GatewayDataplane, Family, Flavour) + Sync,
) {
    for family in Family::BOTH {
        with_gateway(services(family), |gateway, _| {
            for flavour in Flavour::BOTH {
                test(gateway, family, flavour);
            }
        });
    }
}

fn to_vip(family: Family, port: u16) -> Ends {
    Ends::new((family.client(), port), (family.vip(), PORT))
}

fn to_instance(family: Family, port: u16) -> Ends {
    Ends::new((family.client(), port), (family.instance(1), INSTANCE_PORT)).ttl(63)
}

#[test]
fn gateway_translates_there_and_back() {
    let both = |family| {
        let udp = ServiceEntry { key: key(family, Transport::Udp), ..service(family, 1) };
        vec![service(family, 1), udp]
    };
    each(both, |gateway, family, flavour| {
        let port = 40_000 + flavour as u16;
        let reply = Ends::new((family.instance(1), INSTANCE_PORT), (family.client(), port));
        let replied = Ends::new((family.vip(), PORT), (family.client(), port)).ttl(63);
        for payload in [&b""[..], b"odd", &[0xff; 1_000]] {
            sends_on(
                flavour,
                gateway,
                &frame(&to_vip(family, port).tcp(SYN, payload)),
                &to_instance(family, port).tcp(SYN, payload),
            );
            sends_back(flavour, gateway, &frame(&reply.tcp(SYN | ACK, payload)), &replied.tcp(SYN | ACK, payload));
            sends_on(
                flavour,
                gateway,
                &frame(&to_vip(family, port).udp(payload)),
                &to_instance(family, port).udp(payload),
            );
            sends_back(flavour, gateway, &frame(&reply.udp(payload)), &replied.udp(payload));
        }
        let counters = gateway.counters(key(family, Transport::Tcp), "i1").unwrap().unwrap();
        let flows = gateway.flow_counts().unwrap();
        assert_eq!(
            (counters.opened_count as usize, flows.of(key(family, Transport::Tcp), "i1")),
            (flavour as usize + 1, flavour as usize + 1)
        );
        assert_eq!(counters.traffic.ingress_packets, counters.traffic.egress_packets);
    });
}

#[test]
fn gateway_leaves_a_udp_checksum_of_zero_alone() {
    let udp = |_| vec![ServiceEntry { key: key(Family::V4, Transport::Udp), ..service(Family::V4, 1) }];
    with_gateway(udp(Family::V4), |gateway, _| {
        let address = |address| if let IpAddr::V4(address) = address { address } else { panic!("IPv4") };
        let (client, vip, instance) =
            (address(Family::V4.client()), address(Family::V4.vip()), address(Family::V4.instance(1)));
        for flavour in Flavour::BOTH {
            let there = Ip::new(client, vip, 17).udp_unsummed(7, PORT, b"x");
            let rewritten = Ip { ttl: 63, ..Ip::new(client, instance, 17) }.udp_unsummed(7, INSTANCE_PORT, b"x");
            sends_on(flavour, gateway, &frame(&there), &rewritten);
        }
    });
}

#[test]
fn gateway_hands_a_packet_over_as_it_is() {
    let l2 = |family| {
        let mut service = service(family, 1);
        service.instances[0].delivery = DeliveryEntry::L2;
        service.instances[0].port = PORT;
        vec![service]
    };
    each(l2, |gateway, family, flavour| {
        let ends = to_vip(family, 40_000);
        sends_on(flavour, gateway, &frame(&ends.tcp(SYN, b"x")), &ends.ttl(63).tcp(SYN, b"x"));
        // What the instance sends in the service's name is none of the gateway's.
        passes(flavour, gateway, &frame(&Ends::new(ends.destination, ends.source).tcp(SYN | ACK, b"")));
    });
}

#[test]
fn gateway_puts_a_packet_into_a_tunnel_as_it_is() {
    for underlay in Family::BOTH {
        let tunnelled = |family| {
            let mut service = service(family, 1);
            let instance = &mut service.instances[0];
            instance.delivery = DeliveryEntry::Tunnel { node: underlay.node(), tunnel_id: 0x0a_0b0c };
            instance.port = PORT;
            instance.next_hop.address = underlay.node();
            vec![service]
        };
        each(tunnelled, |gateway, family, flavour| {
            let bytes = |address: IpAddr| match address {
                IpAddr::V4(address) => address6(address.to_ipv6_mapped().octets()),
                IpAddr::V6(address) => address6(address.octets()),
            };
            let endpoint = Endpoint { address: bytes(family.vip()), port: PORT, protocol: TCP.into() };
            let hash = gateway_hash(bytes(family.client()), 40_000, &endpoint);
            let tunnel = Tunnel {
                port: entropy_port(hash),
                marker: 4,
                ..Tunnel::new(underlay.gateway(), underlay.node(), 0x0a_0b0c)
            };
            let ends = to_vip(family, 40_000);
            let inner = ends.ttl(63).tcp(SYN, b"x");
            sends_on(flavour, gateway, &frame(&ends.tcp(SYN, b"x")), &tunnel.around(&inner));
        });
    }
}

#[test]
fn gateway_passes_what_is_no_services() {
    each(
        |family| vec![service(family, 1)],
        |gateway, family, flavour| {
            let ends = to_vip(family, 40_000);
            let other_port = Ends::new(ends.source, (family.vip(), 81));
            let other_host = Ends::new(ends.source, (family.node(), PORT));
            // An instance that talks for itself, or answers who asked it itself.
            let own = Ends::new((family.instance(1), INSTANCE_PORT), (family.client(), 50_000));
            let mut for_another = frame(&ends.tcp(SYN, b""));
            for_another[0..6].copy_from_slice(&MAC_A);
            let mut tagged = frame(&ends.tcp(SYN, b""));
            tagged.splice(12..12, [0x81, 0, 0, 7]);
            let echo = match (family.client(), family.vip()) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => Ip::new(source, destination, 1).icmp(8, 7),
                (IpAddr::V6(source), IpAddr::V6(destination)) => Ip6::new(source, destination).echo(128, 7),
                _ => unreachable!("both addresses are of one family"),
            };
            for packet in [other_port.tcp(SYN, b""), other_host.tcp(SYN, b""), ends.udp(b"x"), own.tcp(ACK, b"x"), echo]
            {
                passes(flavour, gateway, &frame(&packet));
            }
            passes(flavour, gateway, &for_another);
            // The kernel takes the tag of what comes in at TC off; in a test it stands in the frame.
            passes(flavour, gateway, &tagged);
            passes(flavour, gateway, &ethernet(0x88cc, &[0; 46]));
        },
    );
}

#[test]
fn gateway_drops_what_is_wrong_with_a_reason() {
    each(
        |family| vec![service(family, 1)],
        |gateway, family, flavour| {
            let good = to_vip(family, 40_000).tcp(SYN, b"payload");
            let header_length = if family == Family::V4 { 20 } else { 40 };
            // The header of a TCP packet without its flags; lengths that lie.
            let mut offset = good.clone();
            offset[header_length + 12] = 0x40;
            drops(flavour, gateway, &frame(&offset), "malformed");
            offset[header_length + 12] = 0xf0;
            drops(flavour, gateway, &frame(&offset), "malformed");
            drops(flavour, gateway, &frame(&good[..good.len() - 3]), "malformed");
            match (family.client(), family.vip()) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    // The first, one in the middle, the last.
                    for place in [0x2000u16, 0x2002, 0x0002] {
                        let mut fragment = Ip::new(source, destination, 6).packet(&good[20..44]);
                        fragment[6..8].copy_from_slice(&place.to_be_bytes());
                        drops(flavour, gateway, &frame(&fragment), "fragment");
                    }
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    let later = Ip6::new(source, destination).fragment(16, true, 7).packet(6, &[0; 16]);
                    drops(flavour, gateway, &frame(&later), "fragment");
                    let first = Ip6::new(source, destination).fragment(0, true, 7);
                    drops(flavour, gateway, &frame(&first.packet(6, &good[40..56])), "fragment");
                    let routed = Ip6::new(source, destination).with(43, &[0, 0, 1, 0, 0, 0, 0]).packet(6, &good[40..]);
                    drops(flavour, gateway, &frame(&routed), "extension-headers");
                }
                _ => unreachable!("both addresses are of one family"),
            }
        },
    );
}

#[test]
fn gateway_tells_the_client_what_it_cannot_carry() {
    each(
        |family| vec![service(family, 1)],
        |gateway, family, flavour| {
            let ends = to_vip(family, 40_000);
            let told = Ends::new((family.vip(), 0), (family.client(), 0));
            let about = |packet: &[u8]| packet[..if family == Family::V4 { 28 } else { 96 }].to_vec();
            let (expired, too_big) = if family == Family::V4 { ((11, 0), (3, 4)) } else { ((3, 0), (2, 0)) };
            let large = ends.tcp(ACK, &[7; 1_400]);
            let small = ends.ttl(1).tcp(ACK, &[7; 100]);
            for (packet, (kind, code), parameter, reason) in
                [(large, too_big, MTU, "too-big"), (small, expired, 0, "ttl-expired")]
            {
                let before = gateway.drops().unwrap();
                let (verdict, bytes) = run(flavour, gateway, &frame(&packet));
                let drops = super::run::new_drops(&before, &gateway.drops().unwrap());
                assert_eq!(
                    (verdict, drops),
                    (Verdict::Redirect, vec![(reason.to_owned(), 1)]),
                    "{family:?} {flavour:?}"
                );
                let mut expected = told.icmp_error(kind, code, parameter, &about(&packet));
                if family == Family::V4 {
                    // Internetwork control, and no don't-fragment flag.
                    expected[1] = 0xc0;
                    expected[6] = 0;
                    expected[10..12].fill(0);
                    let sum = super::frames::checksum(&expected[..20], 0);
                    expected[10..12].copy_from_slice(&sum.to_be_bytes());
                }
                assert_eq!(
                    hex(&bytes),
                    hex(&[&MAC_A[..], &MAC_B, &family.kind().to_be_bytes(), &expected].concat()),
                    "{family:?} {flavour:?}"
                );
            }
        },
    );
}

#[test]
fn gateway_takes_icmp_errors_where_their_flow_goes() {
    each(
        |family| vec![service(family, 1)],
        |gateway, family, flavour| {
            let port = 41_000 + flavour as u16;
            let router = family.client_number(9);
            let unreachable = if family == Family::V4 { (3, 1) } else { (1, 3) };
            let error = |from: IpAddr, to: IpAddr, ttl: u8, embedded: &[u8]| {
                Ends::new((from, 0), (to, 0)).ttl(ttl).icmp_error(unreachable.0, unreachable.1, 0, embedded)
            };
            let reply = |address: IpAddr, port_of: u16| Ends::new((address, port_of), (family.client(), port));
            // Nobody's flow yet.
            let sent = reply(family.vip(), PORT).tcp(ACK, b"data");
            drops(flavour, gateway, &frame(&error(router, family.vip(), 64, &sent)), "no-mapping");
            sends_on(
                flavour,
                gateway,
                &frame(&to_vip(family, port).tcp(SYN, b"")),
                &to_instance(family, port).tcp(SYN, b""),
            );
            // About a reply of the service: to the instance, as if about what the instance sent.
            let own = reply(family.instance(1), INSTANCE_PORT).tcp(ACK, b"data");
            sends_on(
                flavour,
                gateway,
                &frame(&error(router, family.vip(), 64, &sent)),
                &error(router, family.instance(1), 63, &own),
            );
            // Only as much as the standard asks for.
            let short = if family == Family::V4 { 28 } else { 48 };
            sends_on(
                flavour,
                gateway,
                &frame(&error(router, family.vip(), 64, &sent[..short])),
                &error(router, family.instance(1), 63, &own[..short]),
            );
            // Of the instance about a packet of the client: in the service's name.
            let received = to_instance(family, port).tcp(ACK, b"more");
            let original = to_vip(family, port).ttl(63).tcp(ACK, b"more");
            sends_back(
                flavour,
                gateway,
                &frame(&error(family.instance(1), family.client(), 64, &received)),
                &error(family.vip(), family.client(), 63, &original),
            );
            // Of nobody we know: the kernel's.
            passes(flavour, gateway, &frame(&error(router, family.client(), 64, &original)));
        },
    );
}

#[test]
fn gateway_answers_for_on_link_services() {
    with_gateway(vec![service(Family::V4, 1), service(Family::V6, 1)], |gateway, _| {
        let (IpAddr::V4(client), IpAddr::V4(vip)) = (Family::V4.client(), Family::V4.vip()) else { panic!("IPv4") };
        let head = [0, 1, 8, 0, 6, 4, 0];
        let ask = |target: std::net::Ipv4Addr| {
            let request = [&head[..], &[1], &MAC_A, &client.octets(), &[0; 6], &target.octets()].concat();
            [&[0xff; 6][..], &MAC_A, &[8, 6], &request].concat()
        };
        let reply = [&head[..], &[2], &MAC_B, &vip.octets(), &MAC_A, &client.octets()].concat();
        let reply = [&MAC_A[..], &MAC_B, &[8, 6], &reply].concat();
        let (IpAddr::V6(client6), IpAddr::V6(vip6)) = (Family::V6.client(), Family::V6.vip()) else { panic!("IPv6") };
        let group: std::net::Ipv6Addr = "ff02::1:ff00:50".parse().unwrap();
        let solicit = |to: std::net::Ipv6Addr, mac: [u8; 6]| {
            let body = [&[0; 4][..], &vip6.octets(), &[1, 1], &MAC_A].concat();
            let packet = Ip6 { hop_limit: 255, ..Ip6::new(client6, to) }.icmp(135, 0, &body);
            [&mac[..], &MAC_A, &[0x86, 0xdd], &packet].concat()
        };
        let body = [&[0x60, 0, 0, 0][..], &vip6.octets(), &[2, 1], &MAC_B].concat();
        let advertised = Ip6 { hop_limit: 255, ..Ip6::new(vip6, client6) }.icmp(136, 0, &body);
        let advertised = [&MAC_A[..], &MAC_B, &[0x86, 0xdd], &advertised].concat();
        for flavour in Flavour::BOTH {
            assert_eq!(run(flavour, gateway, &ask(vip)), (Verdict::Redirect, reply.clone()), "{flavour:?}");
            passes(flavour, gateway, &ask(client));
            for asked in [solicit(group, [0x33, 0x33, 0xff, 0, 0, 0x50]), solicit(vip6, MAC_B)] {
                let (verdict, bytes) = run(flavour, gateway, &asked);
                assert_eq!((verdict, hex(&bytes)), (Verdict::Redirect, hex(&advertised)), "{flavour:?}");
            }
        }
    });
}
