//! What becomes of desired states: an edge's tables, or the refusal with its reason.

use persona_core::ids::{Generation, SubjectNumber, Vni};

use super::super::observe::Senders;
use super::*;
use crate::agent::queues::Leaves;
use crate::netlink::htb::Leaf;
use crate::netlink::{Link, Path, Sizes};

const EGRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

fn link(index: u32, mtu: u32) -> Link {
    Link { index, name: format!("dev{index}"), mtu, mac: Some([index as u8; 6]), is_up: true, ..Default::default() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn observed() -> Observed {
    let (node, router) = (ip("10.0.0.1"), ip("10.0.0.254"));
    let path = |next_hop| Path { ifindex: 1, next_hop, source: None, mtu: None };
    Observed {
        inside: link(1, 1_500),
        outside: link(2, 1_500),
        address: ip("10.0.0.11"),
        inside_senders: Senders::default(),
        outside_senders: Senders::default(),
        paths: [(node, path(node)), (ip("fd00::7"), path(router))].into(),
        links: [(1, link(1, 1_500)), (2, link(2, 1_500))].into(),
        neighbours: [((1, node), [9; 6]), ((2, ip("fe80::1")), [8; 6])].into(),
        narrowed: BTreeMap::new(),
        wire_ifindex: None,
        leaves: None,
    }
}

fn own() -> Own {
    Own {
        name: "e1".parse().unwrap(),
        group: "frankfurt".parse().unwrap(),
        outside_next_hop: "198.51.100.1".parse().ok(),
        outside_next_hop6: "fe80::1".parse().ok(),
    }
}

fn edge_item(name: &str, number: u16, group: &str) -> EdgeItem {
    EdgeItem {
        name: name.parse().unwrap(),
        number: EdgeNumber(number),
        group: group.parse().unwrap(),
        address: [10, 0, 0, 10 + number as u8].into(),
        weight: 1,
        in_service: true,
        draining: false,
    }
}

fn edge(name: &str, number: u16, group: &str) -> Item {
    Item::Edge(edge_item(name, number, group))
}

fn lease_of(space: LeaseSpace, node: &str, mtu: u16) -> Item {
    Item::Lease(LeaseItem {
        id: LeaseId(5),
        subject: "workload/n1/w1".parse().unwrap(),
        node: "n1".parse().unwrap(),
        node_address: ip(node),
        vni: Vni(7),
        group: "frankfurt".parse().unwrap(),
        pool: "pool".parse().unwrap(),
        space,
        configured: false,
        mtu,
        generation: Generation::new(1, 1),
        retiring: false,
        rates: None,
        encrypted: false,
    })
}

fn ports() -> LeaseSpace {
    LeaseSpace::Ports { address: EGRESS, block_bits: 10, blocks: vec![1, 2] }
}

fn prefix(text: &str) -> LeaseSpace {
    LeaseSpace::Prefix { prefix: text.parse().unwrap() }
}

fn pool(name: &str, block_bits: u8) -> Item {
    Item::Pool(PoolItem {
        name: name.parse().unwrap(),
        addresses: vec![EGRESS],
        block_bits,
        prefixes: vec!["2001:db8:7::/48".parse().unwrap()],
        next_hop6: "2001:db8::5".parse().ok(),
    })
}

fn node(name: &str, address: &str) -> Item {
    Item::Node(NodeItem { name: name.parse().unwrap(), address: ip(address) })
}

fn build_of(items: Vec<Item>) -> Result<EdgePlan, Refusal> {
    build_with(items, MtuPolicy::Refuse)
}

fn build_with(items: Vec<Item>, policy: MtuPolicy) -> Result<EdgePlan, Refusal> {
    build(&state(items), &own(), &observed(), Some(77), policy)
}

fn state(items: Vec<Item>) -> DesiredState {
    let mut state = DesiredState { generation: Generation::new(1, 2), ..Default::default() };
    items.into_iter().for_each(|item| state.insert(item));
    state
}

#[test]
fn a_state_becomes_tables() {
    let items = vec![
        edge("e1", 1, "frankfurt"),
        edge("e2", 2, "frankfurt"),
        edge("e3", 3, "tokyo"),
        pool("pool", 10),
        node("n1", "10.0.0.1"),
        node("n2", "10.0.0.2"),
        lease_of(ports(), "10.0.0.1", 1_400),
    ];
    let plan = build_of(items).unwrap();
    assert_eq!(plan.situation.own, Some(EdgeNumber(1)));
    assert_eq!(plan.peers.keys().copied().collect::<Vec<_>>(), [EdgeNumber(2)]);
    let tables = plan.tables;
    assert_eq!((tables.number, tables.slow_ifindex, tables.leases.len()), (EdgeNumber(1), Some(77), 1));
    assert_eq!(tables.nodes[0].next_hop.destination_mac, Some([9; 6]));
    assert_eq!(tables.nodes[1].next_hop.ifindex, 1, "no way yet: tried on the inside");
    assert_eq!((tables.peers.len(), tables.peers[0].address), (1, ip("10.0.0.12")));
    assert_eq!(tables.outside.unwrap().source_mac, [2; 6]);
    assert_eq!(tables.outside6.unwrap().destination_mac, Some([8; 6]));
}

#[test]
fn ipv6_leases_underlays_and_next_hops_have_their_rows() {
    let items = vec![pool("pool", 10), node("n7", "fd00::7"), lease_of(prefix("2001:db8:7:3::"), "fd00::7", 1_444)];
    let plan = build_of(items).unwrap();
    assert_eq!(plan.tables.prefixes, [("2001:db8:7::".parse().unwrap(), 48)]);
    assert_eq!(plan.tables.leases[0].node, ip("fd00::7"));
    assert_eq!(plan.tables.nodes[0].next_hop.address, ip("10.0.0.254"));
    assert_eq!(plan.situation.addresses, [EGRESS.into(), ip("2001:db8::5")].into());
    let ranges = ["203.0.113.1", "2001:db8:7::/48"].map(|range| range.parse().unwrap());
    assert_eq!(plan.situation.ranges, ranges.into());
}

#[test]
fn a_whole_address_is_one_block() {
    let items = |space| vec![pool("pool", 10), node("n1", "10.0.0.1"), lease_of(space, "10.0.0.1", 1_400)];
    let bits = |space| build_of(items(space)).unwrap().tables.addresses[0].block_bits;
    assert_eq!((bits(ports()), bits(LeaseSpace::whole_address(EGRESS))), (10, 16));
}

#[test]
fn an_edge_that_is_emptied_leaves_its_addresses_to_others() {
    let items = |draining| vec![Item::Edge(EdgeItem { draining, ..edge_item("e1", 1, "frankfurt") })];
    let plan = |draining| build_of(items(draining)).unwrap();
    assert_eq!([false, true].map(|draining| plan(draining).situation.in_service), [true, false]);
    assert!(plan(true).is_draining && plan(true).tables.number == EdgeNumber(1));
}

#[test]
fn what_cannot_be_applied_is_refused_with_the_reason() {
    let holder = "10.0.0.1";
    let (n1, n7) = (|| node("n1", holder), || node("n7", "fd00::7"));
    let cases = [
        (vec![n1(), lease_of(ports(), holder, 1_400)], "in no egress pool"),
        (vec![n1(), pool("pool", 10), lease_of(prefix("2001:db8:8::"), holder, 1_400)], "in no egress pool"),
        (vec![pool("pool", 10), lease_of(ports(), holder, 1_400)], "node 10.0.0.1, which is not"),
        (vec![pool("a", 10), pool("b", 9)], "blocks of different sizes"),
        (vec![pool("pool", 10), n1(), lease_of(ports(), holder, 1_465)], "lower the persona's mtu to 1464"),
        (vec![pool("pool", 10), n7(), lease_of(ports(), "fd00::7", 1_445)], "lower the persona's mtu to 1444"),
    ];
    for (items, reason) in cases {
        let refusal = build_of(items).unwrap_err().to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn a_state_in_force_goes_on_with_smaller_packets() {
    let items = vec![pool("pool", 10), node("n1", "10.0.0.1"), lease_of(ports(), "10.0.0.1", 1_480)];
    let plan = build_with(items, MtuPolicy::Lower).unwrap();
    assert_eq!(plan.tables.leases[0].mtu, 1_464);
}

#[test]
fn a_routers_word_makes_packets_smaller_and_refuses_nothing() {
    let (n1, e2) = ("10.0.0.1", "10.0.0.12");
    for (space, far_end, narrowed, mtu) in [
        (ports(), n1, 1_400, 1_364),
        (ports(), n1, 100, 576),
        (ports(), e2, 1_400, 1_364),
        (ports(), "10.0.0.99", 1_400, 1_400),
        (prefix("2001:db8:7:1::"), n1, 1_350, 1_314),
        (prefix("2001:db8:7:1::"), n1, 1_300, 1_280),
    ] {
        let items = vec![pool("pool", 10), node("n1", n1), edge("e2", 2, "frankfurt"), lease_of(space, n1, 1_400)];
        let mut observed = observed();
        observed.narrowed = [(ip(far_end), narrowed)].into();
        for policy in [MtuPolicy::Refuse, MtuPolicy::Lower] {
            let plan = build(&state(items.clone()), &own(), &observed, None, policy).unwrap();
            assert_eq!(plan.tables.leases[0].mtu, mtu, "{far_end} {narrowed}");
        }
    }
}

#[test]
fn a_routes_own_mtu_counts() {
    let items = vec![pool("pool", 10), node("n1", "10.0.0.1"), lease_of(ports(), "10.0.0.1", 1_400)];
    let mut observed = observed();
    observed.paths.get_mut(&ip("10.0.0.1")).unwrap().mtu = Some(1_420);
    let build = |policy| build(&state(items.clone()), &own(), &observed, None, policy);
    assert!(build(MtuPolicy::Refuse).unwrap_err().to_string().contains("lower the persona's mtu to 1384"));
    assert_eq!(build(MtuPolicy::Lower).unwrap().tables.leases[0].mtu, 1_384);
}

#[test]
fn rates_of_a_lease_are_policed() {
    let mut lease = lease_of(ports(), "10.0.0.1", 1_400);
    let subject_number = SubjectNumber(9);
    let (egress_bps, ingress_bps, burst_bytes, dscp) = (Some(112_000_000), Some(112_000_000), Some(7), None);
    for (held, can_queue, policing, class) in [
        (false, true, Policing::BehindNode, 0),
        (true, false, Policing::AtRate, 0),
        (true, true, Policing::InClass(20), 0x7e50_0015),
    ] {
        let Item::Lease(item) = &mut lease else { unreachable!() };
        item.rates = Some(LeaseRates { subject_number, egress_bps, ingress_bps, burst_bytes, held, dscp });
        let items = vec![pool("pool", 10), node("n1", "10.0.0.1"), lease.clone()];
        let leaves = can_queue.then_some(Leaves::Plain);
        let observed = Observed { leaves, ..observed() };
        let plan = build(&state(items), &own(), &observed, None, MtuPolicy::Refuse).unwrap();
        let wanted = PolicedSubject { number: subject_number, egress_bps, ingress_bps, burst_bytes: 7, policing };
        assert_eq!(plan.tables.leases[0].policed, Some(wanted));
        assert_eq!(class_inward(&plan.tables.leases[0]), class);
        let rate = |ifindex, minor| plan.queues.shapers[&ifindex].classes[&minor].rate_bytes_per_sec;
        if class == 0 {
            assert_eq!(plan.queues.shapers, BTreeMap::new());
        } else {
            assert_eq!((rate(2, 20), rate(1, 21)), (14_000_000, 14_000_000));
            let counted = |ifindex| plan.queues.shapers[&ifindex].sizes.unwrap();
            assert_eq!((counted(2).overhead_bytes, counted(1).overhead_bytes, counted(1).mtu), (14, 50, 1_400));
        }
    }
}

#[test]
fn an_encrypted_subjects_queue_stands_on_the_tunnels_device() {
    let mut lease = lease_of(ports(), "10.0.0.1", 1_300);
    let Item::Lease(item) = &mut lease else { unreachable!() };
    let (subject_number, burst_bytes, held, dscp) = (SubjectNumber(9), None, true, None);
    let (egress_bps, ingress_bps) = (None, Some(130_000_000));
    item.rates = Some(LeaseRates { subject_number, egress_bps, ingress_bps, burst_bytes, held, dscp });
    item.encrypted = true;
    let observed = Observed { leaves: Some(Leaves::Plain), wire_ifindex: Some(7), ..observed() };
    let items = vec![pool("pool", 10), node("n1", "10.0.0.1"), lease];
    let plan = build(&state(items), &own(), &observed, None, MtuPolicy::Refuse).unwrap();
    assert_eq!(plan.queues.shapers.keys().collect::<Vec<_>>(), [&7]);
    assert_eq!(plan.queues.shapers[&7].classes[&21].rate_bytes_per_sec, 16_250_000);
    assert_eq!(plan.queues.shapers[&7].sizes, Some(Sizes { overhead_bytes: 36, mtu: 1_300 }), "no Ethernet");
}

#[test]
fn sparse_flows_do_not_wait_behind_bulk_at_edges_either() {
    for (dscp, leaves, is_fair, priority) in [
        (None, Leaves::Fair, false, 4),
        (Some(46), Leaves::Plain, false, 0),
        (Some(46), Leaves::Fair, true, 0),
        (Some(18), Leaves::Fair, true, 2),
        (Some(8), Leaves::Fair, false, 7),
    ] {
        let mut lease = lease_of(ports(), "10.0.0.1", 1_400);
        let Item::Lease(item) = &mut lease else { unreachable!() };
        let (egress_bps, ingress_bps) = (Some(8_000_000), Some(8_000_000));
        let (subject_number, burst_bytes, held) = (SubjectNumber(9), None, true);
        item.rates = Some(LeaseRates { subject_number, egress_bps, ingress_bps, burst_bytes, held, dscp });
        let observed = Observed { leaves: Some(leaves), ..observed() };
        let items = vec![pool("pool", 10), node("n1", "10.0.0.1"), lease];
        let plan = build(&state(items), &own(), &observed, None, MtuPolicy::Refuse).unwrap();
        let classes: Vec<_> = plan.queues.shapers.values().flat_map(|shaper| shaper.classes.values()).collect();
        assert_eq!(classes.len(), 2);
        for class in classes {
            assert_eq!((matches!(class.leaf, Leaf::Fair(_)), class.priority), (is_fair, priority), "{dscp:?}");
        }
    }
}

#[test]
fn a_device_for_both_ways_counts_full_packets_right() {
    let mut lease = lease_of(ports(), "10.0.0.1", 1_400);
    let Item::Lease(item) = &mut lease else { unreachable!() };
    let (egress_bps, ingress_bps) = (Some(112_000_000), Some(112_000_000));
    let (subject_number, burst_bytes, held, dscp) = (SubjectNumber(9), None, true, None);
    item.rates = Some(LeaseRates { subject_number, egress_bps, ingress_bps, burst_bytes, held, dscp });
    let mut observed = Observed { leaves: Some(Leaves::Plain), ..observed() };
    observed.outside.index = observed.inside.index;
    let items = vec![pool("pool", 10), node("n1", "10.0.0.1"), lease];
    let plan = build(&state(items), &own(), &observed, None, MtuPolicy::Refuse).unwrap();
    let shaper = &plan.queues.shapers[&1];
    assert_eq!(shaper.sizes, Some(Sizes { overhead_bytes: 14, mtu: 1_400 }));
    let rates = [20, 21].map(|minor| shaper.classes[&minor].rate_bytes_per_sec);
    assert_eq!(rates, [14_000_000, 14_360_000], "1,436 of 1,400 bytes");
}
