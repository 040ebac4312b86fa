//! Client, node, edge and server in namespaces, over veth with all offloads: each time the same, but for how packets get
//! from the node to the server.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use persona_common::ENCAPSULATION_LENGTH_V4;
use persona_common::drop::DropReason;
use persona_core::ids::{EdgeNumber, Generation, Vni};
use persona_core::wire::desired::LeaseSpace;
use persona_ctl::agent::{plain_departure, plain_shaper};
use persona_ctl::dataplane::departures::class_of;
use persona_ctl::dataplane::tables::{
    EdgeLeaseEntry, EdgeTables, EgressAddressEntry, NextHopEntry, NodeEntry, NodeTables, PolicedSubject, Policing,
    WireTable,
};
use persona_ctl::dataplane::{Departures, EdgeDataplane, Hook, NodeDataplane, number_by_wire};
use persona_ctl::netlink::{FlowsOf, HANDLE_MAJOR, Netlink};
use persona_ctl::wire::{FarEnd, Keeper, PrivateKey, WireConfig, Wireguard, encryption_to};

use super::crowd::Crowd;
use super::kernel_way;
use super::measures::Run;
use super::node_tables::{self, EDGE, LIVENESS, NODE, Worker};
use super::place::Place;
use crate::netns::{Forwarding, Namespace};

/// The server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The client: the first of the node's workers, which is the kernel's first workload too.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The node towards the client.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 254);
/// The edge towards the server.
const EDGE_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Behind what the server shall see the client: both lease it.
const EGRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// What veth carries.
const UNDERLAY_MTU: u32 = 1_500;
/// Where the server tells whom it sees.
const ECHO_PORT: u16 = 7007;
/// How long an echo may take.
const ECHO_TIME: Duration = Duration::from_secs(2);
/// Ports of the client's lease: blocks of 1,024.
const BLOCKS: u16 = node_tables::WHOLE_LEASE;

/// What holds the node's uplink, or the client's subject, to a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The class that an agent makes.
    Classes,
    /// The cell and the `fq` that an agent makes.
    DepartureTimes,
    /// What these commands make, as `tc` takes them, with `RATE` in the place of the rate.
    Kernels(&'static [&'static str]),
}

impl Holder {
    /// What a packet is marked with that goes by this class or cell.
    fn class(self, number: u16) -> u32 {
        match self {
            Self::DepartureTimes => class_of(number),
            _ => u32::from(HANDLE_MAJOR) << 16 | u32::from(number),
        }
    }
}

/// How packets get from the node to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Forwarded, nothing else.
    Plain,
    /// A policy rule, VXLAN, nftables, HTB.
    Kernel,
    /// A persona.
    Ours,
    /// An encrypted persona, through WireGuard in user space.
    OursUserspace,
    /// An encrypted persona, through the kernel's WireGuard.
    OursKernel,
    /// Routes into a WireGuard device of the kernel's and out of it, nothing else.
    Wireguard,
}

impl Kind {
    /// Those in clear, in the order of turns.
    pub const IN_CLEAR: [Self; 3] = [Self::Plain, Self::Kernel, Self::Ours];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Kernel => "kernel",
            Self::Ours => "ours",
            Self::OursUserspace => "ours-user",
            Self::OursKernel => "ours-wg",
            Self::Wireguard => "wg",
        }
    }

    /// Whether packets go by our programs, from a lease.
    fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursUserspace | Self::OursKernel)
    }

    /// Whether the server sees the client itself.
    fn is_untranslated(self) -> bool {
        matches!(self, Self::Plain | Self::Wireguard)
    }
}

/// The namespaces, connected.
pub struct Chain {
    /// Which.
    pub kind: Kind,
    /// Where traffic begins.
    pub client: Namespace,
    /// Where it ends.
    pub server: Namespace,
    node: Place,
    edge: Place,
    dataplanes: Option<(NodeDataplane, EdgeDataplane)>,
    ends: Vec<Keeper>,
}

impl Chain {
    /// Builds one and sees that the server sees whom it shall see.
    pub fn build(run: &Run<'_>, kind: Kind) -> Result<Self> {
        let name = kind.name();
        let (node, edge) = (Place::new(run, &format!("{name}-node"))?, Place::new(run, &format!("{name}-edge"))?);
        let host = |role: &str| {
            Namespace::create(run.ledger, &format!("pb{}-{name}-{role}", std::process::id()), Forwarding::Off)
        };
        let mut chain = Self {
            kind,
            client: host("client")?,
            server: host("server")?,
            node,
            edge,
            dataplanes: None,
            ends: Vec::new(),
        };
        chain.connect()?;
        match kind {
            Kind::Plain => chain.route_plainly()?,
            Kind::Kernel => chain.route_kernels_way()?,
            Kind::Ours => chain.dataplanes = Some((chain.open_node()?, chain.open_edge()?)),
            Kind::OursUserspace => chain.encrypt(Wireguard::Userspace)?,
            Kind::OursKernel => chain.encrypt(Wireguard::Kernel)?,
            Kind::Wireguard => chain.route_through_wireguard()?,
        }
        chain.check().with_context(|| format!("the {name} chain"))?;
        Ok(chain)
    }

    /// Holds what goes up to `rate_bps`. What held it before is gone.
    pub fn hold(&mut self, holder: Holder, rate_bps: u64) -> Result<()> {
        if let Holder::Kernels(commands) = holder {
            // None is there the first time.
            let _ = self.node.tc("qdisc del dev u0 root");
            let rate = format!("{rate_bps}bit");
            return commands.iter().try_for_each(|command| self.node.tc(&command.replace("RATE", &rate)));
        }
        let mut tables = self.node_tables()?;
        let network = tables.subjects[0].network.as_mut().context("the client has a persona")?;
        network.egress_class = holder.class(1);
        self.put(holder, rate_bps, 1, &tables)
    }

    /// Holds each of a crowd to `rate_bps`, in one queue of the uplink. What held before is gone.
    pub fn hold_crowd(&mut self, holder: Holder, rate_bps: u64, crowd: Crowd) -> Result<()> {
        let mut tables = self.node_tables()?;
        crowd.join_node(&mut tables, self.node.ifindex("w0")?, |member| holder.class(1 + member.0 as u16));
        let mut edge_tables = self.edge_tables((self.edge.ifindex("i0")?, self.edge.ifindex("o0")?))?;
        crowd.join_edge(&mut edge_tables);
        let (_, edge) = self.dataplanes.as_mut().context("only personas are held so")?;
        self.edge.namespace.run_inside(|| -> Result<()> {
            edge.apply(&edge_tables)?;
            Ok(crowd.addresses().try_for_each(|address| edge.set_owned(address.into(), true))?)
        })??;
        self.put(holder, rate_bps, crowd.count as u16, &tables)
    }

    /// The same by HTB of the kernel's chain, whose classes nftables names.
    pub fn hold_crowd_kernels_way(&mut self, rate_bps: u64, crowd: Crowd) -> Result<()> {
        // None is there the first time.
        let _ = self.node.tc("qdisc del dev u0 root");
        let _ = self.node.nft("delete table ip crowd\n");
        self.node.nft(&crowd.rules())?;
        let mut lines = "qdisc add dev u0 root handle 1: htb\n".to_owned();
        for member in crowd.members() {
            lines += &format!("class add dev u0 parent 1: classid 1:{:x} htb rate {rate_bps}bit\n", member.0 + 1);
        }
        let batch = self.node.path("classes");
        std::fs::write(&batch, lines)?;
        self.node.tc(&format!("-batch {}", batch.display()))
    }

    /// Has the edge drop what of the client goes up beyond 1.25 times `rate_bps`.
    pub fn police(&mut self, rate_bps: u64) -> Result<()> {
        let mut tables = self.edge_tables((self.edge.ifindex("i0")?, self.edge.ifindex("o0")?))?;
        tables.leases[0].policed = Some(PolicedSubject {
            number: Worker(0).subject(),
            egress_bps: Some(rate_bps),
            ingress_bps: None,
            burst_bytes: 0,
            policing: Policing::BehindNode,
        });
        let (_, edge) = self.dataplanes.as_mut().context("only a persona is policed so")?;
        Ok(self.edge.namespace.run_inside(|| edge.apply(&tables))??)
    }

    /// Packets that the edge has dropped so.
    pub fn policed_count(&self) -> Result<u64> {
        let (_, edge) = self.dataplanes.as_ref().context("only a persona is policed so")?;
        Ok(edge.counters()?.drops.get(DropReason::Policed.name()).copied().unwrap_or(0))
    }

    /// Routes of the crowd's addresses: all are the client's own, and go the client's way.
    pub fn admit_crowd(&self) -> Result<()> {
        self.client.ip("route add local 10.10.0.0/16 dev lo")?;
        if self.kind == Kind::Kernel {
            self.node.namespace.ip("rule add from 10.10.0.0/16 table 100")?;
        }
        Ok(())
    }

    /// Takes what holds from the uplink.
    pub fn let_go(&self) -> Result<()> {
        self.node.tc("qdisc del dev u0 root")
    }

    /// Makes so many classes or cells of a rate, and applies tables that name them.
    fn put(&mut self, holder: Holder, rate_bps: u64, count: u16, tables: &NodeTables) -> Result<()> {
        let (uplink, mtu) = (self.node.ifindex("u0")?, tables.leases[0].mtu);
        let departures = match holder {
            Holder::DepartureTimes => {
                let cells = (1..=count).map(|cell| (cell, plain_departure(rate_bps, mtu))).collect();
                Departures { cells, devices: [(uplink, 0)].into() }
            }
            _ => Departures::default(),
        };
        self.node.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let netlink = Netlink::open()?;
                if holder == Holder::DepartureTimes {
                    return Ok(netlink.raise_fair_queue(uplink, FlowsOf::Many).await?);
                }
                let mut shaper = plain_shaper(rate_bps, mtu, ENCAPSULATION_LENGTH_V4 as u16);
                let class = shaper.classes[&1];
                shaper.classes.extend((2..=count).map(|minor| (minor, class)));
                Ok(netlink.raise_shaper(uplink, &shaper).await?)
            })
        })?;
        let (node, _) = self.dataplanes.as_mut().context("only a persona is held so")?;
        self.node.namespace.run_inside(|| -> Result<()> {
            node.raise_departures(&departures)?;
            node.apply(tables)?;
            Ok(node.trim_departures(&departures)?)
        })?
    }

    /// A file for what a process says.
    pub fn log(&self, name: &str) -> PathBuf {
        self.edge.path(name)
    }

    fn connect(&self) -> Result<()> {
        let (node, edge) = (&self.node.namespace, &self.edge.namespace);
        self.client.link("eth0", node, "w0")?;
        node.link("u0", edge, "i0")?;
        edge.link("o0", &self.server, "s0")?;
        for (namespace, device, address) in [
            (&self.client, "eth0", CLIENT),
            (node, "w0", GATEWAY),
            (node, "u0", NODE),
            (edge, "i0", EDGE),
            (edge, "o0", EDGE_OUTSIDE),
            (&self.server, "s0", SERVER),
        ] {
            namespace.add_address(device, &format!("{address}/24"))?;
            namespace.write_sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), "0")?;
        }
        self.client.ip(&format!("route add default via {GATEWAY}"))?;
        let network = format!("{EGRESS}/32");
        match self.kind.is_ours() {
            true => self.server.ip(&format!("route add {network} dev s0")).map(drop),
            false => self.server.ip(&format!("route add {network} via {EDGE_OUTSIDE}")).map(drop),
        }
    }

    fn route_plainly(&self) -> Result<()> {
        self.node.namespace.ip(&format!("route add 192.0.2.0/24 via {EDGE}"))?;
        self.edge.namespace.ip(&format!("route add 10.9.0.0/24 via {NODE}"))?;
        self.server.ip(&format!("route add 10.9.0.0/24 via {EDGE_OUTSIDE}")).map(drop)
    }

    fn route_kernels_way(&self) -> Result<()> {
        kernel_way::add_vxlan(&self.node, NODE, EDGE)?;
        kernel_way::add_vxlan(&self.edge, EDGE, NODE)?;
        self.node.namespace.add_address("vx0", "172.31.0.1/24")?;
        self.edge.namespace.add_address("vx0", "172.31.0.2/24")?;
        // Both devices have one hardware address, which is as good as two: only these two speak.
        let (node_mac, edge_mac) = ("02:00:00:00:00:21", "02:00:00:00:00:22");
        self.node.namespace.ip(&format!("link set vx0 address {node_mac}"))?;
        self.edge.namespace.ip(&format!("link set vx0 address {edge_mac}"))?;
        self.node.namespace.ip(&format!("neigh replace 172.31.0.2 lladdr {edge_mac} dev vx0 nud permanent"))?;
        self.edge.namespace.ip(&format!("neigh replace 172.31.0.1 lladdr {node_mac} dev vx0 nud permanent"))?;
        self.node.namespace.ip("route add default via 172.31.0.2 dev vx0 table 100")?;
        self.node.namespace.ip(&format!("rule add from {CLIENT}/32 table 100"))?;
        self.edge.namespace.ip("route add 10.9.0.0/24 via 172.31.0.1 dev vx0")?;
        kernel_way::add_translation(&self.edge, "o0")?;
        kernel_way::add_queue(&self.edge, "o0")
    }

    /// What `wg` sets up: a device at each end, and routes into it.
    fn route_through_wireguard(&self) -> Result<()> {
        let ends = [(&self.node, NODE, "10.9.0.0/24"), (&self.edge, EDGE, "192.0.2.0/24")];
        let mut keys = Vec::new();
        for (place, ..) in ends {
            keys.push(PrivateKey::in_directory(&place.path("wg"))?.public());
        }
        for (index, (place, _, _)) in ends.iter().enumerate() {
            let (_, far_address, far_network) = ends[1 - index];
            let namespace = &place.namespace;
            namespace.ip("link add wg0 type wireguard")?;
            let mut command = namespace.command("wg")?;
            command.args(["set", "wg0", "listen-port", "51820", "private-key"]).arg(place.path("wg/wireguard.key"));
            command.args(["peer", &keys[1 - index].to_string(), "allowed-ips", "0.0.0.0/0"]);
            command.args(["endpoint", &format!("{far_address}:51820")]);
            let output = command.output().context("wg does not start")?;
            ensure!(output.status.success(), "wg: {}", String::from_utf8_lossy(&output.stderr).trim());
            namespace.ip("link set wg0 up")?;
            namespace.write_sysctl("net/ipv4/conf/wg0/rp_filter", "0")?;
            namespace.ip(&format!("route add {far_network} dev wg0"))?;
        }
        self.server.ip(&format!("route add 10.9.0.0/24 via {EDGE_OUTSIDE}")).map(drop)
    }

    /// A persona as [`Kind::Ours`], whose tunnel goes through WireGuard.
    fn encrypt(&mut self, wireguard: Wireguard) -> Result<()> {
        let (mut node_end, node_wire) = open_end(&self.node, NODE, wireguard)?;
        let (mut edge_end, edge_wire) = open_end(&self.edge, EDGE, wireguard)?;
        let (of_node, of_edge) = (far_end(&mut node_end, NODE)?, far_end(&mut edge_end, EDGE)?);
        self.node.namespace.run_inside(|| node_end.set_far_ends(&[of_edge]))?;
        self.edge.namespace.run_inside(|| edge_end.set_far_ends(&[of_node]))?;
        let (mut node, mut edge) = (self.open_node()?, self.open_edge()?);
        let tables = self.node_tables()?;
        let encrypted: HashSet<LeaseSpace> = tables.leases.iter().map(|lease| lease.space.clone()).collect();
        let wire = WireTable { ifindex: Some(node_wire), encrypted, edges: [EDGE.into()].into() };
        let tables = NodeTables { wire, ..tables };
        self.node.namespace.run_inside(|| node.apply(&tables))??;
        let number = number_by_wire(LIVENESS.0).context("the edge has a number by wire")?;
        node.set_edge_liveness(number, true, LIVENESS.1)?;
        let tables = self.edge_tables((self.edge.ifindex("i0")?, self.edge.ifindex("o0")?))?;
        let encrypted = tables.leases.iter().map(|lease| lease.space.clone()).collect();
        let wire = WireTable { ifindex: Some(edge_wire), encrypted, ..WireTable::default() };
        let tables = EdgeTables { wire, ..tables };
        self.edge.namespace.run_inside(|| edge.apply(&tables))??;
        self.node.namespace.run_inside(|| node_end.open())?;
        self.edge.namespace.run_inside(|| edge_end.open())?;
        self.dataplanes = Some((node, edge));
        self.ends = vec![node_end, edge_end];
        Ok(())
    }

    fn node_tables(&self) -> Result<NodeTables> {
        let (device, uplink) = (self.node.ifindex("w0")?, self.node.ifindex("u0")?);
        let mut tables = node_tables::tables(&[device], BLOCKS, uplink)?;
        tables.managed = vec![(Ipv4Addr::new(10, 9, 0, 0).into(), 24)];
        Ok(tables)
    }

    fn open_node(&mut self) -> Result<NodeDataplane> {
        let mut node = self.node.node_at("node", self.node.ifindex("u0")?)?;
        let tables = self.node_tables()?;
        self.node.namespace.run_inside(|| node.apply(&tables))??;
        node.set_edge_liveness(LIVENESS.0, true, LIVENESS.1)?;
        Ok(node)
    }

    fn open_edge(&mut self) -> Result<EdgeDataplane> {
        let (inside, outside) = (self.edge.ifindex("i0")?, self.edge.ifindex("o0")?);
        let mut edge = self.edge.edge_at("edge", (inside, outside), Hook::Auto)?;
        ensure!(edge.hook() == Hook::Tc, "veth takes TC by itself");
        edge.apply(&self.edge_tables((inside, outside))?)?;
        edge.set_owned(EGRESS.into(), true)?;
        edge.set_outside_alive(true)?;
        Ok(edge)
    }

    fn edge_tables(&self, (inside, outside): (u32, u32)) -> Result<EdgeTables> {
        let worker = Worker(0);
        let mac = |namespace: &Namespace, device: &str| hardware_address(namespace, device);
        let hop = |ifindex, address: Ipv4Addr, source_mac, destination_mac| NextHopEntry {
            ifindex,
            address: address.into(),
            source_mac,
            destination_mac: Some(destination_mac),
        };
        let (edge, node) = (&self.edge.namespace, &self.node.namespace);
        let blocks = (1..=BLOCKS).collect();
        let space = LeaseSpace::Ports { address: EGRESS, block_bits: 10, blocks };
        let vni = Vni(worker.tunnel().vni);
        Ok(EdgeTables {
            number: EdgeNumber(1),
            underlay_address: Some(EDGE.into()),
            generation: Generation(9),
            addresses: vec![EgressAddressEntry { address: EGRESS, block_bits: 10 }],
            leases: vec![EdgeLeaseEntry { space, node: NODE.into(), vni, mtu: 1400, policed: None }],
            nodes: vec![NodeEntry {
                address: NODE.into(),
                next_hop: hop(inside, NODE, mac(edge, "i0")?, mac(node, "u0")?),
            }],
            outside: Some(hop(outside, SERVER, mac(edge, "o0")?, mac(&self.server, "s0")?)),
            ..EdgeTables::default()
        })
    }

    /// The server sees the client behind the egress address, or, where nothing translates, itself.
    fn check(&self) -> Result<()> {
        let server = self.server.run_inside(|| UdpSocket::bind((SERVER, ECHO_PORT)))??;
        let client = self.client.run_inside(|| UdpSocket::bind((CLIENT, 0)))??;
        client.set_read_timeout(Some(ECHO_TIME))?;
        server.set_read_timeout(Some(ECHO_TIME))?;
        client.send_to(b"who am I?", (SERVER, ECHO_PORT))?;
        let mut buffer = [0; 64];
        let (_, seen) = server.recv_from(&mut buffer).context("nothing arrives")?;
        server.send_to(seen.to_string().as_bytes(), seen)?;
        let length = client.recv(&mut buffer).context("no answer arrives")?;
        let seen: SocketAddr = std::str::from_utf8(&buffer[..length])?.parse()?;
        let expected = if self.kind.is_untranslated() { CLIENT } else { EGRESS };
        ensure!(seen.ip() == expected, "the server sees {seen}, not {expected}");
        Ok(())
    }
}

/// An end of an encrypted tunnel, closed yet, and its device.
fn open_end(place: &Place, address: Ipv4Addr, wireguard: Wireguard) -> Result<(Keeper, u32)> {
    let mut keeper = Keeper::new(WireConfig::node(wireguard, None, place.path("wire")));
    let mtu = UNDERLAY_MTU - encryption_to(address.into());
    let ifindex = place.namespace.run_inside(|| keeper.ensure(address.into(), mtu))?;
    let ifindex = ifindex.with_context(|| format!("no tunnel: {:?}", keeper.trouble()))?;
    Ok((keeper, ifindex))
}

fn far_end(keeper: &mut Keeper, address: Ipv4Addr) -> Result<FarEnd> {
    let (key, port) = keeper.offer().context("the end has a key")?;
    Ok(FarEnd { key, next: None, address: address.into(), port })
}

/// Hardware address of a device.
fn hardware_address(namespace: &Namespace, device: &str) -> Result<[u8; 6]> {
    let json: serde_json::Value = serde_json::from_str(&namespace.ip(&format!("-j link show dev {device}"))?)?;
    let text = json[0]["address"].as_str().context("a device has an address")?;
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text} is no hardware address"))
}
