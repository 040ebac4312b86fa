//! The node and the edge that random frames go through: a workload behind a device, and a process of the host's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_core::document::{Direction, FirewallAction};
use persona_core::ids::{EdgeNumber, Generation, GroupName, LeaseId, SubjectNumber, Vni};
use persona_core::wire::desired::WHOLE_ADDRESS_BITS;
use persona_ctl::dataplane::tables::*;
use persona_tests::model::generate::Places;

use super::world::LOOPBACK;

pub(super) const MAC_OUTSIDE: [u8; 6] = [2, 0, 0, 0, 0, 0xe];
pub(super) const MAC_PEER: [u8; 6] = [2, 0, 0, 0, 0, 0xf];
pub(super) const NODE4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const EDGE4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const WORKLOAD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// The host's own process.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const EGRESS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 100), Ipv4Addr::new(192, 0, 2, 101)];
/// The workload and the process.
const SUBJECTS: [SubjectNumber; 2] = [SubjectNumber(7), SubjectNumber(8)];
const VNIS: [Vni; 2] = [Vni(42), Vni(43)];
const MTU: u16 = 1_400;
const BLOCK_BITS: u8 = 6;
/// The blocks of every lease of ports.
const BLOCKS: [u16; 2] = [80, 83];

/// All that a persona can hide.
const HIDDEN: Normalisation = Normalisation { hops: true, id: true, timestamps: true, options: true };

fn ipv6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The underlay's addresses: the node, and its edges in the order of their numbers.
pub(super) struct Underlay {
    pub(super) node: IpAddr,
    pub(super) edges: [IpAddr; 3],
}

/// The edge whose programs run.
pub(super) const EDGE: EdgeNumber = EdgeNumber(1);
/// Another one, which dies and returns.
pub(super) const OTHER_EDGE: EdgeNumber = EdgeNumber(2);
/// One that is alive and hasn't learnt of the leases: nothing may be sent to it.
pub(super) const STALE_EDGE: EdgeNumber = EdgeNumber(3);

pub(super) fn underlays() -> [Underlay; 2] {
    let edges4 = [EDGE4, Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 0, 0, 4)].map(IpAddr::from);
    let edges6 = ["fd00::2", "fd00::3", "fd00::4"].map(|address| ipv6(address).into());
    [Underlay { node: NODE4.into(), edges: edges4 }, Underlay { node: ipv6("fd00::1").into(), edges: edges6 }]
}

/// How the workload has its leases, and what else differs with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// Rewritten into port blocks and a prefix; no slow path, no peer.
    Rewritten,
    /// Configured on the workload's own interface, behind a VLAN; there is a slow path, and the edge has a peer.
    Configured,
}

impl Scene {
    /// In reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rewritten => "rewritten",
            Self::Configured => "configured",
        }
    }

    /// The tag of the workload's frames.
    pub(super) fn vlan(self) -> Option<VlanTag> {
        (self == Self::Configured).then_some(VlanTag { id: 5, protocol: VlanProtocol::Service })
    }

    /// The device that stands for the slow path's: what is redirected goes nowhere in a test run.
    fn slow_ifindex(self) -> Option<u32> {
        (self == Self::Configured).then_some(LOOPBACK)
    }

    /// Whether the persona of the subject at this place hides what betrays its host.
    fn hides(self, place: usize) -> bool {
        (self == Self::Configured) == (place == 0)
    }

    /// What of the packets of the subject at this place is lost on purpose: a tenth in one scene, nothing in the other.
    fn loss_millionths(self, place: usize) -> u32 {
        if self == Self::Rewritten && place == 1 { 100_000 } else { 0 }
    }

    /// Whether the subject at this place has its leases on its own interface.
    fn configures(self, place: usize) -> bool {
        self == Self::Configured && place == 0
    }
}

/// Rows that lead to either living edge first, and rows of which no choice will do, from where the search walks on.
fn rows() -> Vec<(EdgeNumber, EdgeNumber)> {
    let row = |index: usize| match index % 16 {
        0 => (STALE_EDGE, EdgeNumber(0)),
        odd if odd % 2 == 1 => (EDGE, OTHER_EDGE),
        _ => (OTHER_EDGE, EDGE),
    };
    (0..65_537).map(row).collect()
}

/// What the subject at this place leases: IPv4 and IPv6.
fn spaces(scene: Scene, place: usize) -> [LeaseSpace; 2] {
    let address = EGRESS[place];
    let prefix = [ipv6("2001:db8:1:5::"), ipv6("2001:db8:1:6::")][place];
    let ports = if scene.configures(place) {
        LeaseSpace::whole_address(address)
    } else {
        LeaseSpace::Ports { address, block_bits: BLOCK_BITS, blocks: BLOCKS.to_vec() }
    };
    [ports, LeaseSpace::Prefix { prefix }]
}

fn lease_ids(place: usize) -> [LeaseId; 2] {
    [LeaseId(9 + 2 * place as u64), LeaseId(10 + 2 * place as u64)]
}

fn leases(scene: Scene, place: usize) -> impl Iterator<Item = LeaseEntry> {
    lease_ids(place).into_iter().zip(spaces(scene, place)).map(move |(id, space)| LeaseEntry {
        id,
        subject: SUBJECTS[place],
        vni: VNIS[place],
        space,
        group: group(),
        mtu: MTU,
        generation: Generation(3),
        configured: scene.configures(place),
    })
}

fn group() -> GroupName {
    "frankfurt".parse().unwrap()
}

/// The persona of the subject at this place; they differ in what can differ.
fn subject(scene: Scene, place: usize) -> SubjectEntry {
    let [lease, lease6] = lease_ids(place);
    let egress = SubjectEgress {
        vni: VNIS[place],
        mtu: MTU,
        allow: AllowedProtocols { tcp: true, udp: true, icmp: true, other: true },
        dscp: [None, Some(10)][place],
        egress_class: 0,
        lease: Some(lease),
        lease6: Some(lease6),
        filtering: [Filtering::EndpointIndependent, Filtering::AddressAndPortDependent][place],
        bypass: [vec![], persona_bypass()][place].clone(),
        normalise: if scene.hides(place) { HIDDEN } else { Normalisation::default() },
        impair: Impairment { loss_millionths: scene.loss_millionths(place), is_delayed: false },
    };
    let firewall = if place == 0 || scene == Scene::Configured { rules() } else { Vec::new() };
    SubjectEntry { number: SUBJECTS[place], network: Some(egress), firewall }
}

/// Rules of every kind, both ways; most of what is sent passes them.
fn rules() -> Vec<FirewallRule> {
    use Direction::{Egress, Ingress};
    use FirewallAction::{Allow, Deny};
    let rule = |action, direction, remote: &str, protocols: &[u8], ports: &[u16]| FirewallRule {
        action,
        direction,
        remote: (!remote.is_empty()).then(|| remote.parse().unwrap()),
        protocols: protocols.to_vec(),
        ports: ports.to_vec(),
    };
    vec![
        rule(Allow, Egress, "203.0.113.6", &[6], &[1_025]),
        rule(Deny, Egress, "", &[6], &[80, 1_025]),
        rule(Deny, Egress, "203.0.113.4/30", &[1, 58], &[]),
        rule(Deny, Egress, "2001:db8:aaaa::6", &[17], &[]),
        rule(Deny, Egress, "10.1.0.0/24", &[17], &[53, 443]),
        rule(Allow, Ingress, "203.0.113.5", &[17], &[]),
        rule(Deny, Ingress, "203.0.113.0/24", &[], &[]),
        rule(Deny, Ingress, "2001:db8:aaaa::/63", &[6], &[]),
        rule(Deny, Ingress, "", &[17], &[53]),
        rule(Deny, Egress, "2001:db8:bbbb::/48", &[47, 132], &[]),
    ]
}

/// Destinations that only one of the personas lets pass by.
fn persona_bypass() -> Vec<(IpAddr, u8)> {
    vec![(Ipv4Addr::new(203, 0, 113, 128).into(), 25), (ipv6("2001:db8:bbbb::").into(), 48)]
}

/// A node whose processes in the control group are a subject.
pub(super) fn node_tables(scene: Scene, underlay: &Underlay, cgroup: u64) -> NodeTables {
    NodeTables {
        slow_ifindex: scene.slow_ifindex(),
        underlay_address: Some(underlay.node),
        subjects: vec![subject(scene, 0), subject(scene, 1)],
        devices: vec![DeviceEntry {
            ifindex: LOOPBACK,
            subject: Some(SUBJECTS[0]),
            address: Some(WORKLOAD),
            prefix6: Some((ipv6("fd01:0:0:1::"), 64)),
            vlan: scene.vlan(),
        }],
        cgroups: vec![CgroupEntry { id: cgroup, subject: SUBJECTS[1] }],
        leases: leases(scene, 0).chain(leases(scene, 1)).collect(),
        edges: edges(underlay),
        groups: vec![GroupTable { group: group(), rows: rows() }],
        bypass: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24), (ipv6("fd01:0:0:1::").into(), 64)],
        managed: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24), (ipv6("fd01:0:0:1::").into(), 64)],
        ..NodeTables::default()
    }
}

fn edges(underlay: &Underlay) -> Vec<EdgeEntry> {
    let edge =
        |(number, address): (EdgeNumber, IpAddr)| EdgeEntry { number, address, ifindex: LOOPBACK, next_hop: address };
    [EDGE, OTHER_EDGE, STALE_EDGE].into_iter().zip(underlay.edges).map(edge).collect()
}

fn address(scene: Scene, place: usize) -> EgressAddressEntry {
    let block_bits = if scene.configures(place) { WHOLE_ADDRESS_BITS } else { BLOCK_BITS };
    EgressAddressEntry { address: EGRESS[place], block_bits }
}

pub(super) fn edge_tables(scene: Scene, underlay: &Underlay) -> EdgeTables {
    let hop = |address: IpAddr| NextHopEntry {
        ifindex: LOOPBACK,
        address,
        source_mac: MAC_OUTSIDE,
        destination_mac: Some(MAC_PEER),
    };
    let leases = |place: usize| {
        let (node, vni) = (underlay.node, VNIS[place]);
        spaces(scene, place).map(move |space| EdgeLeaseEntry { space, node, vni, mtu: MTU, policed: None })
    };
    EdgeTables {
        number: EDGE,
        underlay_address: Some(underlay.edges[0]),
        generation: Generation(3),
        slow_ifindex: scene.slow_ifindex(),
        addresses: [0, 1].map(|place| address(scene, place)).to_vec(),
        peers: match scene {
            Scene::Rewritten => vec![],
            Scene::Configured => {
                let (number, address) = (OTHER_EDGE, underlay.edges[1]);
                vec![PeerEntry { number, address, next_hop: hop(address) }]
            }
        },
        prefixes: vec![(ipv6("2001:db8:1::"), 56)],
        leases: leases(0).into_iter().chain(leases(1)).collect(),
        nodes: vec![NodeEntry { address: underlay.node, next_hop: hop(underlay.node) }],
        outside: Some(hop(Ipv4Addr::new(198, 51, 100, 1).into())),
        outside6: Some(hop(ipv6("2001:db8:ffff::1").into())),
        wire: Default::default(),
    }
}

/// Whom the workload's frames are about.
pub(super) fn workload_places() -> Places {
    Places {
        sources: vec![
            WORKLOAD.into(),
            WORKLOAD.into(),
            WORKLOAD.into(),
            ipv6("fd01:0:0:1::2").into(),
            ipv6("fd01:0:0:1:ffff::3").into(),
            ipv6("fd01:0:0:2::3").into(),
            Ipv4Addr::new(10, 1, 0, 3).into(),
            // Its own only where they are configured.
            EGRESS[0].into(),
            EGRESS[0].into(),
            ipv6("2001:db8:1:5::9").into(),
        ],
        destinations: destinations(),
        port_count: 200,
        remote_ports: remote_ports(),
    }
}

/// Whom the host's frames are about.
pub(super) fn host_places() -> Places {
    let sources = vec![HOST.into(), HOST.into(), ipv6("fd09::1").into()];
    Places { sources, destinations: destinations(), port_count: 200, remote_ports: remote_ports() }
}

/// Ports of servers, and some of the blocks that are leased.
fn remote_ports() -> Vec<u16> {
    let leased = BLOCKS.map(|block| (block << BLOCK_BITS) + 9);
    [53, 80, 443, 1_025, 6_081].into_iter().chain(leased).collect()
}

fn destinations() -> Vec<IpAddr> {
    vec![
        // Our own pools: leased, and of nobody.
        EGRESS[0].into(),
        EGRESS[1].into(),
        ipv6("2001:db8:1:5::2").into(),
        ipv6("2001:db8:1:6::1").into(),
        ipv6("2001:db8:1:7::1").into(),
        Ipv4Addr::new(203, 0, 113, 200).into(),
        ipv6("2001:db8:bbbb::5").into(),
        Ipv4Addr::new(203, 0, 113, 5).into(),
        Ipv4Addr::new(203, 0, 113, 6).into(),
        Ipv4Addr::new(203, 0, 113, 6).into(),
        Ipv4Addr::new(10, 1, 0, 9).into(),
        Ipv4Addr::new(224, 0, 0, 251).into(),
        ipv6("2001:db8:aaaa::5").into(),
        ipv6("2001:db8:aaaa::6").into(),
        ipv6("fd01:0:0:1::9").into(),
        ipv6("ff02::1").into(),
    ]
}
