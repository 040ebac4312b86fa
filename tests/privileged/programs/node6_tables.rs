//! Tables of a node: what a failing write leaves, what comes back when its last user has gone, what a sweep tidies up.

use persona_core::ids::{EdgeNumber, LeaseId, Vni};
use persona_ctl::dataplane::DataplaneError;
use persona_ctl::dataplane::tables::*;

use super::frames::ethernet;
use super::frames6::{Ip6, kind_of};
use super::node6_world::*;
use super::run::{Facts, TC_REDIRECT, run_tc};

/// A device that no namespace of a test has.
const NO_DEVICE: u32 = 4_000_000;

fn second_prefix() -> LeaseSpace {
    LeaseSpace::Prefix { prefix: v6("2001:db8:0:78::") }
}

#[test]
fn tables_that_fail_half_way_leave_those_of_before() {
    with_node(&tables(over4()), |node| {
        let mut broken = tables(over4());
        broken.leases.push(LeaseEntry { vni: Vni(43), ..lease(10, second_prefix()) });
        network(&mut broken).lease6 = Some(LeaseId(10));
        broken.groups[0].rows = vec![(EdgeNumber(2), EdgeNumber(0)); 65_537];
        broken.bypass.push((server6().into(), 128));
        broken.devices.push(DeviceEntry {
            ifindex: NO_DEVICE,
            subject: None,
            address: None,
            prefix6: None,
            vlan: None,
        });
        for _ in 0..2 {
            assert!(matches!(node.apply(&broken), Err(DataplaneError::NoDevice { ifindex: NO_DEVICE })));
            let outcome = out(node, &from_workload().udp(4000, 53, b""));
            assert_eq!(outcome.verdict, TC_REDIRECT, "{:?}", node.counters().unwrap().drops);
            assert_eq!(outcome.bytes[50 + 8..50 + 24], leased6().octets(), "the lease of before");
            refused(node, "unleased", || {
                back(node, over4(), &Ip6::new(server6(), v6("2001:db8:0:78:ced0::2")).udp(53, 4000, b""))
            });
            assert!(!node.counters().unwrap().personas.contains_key(&Vni(43)));
        }
        broken.devices.pop();
        node.apply(&broken).unwrap();
        node.apply(&tables(over4())).unwrap();
    });
}

#[test]
fn a_persona_without_leases_gives_its_counters_back() {
    with_node(&tables(over4()), |node| {
        out(node, &from_workload().udp(1, 2, b""));
        assert_eq!(node.counters().unwrap().personas[&Vni(VNI)].egress_packets, 1);
        let mut bare = tables(over4());
        bare.leases.clear();
        network(&mut bare).lease6 = None;
        node.apply(&bare).unwrap();
        assert!(node.counters().unwrap().personas.is_empty());
        node.apply(&tables(over4())).unwrap();
        assert_eq!(node.counters().unwrap().personas[&Vni(VNI)].egress_packets, 0, "started anew");
    });
}

#[test]
fn use_and_sweep_count_flows_and_not_what_stands_beside_them() {
    with_node(&tables(over4()), |node| {
        for port in 0..3 {
            out(node, &from_workload().udp(port, 53, b""));
        }
        let visitor = Ip6::new(v6("2001:db8:aaaa::1"), workload6()).udp(1, 2, b"");
        run_tc(node.programs(), "to_workload", &ethernet(kind_of(&visitor), &visitor), Facts::default());
        let used = node.lease_use().unwrap();
        assert_eq!(used.len(), 1);
        assert_eq!((used[0].lease, used[0].live_slot_count, used[0].slot_count), (LeaseId(9), 3, 0));
        let swept = node.sweep().unwrap();
        assert_eq!((swept.live_flow_count, swept.removed_flow_count), (3, 0));
    });
}

#[test]
fn rows_change_back_and_forth_and_packets_follow() {
    with_node(&tables(over4()), |node| {
        let table = |edge| {
            let mut tables = tables(over4());
            tables.groups[0].rows = vec![(EdgeNumber(edge), EdgeNumber(0)); 65_537];
            tables
        };
        for edge in [2, 1, 2, 2, 1] {
            node.apply(&table(edge)).unwrap();
            if edge == 1 {
                assert_eq!(out(node, &from_workload().udp(1, 2, b"")).verdict, TC_REDIRECT);
            } else {
                refused(node, "no-edge", || out(node, &from_workload().udp(1, 2, b"")));
            }
        }
    });
}
