//! What the first fragment of a packet leaves behind for the later ones, which carry no ports.
//!
//! Entries live in LRU maps: one that is lost makes later fragments wait in the slow path, nothing worse.

use crate::addr::Address6;

/// How long an entry is believed, seconds: the id may be another packet's by then (RFC 791 §3.2 reassembles for 15 s).
pub const FRAGMENT_LIFETIME_SECS: u32 = 15;

/// A fragmented packet. Map `FRAGMENTS`, of nodes and edges.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// From a subject of the node: its index in `SUBJECTS` plus one. From elsewhere: 0.
    pub scope: u32,
    /// The source that the fragments come with.
    pub source: Address6,
    /// The destination that they come with.
    pub destination: Address6,
    /// The fragment id that they come with; IPv4's fills the lower half. Host order.
    pub id: u32,
    /// The protocol of what they are fragments of.
    pub protocol: u32,
}

const _: () = assert!(size_of::<FragmentKey>() == 44 && align_of::<FragmentKey>() == 4);

/// What the first fragment found.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FragmentValue {
    /// When the first fragment passed, seconds of the coarse clock.
    pub seen_secs: u32,
    /// At a node: the lease's index in `LEASES`.
    pub lease_index: u32,
    /// At a node: the low half of the lease's id: an entry whose cell was given to another lease is a miss.
    pub lease_id_low: u32,
    /// At a node, outward: the hash that names the Maglev row and the tunnel's source port of all fragments.
    pub hash: u32,
    /// At a node: the source that they leave under (outward), or the destination that they are delivered to (inward).
    pub address: Address6,
    /// At a node, outward: the id that they leave under, host order.
    pub id: u32,
    /// The port on our side: the external one at a node, outward, and at an edge.
    pub port: u32,
}

const _: () = assert!(size_of::<FragmentValue>() == 40 && align_of::<FragmentValue>() == 4);

impl FragmentValue {
    /// Whether the entry may still be believed at `now_secs`.
    #[inline(always)]
    pub const fn is_fresh(&self, now_secs: u32) -> bool {
        self.seen_secs != 0 && now_secs.wrapping_sub(self.seen_secs) < FRAGMENT_LIFETIME_SECS
    }
}

/// The fragment id under which a packet of a block leaves: it lies among the block's ports, so an edge checks it as it
/// would a source port. `counter` is the lease's, of any value.
#[inline(always)]
pub const fn block_id(external_port: u16, block_bits: u32, counter: u32) -> u16 {
    let mask = (1u32 << (block_bits & 31)) - 1;
    ((external_port as u32 & !mask) | (counter & mask)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_in_the_block_of_their_port() {
        for (port, bits, counter, id) in [
            (5 << 10 | 17, 10, 0, 5 << 10),
            (5 << 10 | 17, 10, 1023, 5 << 10 | 1023),
            (5 << 10 | 17, 10, 1024, 5 << 10),
            (40_000, 16, 7, 7),
            (40_000, 16, 0x1_0007, 7),
            (1025, 0, 9, 1025),
        ] {
            assert_eq!(block_id(port, bits, counter), id, "{port} {bits} {counter}");
        }
    }

    #[test]
    fn entries_are_believed_for_their_lifetime() {
        let value = FragmentValue { seen_secs: 100, ..FragmentValue::default() };
        assert!(value.is_fresh(100) && value.is_fresh(114) && !value.is_fresh(115));
        assert!(!FragmentValue::default().is_fresh(3), "an empty value is none");
    }
}
