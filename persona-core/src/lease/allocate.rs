//! Finds free port blocks in a pool.
//!
//! A block is `1 << block_bits` consecutive ports that start at a multiple of their count. Ports below 1,024 are never
//! leased. What is taken is kept per port range, so that pools may change their block size while old leases go on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The first port that may be leased.
pub const PORT_FIRST: u16 = 1024;

/// The addresses of a pool and how their ports are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpace {
    /// Every address, ascending, without duplicates.
    pub addresses: Vec<Ipv4Addr>,
    /// log2 of the ports in a block, 0 to 15.
    pub block_bits: u8,
}

/// Blocks that were free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Of this address.
    pub address: Ipv4Addr,
    /// The blocks, ascending.
    pub blocks: Vec<u16>,
}

/// No address of the pool has enough free blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} free blocks of one address are needed, the fullest free address has {best_free}; {free_total} of {total} blocks are free in {address_count} addresses"
)]
pub struct Exhausted {
    /// Blocks that were wanted.
    pub wanted: u32,
    /// Most free blocks that one address has.
    pub best_free: u32,
    /// Free blocks of all addresses together.
    pub free_total: u32,
    /// Blocks of all addresses together.
    pub total: u32,
    /// How many addresses the pool has.
    pub address_count: u32,
}

/// The first block that holds no port below 1,024.
pub fn first_block(block_bits: u8) -> u32 {
    u32::from(PORT_FIRST).div_ceil(1 << block_bits)
}

/// How many whole blocks hold at least `ports` ports.
pub fn block_count_for(ports: u32, block_bits: u8) -> u32 {
    ports.max(1).div_ceil(1 << block_bits)
}

/// First and last port of each block.
pub fn port_ranges(block_bits: u8, blocks: &[u16]) -> Vec<(u16, u16)> {
    let range = |block: &u16| {
        let first = u32::from(*block) << block_bits;
        (first as u16, (first + (1 << block_bits) - 1) as u16)
    };
    blocks.iter().map(range).collect()
}

impl PoolSpace {
    /// Blocks that one address has.
    pub fn blocks_per_address(&self) -> u32 {
        (65_536 >> self.block_bits) - first_block(self.block_bits)
    }

    /// Blocks that all addresses have.
    pub fn block_count(&self) -> u32 {
        self.blocks_per_address() * self.addresses.len() as u32
    }

    /// Free blocks of one address, ascending.
    pub fn free_blocks(&self, address: Ipv4Addr, occupancy: &Occupancy) -> Vec<u16> {
        let blocks = first_block(self.block_bits)..65_536 >> self.block_bits;
        let is_free = |block: &u16| {
            let (first, last) = port_ranges(self.block_bits, &[*block])[0];
            !occupancy.overlaps(address, first, last)
        };
        blocks.map(|block| block as u16).filter(is_free).collect()
    }

    /// Most free blocks that one address has.
    pub fn best_free(&self, occupancy: &Occupancy) -> u32 {
        self.addresses.iter().map(|address| self.free_count(*address, occupancy)).max().unwrap_or(0)
    }

    /// Finds `wanted` free blocks of one address: the emptiest, and of equals the lowest.
    pub fn allocate(&self, wanted: u32, occupancy: &Occupancy) -> Result<Grant, Exhausted> {
        let free = |address: &Ipv4Addr| self.free_count(*address, occupancy);
        let best = self.addresses.iter().rev().max_by_key(|address| free(address)).copied();
        let best_free = best.as_ref().map_or(0, free);
        match best {
            Some(address) if best_free >= wanted => {
                let mut blocks = self.free_blocks(address, occupancy);
                blocks.truncate(wanted as usize);
                Ok(Grant { address, blocks })
            }
            _ => Err(Exhausted {
                wanted,
                best_free,
                free_total: self.addresses.iter().map(free).sum(),
                total: self.block_count(),
                address_count: self.addresses.len() as u32,
            }),
        }
    }

    fn free_count(&self, address: Ipv4Addr, occupancy: &Occupancy) -> u32 {
        match occupancy.is_empty(address) {
            true => self.blocks_per_address(),
            false => self.free_blocks(address, occupancy).len() as u32,
        }
    }
}

/// Which ports of which addresses are held, by leases in any state.
#[derive(Debug, Clone, Default)]
pub struct Occupancy {
    /// Address → first port → last port of a held range.
    ranges: BTreeMap<Ipv4Addr, BTreeMap<u16, u16>>,
}

impl Occupancy {
    /// Notes blocks as held.
    pub fn hold(&mut self, address: Ipv4Addr, block_bits: u8, blocks: &[u16]) {
        self.ranges.entry(address).or_default().extend(port_ranges(block_bits, blocks));
    }

    /// Notes blocks as free.
    pub fn free(&mut self, address: Ipv4Addr, block_bits: u8, blocks: &[u16]) {
        if let Some(ranges) = self.ranges.get_mut(&address) {
            port_ranges(block_bits, blocks).iter().for_each(|(first, _)| _ = ranges.remove(first));
        }
    }

    /// Whether any port of a range is held.
    pub fn overlaps(&self, address: Ipv4Addr, first: u16, last: u16) -> bool {
        let ranges = self.ranges.get(&address);
        let nearest = ranges.and_then(|ranges| ranges.range(..=last).next_back());
        nearest.is_some_and(|(_, held_last)| *held_last >= first)
    }

    fn is_empty(&self, address: Ipv4Addr) -> bool {
        self.ranges.get(&address).is_none_or(BTreeMap::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(count: u8, block_bits: u8) -> PoolSpace {
        let addresses = (1..=count).map(|last| Ipv4Addr::new(203, 0, 113, last)).collect();
        PoolSpace { addresses, block_bits }
    }

    #[test]
    fn privileged_ports_are_never_leased() {
        for (bits, blocks) in [(10, 63), (6, 1008), (12, 15), (15, 1), (0, 64_512)] {
            let pool = space(1, bits);
            assert_eq!(pool.block_count(), blocks, "{bits}");
            let grant = pool.allocate(blocks, &Occupancy::default()).unwrap();
            assert!(port_ranges(bits, &grant.blocks).iter().all(|(first, _)| *first >= PORT_FIRST), "{bits}");
        }
    }

    #[test]
    fn ports_are_rounded_up_to_whole_blocks() {
        for (ports, bits, blocks) in [(1, 10, 1), (1024, 10, 1), (1025, 10, 2), (2048, 10, 2), (0, 10, 1)] {
            assert_eq!(block_count_for(ports, bits), blocks, "{ports} {bits}");
        }
    }

    #[test]
    fn exhaustion_is_told_in_numbers() {
        let (pool, mut occupancy) = (space(2, 10), Occupancy::default());
        for _ in 0..6 {
            let grant = pool.allocate(20, &occupancy).unwrap();
            occupancy.hold(grant.address, 10, &grant.blocks);
        }
        let error = pool.allocate(20, &occupancy).unwrap_err();
        assert_eq!(error, Exhausted { wanted: 20, best_free: 3, free_total: 6, total: 126, address_count: 2 });
    }

    proptest! {
        #[test]
        fn leases_never_overlap(
            steps in prop::collection::vec((0u8..3, 1u32..9, any::<prop::sample::Index>(), 8u8..13), 1..200)
        ) {
            let mut occupancy = Occupancy::default();
            let mut held: Vec<(Ipv4Addr, u8, Vec<u16>)> = Vec::new();
            let mut resting: Vec<(Ipv4Addr, u8, Vec<u16>)> = Vec::new();
            for (action, wanted, index, bits) in steps {
                match action {
                    // The block size changes between steps, as it does when a pool is applied anew.
                    0 => if let Ok(grant) = space(2, bits).allocate(wanted, &occupancy) {
                        prop_assert_eq!(grant.blocks.len() as u32, wanted);
                        occupancy.hold(grant.address, bits, &grant.blocks);
                        held.push((grant.address, bits, grant.blocks));
                    },
                    1 if !held.is_empty() => resting.push(held.swap_remove(index.index(held.len()))),
                    2 if !resting.is_empty() => {
                        let (address, bits, blocks) = resting.swap_remove(index.index(resting.len()));
                        occupancy.free(address, bits, &blocks);
                    }
                    _ => {}
                }
                let mut seen = std::collections::BTreeSet::new();
                for (address, bits, blocks) in held.iter().chain(&resting) {
                    for (first, last) in port_ranges(*bits, blocks) {
                        for unit in (first >> 8)..=(last >> 8) {
                            prop_assert!(seen.insert((*address, unit)), "{} {} held twice", address, first);
                        }
                    }
                }
            }
        }
    }
}
