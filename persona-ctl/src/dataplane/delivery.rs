//! A delivering node's data plane: the program at its underlay, maps and link, all pinned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::TcAttachType;
use persona_common::ABI_VERSION;
use persona_common::addr::Address6;
use persona_common::gateway::{DELIVERY_COUNT_MAX, Delivery, DeliveryConfig};
use persona_core::wire::agent::Traffic;

use super::attach;
use super::bpffs::PinDirectory;
use super::coexist::Coexistence;
use super::error::DataplaneError;
use super::gateway_tables::DeliveryTables;
use super::loader;
use super::maps::{Cells, DropCells, Table, TrafficCells, address6};
use super::object;
use super::packet_log::PacketLogging;
use super::upgrade::{Upgrade, VersionCell};

/// Where the ABI version is: the offset of `abi_version`, in every version.
const VERSION: VersionCell = VersionCell { map: "DELIVERY_CONFIG", offset: 0 };

/// Tunnel ids have 24 bits; 0 is nobody's.
const TUNNEL_ID_MAX: u32 = (1 << 24) - 1;

/// How a delivering node's data plane is opened.
#[derive(Debug, Clone)]
pub struct DeliveryOptions {
    /// Where the bpffs is, or shall be mounted.
    pub bpffs: PathBuf,
    /// The device that gateways' tunnels come in on, by interface index.
    pub device: u32,
    /// What is done about programs of others.
    pub coexist: Coexistence,
    /// Whether the program logs every packet.
    pub logging: PacketLogging,
}

/// A delivering node's program, maps and link. Dropping it leaves everything attached.
pub struct DeliveryDataplane {
    ebpf: Ebpf,
    pins: PinDirectory,
    config: Cells<DeliveryConfig>,
    gateways: Table<Address6, u32>,
    deliveries: Table<u32, Delivery>,
    delivered: TrafficCells,
    drops: DropCells,
}

impl DeliveryDataplane {
    /// Loads the program over whatever is pinned already, and attaches or replaces it.
    pub fn open(options: &DeliveryOptions) -> Result<Self, DataplaneError> {
        let pins = PinDirectory::prepare(&options.bpffs, "delivery")?;
        let (mut ebpf, upgrade) = loader::load(object::delivery(), &pins, VERSION, options.logging)?;
        let mut dataplane = Self {
            config: Cells::take(&mut ebpf, "DELIVERY_CONFIG")?,
            gateways: Table::take(&mut ebpf, "GATEWAYS")?,
            deliveries: Table::take(&mut ebpf, "DELIVERIES")?,
            delivered: TrafficCells::take(&mut ebpf, "DELIVERED")?,
            drops: DropCells::take(&mut ebpf)?,
            ebpf,
            pins,
        };
        let config = DeliveryConfig { abi_version: ABI_VERSION, ..dataplane.config.get(0)? };
        dataplane.config.put(0, config)?;
        attach::load_tc(&mut dataplane.ebpf, "deliver")?;
        let links = dataplane.pins.links.clone();
        let pin = links.join(format!("tc-deliver-{}", options.device));
        let ingress = TcAttachType::Ingress;
        attach::attach_tc(&mut dataplane.ebpf, "deliver", options.device, ingress, &pin, options.coexist)?;
        attach::reap_links(&links, &["tc-deliver"], &[options.device])?;
        upgrade.map_or(Ok(()), Upgrade::finish)?;
        attach::reap_vanished(&links)?;
        Ok(dataplane)
    }

    /// Takes our program off a device that vanished or left for another namespace.
    pub fn reap_vanished(&mut self) -> Result<Vec<String>, DataplaneError> {
        attach::reap_vanished(&self.pins.links)
    }

    /// Makes the maps what the tables say. Tables that contradict themselves are refused before anything is written.
    pub fn apply(&mut self, tables: &DeliveryTables) -> Result<(), DataplaneError> {
        validate(tables).map_err(DataplaneError::Invalid)?;
        let deliveries: BTreeMap<u32, Delivery> = tables
            .instances
            .iter()
            .map(|it| (it.tunnel_id, Delivery { ifindex: it.ifindex, address: address6(it.address) }))
            .collect();
        let gateways: BTreeSet<Address6> = tables.gateways.iter().map(|address| address6(*address)).collect();
        for (id, delivery) in &deliveries {
            self.deliveries.put(*id, *delivery)?;
        }
        for gateway in &gateways {
            self.gateways.put(*gateway, 1)?;
        }
        let config = self.config.get(0)?;
        self.config.put(0, DeliveryConfig { underlay_address: address6(tables.underlay_address), ..config })?;
        for (gateway, _) in self.gateways.entries()? {
            if !gateways.contains(&gateway) {
                self.gateways.remove(&gateway)?;
            }
        }
        for (id, _) in self.deliveries.entries()? {
            if !deliveries.contains_key(&id) {
                self.deliveries.remove(&id)?;
            }
        }
        Ok(())
    }

    /// What was delivered since the program was first attached; ingress is towards instances.
    pub fn delivered(&self) -> Result<Traffic, DataplaneError> {
        self.delivered.get(0)
    }

    /// Drop reason → packets, zeros left out.
    pub fn drops(&self) -> Result<BTreeMap<String, u64>, DataplaneError> {
        self.drops.totals()
    }

    /// The loaded program, for tests that run it on built packets.
    pub fn programs(&self) -> &Ebpf {
        &self.ebpf
    }
}

fn validate(tables: &DeliveryTables) -> Result<(), String> {
    if tables.instances.len() > DELIVERY_COUNT_MAX as usize || tables.gateways.len() > DELIVERY_COUNT_MAX as usize {
        return Err(format!("more than {DELIVERY_COUNT_MAX} instances or gateways do not fit"));
    }
    let mut ids = BTreeSet::new();
    for instance in &tables.instances {
        let id = instance.tunnel_id;
        if id == 0 || id > TUNNEL_ID_MAX {
            return Err(format!("tunnel id {id} is not within 1 to {TUNNEL_ID_MAX}"));
        }
        if !ids.insert(id) {
            return Err(format!("tunnel id {id} is given twice: an instance has an id of its own"));
        }
    }
    match tables.gateways.iter().find(|gateway| gateway.is_ipv4() != tables.underlay_address.is_ipv4()) {
        Some(gateway) => Err(format!("gateway {gateway} is not of the family of {}", tables.underlay_address)),
        None => Ok(()),
    }
}
