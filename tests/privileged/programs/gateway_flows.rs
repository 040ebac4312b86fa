//! Which instance a gateway's flows go to: shares, records that outlive every change of the table, drain, death, affinity;
//! and the delivering node's program.

use std::collections::BTreeMap;
use std::time::Duration;

use persona_ctl::dataplane::gateway_tables::*;
use persona_ctl::dataplane::{
    Coexistence, DeliveryDataplane, DeliveryOptions, GatewayDataplane, PacketLogging, detach,
};

use super::edge_frames::Tunnel;
use super::edge_world::{Flavour, hex};
use super::frames::MAC_A;
use super::gateway_world::*;
use super::namespace::Namespace;
use super::run::{Facts, TC_DROP, TC_NEXT, TC_REDIRECT, new_drops, run_tc};
use super::world::{LOOPBACK, World, chain, is_privileged};

/// Where every one of these flows goes, by the client's port.
fn homes(gateway: &GatewayDataplane, family: Family, ports: std::ops::Range<u16>, flags: u8) -> BTreeMap<u16, u16> {
    let home = |port| chosen(gateway, family, (family.client(), port), flags).map(|instance| (port, instance));
    ports.filter_map(home).collect()
}

fn set(gateway: &mut GatewayDataplane, family: Family, number: u16, state: InstanceState) {
    let known = gateway.set_state(key(family, Transport::Tcp), &format!("i{number}"), state).unwrap();
    assert!(known, "there is an instance i{number}");
}

#[test]
fn gateway_shares_new_flows_by_weight() {
    for family in Family::BOTH {
        let mut weighted = service(family, 3);
        for (instance, weight) in weighted.instances.iter_mut().zip([100, 300, 0]) {
            instance.weight = weight;
        }
        with_gateway(vec![weighted], |gateway, _| {
            let shares = shares(gateway, family, 10_000..14_000, SYN);
            let of = |number| shares.get(&Some(number)).copied().unwrap_or(0);
            // Four standard deviations of 4,000 draws.
            assert!((890..1_110).contains(&of(1)) && of(1) + of(2) == 4_000, "{family:?}: {shares:?}");
        });
    }
}

#[test]
fn gateway_flows_stay_where_they_are_whatever_the_table_says() {
    let family = Family::V4;
    with_gateway(vec![service(family, 3)], |gateway, world| {
        let before = homes(gateway, family, 1_000..1_600, SYN);
        assert_eq!(before.len(), 600);
        let mut changed = service(family, 5);
        changed.instances[1].weight = 10;
        gateway.apply(&tables(vec![changed.clone()])).unwrap();
        assert_eq!(homes(gateway, family, 1_000..1_600, ACK), before, "two more, another weight");
        // A process of its own over the same pins.
        let mut next = open(world);
        assert_eq!(homes(&next, family, 1_000..1_600, ACK), before, "another process");
        changed.instances.retain(|instance| instance.name != "i3");
        next.apply(&tables(vec![changed])).unwrap();
        let after = homes(&next, family, 1_000..1_600, ACK);
        let moved = before.iter().filter(|(port, home)| after[port] != **home);
        assert!(moved.clone().all(|(_, home)| *home == 3), "only those of who was removed move");
        assert_eq!(moved.count(), before.values().filter(|home| **home == 3).count());
        // The cell goes to somebody else, whose flows those never become by themselves.
        let mut other = service(family, 5);
        other.instances[2] = instance(family, 9);
        next.apply(&tables(vec![other])).unwrap();
        assert_eq!(homes(&next, family, 1_000..1_600, ACK), after, "a cell that is used again");
    });
}

#[test]
fn gateway_drains_and_buries_instances() {
    for family in Family::BOTH {
        with_gateway(vec![service(family, 3)], |gateway, _| {
            let before = homes(gateway, family, 1_000..1_400, SYN);
            set(gateway, family, 2, DRAINING);
            assert_eq!(homes(gateway, family, 1_000..1_400, ACK), before, "established flows stay with who drains");
            let new = shares(gateway, family, 2_000..2_400, SYN);
            assert_eq!((new.get(&Some(2)), new.get(&None)), (None, None), "new ones avoid it: {new:?}");
            set(gateway, family, 2, DEAD);
            let moved = homes(gateway, family, 1_000..1_400, ACK);
            assert_eq!(moved.len(), 400);
            for (port, home) in &before {
                assert!(if *home == 2 { moved[port] != 2 } else { moved[port] == *home }, "port {port}");
            }
            set(gateway, family, 1, DEAD);
            set(gateway, family, 3, DRAINING);
            let syn = Ends::new((family.client(), 3_000), (family.vip(), PORT)).tcp(SYN, b"");
            drops(Flavour::Tc, gateway, &frame(&syn), "no-instance");
            drops(Flavour::Xdp, gateway, &frame(&syn), "no-instance");
            set(gateway, family, 1, ALIVE);
            let back = shares(gateway, family, 3_000..3_100, SYN);
            assert_eq!(back.keys().collect::<Vec<_>>(), [&Some(1)], "whoever returns gets flows at once");
        });
    }
}

#[test]
fn gateway_refuses_replies_of_who_has_lost_the_flow() {
    let family = Family::V4;
    with_gateway(vec![service(family, 2)], |gateway, _| {
        let client = (family.client(), 7_000);
        let home = chosen(gateway, family, client, SYN).unwrap();
        let reply = Ends::new((family.instance(home), INSTANCE_PORT), client);
        let named = Ends::new((family.vip(), PORT), client).ttl(63);
        sends_back(Flavour::Tc, gateway, &frame(&reply.tcp(ACK, b"x")), &named.tcp(ACK, b"x"));
        set(gateway, family, home, DEAD);
        assert_eq!(chosen(gateway, family, client, ACK), Some(3 - home));
        for flavour in Flavour::BOTH {
            drops(flavour, gateway, &frame(&reply.tcp(ACK, b"x")), "flow-moved");
        }
    });
}

#[test]
fn gateway_gives_a_closed_connections_port_to_a_new_one() {
    let family = Family::V4;
    with_gateway(vec![service(family, 2)], |gateway, _| {
        let client = (family.client(), 7_000);
        let home = chosen(gateway, family, client, SYN).unwrap();
        let instance_says = |gateway: &GatewayDataplane, flags: u8| {
            let reply = Ends::new((family.instance(home), INSTANCE_PORT), client).tcp(flags, b"");
            run(Flavour::Tc, gateway, &frame(&reply));
        };
        chosen(gateway, family, client, ACK);
        set(gateway, family, home, DRAINING);
        assert_eq!(chosen(gateway, family, client, SYN), Some(home), "a stranger's SYN moves no flow in force");
        // One side's FIN ends nothing yet.
        chosen(gateway, family, client, FIN | ACK);
        assert_eq!(chosen(gateway, family, client, SYN), Some(home));
        instance_says(gateway, FIN | ACK);
        assert_eq!(chosen(gateway, family, client, ACK), Some(home), "the last acknowledgement");
        assert_eq!(chosen(gateway, family, client, SYN), Some(3 - home), "a new connection avoids who drains");
        // A reset ends one as well, unless the client goes on.
        let home = 3 - home;
        set(gateway, family, home, DRAINING);
        set(gateway, family, 3 - home, ALIVE);
        chosen(gateway, family, client, ACK);
        chosen(gateway, family, client, RST);
        chosen(gateway, family, client, ACK);
        assert_eq!(chosen(gateway, family, client, SYN), Some(home), "it was not reset after all");
        chosen(gateway, family, client, RST);
        assert_eq!(chosen(gateway, family, client, SYN), Some(3 - home));
    });
}

#[test]
fn gateway_forgets_what_is_silent() {
    let family = Family::V6;
    with_gateway(vec![service(family, 2)], |gateway, _| {
        let service = key(family, Transport::Tcp);
        let client = (family.client(), 7_000);
        let home = chosen(gateway, family, client, SYN).unwrap();
        set(gateway, family, home, DRAINING);
        gateway.advance_clock(100).unwrap();
        assert_eq!(chosen(gateway, family, client, ACK), Some(home));
        gateway.advance_clock(7_430).unwrap();
        assert_eq!(gateway.flow_counts().unwrap().of(service, &format!("i{home}")), 1);
        assert_eq!(chosen(gateway, family, client, ACK), Some(home));
        gateway.advance_clock(7_441).unwrap();
        assert_eq!(gateway.flow_counts().unwrap().of(service, &format!("i{home}")), 0);
        let reply = Ends::new((family.instance(home), INSTANCE_PORT), client).tcp(ACK, b"");
        passes(Flavour::Tc, gateway, &frame(&reply));
        assert_eq!(chosen(gateway, family, client, ACK), Some(3 - home));
    });
}

#[test]
fn gateway_keeps_a_client_with_its_instance() {
    for family in Family::BOTH {
        let sticky = |count| ServiceEntry { affinity: Some(Duration::from_secs(600)), ..service(family, count) };
        with_gateway(vec![sticky(3)], |gateway, _| {
            let home = |gateway: &GatewayDataplane, number: u16, port: u16| {
                chosen(gateway, family, (family.client_number(number), port), SYN).unwrap()
            };
            let before: Vec<u16> = (0..200).map(|number| home(gateway, number, 1)).collect();
            assert!((1..=3).all(|number| before.contains(&number)), "clients are spread");
            gateway.apply(&tables(vec![sticky(6)])).unwrap();
            let again: Vec<u16> = (0..200).map(|number| home(gateway, number, 2)).collect();
            assert_eq!(again, before, "other ports, another table");
            set(gateway, family, 1, DRAINING);
            let drained: Vec<u16> = (0..200).map(|number| home(gateway, number, 3)).collect();
            for (before, drained) in before.iter().zip(&drained) {
                assert!(if *before == 1 { *drained != 1 } else { drained == before }, "only who drains is left");
            }
            set(gateway, family, 1, ALIVE);
            assert_eq!(
                (0..200).map(|number| home(gateway, number, 4)).collect::<Vec<_>>(),
                drained,
                "nobody is sent back"
            );
            gateway.advance_clock(601).unwrap();
            let rows: Vec<u16> = (0..200).map(|number| home(gateway, number, 5)).collect();
            assert!(rows.iter().any(|number| *number > 3), "then the table decides: {rows:?}");
        });
    }
}

#[test]
fn gateway_loads_again_and_leaves_nothing() {
    if !is_privileged() {
        return;
    }
    let world = World::new();
    let namespace = Namespace::new("gwload");
    namespace.enter(|| {
        let mut gateway = open(&world);
        gateway.apply(&tables(vec![service(Family::V4, 2)])).unwrap();
        set(&mut gateway, Family::V4, 1, DRAINING);
        drop(gateway);
        let again = open(&world);
        let state = again.state(key(Family::V4, Transport::Tcp), "i1").unwrap();
        assert_eq!(state, Some(DRAINING), "what was said of an instance is remembered");
        drop(deliverer(&world));
    });
    let report = detach(&world.bpffs()).unwrap();
    assert_eq!(report.links, ["tc-deliver-1", "tc-gateway-1"]);
    assert!(report.unmounted && report.maps.iter().any(|map| map == "GATEWAY_FLOWS"), "{report:?}");
}

pub(super) fn deliverer(world: &World) -> DeliveryDataplane {
    let options = DeliveryOptions {
        bpffs: world.bpffs(),
        device: LOOPBACK,
        coexist: Coexistence::default(),
        logging: PacketLogging::Off,
    };
    DeliveryDataplane::open(&options).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

#[test]
fn delivery_takes_gateways_packets_out_of_their_tunnel() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("deliver");
    let world = World::new();
    namespace.enter(|| {
        let mut delivery = deliverer(&world);
        for underlay in Family::BOTH {
            let instances = [Family::V4, Family::V6].map(|family| DeliveredInstance {
                tunnel_id: family as u32 + 1,
                ifindex: LOOPBACK,
                address: family.instance(1),
            });
            let tables = DeliveryTables {
                underlay_address: underlay.node(),
                gateways: vec![underlay.gateway()],
                instances: instances.to_vec(),
            };
            delivery.apply(&tables).unwrap();
            for family in Family::BOTH {
                check_delivery(&delivery, underlay, family);
            }
        }
    });
}

fn check_delivery(delivery: &DeliveryDataplane, underlay: Family, family: Family) {
    let good = Tunnel { marker: 4, ..Tunnel::new(underlay.gateway(), underlay.node(), family as u32 + 1) };
    let ends = Ends::new((family.client(), 40_000), (family.vip(), PORT)).ttl(63);
    let packet = ends.tcp(SYN, b"x");
    let run = |frame: &[u8]| {
        let before = delivery.drops().unwrap();
        let outcome = run_tc(delivery.programs(), "deliver", frame, Facts::default());
        (outcome, new_drops(&before, &delivery.drops().unwrap()))
    };
    let (outcome, drops) = run(&good.frame(&packet));
    assert_eq!((outcome.verdict, drops), (TC_REDIRECT, vec![]), "{underlay:?} {family:?}");
    assert_eq!(hex(&outcome.bytes[14..]), hex(&packet), "{underlay:?} {family:?}");
    let error = if family == Family::V4 { (3, 1) } else { (1, 3) };
    let reply = Ends::new(ends.destination, ends.source).tcp(ACK, b"");
    let error = Ends::new((family.client_number(9), 0), (family.vip(), 0)).icmp_error(error.0, error.1, 0, &reply);
    assert_eq!(run(&good.frame(&error)).0.verdict, TC_REDIRECT, "errors of a flow come the same way");
    for (tunnel, reason) in [
        (Tunnel { source: underlay.client(), ..good.clone() }, "unknown-peer"),
        (Tunnel { vni: 77, ..good.clone() }, "no-instance"),
        (Tunnel { vni: 2 - family as u32, ..good.clone() }, "family-denied"),
        (Tunnel { tos: 3, ..good.clone() }, "ecn"),
    ] {
        let (outcome, drops) = run(&tunnel.frame(&packet));
        assert_eq!((outcome.verdict, drops), (TC_DROP, vec![(reason.to_owned(), 1)]), "{underlay:?} {family:?}");
    }
    let (outcome, drops) = run(&good.frame(&packet[..packet.len() - 1]));
    assert_eq!((outcome.verdict, drops), (TC_DROP, vec![("malformed".to_owned(), 1)]));
    // Tunnels of edges, and all else, are others'.
    for frame in [Tunnel { marker: 0, ..good.clone() }.frame(&packet), frame(&packet)] {
        let (outcome, drops) = run(&frame);
        assert_eq!((outcome.verdict, drops, hex(&outcome.bytes)), (TC_NEXT, vec![], hex(&frame)));
    }
    assert_eq!(outcome.bytes[6..12], MAC_A, "the frame was the test's");
}
