//! What an edge's maps hold, beside the egress addresses in [`crate::node::EgressAddress`].

use crate::addr::{Address6, AddressBe};
use crate::encapsulation::ENCRYPTED_VNI;
use crate::maps::{ADDRESS_HINT_COUNT, EDGE_BLOCK_COUNT_MAX, OWN_FILTER_COUNT, PERSONA_COUNT_MAX, POLICER_COUNT_MAX};
use crate::node::EgressAddress;

/// A next hop of either family with all that XDP and TC need.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextHop {
    /// The device that leads there; 0: none.
    pub ifindex: u32,
    /// The next hop's address; zero: the packet's own destination, which is on-link.
    pub address: Address6,
    /// That device's own hardware address.
    pub source_mac: [u8; 6],
    /// The next hop's hardware address.
    pub destination_mac: [u8; 6],
    /// 1: `destination_mac` is known. [`BY_WIRE`]: there is none.
    pub resolved: u32,
}

/// [`NextHop::resolved`]: through the encrypted tunnel, whose device carries IP without hardware addresses. XDP cannot send
/// there and leaves such a packet to TC.
pub const BY_WIRE: u32 = 2;

const _: () = assert!(size_of::<NextHop>() == 36 && align_of::<NextHop>() == 4);

/// The edge's own facts. Map `EDGE_CONFIG`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeConfig {
    /// The generation of the lease table.
    pub generation: u64,
    /// [`crate::ABI_VERSION`] of whoever made the maps; stays at this place in every version.
    pub abi_version: u32,
    /// The edge's own number.
    pub number: u32,
    /// The edge's address on the underlay; zero: none yet.
    pub underlay_address: Address6,
    /// Where IPv4 packets to the outside go.
    pub outside: NextHop,
    /// Where IPv6 packets to the outside go.
    pub outside6: NextHop,
    /// The TAP device of the slow path; 0: none.
    pub slow_ifindex: u32,
    /// How many cells of `PEERS` count.
    pub peer_count: u32,
    /// Added to the coarse clock: 0 but in tests and simulations.
    pub clock_offset_secs: u32,
    /// The smallest MTU of all leases, bytes; 0: none are there.
    pub mtu_min: u32,
}

const _: () = assert!(size_of::<EdgeConfig>() == 120 && align_of::<EdgeConfig>() == 8);

/// A block of an egress address, or a /64 of an IPv6 pool. Map `BLOCKS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeBlock {
    /// The node's index in `NODES` plus one; 0: not leased.
    pub node_index_plus_one: u32,
    /// The persona it is held under, and [`crate::encapsulation::ENCRYPTED_VNI`].
    pub vni: u32,
    /// Made by [`Self::indices`]: four cells share a cache line, and a fifth word would cost every packet.
    pub indices: u32,
    /// Largest inner IP packet, bytes.
    pub mtu: u32,
}

const _: () = assert!(size_of::<EdgeBlock>() == 16 && align_of::<EdgeBlock>() == 4);

impl EdgeBlock {
    /// The persona's index in `PERSONAS`, and above it the subject's in `POLICERS`.
    pub const fn indices(persona_index: u32, policer_index: u32) -> u32 {
        persona_index | policer_index << PERSONA_INDEX_BITS
    }

    /// Whether its packets go through the encrypted tunnel only.
    #[inline(always)]
    pub const fn is_encrypted(&self) -> bool {
        self.vni & ENCRYPTED_VNI != 0
    }

    /// The persona's index in `PERSONAS`.
    #[inline(always)]
    pub const fn persona_index(&self) -> u32 {
        self.indices & (PERSONA_COUNT_MAX - 1)
    }

    /// The subject's index in `POLICERS`; 0: it isn't policed.
    #[inline(always)]
    pub const fn policer_index(&self) -> u32 {
        self.indices >> PERSONA_INDEX_BITS
    }
}

const PERSONA_INDEX_BITS: u32 = PERSONA_COUNT_MAX.trailing_zeros();

const _: () = assert!(PERSONA_COUNT_MAX.is_power_of_two() && POLICER_COUNT_MAX <= 1 << (32 - PERSONA_INDEX_BITS));

/// The /64 of our pools that lie in one network of 48 bits. Map `NETWORKS`, by [`network_key`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EgressNetwork {
    /// The cell in `BLOCKS` of the first /64.
    pub block_base: u32,
    /// The subnet number (the fourth group of the address) of the first /64.
    pub first_subnet: u32,
    /// How many /64 have cells.
    pub subnet_count: u32,
}

const _: () = assert!(size_of::<EgressNetwork>() == 12 && align_of::<EgressNetwork>() == 4);

/// The first 48 bits of an address, the key of `NETWORKS`.
#[inline(always)]
pub const fn network_key(address: &Address6) -> [u32; 2] {
    [address[0], address[1] & 0xffff_0000u32.to_be()]
}

/// The subnet number of an address within its network of 48 bits.
#[inline(always)]
pub const fn subnet(address: &Address6) -> u32 {
    u32::from_be(address[1]) & 0xffff
}

/// A node, as the edge reaches it. Map `NODES`, by an index that user space gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeNode {
    /// Its address on the underlay; zero: the cell is free.
    pub address: Address6,
    /// The way there.
    pub next_hop: NextHop,
}

const _: () = assert!(size_of::<EdgeNode>() == 52 && align_of::<EdgeNode>() == 4);

/// Another edge of the group. Map `PEERS`, the first [`EdgeConfig::peer_count`] cells, by ascending number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgePeer {
    /// Its number.
    pub number: u32,
    /// Its address on the underlay.
    pub address: Address6,
    /// The way there.
    pub next_hop: NextHop,
}

const _: () = assert!(size_of::<EdgePeer>() == 56 && align_of::<EdgePeer>() == 4);

/// The weight of an edge for a fragmented packet; of the alive edges that with the highest is responsible (rendezvous
/// hashing), of equal ones the lowest number.
#[inline(always)]
pub const fn rendezvous_weight(packet_hash: u32, edge_number: u32) -> u32 {
    let mut weight = packet_hash ^ edge_number.wrapping_mul(0x9e37_79b1);
    weight = (weight ^ (weight >> 16)).wrapping_mul(0x85eb_ca6b);
    weight = (weight ^ (weight >> 13)).wrapping_mul(0xc2b2_ae35);
    weight ^ (weight >> 16)
}

/// The cell of `OWN_FILTER` and the bit in it for an IPv4 address, or for the first 48 bits of an IPv6 address. A bit
/// that is not set says: none of our own. One that is set says: perhaps.
#[inline(always)]
pub const fn filter_bit(first: u32, second: u32) -> (u32, u32) {
    let hash = (first.wrapping_mul(0x9e37_79b1) ^ second).wrapping_mul(0x85eb_ca77);
    ((hash >> 16) & (OWN_FILTER_COUNT - 1), hash >> 26)
}

/// The cell of `ADDRESS_HINTS` for an egress address. Those of one pool, which follow one another, have cells that do too.
#[inline(always)]
pub const fn hint_cell(address: AddressBe) -> u32 {
    let address = u32::from_be(address);
    (address ^ address >> 13 ^ address >> 26) & (ADDRESS_HINT_COUNT - 1)
}

/// What `ADDRESSES` holds of an address, and which one that is, in one word, which programs read whole: an array answers
/// faster than a table. An address that finds another's hint, or none (0), is looked up in the table.
#[inline(always)]
pub const fn address_hint(address: AddressBe, held: &EgressAddress) -> u64 {
    (address as u64) << 32 | (held.block_base << BLOCK_BITS_BITS | held.block_bits) as u64
}

/// What a hint says of an address, if it is about that.
#[inline(always)]
pub const fn hinted(hint: u64, address: AddressBe) -> Option<EgressAddress> {
    if hint >> 32 != address as u64 || hint == 0 {
        return None;
    }
    let word = hint as u32;
    Some(EgressAddress { block_base: word >> BLOCK_BITS_BITS, block_bits: word & ((1 << BLOCK_BITS_BITS) - 1) })
}

/// Bits of a hint that hold log2 of the ports in a block, at most 16.
const BLOCK_BITS_BITS: u32 = 5;

const _: () = assert!(ADDRESS_HINT_COUNT.is_power_of_two() && EDGE_BLOCK_COUNT_MAX <= 1 << (32 - BLOCK_BITS_BITS));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::address6;

    #[test]
    fn an_address_is_cut_into_network_and_subnet() {
        let address = address6([0x20, 1, 0xd, 0xb8, 0, 7, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 9]);
        let network = address6([0x20, 1, 0xd, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(network_key(&address), [network[0], network[1]]);
        assert_eq!(subnet(&address), 0x1234);
    }

    #[test]
    fn both_indices_of_a_block_come_back() {
        for (persona, policer) in [(0, 0), (PERSONA_COUNT_MAX - 1, 0), (0, POLICER_COUNT_MAX - 1), (7, 9)] {
            let block = EdgeBlock { indices: EdgeBlock::indices(persona, policer), ..EdgeBlock::default() };
            assert_eq!((block.persona_index(), block.policer_index()), (persona, policer));
        }
    }

    #[test]
    fn hints_say_what_the_table_does_of_their_own_address_alone() {
        let address = u32::from_ne_bytes([203, 0, 113, 7]);
        for (block_base, block_bits) in [(0, 10), (EDGE_BLOCK_COUNT_MAX - 1, 16), (77, 0)] {
            let held = EgressAddress { block_base, block_bits };
            let hint = address_hint(address, &held);
            assert_eq!(hinted(hint, address), Some(held));
            assert_eq!(hinted(hint, address.swap_bytes()), None);
            assert_eq!(hinted(0, address), None);
        }
        assert_eq!(hinted(0, 0), None, "no hint is about no address");
    }

    #[test]
    fn addresses_of_one_pool_have_hints_of_their_own() {
        let first = u32::from_be_bytes([100, 64, 0, 0]);
        let cells: std::collections::BTreeSet<u32> =
            (0..4096).map(|index| hint_cell((first + index).to_be())).collect();
        assert_eq!(cells.len(), 4096);
    }

    #[test]
    fn fragmented_packets_are_spread_evenly_over_edges() {
        let mut counts = [0u32; 5];
        for packet in 0..50_000u32 {
            let hash = packet.wrapping_mul(0x0100_0193);
            let responsible = (0..5).max_by_key(|edge| rendezvous_weight(hash, *edge)).unwrap();
            counts[responsible as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn filter_bits_stay_in_their_cells() {
        for number in (0..u32::MAX).step_by(65_521) {
            let (cell, bit) = filter_bit(number, number >> 7);
            assert!(cell < OWN_FILTER_COUNT && bit < 64);
        }
    }
}
