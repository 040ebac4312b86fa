//! A pool with how much of it is free, kept up while leases are given: counting all of it for each would cost a large pool
//! most of the time.

use std::net::Ipv4Addr;

use super::allocate::{Exhausted, PoolSpace};
use super::need::Need;
use super::occupancy::Occupancy;
use crate::wire::desired::LeaseSpace;

/// A pool's addresses, and what is free of each.
#[derive(Debug, Clone)]
pub struct FreeSpace {
    space: PoolSpace,
    /// Free blocks of each address, in the pool's order.
    free: Vec<u32>,
    /// Of which addresses nobody holds anything.
    is_empty: Vec<bool>,
    free_prefixes: u32,
}

impl FreeSpace {
    /// Counts what is free.
    pub fn new(space: PoolSpace, occupancy: &Occupancy) -> Self {
        let free = space.addresses.iter().map(|address| space.free_count(*address, occupancy)).collect();
        let is_empty = space.addresses.iter().map(|address| occupancy.is_empty(*address)).collect();
        let free_prefixes = space.free_prefix_count(occupancy);
        Self { space, free, is_empty, free_prefixes }
    }

    /// The pool's addresses.
    pub fn space(&self) -> &PoolSpace {
        &self.space
    }

    /// Most free blocks that one address has.
    pub fn best_free(&self) -> u32 {
        self.free.iter().copied().max().unwrap_or(0)
    }

    /// Addresses of which nobody holds anything.
    pub fn free_address_count(&self) -> u32 {
        self.is_empty.iter().filter(|is_empty| **is_empty).count() as u32
    }

    /// Leases of 64 bits that nobody holds.
    pub fn free_prefix_count(&self) -> u32 {
        self.free_prefixes
    }

    /// Finds what is needed and notes in both places that it is held.
    ///
    /// # Errors
    ///
    /// There is no room.
    pub fn take(&mut self, need: Need, occupancy: &mut Occupancy) -> Result<LeaseSpace, Exhausted> {
        let space = match need {
            Need::Blocks(wanted) => self.find_blocks(wanted, occupancy),
            Need::Address | Need::Prefix => None,
        };
        let space = space.map_or_else(|| self.space.allocate(need, occupancy), Ok)?;
        self.note(&space, occupancy);
        Ok(space)
    }

    /// Blocks of the emptiest address, and of equals the lowest. None: it does not have as many.
    fn find_blocks(&self, wanted: u32, occupancy: &Occupancy) -> Option<LeaseSpace> {
        let best = self.best_free();
        let index = self.free.iter().position(|free| *free == best).filter(|_| best >= wanted)?;
        let space = self.space.blocks_of(self.space.addresses[index], wanted, occupancy);
        // Another pool may have the same address.
        let is_whole = matches!(&space, LeaseSpace::Ports { blocks, .. } if blocks.len() == wanted as usize);
        is_whole.then_some(space)
    }

    fn note(&mut self, space: &LeaseSpace, occupancy: &mut Occupancy) {
        occupancy.hold(space);
        space.address().into_iter().for_each(|address| self.recount(address, occupancy));
        self.free_prefixes -= u32::from(space.prefix().is_some());
    }

    /// Counts anew what is free of an address, if the pool has it: somebody took or gave back some of it.
    pub fn recount(&mut self, address: Ipv4Addr, occupancy: &Occupancy) {
        let Ok(index) = self.space.addresses.binary_search(&address) else { return };
        self.free[index] = self.space.free_count(address, occupancy);
        self.is_empty[index] = occupancy.is_empty(address);
    }

    /// Counts anew which prefixes are free.
    pub fn recount_prefixes(&mut self, occupancy: &Occupancy) {
        self.free_prefixes = self.space.free_prefix_count(occupancy);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(block_bits: u8) -> PoolSpace {
        let addresses = (1..=4).map(|last| Ipv4Addr::new(203, 0, 113, last)).collect();
        PoolSpace { addresses, block_bits, prefixes: vec!["2001:db8::/61".parse().unwrap()] }
    }

    proptest! {
        /// What is kept up is what counting anew says, and the same is given.
        #[test]
        fn free_space_is_what_its_pool_and_all_leases_say(
            wanted in prop::collection::vec((0u8..3, 1u32..40), 1..60), block_bits in 8u8..12
        ) {
            let mut occupancy = Occupancy::default();
            let mut kept = FreeSpace::new(pool(block_bits), &occupancy);
            let pool = pool(block_bits);
            let mut given = Vec::new();
            for (kind, count) in wanted {
                // Now and then somebody gives something back.
                if count % 5 == 0 && !given.is_empty() {
                    let back: LeaseSpace = given.swap_remove(count as usize % given.len());
                    occupancy.free(&back);
                    back.address().into_iter().for_each(|address| kept.recount(address, &occupancy));
                    kept.recount_prefixes(&occupancy);
                }
                let need = [Need::Blocks(count), Need::Address, Need::Prefix][usize::from(kind)];
                let told = pool.allocate(need, &occupancy);
                prop_assert_eq!(kept.take(need, &mut occupancy), told.clone());
                given.extend(told);
                let anew = FreeSpace::new(pool.clone(), &occupancy);
                prop_assert_eq!(&kept.free, &anew.free);
                prop_assert_eq!(kept.best_free(), pool.best_free(&occupancy));
                prop_assert_eq!(kept.free_address_count(), anew.free_address_count());
                prop_assert_eq!(kept.free_prefix_count(), anew.free_prefix_count());
                let listed = pool.addresses.iter().map(|address| pool.free_blocks(*address, &occupancy).count() as u32);
                prop_assert_eq!(&kept.free, &listed.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_address_that_another_pool_has_filled_is_passed_over() {
        let mut occupancy = Occupancy::default();
        let mut free = FreeSpace::new(pool(10), &occupancy);
        let other = PoolSpace { addresses: vec![Ipv4Addr::new(203, 0, 113, 1)], ..pool(10) };
        let filled = other.allocate(Need::Address, &occupancy).unwrap();
        occupancy.hold(&filled);
        let given = free.take(Need::Blocks(2), &mut occupancy).unwrap();
        assert_eq!(given.address(), Some(Ipv4Addr::new(203, 0, 113, 2)));
    }
}
