//! What a gateway's maps hold: services (VIP, port, protocol), their instances, and the flows between clients and those.
//!
//! One record stands for both directions of a flow. Its key has the client's side and the service, which a reply names as
//! well: by the instance's own address and port, each of which serves one service at most where replies pass the gateway.
//! So no half of a flow can be left behind.

use crate::addr::Address6;
use crate::edge::NextHop;
use crate::flow::{TCP, flow_hash};

/// Services of one gateway.
pub const SERVICE_COUNT_MAX: u32 = 256;

/// Instances of all services of one gateway.
pub const INSTANCE_COUNT_MAX: u32 = 4096;

/// Rows of one service's Maglev table; a prime.
pub const SERVICE_ROW_COUNT: u32 = 16_381;

/// Cells of the array of rows: two tables per service, one in force and one spare.
pub const SERVICE_ROW_CELL_COUNT: u32 = SERVICE_COUNT_MAX * 2 * SERVICE_ROW_COUNT;

/// Flows that a gateway remembers; the one that was silent for longest makes room.
pub const GATEWAY_FLOW_COUNT_MAX: u32 = 262_144;

/// Clients whose instance is remembered for services with client affinity.
pub const AFFINITY_COUNT_MAX: u32 = 65_536;

/// Devices that a gateway stands on.
pub const GATEWAY_DEVICE_COUNT_MAX: u32 = 64;

/// Instances that one node delivers to, and gateways that it takes packets of.
pub const DELIVERY_COUNT_MAX: u32 = 4096;

/// The gateway's own facts. Map `GATEWAY_CONFIG`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayConfig {
    /// [`crate::ABI_VERSION`] of whoever made the maps; stays at this place in every version.
    pub abi_version: u32,
    /// Added to the coarse clock: 0 but in tests.
    pub clock_offset_secs: u32,
    /// Where IPv4 tunnels to nodes start; zero: none does.
    pub underlay4: Address6,
    /// Where IPv6 tunnels to nodes start; zero: none does.
    pub underlay6: Address6,
}

const _: () = assert!(size_of::<GatewayConfig>() == 40 && align_of::<GatewayConfig>() == 4);

/// A device that the gateway stands on. Map `GATEWAY_DEVICES`, by interface index.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayDevice {
    /// Its hardware address: frames to others are none of the gateway's.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved: u16,
    /// Its MTU, bytes.
    pub mtu: u32,
}

const _: () = assert!(size_of::<GatewayDevice>() == 12 && align_of::<GatewayDevice>() == 4);

/// An address with a port. Key of `SERVICE_INDICES` (a service's) and of `ENDPOINTS` (an instance's own).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address, IPv4 mapped.
    pub address: Address6,
    /// The port, host order.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u16,
}

const _: () = assert!(size_of::<Endpoint>() == 20 && align_of::<Endpoint>() == 4);

/// [`Service::flags`]: a client's flows go to one instance as long as that takes new ones.
pub const SERVICE_HAS_CLIENT_AFFINITY: u32 = 1;

/// Value of `VIPS`: the gateway answers ARP and neighbour solicitations for the address.
pub const VIP_IS_ANSWERED: u32 = 1;

/// A service. Map `SERVICES`, by index.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Service {
    /// Its address, IPv4 mapped; zero: the cell is free.
    pub address: Address6,
    /// Its port, host order.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u16,
    /// `SERVICE_*` bits.
    pub flags: u32,
    /// The first row of the table in force, in `SERVICE_ROWS`.
    pub row_base: u32,
    /// How long a silent client's instance is remembered, seconds.
    pub affinity_secs: u32,
}

const _: () = assert!(size_of::<Service>() == 32 && align_of::<Service>() == 4);

/// [`Instance::delivery`]: destination and, on the way back, source are rewritten.
pub const DELIVERY_NAT: u32 = 1;
/// [`Instance::delivery`]: the packet goes to the instance's hardware address as it is; the reply leaves directly.
pub const DELIVERY_L2: u32 = 2;
/// [`Instance::delivery`]: the packet goes as it is in a tunnel to the instance's node; the reply leaves directly.
pub const DELIVERY_TUNNEL: u32 = 3;

/// [`crate::gateway`] states in `INSTANCE_STATES`: it answers; its flows go to it.
pub const INSTANCE_ALIVE: u32 = 1;
/// As [`INSTANCE_ALIVE`]: it gets no new flows.
pub const INSTANCE_DRAINING: u32 = 2;

/// An instance. Map `INSTANCES`, by index.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instance {
    /// Counts who has had the cell: a flow of somebody before points to nobody. Kept when the cell is freed.
    pub sequence: u32,
    /// The service's index.
    pub service_index: u32,
    /// `DELIVERY_*`; 0: the cell is free.
    pub delivery: u32,
    /// Its own address, IPv4 mapped.
    pub address: Address6,
    /// Its own port, host order.
    pub port: u32,
    /// The VNI under which its node knows it, where delivery is by tunnel.
    pub tunnel_id: u32,
    /// Its node's address on the underlay, where delivery is by tunnel.
    pub node: Address6,
    /// The way to it, or to its node.
    pub next_hop: NextHop,
    /// Largest IP packet that reaches it, the tunnel's headers not counted, bytes.
    pub mtu: u32,
    /// Finds it again by its name after a restart; user space's notebook.
    pub name_hash: [u32; 2],
}

const _: () = assert!(size_of::<Instance>() == 100 && align_of::<Instance>() == 4);

/// A flow, as both directions name it. Map `GATEWAY_FLOWS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GatewayFlowKey {
    /// The client's address, IPv4 mapped.
    pub client: Address6,
    /// The service's index.
    pub service_index: u32,
    /// The client's port, host order.
    pub client_port: u16,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<GatewayFlowKey>() == 24 && align_of::<GatewayFlowKey>() == 4);

/// [`GatewayFlow::client_flags`] and [`GatewayFlow::instance_flags`]: FIN was sent.
pub const FLOW_FIN: u32 = 1;
/// As [`FLOW_FIN`]: RST was the last that was sent.
pub const FLOW_RST: u32 = 2;
/// [`GatewayFlow::client_flags`]: more than a SYN was sent.
pub const FLOW_ESTABLISHED: u32 = 4;
/// [`GatewayFlow::instance_flags`]: its packets don't pass the gateway.
pub const FLOW_RETURNS_DIRECTLY: u32 = 8;

/// Where a flow goes, and how its replies come back: to the hardware address that its packets come from. Each direction
/// writes flags of its own.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayFlow {
    /// The instance's index.
    pub instance_index: u32,
    /// The sequence that the instance's cell must have.
    pub sequence: u32,
    /// When a packet last passed, seconds of the coarse clock.
    pub seen_secs: u32,
    /// `FLOW_*` bits of the client.
    pub client_flags: u32,
    /// `FLOW_*` bits of the instance.
    pub instance_flags: u32,
    /// The device that the client's packets come in on.
    pub ifindex: u32,
    /// Their hardware source.
    pub client_mac: [u8; 6],
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<GatewayFlow>() == 32 && align_of::<GatewayFlow>() == 4);

/// A client of a service with client affinity. Map `AFFINITIES`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    /// The client's address, IPv4 mapped.
    pub client: Address6,
    /// The service's index.
    pub service_index: u32,
}

const _: () = assert!(size_of::<AffinityKey>() == 20 && align_of::<AffinityKey>() == 4);

/// Where its flows go.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Affinity {
    /// The instance's index.
    pub instance_index: u32,
    /// The sequence that the instance's cell must have.
    pub sequence: u32,
    /// When it last opened a flow, seconds of the coarse clock.
    pub seen_secs: u32,
}

const _: () = assert!(size_of::<Affinity>() == 12 && align_of::<Affinity>() == 4);

/// The delivering node's own facts. Map `DELIVERY_CONFIG`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// [`crate::ABI_VERSION`] of whoever made the maps; stays at this place in every version.
    pub abi_version: u32,
    /// Where tunnels of gateways end.
    pub underlay_address: Address6,
}

const _: () = assert!(size_of::<DeliveryConfig>() == 20 && align_of::<DeliveryConfig>() == 4);

/// An instance on a node, as packets from gateways reach it. Map `DELIVERIES`, by the tunnel's VNI.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The device towards it.
    pub ifindex: u32,
    /// Its own address, whose hardware address the kernel knows or finds out.
    pub address: Address6,
}

const _: () = assert!(size_of::<Delivery>() == 20 && align_of::<Delivery>() == 4);

impl GatewayFlow {
    /// Whether it is in force at `now_secs`.
    #[inline(always)]
    pub const fn is_live(&self, protocol: u8, now_secs: u32) -> bool {
        now_secs.saturating_sub(self.seen_secs) < self.idle_limit_secs(protocol)
    }

    /// Whether the connection has ended: by RST, or by FIN from whoever is seen here. A SYN then opens another one.
    #[inline(always)]
    pub const fn is_closed(&self) -> bool {
        let is_reset = (self.client_flags | self.instance_flags) & FLOW_RST != 0;
        let client_ends = self.client_flags & FLOW_FIN != 0;
        let instance_ends = self.instance_flags & (FLOW_FIN | FLOW_RETURNS_DIRECTLY) != 0;
        is_reset || (client_ends && instance_ends)
    }

    /// How long it may be silent, seconds (RFC 5382 REQ-5, RFC 4787 REQ-5).
    #[inline(always)]
    pub const fn idle_limit_secs(&self, protocol: u8) -> u32 {
        match protocol {
            TCP if self.is_closed() => 60,
            TCP if self.client_flags & FLOW_ESTABLISHED != 0 => 7440,
            TCP => 120,
            _ => 300,
        }
    }
}

/// One number of an address.
#[inline(always)]
pub const fn fold_address(address: Address6) -> u32 {
    let mut hash = address[0].wrapping_mul(0x9e37_79b1) ^ address[1];
    hash = hash.rotate_left(13).wrapping_mul(0x85eb_ca77) ^ address[2];
    hash.rotate_left(17).wrapping_mul(0xc2b2_ae3d) ^ address[3]
}

/// The hash that a flow's row comes from. Without the client's port (0) all flows of a client fall on one row.
#[inline(always)]
pub const fn gateway_hash(client: Address6, client_port: u16, service: &Endpoint) -> u32 {
    let ports = (client_port as u32) << 16 | service.port as u32;
    flow_hash(fold_address(service.address), fold_address(client), ports, service.protocol as u8)
}

/// First and second choice in one row. Numbers are indices plus one; 0: nobody.
#[inline(always)]
pub const fn pack_row(first: u16, second: u16) -> u32 {
    (first as u32) << 16 | second as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{address_be, mapped};
    use crate::flow::{UDP, row_of_hash};

    #[test]
    fn flows_age_by_protocol_and_state() {
        let direct = FLOW_RETURNS_DIRECTLY;
        for (protocol, client_flags, instance_flags, limit) in [
            (TCP, 0, 0, 120),
            (TCP, FLOW_ESTABLISHED, 0, 7440),
            (TCP, FLOW_ESTABLISHED, direct, 7440),
            (TCP, FLOW_ESTABLISHED | FLOW_FIN, 0, 7440),
            (TCP, FLOW_ESTABLISHED, FLOW_FIN, 7440),
            (TCP, FLOW_ESTABLISHED | FLOW_FIN, FLOW_FIN, 60),
            (TCP, FLOW_ESTABLISHED | FLOW_FIN, direct, 60),
            (TCP, FLOW_ESTABLISHED | FLOW_RST, 0, 60),
            (TCP, FLOW_ESTABLISHED, FLOW_RST, 60),
            (UDP, 0, 0, 300),
        ] {
            let flow = GatewayFlow { seen_secs: 1_000, client_flags, instance_flags, ..Default::default() };
            assert!(flow.is_live(protocol, 1_000 + limit - 1), "{flow:?}");
            assert!(!flow.is_live(protocol, 1_000 + limit), "{flow:?}");
        }
    }

    #[test]
    fn flows_are_spread_evenly_by_port_and_by_address() {
        let service = Endpoint { address: mapped(address_be([192, 0, 2, 1])), port: 443, protocol: TCP.into() };
        let by_port = |number: u16| gateway_hash(mapped(address_be([10, 0, 0, 1])), number, &service);
        let by_ipv4 = |number: u16| {
            let [high, low] = number.to_be_bytes();
            gateway_hash(mapped(address_be([10, 7, high, low])), 0, &service)
        };
        let by_ipv6 = |number: u16| gateway_hash([0xb80d_0120, u32::from(number), 0, 7], 0, &service);
        for (name, hash) in [("port", &by_port as &dyn Fn(u16) -> u32), ("IPv4", &by_ipv4), ("IPv6", &by_ipv6)] {
            let mut counts = [0u32; 8];
            for number in 0..64_000 {
                counts[row_of_hash(hash(number), 8) as usize] += 1;
            }
            assert!(counts.iter().all(|count| (7_500..8_500).contains(count)), "{name}: {counts:?}");
        }
    }
}
