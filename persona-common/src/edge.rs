//! What an edge's maps hold, beside the egress addresses in [`crate::node::EgressAddress`].

use crate::addr::{Address6, AddressBe};
use crate::maps::{
    ADDRESS_HINT_COUNT, EDGE_BLOCK_COUNT_MAX, NODE_COUNT_MAX, OWN_FILTER_COUNT, PERSONA_COUNT_MAX, POLICER_COUNT_MAX,
};
use crate::node::EgressAddress;

/// A next hop of either family with all that XDP and TC need.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextHop {
    /// The device that leads there; 0: none.
    pub ifindex: u32,
    /// The next hop's address; zero: the packet's own destination, which is on-link.
    pub address: Address6,
    /// That device's own hardware address and the next hop's, twelve bytes: see [`Self::with_macs`].
    pub macs: [u32; 3],
    /// 1: the next hop's hardware address is known. [`BY_WIRE`]: there is none.
    pub resolved: u32,
}

impl NextHop {
    /// The same with a device's own hardware address and the next hop's.
    pub const fn with_macs(self, source: [u8; 6], destination: [u8; 6]) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (source, destination);
        let macs =
            [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]), u32::from_ne_bytes([i, j, k, l])];
        Self { macs, ..self }
    }

    /// The device's own hardware address.
    #[inline(always)]
    pub const fn source_mac(&self) -> [u8; 6] {
        let ([a, b, c, d], [e, f, _, _]) = (self.macs[0].to_ne_bytes(), self.macs[1].to_ne_bytes());
        [a, b, c, d, e, f]
    }

    /// Whether a frame's destination, as it stands there, is the device itself.
    #[inline(always)]
    pub const fn is_own(&self, destination: &[u16; 3]) -> bool {
        let ([first, second], [third, _]) = (halves(self.macs[0]), halves(self.macs[1]));
        destination[0] == first && destination[1] == second && destination[2] == third
    }

    /// The addresses of an Ethernet header towards the next hop, as they stand in a frame.
    #[inline(always)]
    pub const fn ethernet(&self) -> [u32; 3] {
        let ([a, b], [c, d], [e, f]) = (halves(self.macs[0]), halves(self.macs[1]), halves(self.macs[2]));
        [whole(d, e), whole(f, a), whole(b, c)]
    }
}

/// The halves of a word, in the order in which they stand in memory.
#[inline(always)]
const fn halves(word: u32) -> [u16; 2] {
    if cfg!(target_endian = "little") { [word as u16, (word >> 16) as u16] } else { [(word >> 16) as u16, word as u16] }
}

/// The word of two halves.
#[inline(always)]
const fn whole(first: u16, second: u16) -> u32 {
    if cfg!(target_endian = "little") {
        first as u32 | (second as u32) << 16
    } else {
        (first as u32) << 16 | second as u32
    }
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

/// A block of an egress address, or a /64 of an IPv6 pool. Map `BLOCKS`, in one word: eight cells share a cache line, and with
/// many leases what a packet waits for is this one. 0: not leased.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeBlock(u64);

/// What an [`EdgeBlock`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// The node's index in `NODES`.
    pub node_index: u32,
    /// The persona's index in `PERSONAS`, which has its VNI.
    pub persona_index: u32,
    /// The subject's index in `POLICERS`; 0: it isn't policed.
    pub policer_index: u32,
    /// Whether its packets go through the encrypted tunnel only.
    pub is_encrypted: bool,
    /// Largest inner IP packet, bytes.
    pub mtu: u16,
}

/// Where a block has what: from the lowest bit on, the node's index plus one, the persona's, the policer's, whether it is
/// encrypted, the MTU.
const NODE_BITS: u32 = NODE_COUNT_MAX.trailing_zeros() + 1;
const PERSONA_SHIFT: u32 = NODE_BITS;
const PERSONA_BITS: u32 = PERSONA_COUNT_MAX.trailing_zeros();
const POLICER_SHIFT: u32 = PERSONA_SHIFT + PERSONA_BITS;
const POLICER_BITS: u32 = POLICER_COUNT_MAX.trailing_zeros();
const ENCRYPTED_SHIFT: u32 = POLICER_SHIFT + POLICER_BITS;
const MTU_SHIFT: u32 = ENCRYPTED_SHIFT + 1;

const _: () = assert!(size_of::<EdgeBlock>() == 8 && align_of::<EdgeBlock>() == 8 && MTU_SHIFT + 16 <= 64);
const _: () = assert!(
    NODE_COUNT_MAX.is_power_of_two() && PERSONA_COUNT_MAX.is_power_of_two() && POLICER_COUNT_MAX.is_power_of_two()
);

impl EdgeBlock {
    /// A block that is leased. Indices lie below the sizes of their maps.
    pub const fn leased(leased: Leased) -> Self {
        Self(
            (leased.node_index + 1) as u64
                | (leased.persona_index as u64) << PERSONA_SHIFT
                | (leased.policer_index as u64) << POLICER_SHIFT
                | (leased.is_encrypted as u64) << ENCRYPTED_SHIFT
                | (leased.mtu as u64) << MTU_SHIFT,
        )
    }

    /// As the map holds it.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The node's index in `NODES`; None: not leased.
    #[inline(always)]
    pub const fn node_index(self) -> Option<u32> {
        (self.0 as u32 & ((1 << NODE_BITS) - 1)).checked_sub(1)
    }

    /// The persona's index in `PERSONAS`.
    #[inline(always)]
    pub const fn persona_index(self) -> u32 {
        (self.0 >> PERSONA_SHIFT) as u32 & (PERSONA_COUNT_MAX - 1)
    }

    /// The subject's index in `POLICERS`; 0: it isn't policed.
    #[inline(always)]
    pub const fn policer_index(self) -> u32 {
        (self.0 >> POLICER_SHIFT) as u32 & (POLICER_COUNT_MAX - 1)
    }

    /// Whether its packets go through the encrypted tunnel only.
    #[inline(always)]
    pub const fn is_encrypted(self) -> bool {
        self.0 >> ENCRYPTED_SHIFT & 1 != 0
    }

    /// Largest inner IP packet, bytes.
    #[inline(always)]
    pub const fn mtu(self) -> u32 {
        (self.0 >> MTU_SHIFT) as u32 & 0xffff
    }
}

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
    fn hardware_addresses_stand_in_a_frame_the_destination_first() {
        let (own, other) = ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]);
        let hop = NextHop::default().with_macs(own, other);
        let frame: Vec<u8> = hop.ethernet().into_iter().flat_map(u32::to_ne_bytes).collect();
        assert_eq!(frame, [other, own].concat());
        assert_eq!(hop.source_mac(), own);
        let halves = |mac: [u8; 6]| [0, 2, 4].map(|at| u16::from_ne_bytes([mac[at], mac[at + 1]]));
        assert!(hop.is_own(&halves(own)) && !hop.is_own(&halves(other)) && !hop.is_own(&halves([1, 2, 3, 4, 5, 7])));
    }

    #[test]
    fn a_block_says_what_it_was_made_of() {
        let least = Leased { node_index: 0, persona_index: 0, policer_index: 0, is_encrypted: false, mtu: 0 };
        let most = Leased {
            node_index: NODE_COUNT_MAX - 1,
            persona_index: PERSONA_COUNT_MAX - 1,
            policer_index: POLICER_COUNT_MAX - 1,
            is_encrypted: true,
            mtu: u16::MAX,
        };
        let mixed = Leased { node_index: 1, policer_index: 9, mtu: 1400, ..least };
        for leased in [least, most, mixed, Leased { is_encrypted: true, ..least }, Leased { persona_index: 7, ..most }]
        {
            let block = EdgeBlock::leased(leased);
            let said = Leased {
                node_index: block.node_index().unwrap(),
                persona_index: block.persona_index(),
                policer_index: block.policer_index(),
                is_encrypted: block.is_encrypted(),
                mtu: block.mtu() as u16,
            };
            assert_eq!(said, leased);
        }
        assert_eq!(EdgeBlock::default().node_index(), None);
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
