//! A node with one workload behind it, its clock in the test's hand.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::MapData;
use persona_common::PERSONA_MARK;
use persona_core::ids::{EdgeNumber, Generation, LeaseId, SubjectNumber, Vni};
use persona_ctl::dataplane::tables::*;
use persona_ctl::dataplane::{NodeDataplane, NodeOptions};

use super::clock::Clock;
use super::frames::{Ip, ethernet, geneve};
use super::kept;
use super::run::{Facts, Outcome, TC_DROP, TC_REDIRECT, new_drops, run_tc};
use super::world::{LOOPBACK, is_privileged};

pub(super) const WORKLOAD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const EDGE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub(super) const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 6);
pub(super) const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
pub(super) const VNI: u32 = 42;
pub(super) const MTU: u16 = 1400;

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// An inner port and the external one that it gets: block 5 with the same low bits.
pub(super) const INNER_PORT: u16 = 40_000;
pub(super) const OUTER_PORT: u16 = (5 << 10) + (40_000 & 1023);

/// What a test wants of the node.
pub(super) struct Wish {
    pub(super) block_bits: u8,
    pub(super) blocks: Vec<u16>,
    pub(super) egress: SubjectEgress,
    pub(super) slow_ifindex: Option<u32>,
    pub(super) configured: bool,
    pub(super) adopt: Duration,
    pub(super) firewall: Vec<FirewallRule>,
}

impl Default for Wish {
    fn default() -> Self {
        let egress = SubjectEgress {
            vni: Vni(VNI),
            mtu: MTU,
            allow: AllowedProtocols { tcp: true, udp: true, icmp: true, other: true },
            dscp: None,
            egress_class: 0,
            lease: Some(LeaseId(9)),
            lease6: None,
            filtering: Filtering::default(),
            bypass: vec![],
            normalise: Normalisation::default(),
            impair: Impairment::default(),
        };
        Self {
            block_bits: 10,
            blocks: vec![5],
            egress,
            slow_ifindex: None,
            configured: false,
            adopt: Duration::ZERO,
            firewall: Vec::new(),
        }
    }
}

impl Wish {
    /// The whole address.
    pub(super) fn whole() -> Self {
        Self { block_bits: 16, blocks: vec![0], ..Self::default() }
    }

    pub(super) fn tables(&self) -> NodeTables {
        let subject = SubjectNumber(7);
        let group = "frankfurt".parse::<persona_core::ids::GroupName>().unwrap();
        let space = LeaseSpace::Ports { address: EGRESS, block_bits: self.block_bits, blocks: self.blocks.clone() };
        NodeTables {
            underlay_address: Some(NODE.into()),
            slow_ifindex: self.slow_ifindex,
            subjects: vec![SubjectEntry {
                number: subject,
                network: Some(self.egress.clone()),
                firewall: self.firewall.clone(),
            }],
            devices: vec![DeviceEntry {
                ifindex: LOOPBACK,
                subject: Some(subject),
                address: Some(WORKLOAD),
                prefix6: None,
                vlan: None,
            }],
            cgroups: vec![],
            sources: vec![],
            leases: vec![LeaseEntry {
                id: LeaseId(9),
                subject,
                vni: Vni(VNI),
                space,
                configured: self.configured,
                group: group.clone(),
                mtu: MTU,
                generation: Generation(3),
            }],
            edges: vec![EdgeEntry {
                number: EdgeNumber(1),
                address: EDGE.into(),
                ifindex: LOOPBACK,
                next_hop: EDGE.into(),
            }],
            groups: vec![GroupTable { group, rows: vec![(EdgeNumber(1), EdgeNumber(0)); 65_537] }],
            planned: vec![],
            bypass: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24)],
            managed: vec![],
            wire: Default::default(),
        }
    }
}

/// The node, and ways to send through it.
pub(super) struct Nat {
    pub(super) node: NodeDataplane,
    pub(super) bpffs: PathBuf,
    pub(super) clock: Clock,
    /// How it was opened.
    pub(super) options: NodeOptions,
}

/// Runs a test on such a node in a namespace of its own.
pub(super) fn with_nat(wish: &Wish, test: impl FnOnce(&mut Nat) + Send) {
    if !is_privileged() {
        return;
    }
    kept::with_node(wish.adopt, |mut node, world| {
        let options = NodeOptions { adopt: wish.adopt, ..world.node_options() };
        node.apply(&wish.tables()).unwrap();
        node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
        let mut nat = Nat { node, bpffs: world.bpffs(), clock: Clock::new(&world.bpffs()), options };
        test(&mut nat);
        nat.node
    });
}

impl Nat {
    /// A map, by its pin.
    pub(super) fn pinned(&self, name: &str) -> MapData {
        pinned(&self.bpffs, name)
    }

    /// Lets time pass for the programs.
    pub(super) fn advance(&self, secs: u32) {
        self.clock.advance(secs);
    }

    /// Runs `from_workload` on a packet.
    pub(super) fn run_out(&self, packet: &[u8]) -> Outcome {
        self.clock.hold();
        run_tc(self.node.programs(), "from_workload", &ethernet(0x0800, packet), Facts::default())
    }

    /// Runs `from_edge` on a packet in a tunnel of the edge.
    pub(super) fn run_in(&self, packet: &[u8]) -> Outcome {
        let frame = ethernet(0x0800, &geneve(EDGE, NODE, 50_000, VNI, packet));
        self.clock.hold();
        run_tc(self.node.programs(), "from_edge", &frame, Facts::default())
    }

    /// Sends a packet from the workload: what is in the tunnel, or why it was dropped.
    pub(super) fn out(&self, packet: &[u8]) -> Result<Vec<u8>, String> {
        let before = self.drops();
        let outcome = self.run_out(packet);
        let bytes = self.judged(before, &outcome)?;
        assert_eq!(outcome.mark, PERSONA_MARK);
        let inner = &bytes[50..];
        let entropy_port = u16::from_be_bytes([bytes[34], bytes[35]]);
        assert!(entropy_port >= 0xc000);
        assert_eq!(bytes, ethernet(0x0800, &geneve(NODE, EDGE, entropy_port, VNI, inner)), "the tunnel's headers");
        Ok(inner.to_vec())
    }

    /// Sends a packet from the edge: what the workload gets, or why it was dropped.
    pub(super) fn inward(&self, packet: &[u8]) -> Result<Vec<u8>, String> {
        let before = self.drops();
        let outcome = self.run_in(packet);
        Ok(self.judged(before, &outcome)?[14..].to_vec())
    }

    /// Opens a UDP flow from an inner port; gives the external one.
    pub(super) fn udp_port(&self, port: u16, remote: (Ipv4Addr, u16)) -> Result<u16, String> {
        self.out(&Ip::new(WORKLOAD, remote.0, 17).udp(port, remote.1, b"x")).map(|inner| source_port(&inner))
    }

    /// Sends a TCP segment from an inner port; gives the external one.
    pub(super) fn tcp_port(&self, port: u16, remote: (Ipv4Addr, u16), flags: u8) -> Result<u16, String> {
        let packet = Ip::new(WORKLOAD, remote.0, 6).tcp(port, remote.1, flags, b"", b"");
        self.out(&packet).map(|inner| source_port(&inner))
    }

    /// Sends a TCP segment from outside to an external port; gives the inner one.
    pub(super) fn tcp_in(&self, remote: (Ipv4Addr, u16), port: u16, flags: u8) -> Result<u16, String> {
        let packet = Ip::new(remote.0, EGRESS, 6).tcp(remote.1, port, flags, b"", b"");
        self.inward(&packet).map(|inner| destination_port(&inner))
    }

    /// Sends UDP from outside to an external port; gives the inner one.
    pub(super) fn udp_in(&self, remote: (Ipv4Addr, u16), port: u16) -> Result<u16, String> {
        let packet = Ip::new(remote.0, EGRESS, 17).udp(remote.1, port, b"reply");
        self.inward(&packet).map(|inner| destination_port(&inner))
    }

    pub(super) fn drops(&self) -> std::collections::BTreeMap<String, u64> {
        self.node.counters().unwrap().drops
    }

    fn judged(&self, before: std::collections::BTreeMap<String, u64>, outcome: &Outcome) -> Result<Vec<u8>, String> {
        let drops = new_drops(&before, &self.drops());
        if outcome.verdict == TC_DROP {
            assert_eq!(drops.iter().map(|drop| drop.1).sum::<u64>(), 1, "one reason for one drop: {drops:?}");
            return Err(drops[0].0.clone());
        }
        assert_eq!((outcome.verdict, drops), (TC_REDIRECT, vec![]));
        Ok(outcome.bytes.clone())
    }
}

/// A map of the node, by its pin.
pub(super) fn pinned(bpffs: &Path, name: &str) -> MapData {
    MapData::from_pin(bpffs.join("node").join("maps").join(name)).unwrap()
}

/// The source port of a packet without options.
pub(super) fn source_port(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[20], packet[21]])
}

/// The destination port of a packet without options.
pub(super) fn destination_port(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[22], packet[23]])
}

/// A packet of the workload.
pub(super) fn from_workload(protocol: u8) -> Ip {
    Ip::new(WORKLOAD, SERVER, protocol)
}

/// The same one hop on, from the lease.
pub(super) fn leased(protocol: u8) -> Ip {
    Ip { ttl: 63, ..Ip::new(EGRESS, SERVER, protocol) }
}

/// A packet of the server to the lease.
pub(super) fn from_server(protocol: u8) -> Ip {
    Ip::new(SERVER, EGRESS, protocol)
}

/// The same one hop on, to the workload.
pub(super) fn delivered(protocol: u8) -> Ip {
    Ip { ttl: 63, ..Ip::new(SERVER, WORKLOAD, protocol) }
}

/// An MSS option.
pub(super) fn mss(value: u16) -> [u8; 4] {
    [2, 4, (value >> 8) as u8, value as u8]
}
