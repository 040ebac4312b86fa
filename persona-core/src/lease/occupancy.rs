//! What is taken: by leases in any state, quarantine included.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::desired::{LeaseSpace, PREFIX_LENGTH};

/// Which ports of which addresses and which prefixes are held.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    /// Address → first port → last port of a held range.
    ranges: BTreeMap<Ipv4Addr, BTreeMap<u16, u16>>,
    /// Upper 64 bits of every held /64.
    prefixes: BTreeSet<u64>,
}

impl Occupancy {
    /// Notes that a lease holds something.
    pub fn hold(&mut self, space: &LeaseSpace) {
        match space {
            LeaseSpace::Ports { address, .. } => self.ranges.entry(*address).or_default().extend(space.port_ranges()),
            LeaseSpace::Prefix { prefix } => drop(self.prefixes.insert(number_of(*prefix))),
        }
    }

    /// Notes that what a lease held is free.
    pub fn free(&mut self, space: &LeaseSpace) {
        match space {
            LeaseSpace::Ports { address, .. } => {
                let Some(ranges) = self.ranges.get_mut(address) else { return };
                space.port_ranges().iter().for_each(|(first, _)| _ = ranges.remove(first));
            }
            LeaseSpace::Prefix { prefix } => _ = self.prefixes.remove(&number_of(*prefix)),
        }
    }

    /// Whether any port of a range is held.
    pub fn overlaps(&self, address: Ipv4Addr, first: u16, last: u16) -> bool {
        let ranges = self.ranges.get(&address);
        let nearest = ranges.and_then(|ranges| ranges.range(..=last).next_back());
        nearest.is_some_and(|(_, held_last)| *held_last >= first)
    }

    /// Whether nobody holds anything of an address.
    pub(super) fn is_empty(&self, address: Ipv4Addr) -> bool {
        self.ranges.get(&address).is_none_or(BTreeMap::is_empty)
    }

    /// Of how many blocks of `1 << block_bits` ports, from the block `first` on, somebody holds a port.
    pub(super) fn held_block_count(&self, address: Ipv4Addr, block_bits: u8, first: u32) -> u32 {
        let (mut count, mut next) = (0, first);
        for (first_port, last_port) in self.ranges.get(&address).into_iter().flatten() {
            let from = (u32::from(*first_port) >> block_bits).max(next);
            let end = (u32::from(*last_port) >> block_bits) + 1;
            count += end.saturating_sub(from);
            next = next.max(end);
        }
        count
    }

    /// How many /64 are held from `first` to `last`, both upper 64 bits.
    pub(super) fn prefix_count_in(&self, first: u64, last: u64) -> u32 {
        self.prefixes.range(first..=last).count() as u32
    }

    /// The lowest /64 from `first` to `last` that nobody holds.
    pub(super) fn first_free_prefix(&self, first: u64, last: u64) -> Option<u64> {
        let mut free = first;
        for held in self.prefixes.range(first..=last) {
            if *held != free {
                break;
            }
            free = free.checked_add(1)?;
        }
        (free <= last).then_some(free)
    }
}

fn number_of(prefix: Ipv6Addr) -> u64 {
    (prefix.to_bits() >> PREFIX_LENGTH) as u64
}
