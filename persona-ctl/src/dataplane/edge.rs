//! An edge's data plane: its programs, maps and links, all pinned. It keeps no flows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::TcAttachType;
use persona_common::ABI_VERSION;
use persona_common::edge::{EdgeBlock, EdgeConfig, EdgeNode, NextHop};
use persona_common::maps::BLOCK_COUNT_MAX;
use persona_common::node::EgressAddress;
use persona_core::ids::Vni;

use super::attach;
use super::bpffs::PinDirectory;
use super::coexist::Coexistence;
use super::counters::RawCounters;
use super::edge_maps::{EdgeIndex, EdgeMaps};
use super::edge_room;
use super::error::DataplaneError;
use super::loader;
use super::maps::{Cells, Table, address_be, address_from};
use super::object;
use super::sys;
use super::tables::{EdgeLeaseEntry, EdgeTables, NextHopEntry};
use super::writers::OwnershipWriter;

/// Where an edge's programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// XDP where both drivers have it natively and gain by it, TC elsewhere.
    Auto,
    /// TC.
    Tc,
    /// XDP in native mode.
    Xdp,
}

/// Drivers on which XDP is no gain: it turns their offloads off, or they have no native mode.
const TC_DRIVERS: [&str; 6] = ["veth", "tun", "bridge", "macvlan", "bonding", "dummy"];

/// How an edge's data plane is opened.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// Where the bpffs is, or shall be mounted.
    pub bpffs: PathBuf,
    /// The device towards nodes, by interface index.
    pub inside: u32,
    /// The device towards the internet, by interface index.
    pub outside: u32,
    /// Which hook.
    pub hook: Hook,
    /// What is done about programs of others.
    pub coexist: Coexistence,
}

/// An edge's programs, maps and links. Dropping it leaves everything attached.
pub struct EdgeDataplane {
    ebpf: Ebpf,
    pins: PinDirectory,
    maps: EdgeMaps,
    index: EdgeIndex,
    owned: Mutex<Table<u32, u32>>,
    outside_alive: Mutex<Cells<u32>>,
    hook: Hook,
}

impl EdgeDataplane {
    /// Loads the programs over whatever is pinned already, and attaches or replaces them.
    pub fn open(options: &EdgeOptions) -> Result<Self, DataplaneError> {
        let pins = PinDirectory::prepare(&options.bpffs, "edge")?;
        let mut ebpf = loader::load(object::edge(), &pins, "EDGE_CONFIG", read_version)?;
        let mut maps = EdgeMaps::take(&mut ebpf)?;
        let owned = Mutex::new(Table::take(&mut ebpf, "OWNED")?);
        let outside_alive = Mutex::new(Cells::take(&mut ebpf, "OUTSIDE_ALIVE")?);
        let index = EdgeIndex::recover(&maps)?;
        let config = EdgeConfig { abi_version: ABI_VERSION, ..maps.config.get(0)? };
        maps.config.put(0, config)?;
        for program in ["edge_inside", "edge_outside"] {
            attach::load_tc(&mut ebpf, program)?;
        }
        for program in ["xdp_inside", "xdp_outside"] {
            attach::load_xdp(&mut ebpf, program)?;
        }
        let hook = attach_hook(&mut ebpf, &pins, options)?;
        attach::reap_links(&pins.links, &["tc-inside", "xdp-inside"], &[options.inside])?;
        attach::reap_links(&pins.links, &["tc-outside", "xdp-outside"], &[options.outside])?;
        Ok(Self { ebpf, pins, maps, index, owned, outside_alive, hook })
    }

    /// The hook in use; never [`Hook::Auto`].
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Makes the maps what the tables say, the generation last. Tables that contradict themselves are refused before
    /// anything is written; the same tables again change nothing.
    pub fn apply(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        validate(tables).map_err(DataplaneError::Invalid)?;
        edge_room::check(&self.index, tables).map_err(DataplaneError::Invalid)?;
        self.put_facts(tables)?;
        for node in &tables.nodes {
            self.put_node(address_be(node.address), hop(&node.next_hop))?;
        }
        for address in &tables.addresses {
            self.put_address(address_be(address.address), address.block_bits.into())?;
        }
        let wanted = self.wanted_blocks(tables)?;
        for (cell, block) in &wanted {
            if self.index.blocks.get(cell) != Some(block) {
                self.maps.blocks.set(*cell, *block)?;
            }
        }
        for cell in self.index.blocks.keys().filter(|cell| !wanted.contains_key(cell)) {
            self.maps.blocks.set(*cell, EdgeBlock::default())?;
        }
        self.index.blocks = wanted;
        self.remove_surplus(tables)?;
        let config = EdgeConfig { generation: tables.generation.0, ..self.maps.config.get(0)? };
        self.maps.config.put(0, config)
    }

    /// Says whether this edge answers ARP for an egress address.
    pub fn set_owned(&self, address: Ipv4Addr, owned: bool) -> Result<(), DataplaneError> {
        let mut table = self.owned.lock().expect("nobody panics while holding it");
        if owned { table.put(address_be(address), 1) } else { table.remove(&address_be(address)) }
    }

    /// Says whether the outside next hop answers; while it doesn't, probes stay unanswered.
    pub fn set_outside_alive(&self, alive: bool) -> Result<(), DataplaneError> {
        self.outside_alive.lock().expect("nobody panics while holding it").set(0, alive.into())
    }

    /// A handle for a thread that must not wait for [`Self::apply`].
    pub fn ownership_writer(&self) -> Result<OwnershipWriter, DataplaneError> {
        OwnershipWriter::open(&self.pins)
    }

    /// Egress addresses that this edge answers ARP for.
    pub fn owned(&self) -> Result<BTreeSet<Ipv4Addr>, DataplaneError> {
        let table = self.owned.lock().expect("nobody panics while holding it");
        Ok(table.entries()?.into_iter().map(|(address, _)| address_from(address)).collect())
    }

    /// Counters since the programs were first attached.
    pub fn counters(&self) -> Result<RawCounters, DataplaneError> {
        let mut counters = RawCounters { drops: self.maps.drops.totals()?, ..RawCounters::default() };
        for (vni, index) in self.index.personas.iter() {
            counters.personas.insert(Vni(*vni), self.maps.persona_traffic.get(index)?);
        }
        Ok(counters)
    }

    /// The loaded programs, for tests that run them on built packets.
    pub fn programs(&self) -> &Ebpf {
        &self.ebpf
    }

    fn put_facts(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        let config = EdgeConfig {
            underlay_address: tables.underlay_address.map_or(0, address_be),
            outside: tables.outside.as_ref().map(hop).unwrap_or_default(),
            ..self.maps.config.get(0)?
        };
        self.maps.config.put(0, config)
    }

    fn put_node(&mut self, address: u32, next_hop: NextHop) -> Result<(), DataplaneError> {
        let index = match self.index.nodes.get(&address) {
            Some(index) => index,
            None => self.index.nodes.give(address).ok_or_else(|| full("node"))?,
        };
        self.maps.nodes.put(index, EdgeNode { address, next_hop })
    }

    fn put_address(&mut self, key: u32, block_bits: u32) -> Result<(), DataplaneError> {
        if self.index.addresses.contains_key(&key) {
            return Ok(());
        }
        let count = 65_536 >> block_bits;
        let block_base = self.index.block_runs.give(count, BLOCK_COUNT_MAX).ok_or_else(|| full("egress address"))?;
        for cell in block_base..block_base + count {
            self.maps.blocks.put(cell, EdgeBlock::default())?;
        }
        let address = EgressAddress { block_base, block_bits };
        self.maps.addresses.put(key, address)?;
        self.index.addresses.insert(key, address);
        Ok(())
    }

    fn wanted_blocks(&mut self, tables: &EdgeTables) -> Result<BTreeMap<u32, EdgeBlock>, DataplaneError> {
        let mut wanted = BTreeMap::new();
        for lease in &tables.leases {
            let address = self.index.addresses[&address_be(lease.address)];
            let value = self.block_of(lease)?;
            for block in &lease.blocks {
                wanted.insert(address.block_base + u32::from(*block), value);
            }
        }
        Ok(wanted)
    }

    fn block_of(&mut self, lease: &EdgeLeaseEntry) -> Result<EdgeBlock, DataplaneError> {
        let node_index = self.index.nodes.get(&address_be(lease.node)).expect("validated, and nodes come first");
        let persona_index = match self.index.personas.get(&lease.vni.0) {
            Some(index) => index,
            None => {
                let index = self.index.personas.give(lease.vni.0).ok_or_else(|| full("persona"))?;
                self.maps.persona_traffic.clear(index)?;
                self.maps.personas.set(index, lease.vni.0)?;
                index
            }
        };
        Ok(EdgeBlock { node_index_plus_one: node_index + 1, vni: lease.vni.0, persona_index, mtu: lease.mtu.into() })
    }

    fn remove_surplus(&mut self, tables: &EdgeTables) -> Result<(), DataplaneError> {
        let nodes = tables.nodes.iter().map(|node| address_be(node.address)).collect::<BTreeSet<_>>();
        for address in self.index.nodes.surplus(|address| nodes.contains(address)) {
            if let Some(index) = self.index.nodes.take_back(&address) {
                self.maps.nodes.set(index, EdgeNode::default())?;
            }
        }
        let addresses = tables.addresses.iter().map(|entry| address_be(entry.address)).collect::<BTreeSet<_>>();
        let surplus = self.index.addresses.keys().copied().filter(|key| !addresses.contains(key)).collect::<Vec<_>>();
        for key in surplus {
            self.maps.addresses.remove(&key)?;
            self.owned.lock().expect("nobody panics while holding it").remove(&key)?;
            if let Some(address) = self.index.addresses.remove(&key) {
                self.index.block_runs.take_back(address.block_base);
            }
        }
        Ok(())
    }
}

fn full(what: &str) -> DataplaneError {
    DataplaneError::Invalid(format!("no room for another {what}"))
}

fn hop(entry: &NextHopEntry) -> NextHop {
    NextHop {
        ifindex: entry.ifindex,
        address: address_be(entry.address),
        source_mac: entry.source_mac,
        destination_mac: entry.destination_mac.unwrap_or_default(),
        resolved: entry.destination_mac.is_some().into(),
    }
}

fn validate(tables: &EdgeTables) -> Result<(), String> {
    let mut bits = BTreeMap::new();
    for address in &tables.addresses {
        if !(1..=15).contains(&address.block_bits) {
            return Err(format!("address {}: block bits {} are not 1 to 15", address.address, address.block_bits));
        }
        if bits.insert(address.address, address.block_bits).is_some() {
            return Err(format!("address {} is given twice", address.address));
        }
    }
    let nodes = tables.nodes.iter().map(|node| node.address).collect::<BTreeSet<_>>();
    let mut holders = BTreeMap::new();
    for lease in &tables.leases {
        let Some(block_bits) = bits.get(&lease.address) else {
            return Err(format!("a lease of {}: the address is not given", lease.address));
        };
        if !nodes.contains(&lease.node) {
            return Err(format!("a lease of {}: its node {} is not given", lease.address, lease.node));
        }
        for block in &lease.blocks {
            if u32::from(*block) << block_bits > 65_535 {
                return Err(format!("a lease of {}: block {block} is past the last port", lease.address));
            }
            if holders.insert((lease.address, *block), lease.node).is_some() {
                return Err(format!("block {block} of {} is leased twice", lease.address));
            }
        }
    }
    Ok(())
}

/// Attaches at the wanted hook and takes the other one's links away.
fn attach_hook(ebpf: &mut Ebpf, pins: &PinDirectory, options: &EdgeOptions) -> Result<Hook, DataplaneError> {
    let pin = |hook: &str, side: &str, ifindex: u32| pins.links.join(format!("{hook}-{side}-{ifindex}"));
    let sides = [("inside", options.inside), ("outside", options.outside)];
    let wants_xdp = match options.hook {
        Hook::Tc => false,
        Hook::Xdp => true,
        Hook::Auto => sides.iter().all(|(_, ifindex)| gains_by_xdp(*ifindex)),
    };
    if wants_xdp {
        let attached = sides.iter().try_for_each(|(side, ifindex)| {
            attach::attach_xdp(ebpf, &format!("xdp_{side}"), *ifindex, &pin("xdp", side, *ifindex), options.coexist)
        });
        match attached {
            Ok(()) => {
                for (side, ifindex) in sides {
                    attach::remove_pin("edge", &pin("tc", side, ifindex))?;
                }
                return Ok(Hook::Xdp);
            }
            Err(error) if options.hook == Hook::Xdp => return Err(error),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "no native XDP here, TC is used"),
        }
    }
    for (side, ifindex) in sides {
        let program = format!("edge_{side}");
        attach::attach_tc(ebpf, &program, ifindex, TcAttachType::Ingress, &pin("tc", side, ifindex), options.coexist)?;
    }
    for (side, ifindex) in sides {
        attach::remove_pin("edge", &pin("xdp", side, ifindex))?;
    }
    Ok(Hook::Tc)
}

fn gains_by_xdp(ifindex: u32) -> bool {
    sys::interface_name(ifindex)
        .and_then(|name| sys::driver_name(&name))
        .is_some_and(|driver| !TC_DRIVERS.contains(&driver.as_str()))
}

fn read_version(pin: &Path) -> Result<u32, String> {
    let differs = |error: MapError| error.to_string();
    let map = Map::Array(MapData::from_pin(pin).map_err(differs)?);
    let cells: Array<MapData, EdgeConfig> = map.try_into().map_err(differs)?;
    Ok(cells.get(&0, 0).map_err(differs)?.abi_version)
}
