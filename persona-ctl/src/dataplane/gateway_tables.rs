//! What a gateway's and a delivering node's programs need, in the terms of the domain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::tables::NextHopEntry;

/// Everything a gateway's programs need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayTables {
    /// The devices that it stands on.
    pub devices: Vec<GatewayDeviceEntry>,
    /// Where IPv4 tunnels start.
    pub underlay4: Option<Ipv4Addr>,
    /// Where IPv6 tunnels start.
    pub underlay6: Option<Ipv6Addr>,
    /// Every service.
    pub services: Vec<ServiceEntry>,
}

/// A device of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayDeviceEntry {
    /// Its interface index.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its MTU, bytes.
    pub mtu: u32,
}

/// Where a service is: what a client connects to. Two services never share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Transport,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Where it is.
    pub key: ServiceKey,
    /// Whether the gateway answers ARP and neighbour solicitations for the address.
    pub is_answered: bool,
    /// How long a silent client's instance is remembered. None: flows of one client go anywhere.
    pub affinity: Option<Duration>,
    /// Its instances.
    pub instances: Vec<InstanceEntry>,
}

/// An instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceEntry {
    /// Its name, unique in the service.
    pub name: String,
    /// Its own address, of the service's family.
    pub address: IpAddr,
    /// Its own port; the service's, where packets reach it as they are.
    pub port: u16,
    /// How packets reach it, and replies the client.
    pub delivery: DeliveryEntry,
    /// The way to it, or to its node.
    pub next_hop: NextHopEntry,
    /// The largest IP packet that reaches it, bytes.
    pub mtu: u32,
    /// Its share of new flows.
    pub weight: u16,
    /// Whether it gets flows, and new ones.
    pub state: InstanceState,
}

/// Whether an instance gets flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceState {
    /// It answers: its flows go to it.
    pub is_alive: bool,
    /// It gets no new ones.
    pub is_draining: bool,
}

/// How packets reach an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryEntry {
    /// The destination is rewritten; replies pass the gateway.
    Nat,
    /// As they are, to its hardware address; replies leave directly.
    L2,
    /// As they are, in a tunnel to its node; replies leave directly.
    Tunnel {
        /// The node's address on the underlay.
        node: IpAddr,
        /// What the node knows the instance by, 24 bits.
        tunnel_id: u32,
    },
}

/// Everything a delivering node's program needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryTables {
    /// Where tunnels of gateways end.
    pub underlay_address: IpAddr,
    /// Gateways whose packets are taken.
    pub gateways: Vec<IpAddr>,
    /// The instances here.
    pub instances: Vec<DeliveredInstance>,
}

/// An instance on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveredInstance {
    /// What gateways call it, 24 bits.
    pub tunnel_id: u32,
    /// The device towards it, by interface index.
    pub ifindex: u32,
    /// Its own address.
    pub address: IpAddr,
}
