//! What a node's maps hold.

use crate::addr::{Address6, AddressBe};
use crate::firewall::{VERDICT_MASK, VERDICT_SHIFT};
use crate::maps::BLOCKS_PER_LEASE_MAX;

/// The node's own facts. Map `NODE_CONFIG`, one cell.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// [`crate::ABI_VERSION`] of whoever made the maps; stays the first word in every version.
    pub abi_version: u32,
    /// Until when TCP in mid-stream is adopted, seconds of the coarse clock.
    pub adopt_until_secs: u32,
    /// 1: the guard drops every forwarded packet without a mark of ours.
    pub guard_all_forwarded: u32,
    /// The TAP device of the slow path; 0: none.
    pub slow_ifindex: u32,
    /// Added to the coarse clock: 0 but in tests and simulations.
    pub clock_offset_secs: u32,
    /// The node's address on the underlay; zero: none yet.
    pub underlay_address: Address6,
}

const _: () = assert!(size_of::<NodeConfig>() == 36 && align_of::<NodeConfig>() == 4);

/// [`Device::flags`]: several subjects are behind it; `SOURCES` says which.
pub const DEVICE_SHARED: u32 = 1;

/// [`Device::vlan`] and [`Subject::vlan`]: there is a tag, its VLAN id in the lower twelve bits.
pub const VLAN_PRESENT: u32 = 1 << 16;
/// [`Device::vlan`] and [`Subject::vlan`]: the tag is one of a service (802.1ad), not of a customer (802.1Q).
pub const VLAN_SERVICE: u32 = 1 << 17;

/// A workload's host-side device. Map `DEVICES`, by interface index.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Device {
    /// The subject's index in `SUBJECTS`; means nothing on a shared device.
    pub subject_index: u32,
    /// The only IPv4 source that its packets may have, beside configured leases; 0: none.
    pub address: AddressBe,
    /// `DEVICE_*` bits.
    pub flags: u32,
    /// The one VLAN tag that its packets carry: [`VLAN_PRESENT`] | id, and [`VLAN_SERVICE`]; 0: none.
    pub vlan: u32,
    /// The prefix that its IPv6 sources must lie in.
    pub prefix: Address6,
    /// The prefix's mask; all ones for a single address.
    pub prefix_mask: Address6,
    /// 1: `prefix` counts.
    pub has_prefix: u32,
}

const _: () = assert!(size_of::<Device>() == 52 && align_of::<Device>() == 4);

/// [`Subject::flags`]: the cell is in use.
pub const SUBJECT_PRESENT: u32 = 1;
/// [`Subject::flags`]: the subject wears a network section.
pub const SUBJECT_HAS_NETWORK: u32 = 2;
/// [`Subject::flags`]: TCP may pass.
pub const SUBJECT_TCP: u32 = 4;
/// [`Subject::flags`]: UDP may pass.
pub const SUBJECT_UDP: u32 = 8;
/// [`Subject::flags`]: ICMP and ICMPv6 echo and errors may pass.
pub const SUBJECT_ICMP: u32 = 16;
/// [`Subject::flags`]: [`Subject::dscp`] is set on its packets.
pub const SUBJECT_SETS_DSCP: u32 = 32;
/// [`Subject::flags`]: protocols without ports may pass, where the lease is a whole address or a prefix.
pub const SUBJECT_OTHER: u32 = 64;
/// [`Subject::flags`]: only the remote that a flow was opened to may answer it (RFC 4787 §5).
pub const SUBJECT_FILTERS_BY_REMOTE: u32 = 128;
/// [`Subject::flags`]: processes of the host itself, told by their cgroup.
pub const SUBJECT_IS_HOST: u32 = 256;
/// [`Subject::flags`]: some lease of it is configured on the workload's interface.
pub const SUBJECT_HAS_CONFIGURED: u32 = 512;
/// [`Subject::flags`]: it has bypass prefixes of its own.
pub const SUBJECT_HAS_BYPASS: u32 = 1024;
/// [`Subject::flags`]: its packets leave the edge with [`crate::normalise::HOPS_OUTSIDE`] hops, however many they had.
pub const SUBJECT_SETS_HOPS: u32 = 2048;
/// [`Subject::flags`]: neither identifications nor flow labels of its own leave.
pub const SUBJECT_SETS_ID: u32 = 4096;
/// [`Subject::flags`]: no connection that it opens or takes offers timestamps.
pub const SUBJECT_STRIPS_TIMESTAMPS: u32 = 8192;

/// [`Subject::flags`]: its packets take [`DELAYED_CLASS`] on the way to its device.
pub const SUBJECT_IS_DELAYED: u32 = 16384;

/// [`Subject::flags`]: what its SYNs and SYN-ACKs offer stands in one order, whatever wrote them.
pub const SUBJECT_ARRANGES_OPTIONS: u32 = 32768;

/// [`Subject::flags`]: it has firewall rules, in `SUBJECT_FIREWALLS`.
pub const SUBJECT_HAS_FIREWALL: u32 = 65536;

/// Where [`Subject::flags`] has the generation of its firewall, up to the highest bit; flags as large as
/// [`SUBJECT_HAS_FIREWALL`] or larger have one, or had.
pub const SUBJECT_GENERATION_SHIFT: u32 = 24;

/// `skb->priority` of packets to a subject that is delayed: the only class of the queue on its device. What is no packet
/// of the persona names no class and is not delayed.
pub const DELAYED_CLASS: u32 = 0x7e50_0001;

/// A subject that lives on the node. Map `SUBJECTS`, by an index that user space gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its number, never reused.
    pub number: u32,
    /// `SUBJECT_*` bits.
    pub flags: u32,
    /// The IPv4 lease for new flows: its index in `LEASES` plus one; 0: none.
    pub lease_index_plus_one: u32,
    /// The IPv6 lease for new flows: its index in `LEASES` plus one; 0: none.
    pub lease6_index_plus_one: u32,
    /// `skb->priority` of its tunnel packets; 0: none.
    pub egress_class: u32,
    /// The device that leads to it; 0: none.
    pub ifindex: u32,
    /// DSCP to set, 0 to 63, and what share of packets is lost: see [`dscp_and_loss`].
    pub dscp_and_loss: u32,
    /// The tag that its device wants, as in [`Device::vlan`]; 0: none.
    pub vlan: u32,
}

const _: () = assert!(size_of::<Subject>() == 32 && align_of::<Subject>() == 4);

/// [`Subject::dscp_and_loss`]: DSCP in the lower eight bits, millionths of packets that are lost above them.
pub const fn dscp_and_loss(dscp: u8, loss_millionths: u32) -> u32 {
    dscp as u32 | loss_millionths << 8
}

impl Subject {
    /// DSCP to set, 0 to 63.
    #[inline(always)]
    pub const fn dscp(&self) -> u8 {
        self.dscp_and_loss as u8
    }

    /// The generation of its firewall, where flows and records have it: see [`crate::firewall::VERDICT_MASK`].
    #[inline(always)]
    pub const fn verdict(&self) -> u32 {
        self.flags >> (SUBJECT_GENERATION_SHIFT - VERDICT_SHIFT) & VERDICT_MASK
    }

    /// Whether it has firewall rules, or had some.
    #[inline(always)]
    pub const fn has_or_had_firewall(&self) -> bool {
        self.flags >= SUBJECT_HAS_FIREWALL
    }

    /// How many of a million packets are lost on purpose.
    #[inline(always)]
    pub const fn loss_millionths(&self) -> u32 {
        self.dscp_and_loss >> 8
    }
}

/// Whether a packet is lost: `random` is any number, each as likely as another.
#[inline(always)]
pub const fn is_lost(loss_millionths: u32, random: u32) -> bool {
    (random as u64 * 1_000_000) >> 32 < loss_millionths as u64
}

/// A block within a [`Lease`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseBlock {
    /// Its first port.
    pub first_port: u32,
    /// Its first slot in `SLOTS`.
    pub slot_base: u32,
}

/// [`Lease::flags`]: an IPv6 prefix; else port blocks of an IPv4 address.
pub const LEASE_IS_PREFIX: u32 = 1;
/// [`Lease::flags`]: configured on the workload's interface; nothing is rewritten.
pub const LEASE_IS_CONFIGURED: u32 = 2;
/// [`Lease::flags`]: a whole IPv4 address or an IPv6 prefix: protocols without ports can be told apart.
pub const LEASE_IS_WHOLE: u32 = 4;
/// [`Lease::flags`]: [`Lease::inner_prefix`] and [`Lease::adjustment`] count; else the inner prefix is the packet's own.
pub const LEASE_HAS_INNER_PREFIX: u32 = 8;

/// A lease of a subject of the node. Map `LEASES`, by an index that user space gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id, never reused; 0: the cell is free.
    pub id: u64,
    /// An edge may carry it only once its lease table has reached this generation.
    pub generation: u64,
    /// The egress address; 0 for a prefix.
    pub address: AddressBe,
    /// The holder's index in `SUBJECTS`.
    pub subject_index: u32,
    /// The persona it is held under, and [`crate::encapsulation::ENCRYPTED_VNI`].
    pub vni: u32,
    /// The persona's index in `PERSONAS`.
    pub persona_index: u32,
    /// The group's index in `GROUPS`.
    pub group_index: u32,
    /// Largest inner IP packet, bytes.
    pub mtu: u32,
    /// log2 of the ports in a block; 16 for a whole address.
    pub block_bits: u32,
    /// How many of `blocks` count; 0 where no port is ever given (configured leases, prefixes).
    pub block_count: u32,
    /// `LEASE_*` bits.
    pub flags: u32,
    /// What RFC 6296 §3.1 adds to the interface identifier outwards; see [`crate::translation`].
    pub adjustment: u32,
    /// The leased /64, its first eight bytes.
    pub prefix: [u32; 2],
    /// The workload's own /64.
    pub inner_prefix: [u32; 2],
    /// The blocks.
    pub blocks: [LeaseBlock; BLOCKS_PER_LEASE_MAX],
}

const _: () = assert!(size_of::<Lease>() == 72 + 8 * BLOCKS_PER_LEASE_MAX && align_of::<Lease>() == 8);

impl Default for Lease {
    fn default() -> Self {
        Self {
            id: 0,
            generation: 0,
            address: 0,
            subject_index: 0,
            vni: 0,
            persona_index: 0,
            group_index: 0,
            mtu: 0,
            block_bits: 0,
            block_count: 0,
            flags: 0,
            adjustment: 0,
            prefix: [0; 2],
            inner_prefix: [0; 2],
            blocks: [LeaseBlock::default(); BLOCKS_PER_LEASE_MAX],
        }
    }
}

impl Lease {
    /// Whether the workload itself uses what is leased.
    #[inline(always)]
    pub const fn is_configured(&self) -> bool {
        self.flags & LEASE_IS_CONFIGURED != 0
    }
}

/// An egress address. Map `ADDRESSES`, by address, on nodes and edges.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EgressAddress {
    /// Its first cell in `BLOCKS`.
    pub block_base: u32,
    /// log2 of the ports in a block; 16: the whole address is one block.
    pub block_bits: u32,
}

const _: () = assert!(size_of::<EgressAddress>() == 8 && align_of::<EgressAddress>() == 4);

/// A block of an egress address. Map `BLOCKS`, by [`EgressAddress::block_base`] + block number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeBlock {
    /// The lease's index in `LEASES` plus one; 0: not ours.
    pub lease_index_plus_one: u32,
    /// The block's first slot in `SLOTS`; one run of slots per protocol follows another. 0 in a configured lease.
    pub slot_base: u32,
}

const _: () = assert!(size_of::<NodeBlock>() == 8 && align_of::<NodeBlock>() == 4);

/// A prefix of one scope. Key of the tries `BYPASS` (scope 0 for the host, 1 + subject index for a persona's own list),
/// `MANAGED` (scope 0) and `SOURCES` (the scope is the shared device's interface index).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopedAddress {
    /// The scope, big-endian, as a trie compares it.
    pub scope: u32,
    /// The address.
    pub address: Address6,
}

const _: () = assert!(size_of::<ScopedAddress>() == 20 && align_of::<ScopedAddress>() == 4);

/// Bits of the scope in front of the address: a trie's prefix length counts them.
pub const SCOPE_BITS: u32 = 32;

/// An edge, as the node reaches it. Map `EDGES`, by edge number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeHop {
    /// Its address on the underlay; zero: no such edge.
    pub address: Address6,
    /// The next hop's address.
    pub next_hop: Address6,
    /// The device that leads there; 0: no such edge.
    pub ifindex: u32,
}

const _: () = assert!(size_of::<EdgeHop>() == 36 && align_of::<EdgeHop>() == 4);

/// What probes say about an edge. Map `LIVENESS`, by edge number; written by one call on every change.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Liveness {
    /// The generation that its lease table has reached.
    pub generation: u64,
    /// 1: alive.
    pub alive: u32,
    /// 1: a probe has said anything yet.
    pub known: u32,
}

const _: () = assert!(size_of::<Liveness>() == 16 && align_of::<Liveness>() == 8);

/// An edge group. Map `GROUPS`, by an index that user space gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Group {
    /// FNV-1a of its name, so that a restarted agent finds it; 0: the cell is free.
    pub name_hash: u64,
    /// The first cell in `MAGLEV` of the table in force.
    pub row_base: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Group>() == 16 && align_of::<Group>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dscp_and_loss_share_a_word() {
        for (dscp, loss) in [(0, 0), (63, 1), (46, 1_000_000), (0, 999_999)] {
            let subject = Subject { dscp_and_loss: dscp_and_loss(dscp, loss), ..Subject::default() };
            assert_eq!((subject.dscp(), subject.loss_millionths()), (dscp, loss));
        }
    }

    #[test]
    fn a_generation_stands_beside_the_flags() {
        let subject = Subject { flags: 0xab << SUBJECT_GENERATION_SHIFT | SUBJECT_HAS_NETWORK, ..Subject::default() };
        assert_eq!((subject.verdict(), subject.has_or_had_firewall()), (0xab00, true));
        let never = Subject { flags: SUBJECT_HAS_FIREWALL - 1, ..Subject::default() };
        assert_eq!((never.verdict(), never.has_or_had_firewall()), (0, false));
    }

    #[test]
    fn so_many_numbers_lose_a_packet_as_the_share_says() {
        for (millionths, random, lost) in [
            (0, 0, false),
            (1, 0, true),
            (1, 4_295, false),
            (500_000, (1 << 31) - 1, true),
            (500_000, 1 << 31, false),
            (1_000_000, u32::MAX, true),
        ] {
            assert_eq!(is_lost(millionths, random), lost, "{millionths} {random}");
        }
    }
}
