//! Typed handles on maps, with errors that name the map.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::{Ebpf, Pod};
use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::edge::NextHop;
use persona_common::node::{SCOPE_BITS, ScopedAddress};
use persona_common::traffic::{SubjectCounts, TrafficCell};
use persona_core::wire::agent::Traffic;

use super::batch;
use super::bpffs::PinDirectory;
use super::error::DataplaneError;
use super::index::Indices;
use super::tables::NextHopEntry;

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
    /// The same map, for whole ranges at once.
    fd: OwnedFd,
}

impl<V: Pod + PartialEq> Cells<V> {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        Self::new(name, take(ebpf, name))
    }

    /// A handle of its own on a pinned map.
    pub(super) fn from_pin(pins: &PinDirectory, name: &'static str) -> Result<Self, DataplaneError> {
        Self::new(name, Map::Array(MapData::from_pin(pins.maps.join(name)).map_err(read(name))?))
    }

    fn new(name: &'static str, map: Map) -> Result<Self, DataplaneError> {
        let Map::Array(data) = &map else { unreachable!("the object's map {name} is an array") };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|error| read(name)(error.into()))?;
        Ok(Self { name, map: map.try_into().map_err(read(name))?, fd })
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

    /// Writes cells from `first` on, whatever they hold.
    pub(super) fn set_from(&mut self, first: u32, values: &[V]) -> Result<(), DataplaneError> {
        batch::write_cells(self.fd.as_fd(), first, values).map_err(|error| written(self.name)(error.into()))
    }

    /// All cells for which `is_used` holds.
    pub(super) fn used(&self, is_used: impl Fn(&V) -> bool) -> Result<Vec<(u32, V)>, DataplaneError> {
        let mut cells = batch::read_cells(self.fd.as_fd()).map_err(|error| read(self.name)(error.into()))?;
        cells.retain(|(_, value)| is_used(value));
        Ok(cells)
    }
}

/// A hash map.
pub(super) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
    /// The same map, for all entries at once.
    fd: OwnedFd,
}

impl<K: Pod, V: Pod + PartialEq> Table<K, V> {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        Self::new(name, take(ebpf, name))
    }

    /// A handle of its own on a pinned map.
    pub(super) fn from_pin(pins: &PinDirectory, name: &'static str) -> Result<Self, DataplaneError> {
        Self::new(name, Map::HashMap(MapData::from_pin(pins.maps.join(name)).map_err(read(name))?))
    }

    fn new(name: &'static str, map: Map) -> Result<Self, DataplaneError> {
        let (Map::HashMap(data) | Map::LruHashMap(data)) = &map else {
            unreachable!("the object's map {name} is a hash table")
        };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|error| read(name)(error.into()))?;
        Ok(Self { name, map: map.try_into().map_err(read(name))?, fd })
    }

    pub(super) fn get(&self, key: &K) -> Result<Option<V>, DataplaneError> {
        absent(self.map.get(key, 0)).map_err(read(self.name))
    }

    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, DataplaneError> {
        let batch = batch::read_entries(self.fd.as_fd()).map_err(|error| read(self.name)(error.into()))?;
        if let Some(entries) = batch {
            return Ok(entries);
        }
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

/// A next hop as maps hold it.
pub(super) fn next_hop(entry: &NextHopEntry) -> NextHop {
    let hop = NextHop {
        ifindex: entry.ifindex,
        address: if entry.address.is_unspecified() { [0; 4] } else { address6(entry.address) },
        resolved: entry.destination_mac.is_some().into(),
        ..NextHop::default()
    };
    hop.with_macs(entry.source_mac, entry.destination_mac.unwrap_or_default())
}

/// A trie of prefixes of both families, each in a scope.
pub(super) struct Prefixes<V: Pod = u32> {
    name: &'static str,
    map: LpmTrie<MapData, ScopedAddress, V>,
    /// The same map, to be read as a whole.
    fd: OwnedFd,
}

/// Prefix length of the trie (the scope's bits included) and key → value.
pub(super) type PrefixSet<V = u32> = BTreeMap<(u32, ScopedAddress), V>;

impl<V: Pod + PartialEq> Prefixes<V> {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let map = take(ebpf, name);
        let Map::LpmTrie(data) = &map else { unreachable!("the object's map {name} is a trie") };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|error| read(name)(error.into()))?;
        Ok(Self { name, map: map.try_into().map_err(read(name))?, fd })
    }

    /// What it holds.
    pub(super) fn entries(&self) -> Result<PrefixSet<V>, DataplaneError> {
        let entries = batch::read_prefixes(self.fd.as_fd()).map_err(|error| read(self.name)(error.into()))?;
        Ok(entries.into_iter().map(|(length, data, value)| ((length, data), value)).collect())
    }

    /// Adds and changes what differs; nothing is removed.
    pub(super) fn put_all(&mut self, wanted: &PrefixSet<V>) -> Result<(), DataplaneError> {
        let present = self.entries()?;
        for ((length, data), value) in wanted {
            if present.get(&(*length, *data)) != Some(value) {
                self.map.insert(&Key::new(*length, *data), *value, 0).map_err(written(self.name))?;
            }
        }
        Ok(())
    }

    /// Removes what isn't wanted.
    pub(super) fn retain(&mut self, wanted: &PrefixSet<V>) -> Result<(), DataplaneError> {
        for (length, data) in self.entries()?.into_keys() {
            if !wanted.contains_key(&(length, data)) {
                self.map.remove(&Key::new(length, data)).map_err(written(self.name))?;
            }
        }
        Ok(())
    }
}

/// Prefix length and key of a prefix in a trie.
pub(super) fn scoped(scope: u32, (address, length): (IpAddr, u8)) -> (u32, ScopedAddress) {
    let (bits, skipped) = match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96),
        IpAddr::V6(address) => (address.to_bits(), 0),
    };
    let length = skipped + u32::from(length);
    let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
    let address = persona_common::addr::address6((bits & mask).to_be_bytes());
    (SCOPE_BITS + length, ScopedAddress { scope: scope.to_be(), address })
}

/// Cells that each CPU counts in for itself.
pub(super) struct CpuCells<V: Pod> {
    name: &'static str,
    map: PerCpuArray<MapData, V>,
    /// The same map, for many cells at once.
    fd: OwnedFd,
}

/// What CPUs count, and what it is all together.
pub(super) trait Counted: Pod + Default {
    /// All together.
    type Sum: Default + Clone;

    /// Adds what one CPU has counted.
    fn add_to(&self, sum: &mut Self::Sum);
}

impl Counted for u64 {
    type Sum = u64;

    fn add_to(&self, sum: &mut u64) {
        *sum += self;
    }
}

impl Counted for TrafficCell {
    type Sum = Traffic;

    fn add_to(&self, sum: &mut Traffic) {
        sum.egress_packets += self.egress_packets;
        sum.egress_bytes += self.egress_bytes;
        sum.ingress_packets += self.ingress_packets;
        sum.ingress_bytes += self.ingress_bytes;
    }
}

impl Counted for SubjectCounts {
    type Sum = Self;

    fn add_to(&self, sum: &mut Self) {
        sum.opened_flows += self.opened_flows;
        sum.dropped_packets += self.dropped_packets;
    }
}

/// Traffic, per CPU.
pub(super) type TrafficCells = CpuCells<TrafficCell>;

impl<V: Counted> CpuCells<V> {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let map = take(ebpf, name);
        let Map::PerCpuArray(data) = &map else { unreachable!("the object's map {name} is an array of every CPU") };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|error| read(name)(error.into()))?;
        Ok(Self { name, map: map.try_into().map_err(read(name))?, fd })
    }

    fn of_cpus(&self, index: u32) -> Result<PerCpuValues<V>, DataplaneError> {
        self.map.get(&index, 0).map_err(read(self.name))
    }

    /// Starts a cell anew, for whoever gets its index next.
    pub(super) fn clear(&mut self, index: u32) -> Result<(), DataplaneError> {
        let cpu_count = self.of_cpus(index)?.len();
        let zeros = PerCpuValues::try_from(vec![V::default(); cpu_count])
            .map_err(|source| written(self.name)(MapError::IoError(source)))?;
        self.map.set(index, zeros, 0).map_err(written(self.name))
    }

    /// The sum over all CPUs.
    pub(super) fn get(&self, index: u32) -> Result<V::Sum, DataplaneError> {
        let mut sum = V::Sum::default();
        self.of_cpus(index)?.iter().for_each(|value| value.add_to(&mut sum));
        Ok(sum)
    }

    /// The sums of the first cells, in one system call.
    pub(super) fn first(&self, count: u32) -> Result<Vec<V::Sum>, DataplaneError> {
        let cells = batch::read_first_of_cpus::<V>(self.fd.as_fd(), count.min(self.map.len()));
        let cells = cells.map_err(|error| read(self.name)(error.into()))?;
        let sum = |of_cpus: Vec<V>| {
            let mut sum = V::Sum::default();
            of_cpus.iter().for_each(|value| value.add_to(&mut sum));
            sum
        };
        Ok(cells.into_iter().map(sum).collect())
    }

    /// The sums of the cells of some keys.
    pub(super) fn of_keys<K: Ord + Clone>(&self, indices: &Indices<K>) -> Result<Vec<(K, V::Sum)>, DataplaneError> {
        let count = indices.iter().map(|(_, index)| index + 1).max().unwrap_or(0);
        let sums = self.first(count)?;
        let of_key = |(key, index): (&K, u32)| Some((key.clone(), sums.get(index as usize)?.clone()));
        Ok(indices.iter().filter_map(of_key).collect())
    }
}

/// Per-CPU drop counters.
pub(super) struct DropCells(CpuCells<u64>);

impl DropCells {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self(CpuCells::take(ebpf, "DROPS")?))
    }

    /// Every reason and how many packets it cost, zeros left out.
    pub(super) fn totals(&self) -> Result<BTreeMap<String, u64>, DataplaneError> {
        let counts = self.0.first(self.0.map.len())?;
        let of_reason = |reason: &DropReason| {
            let count = counts.get(*reason as usize).copied().filter(|count| *count != 0)?;
            Some((reason.name().to_owned(), count))
        };
        Ok(DropReason::ALL.iter().filter_map(of_reason).collect())
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

/// The address of either family as maps hold it, IPv4 mapped.
pub(super) fn address6(address: IpAddr) -> Address6 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    persona_common::addr::address6(address.octets())
}

/// The address of either family that a map holds.
pub(super) fn ip_from(address: Address6) -> IpAddr {
    std::net::Ipv6Addr::from(persona_common::addr::octets6(address)).to_canonical()
}

fn absent<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
