//! A workload, its node, an edge and a server in namespaces: real packets all the way, both ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use persona_core::ids::{EdgeNumber, Generation, LeaseId, SubjectNumber, Vni};
use persona_ctl::dataplane::tables::*;
use persona_ctl::dataplane::{
    Coexistence, EdgeDataplane, EdgeOptions, Hook, NodeDataplane, NodeOptions, PacketLogging, detach,
};

use super::namespace::Namespace;
use super::world::{chain, is_privileged};

const WORKLOAD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const WORKLOAD6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
const PREFIX6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0x77, 0, 0, 0, 0);
const ECHO_PORT: u16 = 7007;

/// The family of the packets and of their tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn workload(self) -> IpAddr {
        self.of(WORKLOAD, WORKLOAD6)
    }

    pub(super) fn server(self) -> IpAddr {
        self.of(SERVER, SERVER6)
    }

    pub(super) fn node(self) -> IpAddr {
        self.of(Ipv4Addr::new(10, 0, 0, 1), Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1))
    }

    pub(super) fn edge(self) -> IpAddr {
        self.of(Ipv4Addr::new(10, 0, 0, 2), Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2))
    }

    /// An address of the lease.
    pub(super) fn leased(self) -> IpAddr {
        self.of(EGRESS, Ipv6Addr::from_bits(PREFIX6.to_bits() | 0x77))
    }

    /// Whether the server sees a client under the lease.
    pub(super) fn is_leased(self, client: IpAddr) -> bool {
        match client {
            IpAddr::V4(address) => self == Self::V4 && address == EGRESS,
            IpAddr::V6(address) => self == Self::V6 && address.segments()[..4] == PREFIX6.segments()[..4],
        }
    }

    fn space(self) -> LeaseSpace {
        match self {
            Self::V4 => LeaseSpace::Ports { address: EGRESS, block_bits: 10, blocks: vec![5, 8] },
            Self::V6 => LeaseSpace::Prefix { prefix: PREFIX6 },
        }
    }

    fn of(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => v4.into(),
            Self::V6 => v6.into(),
        }
    }
}

/// Namespaces from left to right.
pub(super) struct Chain {
    pub(super) family: Family,
    /// The workload's own address.
    pub(super) client: IpAddr,
    pub(super) workload: Namespace,
    pub(super) node: Namespace,
    pub(super) edge: Namespace,
    pub(super) server: Namespace,
    directory: tempfile::TempDir,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self::of(Family::V4)
    }

    pub(super) fn of(family: Family) -> Self {
        let [workload, node, edge, server] = ["workload", "node", "edge", "server"].map(Namespace::new);
        workload.connect(("eth0", "10.1.0.2/24"), &node, ("w0", "10.1.0.1/24"));
        node.connect(("u0", "10.0.0.1/24"), &edge, ("i0", "10.0.0.2/24"));
        edge.connect(("o0", "192.0.2.2/24"), &server, ("s0", "192.0.2.1/24"));
        workload.ip("route add default via 10.1.0.1");
        if family == Family::V6 {
            for (namespace, device, address) in [
                (&workload, "eth0", "fd00:1::2/64"),
                (&node, "w0", "fd00:1::1/64"),
                (&node, "u0", "fd00:9::1/64"),
                (&edge, "i0", "fd00:9::2/64"),
                (&edge, "o0", "2001:db8:ffff::2/64"),
                (&server, "s0", "2001:db8:ffff::1/64"),
            ] {
                namespace.ip(&format!("addr add {address} dev {device} nodad"));
            }
            workload.ip("route add default via fd00:1::1");
            server.ip("route add 2001:db8:0:77::/64 via 2001:db8:ffff::2");
        }
        let client = family.workload();
        Self { family, client, workload, node, edge, server, directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn open_node(&self) -> NodeDataplane {
        let options = NodeOptions {
            bpffs: self.directory.path().join("node"),
            uplinks: vec![self.node.ifindex("u0")],
            guard_all_forwarded: false,
            adopt: Duration::ZERO,
            coexist: Coexistence::default(),
            logging: PacketLogging::Off,
        };
        let tables = self.node_tables();
        let mut node =
            self.node.enter(|| NodeDataplane::open(&options)).unwrap_or_else(|error| panic!("{}", chain(&error)));
        self.node.enter(|| node.apply(&tables)).unwrap_or_else(|error| panic!("{}", chain(&error)));
        node.set_edge_liveness(EdgeNumber(1), true, Generation(1)).unwrap();
        node
    }

    pub(super) fn open_edge(&self, hook: Hook) -> EdgeDataplane {
        let (inside, outside) = (self.edge.ifindex("i0"), self.edge.ifindex("o0"));
        let options = EdgeOptions {
            bpffs: self.directory.path().join("edge"),
            inside,
            outside,
            hook,
            coexist: Coexistence::default(),
            logging: PacketLogging::Off,
        };
        let mut edge =
            self.edge.enter(|| EdgeDataplane::open(&options)).unwrap_or_else(|error| panic!("{}", chain(&error)));
        edge.apply(&self.edge_tables()).unwrap_or_else(|error| panic!("{}", chain(&error)));
        edge.set_owned(EGRESS.into(), self.family == Family::V4).unwrap();
        edge.set_outside_alive(true).unwrap();
        edge
    }

    pub(super) fn node_tables(&self) -> NodeTables {
        let subject = SubjectNumber(7);
        let group = "frankfurt".parse::<persona_core::ids::GroupName>().unwrap();
        let (family, lease) = (self.family, Some(LeaseId(9)));
        NodeTables {
            underlay_address: Some(family.node()),
            slow_ifindex: None,
            subjects: vec![SubjectEntry {
                number: subject,
                network: Some(SubjectEgress {
                    vni: Vni(42),
                    mtu: 1400,
                    allow: AllowedProtocols { tcp: true, udp: true, icmp: true, other: false },
                    dscp: None,
                    egress_class: 0,
                    lease: lease.filter(|_| family == Family::V4),
                    lease6: lease.filter(|_| family == Family::V6),
                    filtering: Filtering::default(),
                    bypass: vec![],
                    normalise: Normalisation::default(),
                    impair: Impairment::default(),
                }),
                firewall: Vec::new(),
            }],
            devices: vec![DeviceEntry {
                ifindex: self.node.ifindex("w0"),
                subject: Some(subject),
                address: Some(WORKLOAD),
                prefix6: Some((WORKLOAD6, 128)),
                vlan: None,
            }],
            cgroups: vec![],
            sources: vec![],
            leases: vec![LeaseEntry {
                id: LeaseId(9),
                subject,
                vni: Vni(42),
                space: family.space(),
                configured: false,
                group: group.clone(),
                mtu: 1400,
                generation: Generation(1),
            }],
            edges: vec![EdgeEntry {
                number: EdgeNumber(1),
                address: family.edge(),
                ifindex: self.node.ifindex("u0"),
                next_hop: family.edge(),
            }],
            groups: vec![GroupTable { group, rows: vec![(EdgeNumber(1), EdgeNumber(0)); 65_537] }],
            planned: vec![],
            bypass: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24), (WORKLOAD6.into(), 64)],
            managed: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24)],
            wire: WireTable::default(),
        }
    }

    pub(super) fn edge_tables(&self) -> EdgeTables {
        let family = self.family;
        let hop = |device: &str, address, destination_mac| NextHopEntry {
            ifindex: self.edge.ifindex(device),
            address,
            source_mac: self.edge.mac(device),
            destination_mac: Some(destination_mac),
        };
        let outside = Some(hop("o0", family.server(), self.server.mac("s0")));
        EdgeTables {
            number: EdgeNumber(1),
            underlay_address: Some(family.edge()),
            generation: Generation(1),
            addresses: vec![EgressAddressEntry { address: EGRESS, block_bits: 10 }],
            prefixes: vec![(PREFIX6, 64)],
            leases: vec![EdgeLeaseEntry {
                space: family.space(),
                node: family.node(),
                vni: Vni(42),
                mtu: 1400,
                policed: None,
            }],
            nodes: vec![NodeEntry { address: family.node(), next_hop: hop("i0", family.node(), self.node.mac("u0")) }],
            outside: outside.filter(|_| family == Family::V4),
            outside6: outside.filter(|_| family == Family::V6),
            ..EdgeTables::default()
        }
    }

    /// Mbit/s of TCP that the server received, or sent with `-R`.
    fn tcp_mbps(&self, options: &str) -> f64 {
        let output = self.workload.run(&format!("iperf3 -c {SERVER} -t 2 -J {options}"));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_default() / 1e6
    }
}

impl Chain {
    /// Answers each datagram with the address and port that it came from.
    fn echo_server(&self) -> JoinHandle<()> {
        let socket = self.server.enter(|| UdpSocket::bind((SERVER, ECHO_PORT)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(from.to_string().as_bytes(), from).unwrap();
            }
        })
    }

    /// The workload's address and port, as the server sees them.
    fn echo(&self) -> std::io::Result<SocketAddrV4> {
        self.workload.enter(|| {
            let socket = UdpSocket::bind((WORKLOAD, 0))?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.send_to(b"who am I?", (SERVER, ECHO_PORT))?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            Ok(std::str::from_utf8(&buffer[..length]).unwrap().parse().unwrap())
        })
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for role in ["node", "edge"] {
            if let Err(error) = detach(&self.directory.path().join(role)) {
                eprintln!("{}", chain(&error));
            }
        }
    }
}

#[test]
fn traffic_passes_both_ways_under_the_egress_address() {
    if !is_privileged() {
        return;
    }
    let chain = Chain::new();
    let node = chain.open_node();
    let edge = chain.open_edge(Hook::Auto);
    assert_eq!(edge.hook(), Hook::Tc, "veth takes TC by itself");
    let _echo = chain.echo_server();
    let counters = || format!("node {:?}\nedge {:?}", node.counters().unwrap(), edge.counters().unwrap());
    let seen = chain.echo().unwrap_or_else(|error| panic!("{error}\n{}", counters()));
    assert_eq!(*seen.ip(), EGRESS);
    assert!((5 << 10..6 << 10).contains(&seen.port()) || (8 << 10..9 << 10).contains(&seen.port()), "{seen}");
    let _server = chain.server.start("iperf3 -s");
    std::thread::sleep(Duration::from_millis(300));
    let (up, down) = (chain.tcp_mbps(""), chain.tcp_mbps("-R"));
    eprintln!("TCP {up:.0} Mbit/s up, {down:.0} Mbit/s down\n{}", counters());
    let wanted = rate_min(500.0);
    assert!(up > wanted && down > wanted, "TCP {up} Mbit/s up, {down} Mbit/s down\n{}", counters());
    let start = Instant::now();
    node.set_edge_liveness(EdgeNumber(1), true, Generation(1)).unwrap();
    assert!(rate_min(1.0) < 1.0 || start.elapsed() < Duration::from_millis(1));
    assert!(!node.drained(LeaseId(9)).unwrap(), "flows are young");
    let before = node.counters().unwrap();
    drop(node);
    let again = chain.open_node();
    assert!(again.counters().unwrap().personas[&Vni(42)].egress_packets >= before.personas[&Vni(42)].egress_packets);
    chain.echo().unwrap();
}

#[test]
fn traffic_passes_with_xdp_forced() {
    if !is_privileged() {
        return;
    }
    let chain = Chain::new();
    // XDP between veths neither finishes checksums for local senders nor reaches a peer without NAPI.
    chain.workload.ethtool("eth0 tx off");
    chain.server.ethtool("s0 tx off gro on");
    chain.node.ethtool("u0 gro on");
    let node = chain.open_node();
    let edge = chain.open_edge(Hook::Xdp);
    assert_eq!(edge.hook(), Hook::Xdp);
    let _echo = chain.echo_server();
    let counters = || format!("node {:?}\nedge {:?}", node.counters().unwrap(), edge.counters().unwrap());
    let seen = chain.echo().unwrap_or_else(|error| panic!("{error}\n{}", counters()));
    assert_eq!(*seen.ip(), EGRESS);
    let _server = chain.server.start("iperf3 -s");
    std::thread::sleep(Duration::from_millis(300));
    let (up, down) = (chain.tcp_mbps(""), chain.tcp_mbps("-R"));
    eprintln!("XDP: TCP {up:.0} Mbit/s up, {down:.0} Mbit/s down\n{}", counters());
    let wanted = rate_min(100.0);
    assert!(up > wanted && down > wanted, "TCP {up} Mbit/s up, {down} Mbit/s down\n{}", counters());
}

/// Mbit/s that must be reached; in an emulated guest (xtask says so) only that anything flows.
fn rate_min(mbps: f64) -> f64 {
    if std::env::var_os("PERSONA_TEST_EMULATED").is_some() { 0.1 } else { mbps }
}
