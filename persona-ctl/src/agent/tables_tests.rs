//! Tables of desired states and what becomes of them.

use std::net::Ipv4Addr;

use persona_core::ids::{Generation, Vni};
use persona_core::wire::agent::Role;
use persona_core::wire::desired::{Assign, SharedQos, SharedScope, SubjectImpair, SubjectQos, TunnelEnd, TunnelItem};

use super::*;
use crate::agent::configure::Reach;
use crate::dataplane::tables::{CgroupEntry, DeviceEntry, LeaseSpace, SourceEntry, VlanProtocol, VlanTag};
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
    let link = |index, name: &str| Link { index, name: name.into(), mtu: 1_500, is_up: true, ..Default::default() };
    Observed {
        uplink: link(1, "up0"),
        address: Some([10, 0, 0, 1].into()),
        attached: [("w1".parse().unwrap(), 7)].into(),
        cgroups: BTreeMap::new(),
        links: vec![link(1, "up0"), link(7, "veth1")],
        paths: [(EdgeNumber(1), way([10, 0, 0, 11])), (EdgeNumber(2), way([10, 0, 0, 254]))].into(),
        addresses: vec![address(1, [10, 0, 0, 1]), address(7, [10, 9, 0, 1])],
        narrowed: BTreeMap::new(),
        demands: Default::default(),
        wire_ifindex: None,
        leaves: Default::default(),
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
        planned: Vec::new(),
        lease: Some(LeaseId(lease)),
        lease6: None,
        prefer_ipv6: false,
        assign: Default::default(),
        filtering: Default::default(),
        bypass: Vec::new(),
        normalise: Vec::new(),
        impair: None,
    };
    let qos = SubjectQos { egress_bps: Some(8_000_000), ..Default::default() };
    let subject = "workload/n1/w1".parse().unwrap();
    SubjectItem {
        subject,
        number: SubjectNumber(3),
        network: Some(network),
        qos,
        resources: None,
        software: None,
        firewall: None,
        security: None,
        digest: String::new(),
    }
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
        rates: None,
        encrypted: false,
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
    build(&desired(items), &config(), &observed(), MtuPolicy::Refuse, &mut MaglevCache::new())
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
fn a_planned_edge_has_a_table_of_its_own_while_it_can_carry_anything() {
    type Change = fn(&mut EdgeItem);
    let cases: [(&str, Change, usize); 6] = [
        ("e1", |_| (), 1),
        ("e1", |edge| edge.draining = true, 1),
        ("e1", |edge| edge.in_service = false, 0),
        ("e1", |edge| edge.group = "tokyo".parse().unwrap(), 0),
        ("e1", |edge| edge.number = EdgeNumber(9), 0),
        ("e3", |_| (), 0),
    ];
    for (planned, change, table_count) in cases {
        let (mut first, mut wearer) = (edge("e1", 1), subject(1_400, 9));
        change(&mut first);
        wearer.network.as_mut().unwrap().planned = vec![planned.parse().unwrap()];
        let items = [Item::Edge(first), Item::Edge(edge("e2", 2)), Item::Subject(wearer), whole().remove(3)];
        let plan = build_of(items.into()).unwrap();
        assert_eq!(plan.tables.planned.len(), table_count, "{planned}: {:?}", plan.tables.edges);
        for table in &plan.tables.planned {
            assert_eq!((&table.edges[..], table.subjects.len()), (&[EdgeNumber(1)][..], 1));
            assert!(table.rows.iter().all(|row| *row == (EdgeNumber(1), EdgeNumber(2))));
        }
    }
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
    assert_eq!(build_of(items), Err(Refusal::Protocol { subject: holder, protocol: 47, lease: LeaseId(9) }));
}

#[test]
fn protocols_without_ports_pass_under_a_whole_address() {
    let mut odd = subject(1_400, 9);
    odd.network.as_mut().unwrap().protocols = vec![1, 47, 58];
    let space = LeaseSpace::whole_address([203, 0, 113, 1].into());
    let whole_address = LeaseItem { space, configured: true, ..lease(9, "workload/n1/w1") };
    let plan = build_of(vec![Item::Edge(edge("e1", 1)), Item::Subject(odd), Item::Lease(whole_address)]).unwrap();
    let egress = plan.tables.subjects[0].network.clone().unwrap();
    assert_eq!(egress.allow, AllowedProtocols { icmp: true, other: true, ..AllowedProtocols::default() });
}

#[test]
fn what_a_persona_hides_and_loses_is_told_to_the_programs() {
    use Normalise::{Dscp, IpId, TcpOptions, TcpTimestamps, Ttl};
    let nothing = Normalisation::default();
    for (fields, own_dscp, hidden, dscp) in [
        (vec![], None, nothing, None),
        (vec![Ttl], None, Normalisation { hops: true, ..nothing }, None),
        (vec![IpId], Some(46), Normalisation { id: true, ..nothing }, Some(46)),
        (vec![TcpTimestamps, Dscp], None, Normalisation { timestamps: true, ..nothing }, Some(0)),
        (vec![TcpOptions], None, Normalisation { options: true, ..nothing }, None),
        (vec![Dscp], Some(46), nothing, Some(46)),
    ] {
        let mut worn = subject(1_400, 9);
        worn.network.as_mut().unwrap().normalise = fields.clone();
        worn.qos.dscp = own_dscp;
        worn.network.as_mut().unwrap().impair =
            Some(SubjectImpair { loss: "0.1%".parse().unwrap(), ..Default::default() });
        let items = vec![Item::Edge(edge("e1", 1)), Item::Subject(worn), Item::Lease(lease(9, "workload/n1/w1"))];
        let egress = build_of(items).unwrap().tables.subjects[0].network.clone().unwrap();
        assert_eq!((egress.normalise, egress.dscp), (hidden, dscp), "{fields:?}");
        assert_eq!(egress.impair.loss_millionths, 1_000);
    }
}

#[test]
fn the_way_to_the_edges_limits_packets() {
    let narrow = |mtu, next: [u16; 8]| {
        let mut observed = observed();
        observed.links[0].mtu = mtu;
        let mut e1 = edge("e1", 1);
        if next != [0; 8] {
            e1.address = next.into();
        }
        let items = vec![Item::Edge(e1), Item::Subject(subject(1_400, 9)), Item::Lease(lease(9, "workload/n1/w1"))];
        move |policy| build(&desired(items.clone()), &config(), &observed, policy, &mut MaglevCache::new())
    };
    let (ipv4, ipv6) = ([0; 8], [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
    for (mtu, edge, fits, lowered) in [
        (1_436, ipv4, true, 1_400),
        (1_435, ipv4, false, 1_399),
        (1_456, ipv6, true, 1_400),
        (1_455, ipv6, false, 1_399),
    ] {
        let build = narrow(mtu, edge);
        assert_eq!(build(MtuPolicy::Refuse).is_ok(), fits, "{mtu} {edge:?}");
        let plan = build(MtuPolicy::Lower).unwrap();
        let egress = plan.tables.subjects[0].network.clone().unwrap();
        assert_eq!((egress.mtu, plan.tables.leases[0].mtu), (lowered, lowered), "{mtu} {edge:?}");
        assert_eq!(plan.notes.iter().any(|note| note.event == "mtu.lowered"), !fits);
    }
    assert!(narrow(100, ipv4)(MtuPolicy::Lower).is_err(), "64 bytes are too few for IPv4 to live with");
}

#[test]
fn a_routers_word_makes_packets_smaller_and_refuses_nothing() {
    let prefix = LeaseItem {
        space: LeaseSpace::Prefix { prefix: "2001:db8::".parse().unwrap() },
        ..lease(10, "workload/n1/w1")
    };
    let mut both = subject(1_400, 9);
    both.network.as_mut().unwrap().lease6 = Some(LeaseId(10));
    let items =
        [Item::Edge(edge("e1", 1)), Item::Subject(both), Item::Lease(lease(9, "workload/n1/w1")), Item::Lease(prefix)];
    for (narrowed, mtu, mtu6) in
        [(1_500, 1_400, 1_400), (1_400, 1_364, 1_364), (1_300, 1_264, 1_280), (100, 576, 1_280)]
    {
        let mut observed = observed();
        observed.narrowed = [([10, 0, 0, 11].into(), narrowed)].into();
        for policy in [MtuPolicy::Refuse, MtuPolicy::Lower] {
            let cache = &mut MaglevCache::new();
            let plan = build(&desired(items.to_vec()), &config(), &observed, policy, cache).unwrap();
            let mtu_of = |id| plan.tables.leases.iter().find(|lease| lease.id == LeaseId(id)).map(|lease| lease.mtu);
            assert_eq!((mtu_of(9), mtu_of(10)), (Some(mtu), Some(mtu6)), "{narrowed}");
            assert_eq!(plan.tables.subjects[0].network.as_ref().unwrap().mtu, mtu6, "{narrowed}");
            assert_eq!(plan.notes.iter().any(|note| note.event == "mtu.lowered"), narrowed < 1_436);
        }
    }
    let mut elsewhere = observed();
    elsewhere.narrowed = [([10, 0, 0, 99].into(), 1_300)].into();
    let plan = build(&desired(items.to_vec()), &config(), &elsewhere, MtuPolicy::Lower, &mut MaglevCache::new());
    assert_eq!(plan.unwrap().tables.leases[0].mtu, 1_400, "the way to somebody else");
}

#[test]
fn an_encrypted_lease_goes_through_the_tunnel_and_takes_its_room() {
    let item = LeaseItem { encrypted: true, ..lease(9, "workload/n1/w1") };
    let end = TunnelEnd { public_key: "A".repeat(43) + "=", port: 51_820, next_key: None };
    let tunnel = TunnelItem { role: Role::Edge, name: "e1".into(), address: [10, 0, 0, 11].into(), end };
    let items = [
        Item::Edge(edge("e1", 1)),
        Item::Subject(subject(1_400, 9)),
        Item::Lease(item.clone()),
        Item::Tunnel(tunnel.clone()),
    ];
    // 1,400 bytes, 36 of Geneve and 60 of WireGuard.
    for (underlay, fits) in [(1_496, true), (1_495, false)] {
        let mut observed = Observed { wire_ifindex: Some(77), ..observed() };
        observed.links[0].mtu = underlay;
        let cache = &mut MaglevCache::new();
        let built = build(&desired(items.to_vec()), &config(), &observed, MtuPolicy::Refuse, cache);
        assert_eq!(built.is_ok(), fits, "{underlay}");
        let Ok(plan) = built else { continue };
        let wire = &plan.tables.wire;
        assert_eq!((wire.ifindex, wire.is_encrypted(&item.space)), (Some(77), true));
        assert!(wire.edges.contains(&tunnel.address) && !wire.edges.contains(&[10, 0, 0, 12].into()));
        assert_eq!(plan.queues.shapers.keys().copied().collect::<Vec<_>>(), [77], "its rate is held in the tunnel");
    }
    let plain = build_of(whole()).unwrap();
    assert!(plain.tables.wire.encrypted.is_empty());
}

#[test]
fn subjects_are_found_by_device_source_and_cgroup() {
    let text = "
        name = 'n1'
        manager = 'http://m:1'
        uplink = 'up0'
        host = { cgroup = '/system.slice' }
        workload = [
          { name = 'w1', device = 'veth1', address = '10.9.0.2', address6 = 'fd00:9::/64', vlan = 7, vlan_protocol = '802.1ad' },
          { name = 'w2', device = 'br0', sources = ['10.1.0.0/24', 'fd00:1::/64'] },
          { name = 'w3', device = 'br0', source = '10.1.0.7' },
          { name = 'w4', cgroup = '/web' },
          { name = 'w5', device = 'gone', address = '10.9.0.5' },
        ]";
    let config = toml::from_str::<super::super::config::AgentFile>(text).unwrap().check().unwrap();
    let mut observed = observed();
    observed.attached.extend([("w2".parse().unwrap(), 8), ("w3".parse().unwrap(), 8)]);
    observed.cgroups = [("/web".to_owned(), 44), ("/system.slice".to_owned(), 55)].into();
    let bare = |number, subject: &str| {
        let (network, qos, resources, software, security, firewall, digest) = Default::default();
        Item::Subject(SubjectItem {
            subject: subject.parse().unwrap(),
            number: SubjectNumber(number),
            network,
            qos,
            resources,
            software,
            security,
            firewall,
            digest,
        })
    };
    let names = ["node/n1", "workload/n1/w1", "workload/n1/w2", "workload/n1/w3", "workload/n1/w4", "workload/n1/w5"];
    let items = names.iter().enumerate().map(|(number, name)| bare(number as u32, name));
    let plan = build(&desired(items), &config, &observed, MtuPolicy::Refuse, &mut MaglevCache::new()).unwrap();
    let entry = |ifindex, subject| DeviceEntry { ifindex, subject, address: None, prefix6: None, vlan: None };
    let own = DeviceEntry {
        address: Some(Ipv4Addr::new(10, 9, 0, 2)),
        prefix6: Some(("fd00:9::".parse().unwrap(), 64)),
        vlan: Some(VlanTag { id: 7, protocol: VlanProtocol::Service }),
        ..entry(7, Some(SubjectNumber(1)))
    };
    assert_eq!(plan.tables.devices, [own, entry(8, None)]);
    let source = |prefix: &str, length, number| SourceEntry {
        prefix: (prefix.parse().unwrap(), length),
        subject: SubjectNumber(number),
        ifindex: 8,
    };
    assert_eq!(plan.tables.sources, [source("10.1.0.0", 24, 2), source("fd00:1::", 64, 2), source("10.1.0.7", 32, 3)]);
    let group = |id, number| CgroupEntry { id, subject: SubjectNumber(number) };
    assert_eq!(plan.tables.cgroups, [group(44, 4), group(55, 0)]);
    for range in [("10.9.0.2", 32), ("fd00:9::", 64), ("10.1.0.0", 24), ("10.1.0.7", 32), ("10.9.0.5", 32)] {
        assert!(plan.tables.managed.contains(&(range.0.parse().unwrap(), range.1)), "{range:?}");
    }
}

#[test]
fn configured_leases_go_to_the_workloads_own_interface() {
    let mut item = subject(1_400, 9);
    let network = item.network.as_mut().unwrap();
    (network.assign, network.lease6) = (Assign::Configure, Some(LeaseId(12)));
    let address = |id, last| LeaseItem {
        space: LeaseSpace::whole_address([203, 0, 113, last].into()),
        configured: true,
        ..lease(id, "workload/n1/w1")
    };
    let space = LeaseSpace::Prefix { prefix: "2001:db8:5::".parse().unwrap() };
    let prefix = LeaseItem { space, configured: true, ..lease(12, "workload/n1/w1") };
    let items = [
        Item::Edge(edge("e1", 1)),
        Item::Subject(item),
        Item::Lease(address(7, 4)),
        Item::Lease(address(9, 9)),
        Item::Lease(prefix),
    ];
    let plan = build_of(items.to_vec()).unwrap();
    let workload = &plan.configured[0];
    assert_eq!((workload.ifindex, &workload.reach), (7, &Reach::Peer));
    let leases: Vec<_> = workload
        .leases
        .iter()
        .map(|lease| (lease.address.to_string(), lease.prefix_length, lease.is_current))
        .collect();
    assert_eq!(
        leases,
        [
            ("203.0.113.4".to_owned(), 32, false),
            ("203.0.113.9".to_owned(), 32, true),
            ("2001:db8:5::1".to_owned(), 64, true)
        ]
    );
    let plain = build_of(whole()).unwrap();
    assert!(plain.configured[0].leases.is_empty(), "a workload whose persona rewrites shall have nothing of ours");
}

#[test]
fn who_prefers_ipv6_has_its_local_prefix_told() {
    let text = "
        name = 'n1'
        manager = 'http://m:1'
        uplink = 'up0'
        host = { gai_conf = '/etc/gai.conf' }
        workload = [{ name = 'w1', device = 'veth1', address6 = 'fd00:9::2', gai_conf = '/x/gai.conf' }]";
    let config = toml::from_str::<super::super::config::AgentFile>(text).unwrap().check().unwrap();
    let build_with = |prefer_ipv6| {
        let mut items = whole();
        let Item::Subject(item) = &mut items[2] else { unreachable!() };
        item.network.as_mut().unwrap().prefer_ipv6 = prefer_ipv6;
        build(&desired(items), &config, &observed(), MtuPolicy::Refuse, &mut MaglevCache::new()).unwrap()
    };
    let prefix = ("fd00:9::2".parse().unwrap(), 128);
    let plan = build_with(true);
    assert_eq!(plan.configured[0].preferred_prefixes, [prefix]);
    assert_eq!(plan.gai_files, [("/etc/gai.conf".into(), vec![]), ("/x/gai.conf".into(), vec![prefix])].into());
    let plan = build_with(false);
    assert!(plan.gai_files.values().all(Vec::is_empty) && plan.configured[0].preferred_prefixes.is_empty());
}

#[test]
fn edges_that_are_emptied_get_no_rows_while_others_are_there() {
    for (first_drains, second_drains, expected) in
        [(false, false, vec![1, 2]), (true, false, vec![2]), (true, true, vec![1, 2])]
    {
        let mut items = whole();
        items[0] = Item::Edge(EdgeItem { draining: first_drains, ..edge("e1", 1) });
        items[1] = Item::Edge(EdgeItem { draining: second_drains, ..edge("e2", 2) });
        let plan = build_of(items).unwrap();
        let numbers: BTreeSet<u16> = plan.tables.groups[0].rows.iter().map(|(first, _)| first.0).collect();
        assert_eq!(numbers.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(plan.tables.edges.len(), 2, "it stays known, alive or not");
    }
}

#[test]
fn weights_are_shares_of_the_rows() {
    let mut items = whole();
    items[0] = Item::Edge(EdgeItem { weight: 300, ..edge("e1", 1) });
    items[1] = Item::Edge(EdgeItem { weight: 100, ..edge("e2", 2) });
    let plan = build_of(items).unwrap();
    let rows = &plan.tables.groups[0].rows;
    let share = rows.iter().filter(|(first, _)| first.0 == 1).count() as f64 / rows.len() as f64;
    assert!((share - 0.75).abs() < 0.02, "{share}");
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
    build(&desired(whole()), &config(), &observed(), MtuPolicy::Refuse, &mut cache).unwrap();
    let rows: Vec<_> = cache.values().map(|rows| rows.as_ptr()).collect();
    build(&desired(whole()), &config(), &observed(), MtuPolicy::Refuse, &mut cache).unwrap();
    assert_eq!(cache.values().map(|rows| rows.as_ptr()).collect::<Vec<_>>(), rows);
}

/// What becomes of a subject's rates beside a share of its persona's total.
fn queues_of(qos: SubjectQos, share: Option<(u64, u64)>, uplink_rate: Option<&str>) -> NodePlan {
    let worn = SubjectItem { qos, ..subject(1_400, 9) };
    let mut items = [whole(), vec![Item::Subject(worn)]].concat();
    let persona = "gold".parse().unwrap();
    items.extend(share.map(|(egress_bps, ingress_bps)| Item::Share(ShareItem { persona, egress_bps, ingress_bps })));
    let mut config = config();
    config.file.uplink_rate = uplink_rate.map(|rate| rate.parse().unwrap());
    build(&desired(items), &config, &observed(), MtuPolicy::Refuse, &mut MaglevCache::new()).unwrap()
}

fn total(scope: SharedScope, guaranteed_bps: Option<u64>) -> Option<SharedQos> {
    let (egress_bps, ingress_bps) = (Some(112_000_000), Some(112_000_000));
    Some(SharedQos { persona: "gold".parse().unwrap(), scope, egress_bps, ingress_bps, guaranteed_bps })
}

#[test]
fn rates_that_edges_hold_have_no_queue_at_the_node() {
    let rates = SubjectQos { egress_bps: Some(8_000_000), ingress_bps: Some(8_000_000), ..Default::default() };
    for (enforce_at, devices) in [(EnforceAt::Node, 2), (EnforceAt::Both, 2), (EnforceAt::Edge, 0)] {
        let plan = queues_of(SubjectQos { enforce_at, ..rates.clone() }, None, None);
        assert_eq!(
            (plan.queues.shapers.len(), plan.queues.egress_classes.len()),
            (devices, devices / 2),
            "{enforce_at:?}"
        );
    }
}

#[test]
fn of_a_total_over_all_nodes_a_node_has_its_share() {
    for (scope, share, up_bps, down_bps) in [
        (SharedScope::Node, None, 112_000_000, 112_000_000),
        (SharedScope::Fleet, Some((56_000_000, 28_000_000)), 56_000_000, 28_000_000),
        (SharedScope::Fleet, Some((0, 224_000_000)), 64_000, 112_000_000),
        (SharedScope::Fleet, None, 64_000, 64_000),
    ] {
        let plan = queues_of(SubjectQos { shared: total(scope, None), ..Default::default() }, share, None);
        let inner = plan.queues.shapers[&1].classes.values().find(|class| class.parent_minor == 0).unwrap();
        assert_eq!(inner.rate_bytes_per_sec, up_bps / 8, "{scope:?} {share:?}");
        assert_eq!(plan.shares_down, [(SubjectNumber(3), down_bps)].into(), "{scope:?} {share:?}");
    }
}

#[test]
fn guarantees_beyond_what_the_uplink_carries_are_told() {
    let qos = || SubjectQos { shared: total(SharedScope::Node, Some(100_000_000)), ..Default::default() };
    for (uplink_rate, is_told) in [(None, false), (Some("100mbit"), false), (Some("99mbit"), true)] {
        let notes = queues_of(qos(), None, uplink_rate).notes;
        assert_eq!(notes.iter().any(|note| note.event == "qos.uplink-overbooked"), is_told, "{notes:?}");
    }
}

#[test]
fn an_instance_that_keeps_its_network_is_no_affair_of_the_programs() {
    let text = "
        name = 'n1'
        manager = 'http://m:1'
        uplink = 'up0'
        workload = [{ name = 'w1', container = 'w1' }]";
    let config = toml::from_str::<super::super::config::AgentFile>(text).unwrap().check().unwrap();
    let observed = Observed { attached: BTreeMap::new(), ..observed() };
    let build = |items: Vec<Item>| {
        build(&desired(items), &config, &observed, MtuPolicy::Refuse, &mut MaglevCache::new()).unwrap()
    };
    let (resources, qos) = (Default::default(), SubjectQos::default());
    let limited = SubjectItem { network: None, qos, resources, ..subject(1_400, 9) };
    let plan = build(vec![Item::Subject(limited.clone())]);
    assert_eq!((plan.tables.subjects.len(), plan.tables.devices.len(), plan.notes.len()), (0, 0, 0));
    assert_eq!(plan.subjects[&SubjectNumber(3)], limited.subject, "it is known all the same");
    assert!(config.file.workload[0].instance().is_some());

    let plan = build(whole());
    assert_eq!(
        plan.tables.subjects,
        [SubjectEntry { number: SubjectNumber(3), network: None, firewall: Vec::new() }],
        "its old leases end"
    );
    assert!(plan.queues.egress_classes.is_empty());
    assert!(plan.notes.iter().any(|note| note.event == "network.unreachable"), "{:?}", plan.notes);
}
