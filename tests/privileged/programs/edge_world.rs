//! An edge for tests on built packets: its tables over either underlay, both hooks, and what became of a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_core::ids::{EdgeNumber, Generation, Vni};
use persona_ctl::dataplane::EdgeDataplane;
use persona_ctl::dataplane::tables::*;

use super::edge_frames::Tunnel;
use super::frames::{MAC_A, MAC_B};
use super::kept;
use super::run::{Facts, TC_DROP, TC_NEXT, TC_REDIRECT, XDP_DROP, XDP_PASS, XDP_REDIRECT, new_drops, run_tc, run_xdp};
use super::world::{LOOPBACK, is_privileged};

pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
/// Cut into blocks of 1,024 ports: block 5 is A's, block 9 is B's.
pub(super) const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
pub(super) const PORT: u16 = (5 << 10) + 64;
pub(super) const PORT_OF_B: u16 = (9 << 10) + 7;
/// Leased to A as a whole.
pub(super) const WHOLE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 101);

pub(super) const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x1);
pub(super) const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x5);
/// In A's prefix.
pub(super) const EGRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x7, 0x101, 0, 0, 0, 0x77);
/// In B's prefix.
pub(super) const EGRESS6_OF_B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x7, 0x102, 0, 0, 0, 0x88);
/// The next hop that IPv6 pools are routed to.
pub(super) const GROUP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xfe, 0, 0, 0, 0, 0x7);

pub(super) const VNI: u32 = 42;
pub(super) const VNI_OF_B: u32 = 43;
pub(super) const MTU: u16 = 1400;

pub(super) const OWN_MAC: [u8; 6] = MAC_B;
pub(super) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
pub(super) const NODE_B_MAC: [u8; 6] = [2, 0, 0, 0, 1, 4];
pub(super) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 5];
pub(super) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 3];

/// The edge's own number; its peer has the next one.
pub(super) const OWN: EdgeNumber = EdgeNumber(1);
pub(super) const PEER: EdgeNumber = EdgeNumber(2);

/// Addresses on the underlay, of one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Underlay {
    pub(super) node: IpAddr,
    pub(super) node_b: IpAddr,
    pub(super) edge: IpAddr,
    pub(super) peer: IpAddr,
}

impl Underlay {
    pub(super) const V4: Self = Self {
        node: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        node_b: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4)),
        edge: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)),
    };
    pub(super) const V6: Self = Self {
        node: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x1)),
        node_b: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x4)),
        edge: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x2)),
        peer: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x3)),
    };
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// A's tunnel to the edge.
    #[expect(clippy::wrong_self_convention, reason = "`from` says where packets come from, it converts nothing")]
    pub(super) fn from_node(self) -> Tunnel {
        Tunnel::new(self.node, self.edge, VNI)
    }

    /// The edge's tunnel to A.
    pub(super) fn to_node(self) -> Tunnel {
        Tunnel::new(self.edge, self.node, VNI)
    }

    pub(super) fn tables(&self) -> EdgeTables {
        let hop =
            |address, mac| NextHopEntry { ifindex: LOOPBACK, address, source_mac: OWN_MAC, destination_mac: Some(mac) };
        let ports = |address, block_bits, block| LeaseSpace::Ports { address, block_bits, blocks: vec![block] };
        let prefix = |text: &str| LeaseSpace::Prefix { prefix: text.parse().unwrap() };
        let of_a = |space| EdgeLeaseEntry { space, node: self.node, vni: Vni(VNI), mtu: MTU, policed: None };
        let of_b = |space| EdgeLeaseEntry { space, node: self.node_b, vni: Vni(VNI_OF_B), mtu: MTU, policed: None };
        EdgeTables {
            number: OWN,
            underlay_address: Some(self.edge),
            slow_ifindex: Some(LOOPBACK),
            generation: Generation(11),
            addresses: vec![
                EgressAddressEntry { address: EGRESS, block_bits: 10 },
                EgressAddressEntry { address: WHOLE, block_bits: 16 },
            ],
            prefixes: vec![("2001:db8:7:100::".parse().unwrap(), 56)],
            leases: vec![
                of_a(ports(EGRESS, 10, 5)),
                of_b(ports(EGRESS, 10, 9)),
                of_a(ports(WHOLE, 16, 0)),
                of_a(prefix("2001:db8:7:101::")),
                of_b(prefix("2001:db8:7:102::")),
            ],
            nodes: vec![
                NodeEntry { address: self.node, next_hop: hop(self.node, NODE_MAC) },
                NodeEntry { address: self.node_b, next_hop: hop(self.node_b, NODE_B_MAC) },
            ],
            peers: vec![PeerEntry { number: PEER, address: self.peer, next_hop: hop(self.peer, PEER_MAC) }],
            outside: Some(hop(ROUTER.into(), ROUTER_MAC)),
            outside6: Some(hop(ROUTER6.into(), ROUTER_MAC)),
            wire: Default::default(),
        }
    }
}

/// Runs a test with an edge over one underlay, whose outside answers.
pub(super) fn with_edge(underlay: Underlay, test: impl FnOnce(&mut EdgeDataplane) + Send) {
    if !is_privileged() {
        return;
    }
    kept::with_edge(|mut edge, _| {
        edge.apply(&underlay.tables()).unwrap();
        edge.set_outside_alive(true).unwrap();
        test(&mut edge);
        edge
    });
}

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Tc,
    Xdp,
}

/// What became of a frame, alike for both flavours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Drop,
    Redirect,
}

impl Flavour {
    pub(super) const BOTH: [Self; 2] = [Self::Tc, Self::Xdp];

    pub(super) fn run(self, edge: &EdgeDataplane, side: &str, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let outcome = match self {
            Self::Tc => run_tc(edge.programs(), &format!("edge_{side}"), frame, Facts::default()),
            Self::Xdp => run_xdp(edge.programs(), &format!("xdp_{side}"), frame),
        };
        let verdict = match (self, outcome.verdict) {
            (Self::Tc, TC_NEXT) | (Self::Xdp, XDP_PASS) => Verdict::Pass,
            (Self::Tc, TC_DROP) | (Self::Xdp, XDP_DROP) => Verdict::Drop,
            (Self::Tc, TC_REDIRECT) | (Self::Xdp, XDP_REDIRECT) => Verdict::Redirect,
            (_, other) => panic!("{self:?} gave {other}"),
        };
        (verdict, outcome.bytes)
    }

    /// Runs a frame that must be sent to `mac` as `packet`.
    #[track_caller]
    pub(super) fn sends(self, edge: &EdgeDataplane, side: &str, frame: &[u8], mac: [u8; 6], packet: &[u8]) {
        let before = edge.counters().unwrap().drops;
        let (verdict, bytes) = self.run(edge, side, frame);
        let drops = new_drops(&before, &edge.counters().unwrap().drops);
        assert_eq!(verdict, Verdict::Redirect, "{self:?} {side}: {drops:?}");
        assert_eq!(hex(&bytes), hex(&self.sent(mac, packet)), "{self:?} {side}");
        assert_eq!(drops, [], "{self:?} {side}");
    }

    /// Runs a frame that must be answered with `packet`, counted as a drop.
    #[track_caller]
    pub(super) fn answers(self, edge: &EdgeDataplane, side: &str, frame: &[u8], reason: &str, packet: &[u8]) {
        let before = edge.counters().unwrap().drops;
        let (verdict, bytes) = self.run(edge, side, frame);
        let drops = new_drops(&before, &edge.counters().unwrap().drops);
        assert_eq!(verdict, Verdict::Redirect, "{self:?} {side}: {drops:?}");
        assert_eq!(hex(&bytes), hex(&back(packet)), "{self:?} {side}");
        assert_eq!(drops, [(reason.to_owned(), 1)], "{self:?} {side}");
    }

    /// Runs a frame that must be dropped for one reason.
    #[track_caller]
    pub(super) fn drops(self, edge: &EdgeDataplane, side: &str, frame: &[u8], reason: &str) {
        let before = edge.counters().unwrap().drops;
        let (verdict, _) = self.run(edge, side, frame);
        let drops = new_drops(&before, &edge.counters().unwrap().drops);
        assert_eq!((verdict, drops), (Verdict::Drop, vec![(reason.to_owned(), 1)]), "{self:?} {side}");
    }

    /// Runs a frame that must go to the slow path as `packet`.
    #[track_caller]
    pub(super) fn hands_over(self, edge: &EdgeDataplane, side: &str, frame: &[u8], packet: &[u8]) {
        let (verdict, bytes) = self.run(edge, side, frame);
        assert_eq!(verdict, Verdict::Redirect, "{self:?} {side}: {:?}", edge.counters().unwrap().drops);
        assert_eq!(hex(&bytes), hex(&[&[0; 12], &kind(packet)[..], packet].concat()), "{self:?} {side}");
    }

    /// The frame as it leaves: at TC the kernel writes the hardware addresses later.
    fn sent(self, destination: [u8; 6], packet: &[u8]) -> Vec<u8> {
        match self {
            Self::Tc => [&MAC_B[..], &MAC_A, &kind(packet), packet].concat(),
            Self::Xdp => [&destination[..], &OWN_MAC, &kind(packet), packet].concat(),
        }
    }
}

fn kind(packet: &[u8]) -> [u8; 2] {
    if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] }
}

/// A frame back to where frames of tests come from.
pub(super) fn back(packet: &[u8]) -> Vec<u8> {
    [&MAC_A[..], &MAC_B, &kind(packet), packet].concat()
}

/// Bytes that people can compare.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>() + "\n").collect()
}
