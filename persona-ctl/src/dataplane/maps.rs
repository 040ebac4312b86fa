//! Typed handles on maps, with errors that name the map.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::{Ebpf, Pod};
use persona_common::traffic::TrafficCell;
use persona_core::wire::agent::Traffic;

use super::bpffs::PinDirectory;
use super::error::DataplaneError;

fn read(map: &'static str) -> impl FnOnce(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map, action: "read", source }
}

fn written(map: &'static str) -> impl FnOnce(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map, action: "written", source }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Map {
    ebpf.take_map(name).expect("the object holds the maps that this binary was built with")
}

/// An array map.
pub(super) struct Cells<V: Pod> {
    name: &'static str,
    map: Array<MapData, V>,
}

impl<V: Pod + PartialEq> Cells<V> {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        Ok(Self { name, map: take(ebpf, name).try_into().map_err(read(name))? })
    }

    /// A handle of its own on a pinned map.
    pub(super) fn from_pin(pins: &PinDirectory, name: &'static str) -> Result<Self, DataplaneError> {
        let map = Map::Array(MapData::from_pin(pins.maps.join(name)).map_err(read(name))?);
        Ok(Self { name, map: map.try_into().map_err(read(name))? })
    }

    pub(super) fn len(&self) -> u32 {
        self.map.len()
    }

    pub(super) fn get(&self, index: u32) -> Result<V, DataplaneError> {
        self.map.get(&index, 0).map_err(read(self.name))
    }

    pub(super) fn set(&mut self, index: u32, value: V) -> Result<(), DataplaneError> {
        self.map.set(index, value, 0).map_err(written(self.name))
    }

    /// Writes only what differs.
    pub(super) fn put(&mut self, index: u32, value: V) -> Result<(), DataplaneError> {
        if self.get(index)? == value { Ok(()) } else { self.set(index, value) }
    }

    /// All cells for which `is_used` holds.
    pub(super) fn used(&self, is_used: impl Fn(&V) -> bool) -> Result<Vec<(u32, V)>, DataplaneError> {
        let mut cells = Vec::new();
        for index in 0..self.len() {
            let value = self.get(index)?;
            if is_used(&value) {
                cells.push((index, value));
            }
        }
        Ok(cells)
    }
}

/// A hash map.
pub(super) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod, V: Pod + PartialEq> Table<K, V> {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        Ok(Self { name, map: take(ebpf, name).try_into().map_err(read(name))? })
    }

    /// A handle of its own on a pinned map.
    pub(super) fn from_pin(pins: &PinDirectory, name: &'static str) -> Result<Self, DataplaneError> {
        let map = Map::HashMap(MapData::from_pin(pins.maps.join(name)).map_err(read(name))?);
        Ok(Self { name, map: map.try_into().map_err(read(name))? })
    }

    pub(super) fn get(&self, key: &K) -> Result<Option<V>, DataplaneError> {
        absent(self.map.get(key, 0)).map_err(read(self.name))
    }

    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, DataplaneError> {
        let mut entries = Vec::new();
        for entry in self.map.iter() {
            match entry {
                Ok(entry) => entries.push(entry),
                // Removed by somebody else while we went through.
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(read(self.name)(error)),
            }
        }
        Ok(entries)
    }

    /// Writes only what differs.
    pub(super) fn put(&mut self, key: K, value: V) -> Result<(), DataplaneError> {
        if self.get(&key)? == Some(value) {
            return Ok(());
        }
        self.map.insert(key, value, 0).map_err(written(self.name))
    }

    pub(super) fn remove(&mut self, key: &K) -> Result<(), DataplaneError> {
        absent(self.map.remove(key)).map(|_| ()).map_err(written(self.name))
    }
}

/// A set of IPv4 prefixes.
pub(super) struct Prefixes {
    name: &'static str,
    map: LpmTrie<MapData, u32, u32>,
}

impl Prefixes {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        Ok(Self { name, map: take(ebpf, name).try_into().map_err(read(name))? })
    }

    /// Makes the set hold exactly these.
    pub(super) fn replace(&mut self, prefixes: &[(std::net::Ipv4Addr, u8)]) -> Result<(), DataplaneError> {
        let wanted = prefixes
            .iter()
            .map(|(address, length)| (u32::from(*length), network(*address, *length)))
            .collect::<std::collections::BTreeSet<_>>();
        let mut present = std::collections::BTreeSet::new();
        for key in self.map.keys() {
            let key = key.map_err(read(self.name))?;
            present.insert((key.prefix_len(), key.data()));
        }
        for (length, data) in wanted.difference(&present) {
            self.map.insert(&Key::new(*length, *data), 1, 0).map_err(written(self.name))?;
        }
        for (length, data) in present.difference(&wanted) {
            self.map.remove(&Key::new(*length, *data)).map_err(written(self.name))?;
        }
        Ok(())
    }
}

/// Per-CPU traffic cells.
pub(super) struct TrafficCells {
    name: &'static str,
    map: PerCpuArray<MapData, TrafficCell>,
}

impl TrafficCells {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        Ok(Self { name, map: take(ebpf, name).try_into().map_err(read(name))? })
    }

    /// The sum over all CPUs.
    pub(super) fn get(&self, index: u32) -> Result<Traffic, DataplaneError> {
        let mut traffic = Traffic::default();
        for cell in self.map.get(&index, 0).map_err(read(self.name))?.iter() {
            traffic.egress_packets += cell.egress_packets;
            traffic.egress_bytes += cell.egress_bytes;
            traffic.ingress_packets += cell.ingress_packets;
            traffic.ingress_bytes += cell.ingress_bytes;
        }
        Ok(traffic)
    }

    /// Starts a cell anew, for whoever gets its index next.
    pub(super) fn clear(&mut self, index: u32) -> Result<(), DataplaneError> {
        let cpu_count = self.map.get(&index, 0).map_err(read(self.name))?.len();
        let zeros = PerCpuValues::try_from(vec![TrafficCell::default(); cpu_count])
            .map_err(|source| written(self.name)(MapError::IoError(source)))?;
        self.map.set(index, zeros, 0).map_err(written(self.name))
    }
}

/// Per-CPU drop counters.
pub(super) struct DropCells {
    map: PerCpuArray<MapData, u64>,
}

impl DropCells {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self { map: take(ebpf, "DROPS").try_into().map_err(read("DROPS"))? })
    }

    /// Every reason and how many packets it cost, zeros left out.
    pub(super) fn totals(&self) -> Result<std::collections::BTreeMap<String, u64>, DataplaneError> {
        let mut totals = std::collections::BTreeMap::new();
        for reason in persona_common::drop::DropReason::ALL {
            let values = self.map.get(&(*reason as u32), 0).map_err(read("DROPS"))?;
            let total = values.iter().sum();
            if total != 0 {
                totals.insert(reason.name().to_owned(), total);
            }
        }
        Ok(totals)
    }
}

/// The address as maps hold it.
pub(super) fn address_be(address: std::net::Ipv4Addr) -> u32 {
    persona_common::addr::address_be(address.octets())
}

/// The address that a map holds.
pub(super) fn address_from(address: u32) -> std::net::Ipv4Addr {
    persona_common::addr::octets(address).into()
}

fn network(address: std::net::Ipv4Addr, length: u8) -> u32 {
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    address_be(std::net::Ipv4Addr::from(u32::from(address) & mask))
}

fn absent<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
