//! Where an edge's egress addresses and IPv6 pools have their cells in `BLOCKS`.
//!
//! Pure. A run never changes under the programs' eyes: an address cut otherwise, or a network with more subnets, gets a new
//! run, which is filled before the programs are pointed at it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use persona_common::edge::{EgressNetwork, address_hint, filter_bit, hint_cell, network_key, subnet};
use persona_common::maps::{ADDRESS_COUNT_MAX, EDGE_BLOCK_COUNT_MAX, NETWORK_COUNT_MAX, OWN_FILTER_COUNT};
use persona_common::node::EgressAddress;

use super::index::Runs;
use super::maps::{address_be, address_from, address6};
use super::tables::EdgeTables;

/// What has cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    /// An egress address, as maps hold it.
    Address(u32),
    /// The first 48 bits of IPv6 pools, as maps hold them.
    Network([u32; 2]),
}

/// How a space is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Ports in blocks of `1 << block_bits`.
    Ports { block_bits: u32 },
    /// A run of /64.
    Subnets { first: u32, count: u32 },
}

impl Shape {
    /// How many cells it takes.
    pub(super) fn count(self) -> u32 {
        match self {
            Self::Ports { block_bits } => 65_536 >> block_bits,
            Self::Subnets { count, .. } => count,
        }
    }

    /// Whether a run of this shape serves for `other` too.
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Subnets { first, count }, Self::Subnets { first: other_first, count: other_count }) => {
                first <= other_first && other_first + other_count <= first + count
            }
            _ => self == other,
        }
    }
}

/// Cells of `BLOCKS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) base: u32,
    pub(super) shape: Shape,
}

impl Run {
    pub(super) fn of_address(key: u32, value: &EgressAddress) -> (Space, Self) {
        let shape = Shape::Ports { block_bits: value.block_bits };
        (Space::Address(key), Self { base: value.block_base, shape })
    }

    pub(super) fn of_network(key: [u32; 2], value: &EgressNetwork) -> (Space, Self) {
        let shape = Shape::Subnets { first: value.first_subnet, count: value.subnet_count };
        (Space::Network(key), Self { base: value.block_base, shape })
    }

    pub(super) fn cells(&self) -> Range<u32> {
        self.base..self.base + self.shape.count()
    }

    /// The cell of a block number or of a subnet number, which lies in the run.
    pub(super) fn cell(&self, number: u32) -> u32 {
        match self.shape {
            Shape::Ports { .. } => self.base + number,
            Shape::Subnets { first, .. } => self.base + (number - first),
        }
    }
}

/// The space and the subnet number of a /64.
pub(super) fn subnet_of(prefix: Ipv6Addr) -> (Space, u32) {
    let address = address6(IpAddr::V6(prefix));
    (Space::Network(network_key(&address)), subnet(&address))
}

/// What the tables ask for.
pub(super) fn shapes(tables: &EdgeTables) -> BTreeMap<Space, Shape> {
    let shape = |entry: &super::tables::EgressAddressEntry| {
        (Space::Address(address_be(entry.address)), Shape::Ports { block_bits: entry.block_bits.into() })
    };
    let mut shapes = tables.addresses.iter().map(shape).collect::<BTreeMap<_, _>>();
    for (prefix, length) in &tables.prefixes {
        let (space, first) = subnet_of(*prefix);
        let (mut from, mut to) = (first, first + (1 << (64 - u32::from(*length))));
        if let Some(Shape::Subnets { first, count }) = shapes.get(&space) {
            (from, to) = (from.min(*first), to.max(first + count));
        }
        shapes.insert(space, Shape::Subnets { first: from, count: to - from });
    }
    shapes
}

/// Where everything will be: runs that serve stay, the others are given out of `free`, in which the old ones are still
/// reserved. The error names what does not fit.
pub(super) fn plan(
    present: &BTreeMap<Space, Run>,
    free: &mut Runs,
    wanted: &BTreeMap<Space, Shape>,
) -> Result<BTreeMap<Space, Run>, String> {
    // Old entries go only after new ones have come.
    let is_new = |space: &&Space| !present.contains_key(space);
    let count = |is_address: bool| {
        let of_kind = |space: &&Space| matches!(space, Space::Address(_)) == is_address;
        present.keys().filter(of_kind).count() + wanted.keys().filter(is_new).filter(of_kind).count()
    };
    if count(true) > ADDRESS_COUNT_MAX as usize {
        return Err(format!("no room for more than {ADDRESS_COUNT_MAX} egress addresses"));
    }
    if count(false) > NETWORK_COUNT_MAX as usize {
        return Err(format!("no room for IPv6 pools in more than {NETWORK_COUNT_MAX} networks of 48 bits"));
    }
    let mut runs = BTreeMap::new();
    for (space, shape) in wanted {
        let run = match present.get(space) {
            Some(run) if run.shape.covers(*shape) => *run,
            _ => {
                let base = free.give(shape.count(), EDGE_BLOCK_COUNT_MAX);
                Run { base: base.ok_or_else(|| no_room(space))?, shape: *shape }
            }
        };
        runs.insert(*space, run);
    }
    Ok(runs)
}

fn no_room(space: &Space) -> String {
    match space {
        Space::Address(address) => format!("no room for the blocks of egress address {}", address_from(*address)),
        Space::Network(key) => format!("no room for the subnets of {}/48", address_of(key)),
    }
}

fn address_of(key: &[u32; 2]) -> Ipv6Addr {
    Ipv6Addr::from(persona_common::addr::octets6([key[0], key[1], 0, 0]))
}

/// The cells of `OWN_FILTER` for these spaces.
pub(super) fn filter<'a>(spaces: impl IntoIterator<Item = &'a Space>) -> Vec<u64> {
    let mut cells = vec![0; OWN_FILTER_COUNT as usize];
    for space in spaces {
        let (cell, bit) = match space {
            Space::Address(address) => filter_bit(*address, 0),
            Space::Network([first, second]) => filter_bit(*first, *second),
        };
        cells[cell as usize] |= 1 << bit;
    }
    cells
}

/// The cells of `ADDRESS_HINTS` for these runs; of two addresses with one cell, one has it.
pub(super) fn hints(runs: &BTreeMap<Space, Run>) -> BTreeMap<u32, u64> {
    let hint = |(space, run): (&Space, &Run)| match (space, run.shape) {
        (Space::Address(address), Shape::Ports { block_bits }) => {
            let held = EgressAddress { block_base: run.base, block_bits };
            Some((hint_cell(*address), address_hint(*address, &held)))
        }
        _ => None,
    };
    runs.iter().filter_map(hint).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::tables::EgressAddressEntry;
    use super::*;

    fn tables(addresses: &[(u8, u8)], prefixes: &[&str]) -> EdgeTables {
        let entry = |(last, block_bits): &(u8, u8)| EgressAddressEntry {
            address: Ipv4Addr::new(192, 0, 2, *last),
            block_bits: *block_bits,
        };
        let prefix = |text: &&str| {
            let (address, length) = text.split_once('/').unwrap();
            (address.parse().unwrap(), length.parse().unwrap())
        };
        EdgeTables {
            addresses: addresses.iter().map(entry).collect(),
            prefixes: prefixes.iter().map(prefix).collect(),
            ..EdgeTables::default()
        }
    }

    #[test]
    fn pools_of_one_network_share_a_run() {
        let shapes =
            shapes(&tables(&[(1, 10), (2, 16)], &["2001:db8:7:ff00::/56", "2001:db8:7:1::/64", "2001:db8:8::/48"]));
        let counts = shapes.values().map(|shape| shape.count()).collect::<Vec<_>>();
        assert_eq!(counts, [64, 1, 65_535, 65_536]);
        let (space, number) = subnet_of("2001:db8:7:ff12::".parse().unwrap());
        let run = Run { base: 100, shape: shapes[&space] };
        assert_eq!(run.cell(number), 100 + 0xff11);
    }

    #[test]
    fn runs_stay_until_their_shape_does_not_serve() {
        let mut free = Runs::default();
        let step = |present: &BTreeMap<Space, Run>, free: &mut Runs, tables: &EdgeTables| {
            plan(present, free, &shapes(tables)).unwrap()
        };
        let first = step(&BTreeMap::new(), &mut free, &tables(&[(1, 10)], &["2001:db8:7:100::/56"]));
        let same = step(&first, &mut free, &tables(&[(1, 10)], &["2001:db8:7:110::/60"]));
        assert_eq!(same, first, "a part of what is there");
        let grown = step(&first, &mut free, &tables(&[(1, 11)], &["2001:db8:7:100::/56", "2001:db8:7:400::/64"]));
        for (space, run) in &grown {
            assert!(run.base >= 64 + 256, "{space:?} gets new cells");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let networks = (0..40).map(|number| format!("2001:db8:{number:x}::/48")).collect::<Vec<_>>();
        let networks = networks.iter().map(String::as_str).collect::<Vec<_>>();
        let wanted = shapes(&tables(&[], &networks));
        let error = plan(&BTreeMap::new(), &mut Runs::default(), &wanted).unwrap_err();
        assert!(error.contains("2001:db8:24::/48"), "{error}");
    }

    #[test]
    fn every_space_passes_the_filter() {
        let wanted = shapes(&tables(&[(1, 10), (200, 10)], &["2001:db8:7::/48"]));
        let cells = filter(wanted.keys());
        let passes = |(cell, bit): (u32, u32)| cells[cell as usize] >> bit & 1 == 1;
        assert!(passes(filter_bit(address_be(Ipv4Addr::new(192, 0, 2, 200)), 0)));
        let address = address6("2001:db8:7:9::1".parse().unwrap());
        let key = network_key(&address);
        assert!(passes(filter_bit(key[0], key[1])));
        assert_eq!(cells.iter().map(|cell| cell.count_ones()).sum::<u32>(), 3);
    }
}
