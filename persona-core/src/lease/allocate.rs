//! Finds free space in a pool: port blocks of an IPv4 address, a whole address, or an IPv6 /64.
//!
//! A block is `1 << block_bits` consecutive ports that start at a multiple of their count. Ports below 1,024 are leased
//! only with a whole address. What is taken is kept apart from pools, so that those may change while leases go on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::block::{first_block, port_range};
use super::need::Need;
use super::occupancy::Occupancy;
use crate::units::Cidr;
use crate::wire::desired::{LeaseSpace, PREFIX_LENGTH};

/// The addresses of a pool and how they are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpace {
    /// Every IPv4 address, ascending, without duplicates.
    pub addresses: Vec<Ipv4Addr>,
    /// log2 of the ports in a block, 0 to 15.
    pub block_bits: u8,
    /// IPv6 prefixes of at most 64 bits that do not overlap.
    pub prefixes: Vec<Cidr>,
}

/// A pool has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// No address has enough free blocks.
    #[error(
        "{wanted} free blocks of one address are needed, the fullest free address has {best_free}; {free_total} of {total} blocks are free in {address_count} addresses"
    )]
    Blocks {
        /// Blocks that were wanted.
        wanted: u32,
        /// Most free blocks that one address has.
        best_free: u32,
        /// Free blocks of all addresses together.
        free_total: u32,
        /// Blocks of all addresses together.
        total: u32,
        /// How many addresses the pool has.
        address_count: u32,
    },
    /// Something of every address is held.
    #[error("a whole address is needed, but of each of the {address_count} addresses somebody holds ports")]
    Addresses {
        /// How many addresses the pool has.
        address_count: u32,
    },
    /// Every /64 is held.
    #[error("a /64 is needed, but all {prefix_count} are held")]
    Prefixes {
        /// How many the pool has.
        prefix_count: u32,
    },
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
    pub fn free_blocks(&self, address: Ipv4Addr, occupancy: &Occupancy) -> impl Iterator<Item = u16> {
        let blocks = first_block(self.block_bits)..65_536 >> self.block_bits;
        let is_free = move |block: &u32| {
            let (first, last) = port_range(self.block_bits, *block as u16);
            !occupancy.overlaps(address, first, last)
        };
        blocks.filter(is_free).map(|block| block as u16)
    }

    /// Most free blocks that one address has.
    pub fn best_free(&self, occupancy: &Occupancy) -> u32 {
        self.addresses.iter().map(|address| self.free_count(*address, occupancy)).max().unwrap_or(0)
    }

    /// How many leases of `wanted` blocks still fit.
    pub fn free_lease_count(&self, wanted: u32, occupancy: &Occupancy) -> u32 {
        let of_address = |address: &Ipv4Addr| self.free_count(*address, occupancy) / wanted.max(1);
        self.addresses.iter().map(of_address).sum()
    }

    /// Addresses of which nobody holds anything.
    pub fn free_address_count(&self, occupancy: &Occupancy) -> u32 {
        self.addresses.iter().filter(|address| occupancy.is_empty(**address)).count() as u32
    }

    /// Leases of 64 bits that all prefixes have.
    pub fn prefix_count(&self) -> u32 {
        self.prefixes.iter().filter_map(range_of).map(|(first, last)| (last - first + 1) as u32).sum()
    }

    /// Leases of 64 bits that nobody holds.
    pub fn free_prefix_count(&self, occupancy: &Occupancy) -> u32 {
        let ranges = self.prefixes.iter().filter_map(range_of);
        let held: u32 = ranges.map(|(first, last)| occupancy.prefix_count_in(first, last)).sum();
        self.prefix_count() - held
    }

    /// Finds what is needed.
    pub fn allocate(&self, need: Need, occupancy: &Occupancy) -> Result<LeaseSpace, Exhausted> {
        match need {
            Need::Blocks(wanted) => self.allocate_blocks(wanted, occupancy),
            Need::Address => self.allocate_address(occupancy),
            Need::Prefix => self.allocate_prefix(occupancy),
        }
    }

    /// Whether the pool still has what a lease consists of.
    pub fn holds(&self, space: &LeaseSpace) -> bool {
        match space {
            LeaseSpace::Ports { address, .. } => self.addresses.binary_search(address).is_ok(),
            LeaseSpace::Prefix { prefix } => self.prefixes.iter().any(|range| range.contains((*prefix).into())),
        }
    }

    /// `wanted` free blocks of one address: the emptiest, and of equals the lowest.
    fn allocate_blocks(&self, wanted: u32, occupancy: &Occupancy) -> Result<LeaseSpace, Exhausted> {
        let free = |address: &Ipv4Addr| self.free_count(*address, occupancy);
        let best = self.addresses.iter().rev().max_by_key(|address| free(address)).copied();
        let best_free = best.as_ref().map_or(0, free);
        match best {
            Some(address) if best_free >= wanted => Ok(self.blocks_of(address, wanted, occupancy)),
            _ => Err(Exhausted::Blocks {
                wanted,
                best_free,
                free_total: self.addresses.iter().map(free).sum(),
                total: self.block_count(),
                address_count: self.addresses.len() as u32,
            }),
        }
    }

    /// The lowest free blocks of an address, `wanted` of them if it has as many.
    pub(super) fn blocks_of(&self, address: Ipv4Addr, wanted: u32, occupancy: &Occupancy) -> LeaseSpace {
        let blocks = self.free_blocks(address, occupancy).take(wanted as usize).collect();
        LeaseSpace::Ports { address, block_bits: self.block_bits, blocks }
    }

    /// An address of which nobody holds anything: the highest, since blocks are taken from the lowest first.
    fn allocate_address(&self, occupancy: &Occupancy) -> Result<LeaseSpace, Exhausted> {
        let free = self.addresses.iter().rev().find(|address| occupancy.is_empty(**address));
        let address_count = self.addresses.len() as u32;
        free.map(|address| LeaseSpace::whole_address(*address)).ok_or(Exhausted::Addresses { address_count })
    }

    /// The lowest free /64.
    fn allocate_prefix(&self, occupancy: &Occupancy) -> Result<LeaseSpace, Exhausted> {
        let ranges = self.prefixes.iter().filter_map(range_of);
        let free = ranges.filter_map(|(first, last)| occupancy.first_free_prefix(first, last)).next();
        let lease =
            |number: u64| LeaseSpace::Prefix { prefix: Ipv6Addr::from_bits(u128::from(number) << PREFIX_LENGTH) };
        free.map(lease).ok_or_else(|| Exhausted::Prefixes { prefix_count: self.prefix_count() })
    }

    /// How many blocks of one address are free.
    pub(super) fn free_count(&self, address: Ipv4Addr, occupancy: &Occupancy) -> u32 {
        let first = first_block(self.block_bits);
        self.blocks_per_address() - occupancy.held_block_count(address, self.block_bits, first)
    }
}

/// The upper 64 bits of a prefix's first and last /64. None: it is not IPv6, or longer.
fn range_of(prefix: &Cidr) -> Option<(u64, u64)> {
    let IpAddr::V6(first) = prefix.address() else { return None };
    let spare = PREFIX_LENGTH.checked_sub(prefix.prefix_length())?;
    let first = (first.to_bits() >> PREFIX_LENGTH) as u64;
    Some((first, first | ((1_u128 << spare) - 1) as u64))
}

#[cfg(test)]
mod tests {
    use super::super::block::PORT_FIRST;
    use super::*;
    use proptest::prelude::*;

    fn space(count: u8, block_bits: u8) -> PoolSpace {
        let addresses = (1..=count).map(|last| Ipv4Addr::new(203, 0, 113, last)).collect();
        PoolSpace { addresses, block_bits, prefixes: Vec::new() }
    }

    fn prefixes(texts: &[&str]) -> PoolSpace {
        PoolSpace { prefixes: texts.iter().map(|text| text.parse().unwrap()).collect(), ..space(0, 10) }
    }

    fn take(pool: &PoolSpace, need: Need, occupancy: &mut Occupancy) -> Result<LeaseSpace, Exhausted> {
        pool.allocate(need, occupancy).inspect(|space| occupancy.hold(space))
    }

    #[test]
    fn privileged_ports_are_leased_with_a_whole_address_only() {
        for (bits, blocks) in [(10, 63), (6, 1008), (12, 15), (15, 1), (0, 64_512)] {
            let pool = space(1, bits);
            assert_eq!(pool.block_count(), blocks, "{bits}");
            let granted = pool.allocate(Need::Blocks(blocks), &Occupancy::default()).unwrap();
            assert!(granted.port_ranges().iter().all(|(first, _)| *first >= PORT_FIRST), "{bits}");
            let whole = pool.allocate(Need::Address, &Occupancy::default()).unwrap();
            assert_eq!(whole.port_ranges(), [(0, 65_535)]);
        }
    }

    #[test]
    fn exhaustion_is_told_in_numbers() {
        let (pool, mut occupancy) = (space(2, 10), Occupancy::default());
        for _ in 0..6 {
            take(&pool, Need::Blocks(20), &mut occupancy).unwrap();
        }
        let error = take(&pool, Need::Blocks(20), &mut occupancy).unwrap_err();
        let (wanted, best_free, free_total, total, address_count) = (20, 3, 6, 126, 2);
        assert_eq!(error, Exhausted::Blocks { wanted, best_free, free_total, total, address_count });
        let error = take(&pool, Need::Address, &mut occupancy).unwrap_err();
        assert_eq!(error, Exhausted::Addresses { address_count });
        let error = take(&pool, Need::Prefix, &mut occupancy).unwrap_err();
        assert_eq!(error, Exhausted::Prefixes { prefix_count: 0 });
    }

    #[test]
    fn a_whole_address_is_one_of_which_nobody_holds_anything() {
        let (pool, mut occupancy) = (space(3, 10), Occupancy::default());
        let block = take(&pool, Need::Blocks(1), &mut occupancy).unwrap();
        let [first, second] = [(); 2].map(|()| take(&pool, Need::Address, &mut occupancy).unwrap());
        assert_eq!([&block, &first, &second].map(|it| it.address().unwrap().octets()[3]), [1, 3, 2]);
        assert!(take(&pool, Need::Address, &mut occupancy).is_err());
        occupancy.free(&block);
        assert_eq!(take(&pool, Need::Address, &mut occupancy).unwrap().address(), block.address());
        assert!(take(&pool, Need::Blocks(1), &mut occupancy).is_err(), "no block of an address that is held whole");
    }

    #[test]
    fn prefixes_are_cut_into_leases_of_64_bits() {
        let (pool, mut occupancy) = (prefixes(&["2001:db8:1::/63", "2001:db8:2::/64"]), Occupancy::default());
        assert_eq!((pool.prefix_count(), pool.free_prefix_count(&occupancy)), (3, 3));
        let leases = [(); 3].map(|()| take(&pool, Need::Prefix, &mut occupancy).unwrap());
        let texts = leases.each_ref().map(ToString::to_string);
        assert_eq!(texts, ["2001:db8:1::/64", "2001:db8:1:1::/64", "2001:db8:2::/64"]);
        assert_eq!(take(&pool, Need::Prefix, &mut occupancy), Err(Exhausted::Prefixes { prefix_count: 3 }));
        occupancy.free(&leases[1]);
        assert_eq!(pool.free_prefix_count(&occupancy), 1);
        assert_eq!(take(&pool, Need::Prefix, &mut occupancy).unwrap(), leases[1]);
        assert_eq!(prefixes(&["2001:db8::/48"]).prefix_count(), 65_536);
    }

    /// What somebody holds, in units that no two may share: 256 ports of an address, or a /64.
    fn units(space: &LeaseSpace) -> Vec<(IpAddr, u16)> {
        match space {
            LeaseSpace::Prefix { prefix } => vec![((*prefix).into(), 0)],
            LeaseSpace::Ports { address, .. } => {
                let ranges = space.port_ranges().into_iter();
                ranges
                    .flat_map(|(first, last)| (first >> 8)..=(last >> 8))
                    .map(|unit| ((*address).into(), unit))
                    .collect()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn leases_never_overlap_and_never_leave_the_pool(
            steps in prop::collection::vec((0u8..5, 1u32..9, any::<prop::sample::Index>(), 8u8..13), 1..200)
        ) {
            let mut occupancy = Occupancy::default();
            let (mut held, mut resting) = (Vec::new(), Vec::new());
            for (action, wanted, index, bits) in steps {
                // The block size changes between steps, as it does when a pool is applied anew.
                let pool = PoolSpace { prefixes: prefixes(&["2001:db8::/60"]).prefixes, ..space(4, bits) };
                let need = [Need::Blocks(wanted), Need::Address, Need::Prefix].get(usize::from(action)).copied();
                match (need, action) {
                    (Some(need), _) => if let Ok(space) = take(&pool, need, &mut occupancy) {
                        prop_assert!(pool.holds(&space), "{} is not of the pool", space);
                        prop_assert!(need.is_met_by(&space, bits), "{} is not {:?}", space, need);
                        held.push(space);
                    },
                    (None, 3) if !held.is_empty() => resting.push(held.swap_remove(index.index(held.len()))),
                    (None, 4) if !resting.is_empty() => {
                        occupancy.free(&resting.swap_remove(index.index(resting.len())));
                    }
                    _ => {}
                }
                let mut seen = std::collections::BTreeSet::new();
                for space in held.iter().chain(&resting) {
                    for unit in units(space) {
                        prop_assert!(seen.insert(unit), "{:?} of {} is held twice", unit, space);
                    }
                }
                let prefix_count = held.iter().chain(&resting).filter(|space| space.prefix().is_some()).count() as u32;
                prop_assert_eq!(pool.free_prefix_count(&occupancy) + prefix_count, pool.prefix_count());
            }
        }
    }
}
