//! Tables of desired states and what becomes of them.

use std::net::Ipv4Addr;

use persona_core::ids::{Generation, Vni};
use persona_core::wire::desired::SubjectQos;

use super::*;
use crate::dataplane::tables::LeaseSpace;
use crate::netlink::{Link, LinkAddress, Path};

fn config() -> AgentConfig {
    let text = "
        name = 'n1'
        manager = 'http://m:1'
        uplink = 'up0'
        bypass = ['192.0.2.0/24']
        workload = [{ name = 'w1', device = 'veth1', address = '10.9.0.2' }]";
    toml::from_str::<super::super::config::AgentFile>(text).unwrap().check().unwrap()
}

fn observed() -> Observed {
    let way = |next_hop: [u8; 4]| Path { ifindex: 1, next_hop: IpAddr::from(next_hop), source: None, mtu: None };
    let address = |ifindex, address: [u8; 4]| LinkAddress {
        ifindex,
        address: IpAddr::from(address),
        prefix_length: 24,
        is_deprecated: false,
        is_ours: false,
    };
    Observed {
        uplink: Link { index: 1, name: "up0".into(), mtu: 1_500, mac: None, is_up: true, ..Default::default() },
        address: Ipv4Addr::new(10, 0, 0, 1),
        attached: [("w1".parse().unwrap(), 7)].into(),
        mtus: [(1, 1_500), (7, 1_500)].into(),
        paths: [(EdgeNumber(1), way([10, 0, 0, 11])), (EdgeNumber(2), way([10, 0, 0, 254]))].into(),
        addresses: vec![address(1, [10, 0, 0, 1]), address(7, [10, 9, 0, 1])],
    }
}

fn edge(name: &str, number: u16) -> EdgeItem {
    EdgeItem {
        name: name.parse().unwrap(),
        number: EdgeNumber(number),
        group: "frankfurt".parse().unwrap(),
        address: [10, 0, 0, 10 + number as u8].into(),
        weight: 1,
        in_service: true,
        draining: false,
    }
}

fn subject(mtu: u16, lease: u64) -> SubjectItem {
    let network = SubjectNetwork {
        persona: "p".parse().unwrap(),
        version: 1,
        vni: Vni(5),
        mtu,
        protocols: vec![6, 17],
        group: "frankfurt".parse().unwrap(),
        lease: Some(LeaseId(lease)),
        lease6: None,
        prefer_ipv6: false,
        assign: Default::default(),
        filtering: Default::default(),
        bypass: Vec::new(),
    };
    let qos = SubjectQos { egress_bps: Some(8_000_000), ..Default::default() };
    let subject = "workload/n1/w1".parse().unwrap();
    SubjectItem { subject, number: SubjectNumber(3), network: Some(network), qos, digest: String::new() }
}

fn lease(id: u64, holder: &str) -> LeaseItem {
    LeaseItem {
        id: LeaseId(id),
        subject: holder.parse().unwrap(),
        node: "n1".parse().unwrap(),
        node_address: [10, 0, 0, 1].into(),
        vni: Vni(5),
        group: "frankfurt".parse().unwrap(),
        pool: "pool".parse().unwrap(),
        space: LeaseSpace::Ports { address: [203, 0, 113, 1].into(), block_bits: 10, blocks: vec![1] },
        configured: false,
        mtu: 1_400,
        generation: Generation::new(1, 1),
        retiring: false,
    }
}

fn desired(items: impl IntoIterator<Item = Item>) -> DesiredState {
    let mut state = DesiredState { generation: Generation::new(1, 2), ..Default::default() };
    items.into_iter().for_each(|item| state.insert(item));
    state
}

fn whole() -> Vec<Item> {
    vec![
        Item::Edge(edge("e1", 1)),
        Item::Edge(edge("e2", 2)),
        Item::Subject(subject(1_400, 9)),
        Item::Lease(lease(9, "workload/n1/w1")),
    ]
}

fn build_of(items: Vec<Item>) -> Result<NodePlan, Refusal> {
    build(&desired(items), &config(), &observed(), &mut MaglevCache::new())
}

#[test]
fn a_state_becomes_tables() {
    let plan = build_of(whole()).unwrap();
    assert_eq!(
        plan.tables.devices[0],
        DeviceEntry {
            ifindex: 7,
            subject: Some(SubjectNumber(3)),
            address: Some(Ipv4Addr::new(10, 9, 0, 2)),
            prefix6: None,
            vlan: None,
        }
    );
    let egress = plan.tables.subjects[0].network.clone().unwrap();
    assert_eq!(egress.allow, AllowedProtocols { tcp: true, udp: true, ..AllowedProtocols::default() });
    assert_eq!(egress.egress_class, 0x7e50_0004);
    assert_eq!(plan.tables.edges[1].next_hop, Ipv4Addr::new(10, 0, 0, 254));
    assert_eq!(plan.tables.groups[0].rows.len(), maglev::ROW_COUNT);
    for range in [([10, 9, 0, 0], 24), ([10, 9, 0, 1], 32), ([10, 0, 0, 1], 32), ([192, 0, 2, 0], 24)] {
        assert!(plan.tables.bypass.contains(&(range.0.into(), range.1)), "{range:?}");
    }
    assert!(!plan.tables.bypass.contains(&([10, 0, 0, 0].into(), 24)), "the underlay is no local subnet");
    assert_eq!(plan.tables.managed, [(IpAddr::from([10, 9, 0, 2]), 32)]);
}

#[test]
fn what_cannot_be_applied_is_refused_with_the_reason() {
    let holder: SubjectId = "workload/n1/w1".parse().unwrap();
    let cases = [
        (vec![Item::Edge(edge("e1", 1)), Item::Subject(subject(1_400, 9))], "lease 9, which is not"),
        (vec![Item::Lease(lease(9, "workload/n1/w1"))], "belongs to workload/n1/w1, which is not"),
        (vec![Item::Subject(subject(1_400, 9)), Item::Lease(lease(9, "workload/n1/w1"))], "no edge is in"),
        (
            vec![Item::Edge(edge("e1", 1)), Item::Subject(subject(1_465, 9)), Item::Lease(lease(9, "workload/n1/w1"))],
            "lower the persona's mtu to 1464",
        ),
        (
            vec![Item::Subject(SubjectItem { subject: "workload/n2/w1".parse().unwrap(), ..subject(1_400, 9) })],
            "does not live on this node",
        ),
    ];
    for (items, reason) in cases {
        let refusal = build_of(items).unwrap_err().to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }
    let mut odd = subject(1_400, 9);
    odd.network.as_mut().unwrap().protocols = vec![47];
    let items = vec![Item::Edge(edge("e1", 1)), Item::Subject(odd), Item::Lease(lease(9, "workload/n1/w1"))];
    assert_eq!(build_of(items), Err(Refusal::Protocol { subject: holder, protocol: 47 }));
}

#[test]
fn edges_out_of_service_or_without_a_way_get_no_rows() {
    let mut items = whole();
    items[0] = Item::Edge(EdgeItem { in_service: false, ..edge("e1", 1) });
    items.push(Item::Edge(edge("e3", 3)));
    let plan = build_of(items).unwrap();
    assert!(plan.tables.groups[0].rows.iter().all(|(first, _)| *first == EdgeNumber(2)));
    let known: Vec<_> = plan.tables.edges.iter().map(|edge| edge.number).collect();
    assert_eq!(known, [EdgeNumber(1), EdgeNumber(2)]);
}

#[test]
fn maglev_tables_are_built_once() {
    let mut cache = MaglevCache::new();
    build(&desired(whole()), &config(), &observed(), &mut cache).unwrap();
    let rows: Vec<_> = cache.values().map(|rows| rows.as_ptr()).collect();
    build(&desired(whole()), &config(), &observed(), &mut cache).unwrap();
    assert_eq!(cache.values().map(|rows| rows.as_ptr()).collect::<Vec<_>>(), rows);
}
