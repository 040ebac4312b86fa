//! A gateway's maps, what they say after a restart, and the conversions between their values and the domain's.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use persona_common::addr::Address6;
use persona_common::flow::{TCP, UDP};
use persona_common::gateway::*;

use super::error::DataplaneError;
use super::gateway_tables::{DeliveryEntry, InstanceEntry, InstanceState, ServiceKey, Transport};
use super::index::Indices;
use super::maps::{Cells, DropCells, Table, TrafficCells, address6, ip_from, next_hop};
use super::node_rows::name_hash;

/// Every map of a gateway.
pub(super) struct GatewayMaps {
    pub(super) config: Cells<GatewayConfig>,
    pub(super) devices: Table<u32, GatewayDevice>,
    pub(super) vips: Table<Address6, u32>,
    pub(super) service_indices: Table<Endpoint, u32>,
    pub(super) endpoints: Table<Endpoint, u32>,
    pub(super) services: Cells<Service>,
    pub(super) rows: Cells<u32>,
    pub(super) instances: Cells<Instance>,
    pub(super) states: Cells<u32>,
    pub(super) flows: Table<GatewayFlowKey, GatewayFlow>,
    pub(super) service_traffic: TrafficCells,
    pub(super) instance_traffic: TrafficCells,
    pub(super) opened: OpenedCells,
    pub(super) drops: DropCells,
}

impl GatewayMaps {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            config: Cells::take(ebpf, "GATEWAY_CONFIG")?,
            devices: Table::take(ebpf, "GATEWAY_DEVICES")?,
            vips: Table::take(ebpf, "VIPS")?,
            service_indices: Table::take(ebpf, "SERVICE_INDICES")?,
            endpoints: Table::take(ebpf, "ENDPOINTS")?,
            services: Cells::take(ebpf, "SERVICES")?,
            rows: Cells::take(ebpf, "SERVICE_ROWS")?,
            instances: Cells::take(ebpf, "INSTANCES")?,
            states: Cells::take(ebpf, "INSTANCE_STATES")?,
            flows: Table::take(ebpf, "GATEWAY_FLOWS")?,
            service_traffic: TrafficCells::take(ebpf, "SERVICE_TRAFFIC")?,
            instance_traffic: TrafficCells::take(ebpf, "INSTANCE_TRAFFIC")?,
            opened: OpenedCells::take(ebpf)?,
            drops: DropCells::take(ebpf)?,
        })
    }
}

/// Per-CPU counts of opened flows.
pub(super) struct OpenedCells(PerCpuArray<MapData, u64>);

impl OpenedCells {
    fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        let map = ebpf.take_map("INSTANCE_OPENED").expect("the object holds the maps that this binary was built with");
        Ok(Self(map.try_into().map_err(|source| failed("read", source))?))
    }

    /// The sum over all CPUs.
    pub(super) fn get(&self, index: u32) -> Result<u64, DataplaneError> {
        Ok(self.0.get(&index, 0).map_err(|source| failed("read", source))?.iter().sum())
    }

    /// Starts a cell anew, for whoever gets its index next.
    pub(super) fn clear(&mut self, index: u32) -> Result<(), DataplaneError> {
        let cpu_count = self.0.get(&index, 0).map_err(|source| failed("read", source))?.len();
        let zeros =
            vec![0; cpu_count].try_into().map_err(|source| failed("written", aya::maps::MapError::IoError(source)))?;
        self.0.set(index, zeros, 0).map_err(|source| failed("written", source))
    }
}

fn failed(action: &'static str, source: aya::maps::MapError) -> DataplaneError {
    DataplaneError::Map { map: "INSTANCE_OPENED", action, source }
}

/// An instance's key: its service's, and its name's hash.
pub(super) type InstanceKey = (ServiceKey, u64);

/// The key of an instance of a service.
pub(super) fn instance_key(service: ServiceKey, name: &str) -> InstanceKey {
    (service, name_hash(name))
}

/// What user space remembers of the maps' contents.
pub(super) struct GatewayIndex {
    /// Service → its index.
    pub(super) services: Indices<ServiceKey>,
    /// Instance → its index.
    pub(super) instances: Indices<InstanceKey>,
    /// By a service's index: the rows in force, once they are known.
    pub(super) rows: BTreeMap<u32, Vec<u32>>,
}

impl GatewayIndex {
    /// Reads it back from the maps.
    pub(super) fn recover(maps: &GatewayMaps) -> Result<Self, DataplaneError> {
        let services = maps.services.used(|service| service.address != [0; 4])?;
        let by_index: BTreeMap<u32, ServiceKey> =
            services.iter().map(|(index, service)| (*index, service_key(service))).collect();
        let instances = maps.instances.used(|instance| instance.delivery != 0)?;
        let keyed = instances.iter().filter_map(|(index, instance)| {
            let [low, high] = instance.name_hash;
            let key = (*by_index.get(&instance.service_index)?, u64::from(high) << 32 | u64::from(low));
            Some((key, *index))
        });
        Ok(Self {
            instances: Indices::new(0, INSTANCE_COUNT_MAX, keyed),
            services: Indices::new(0, SERVICE_COUNT_MAX, by_index.iter().map(|(index, key)| (*key, *index))),
            rows: BTreeMap::new(),
        })
    }
}

fn service_key(service: &Service) -> ServiceKey {
    let protocol = if service.protocol as u8 == TCP { Transport::Tcp } else { Transport::Udp };
    ServiceKey { address: ip_from(service.address), port: service.port, protocol }
}

/// An address and a port as maps hold them.
pub(super) fn endpoint(address: std::net::IpAddr, port: u16, protocol: Transport) -> Endpoint {
    Endpoint { address: address6(address), port, protocol: number_of(protocol) }
}

/// A protocol's number.
pub(super) fn number_of(protocol: Transport) -> u16 {
    match protocol {
        Transport::Tcp => TCP.into(),
        Transport::Udp => UDP.into(),
    }
}

/// An instance as the map holds it.
pub(super) fn instance_cell(entry: &InstanceEntry, key: &InstanceKey, service_index: u32, sequence: u32) -> Instance {
    let (delivery, node, tunnel_id) = match entry.delivery {
        DeliveryEntry::Nat => (DELIVERY_NAT, [0; 4], 0),
        DeliveryEntry::L2 => (DELIVERY_L2, [0; 4], 0),
        DeliveryEntry::Tunnel { node, tunnel_id } => (DELIVERY_TUNNEL, address6(node), tunnel_id),
    };
    Instance {
        sequence,
        service_index,
        delivery,
        address: address6(entry.address),
        port: entry.port.into(),
        tunnel_id,
        node,
        next_hop: next_hop(&entry.next_hop),
        mtu: entry.mtu,
        name_hash: [key.1 as u32, (key.1 >> 32) as u32],
    }
}

/// The bits of a state.
pub(super) fn state_bits(state: InstanceState) -> u32 {
    let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
    bit(state.is_alive, INSTANCE_ALIVE) | bit(state.is_draining, INSTANCE_DRAINING)
}

/// The state of bits.
pub(super) fn state_of(bits: u32) -> InstanceState {
    InstanceState { is_alive: bits & INSTANCE_ALIVE != 0, is_draining: bits & INSTANCE_DRAINING != 0 }
}
