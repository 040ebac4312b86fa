//! Flows, mappings and port slots, and how they age.
//!
//! A slot is one external port of a leased block. It carries all state of its mapping. [`FlowValue`] and
//! [`MappingValue`] only point at a slot together with the sequence that the slot had: once the slot is given to another
//! mapping, its sequence has moved on and whatever still points there is a miss. So no half of a mapping can be orphaned.

use crate::addr::AddressBe;

/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// What stands for every protocol without ports in mappings and slots: they share one, under port 0 of a whole address.
pub const PORTLESS: u8 = 0;

/// Protocols that have slots, in the order in which their runs of slots follow each other.
pub const SLOT_PROTOCOL_COUNT: u32 = 3;

/// The place of a protocol's slots within a block's.
pub const fn slot_protocol_index(protocol: u8) -> u32 {
    match protocol {
        TCP => 0,
        UDP => 1,
        _ => 2,
    }
}

/// A flow of a subject. Map `FLOWS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The subject's number.
    pub subject: u32,
    /// The subject's own address.
    pub inner_address: AddressBe,
    /// The other side's address.
    pub remote_address: AddressBe,
    /// The subject's own port, or the ICMP id.
    pub inner_port: u16,
    /// The other side's port, 0 for ICMP.
    pub remote_port: u16,
    /// The IP protocol.
    pub protocol: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 20 && align_of::<FlowKey>() == 4);

/// [`FlowValue::flags`]: the TCP flow has ended, by FIN from both sides or by RST, and its slot no longer counts it.
pub const FLOW_CLOSED: u32 = 1;
/// [`FlowValue::flags`]: the subject has sent FIN.
pub const FLOW_FIN_OUTWARD: u32 = 2;
/// [`FlowValue::flags`]: the other side has sent FIN.
pub const FLOW_FIN_INWARD: u32 = 4;
/// [`FlowValue::flags`]: it was the other side's RST that ended it; the subject going on opens it again (RFC 5961 §3).
pub const FLOW_RESET_INWARD: u32 = 8;
/// [`FlowValue::flags`]: it leaves under a shared port; the sequence is that of its entry in `SHARED`.
pub const FLOW_SHARED: u32 = 16;

/// [`FlowValue::flags`]: the other side has opened it, and a firewall judged that.
pub const FLOW_OPENED_INWARD: u32 = 32;

/// Where the upper half of [`FlowValue::flags`] starts: when a packet of the flow last passed, as [`flow_tick`] has it.
pub const FLOW_TICK_SHIFT: u32 = 16;

/// Seconds of a tick.
const FLOW_TICK_SECS: u32 = 16;
/// Ticks until they start again.
const FLOW_TICK_COUNT: u32 = 1 << 15;
/// Set in every tick: 0 is "never noted".
const FLOW_TICK_NOTED: u32 = 1 << 15;

/// The tick in which `now_secs` lies, 32,768 to 65,535; they start again after six days. Asked for on every packet, so it
/// divides by powers of two.
#[inline(always)]
pub const fn flow_tick(now_secs: u32) -> u32 {
    (now_secs / FLOW_TICK_SECS % FLOW_TICK_COUNT) | FLOW_TICK_NOTED
}

/// Where a flow's mapping is.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowValue {
    /// The slot.
    pub slot_index: u32,
    /// The sequence that the slot must have.
    pub sequence: u32,
    /// `FLOW_*` bits, and [`crate::firewall::VERDICT_MASK`].
    pub flags: u32,
}

const _: () = assert!(size_of::<FlowValue>() == 12 && align_of::<FlowValue>() == 4);

impl FlowValue {
    /// Whether the flow itself has been silent for longer than any flow of its protocol may, though others under its
    /// slot have not. It then no longer lets anything in, and a sweep may remove it.
    #[inline(always)]
    pub const fn is_silent(&self, protocol: u32, now_secs: u32) -> bool {
        let seen = self.flags >> FLOW_TICK_SHIFT;
        let ticks = flow_tick(now_secs).wrapping_sub(seen) % FLOW_TICK_COUNT;
        let limit_secs = match protocol as u8 {
            TCP => idle_limit_secs(protocol, SLOT_REPLIED, 1),
            UDP => idle_limit_secs(protocol, SLOT_REPLIED, 0),
            _ => idle_limit_secs(protocol, 0, 0),
        };
        seen != 0 && ticks * FLOW_TICK_SECS >= limit_secs + FLOW_TICK_SECS
    }
}

/// An endpoint-independent mapping (RFC 4787 §4.1). Map `MAPPINGS`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MappingKey {
    /// The lease's index in `LEASES`.
    pub lease_index: u32,
    /// The subject's own address.
    pub inner_address: AddressBe,
    /// The subject's own port, or the ICMP id.
    pub inner_port: u16,
    /// The IP protocol.
    pub protocol: u16,
}

const _: () = assert!(size_of::<MappingKey>() == 12 && align_of::<MappingKey>() == 4);

/// Where a mapping is.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappingValue {
    /// The slot.
    pub slot_index: u32,
    /// The sequence that the slot must have.
    pub sequence: u32,
}

const _: () = assert!(size_of::<MappingValue>() == 8 && align_of::<MappingValue>() == 4);

/// [`Slot::flags`]: the other side has answered.
pub const SLOT_REPLIED: u32 = 1;
/// [`Slot::flags`]: the last TCP flow has ended by RST and the subject has sent nothing since.
pub const SLOT_RESET: u32 = 2;
/// [`Slot::flags`]: the other side's port is 53.
pub const SLOT_DNS: u32 = 4;
/// [`Slot::flags`]: the external port is or was shared with other flows: `SHARED` is asked first. Outlives its mapping.
pub const SLOT_SHARED: u32 = 8;

/// One external port of a leased block. Map `SLOTS`.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    /// When a packet last passed, seconds of the coarse clock; 0: never. Claimed together with `sequence` as one word.
    pub last_seen_secs: u32,
    /// Counts the mappings that the slot has carried.
    pub sequence: u32,
    /// The subject's own address.
    pub inner_address: AddressBe,
    /// The subject's own port, or the ICMP id.
    pub inner_port: u16,
    /// The external port of this slot.
    pub external_port: u16,
    /// The lease's index in `LEASES`.
    pub lease_index: u32,
    /// `SLOT_*` bits.
    pub flags: u32,
    /// TCP flows that were opened and have not ended.
    pub open_count: u32,
    /// The IP protocol.
    pub protocol: u32,
}

const _: () = assert!(size_of::<Slot>() == 32 && align_of::<Slot>() == 8);

/// How long a mapping may be idle, seconds.
pub const fn idle_limit_secs(protocol: u32, flags: u32, open_count: u32) -> u32 {
    let replied = flags & SLOT_REPLIED != 0;
    match protocol as u8 {
        TCP if flags & SLOT_RESET != 0 => 10,
        TCP if open_count == 0 => 60,
        TCP if replied => 7440,
        TCP => 120,
        UDP if replied && flags & SLOT_DNS != 0 => 10,
        UDP | PORTLESS if replied => 300,
        UDP | PORTLESS => 30,
        _ => 60,
    }
}

impl Slot {
    /// Whether the slot carries a mapping at `now_secs`.
    #[inline(always)]
    pub const fn is_live(&self, now_secs: u32) -> bool {
        let idle_secs = now_secs.saturating_sub(self.last_seen_secs);
        self.last_seen_secs != 0 && idle_secs < idle_limit_secs(self.protocol, self.flags, self.open_count)
    }
}

/// A hash of a flow as the edges see it: the row in the Maglev table and the tunnel's source port come from it.
#[inline(always)]
pub const fn flow_hash(local: AddressBe, remote: AddressBe, ports: u32, protocol: u8) -> u32 {
    let mut hash = (local ^ protocol as u32).wrapping_mul(0x9e37_79b1);
    hash = (hash ^ (hash >> 15) ^ remote).wrapping_mul(0x85eb_ca77);
    hash = (hash ^ (hash >> 13) ^ ports).wrapping_mul(0xc2b2_ae3d);
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x27d4_eb2f);
    hash ^ (hash >> 15)
}

/// Rows of a Maglev table that are tried when both edges of the first one are out.
pub const ROW_WALK_MAX: u32 = 8;
/// Step of that walk: coprime to the number of rows, so that neighbours aren't asked for one another.
pub const ROW_WALK_STEP: u32 = 8191;

/// The row of a table with `row_count` rows that a hash falls on, without a division.
#[inline(always)]
pub const fn row_of_hash(hash: u32, row_count: u32) -> u32 {
    ((hash as u64 * row_count as u64) >> 32) as u32
}

/// The tunnel's UDP source port of a flow: 49,152 and up (RFC 8926 §3.3).
#[inline(always)]
pub const fn entropy_port(hash: u32) -> u16 {
    0xc000 | (hash & 0x3fff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_age_by_protocol_and_state() {
        for (protocol, flags, open_count, limit) in [
            (TCP, 0, 1, 120),
            (TCP, SLOT_REPLIED, 1, 7440),
            (TCP, SLOT_REPLIED, 0, 60),
            (TCP, SLOT_REPLIED | SLOT_RESET, 1, 10),
            (UDP, 0, 0, 30),
            (UDP, SLOT_REPLIED, 0, 300),
            (UDP, SLOT_REPLIED | SLOT_DNS, 0, 10),
            (UDP, SLOT_DNS, 0, 30),
            (ICMP, SLOT_REPLIED, 0, 60),
            (PORTLESS, 0, 0, 30),
            (PORTLESS, SLOT_REPLIED, 0, 300),
        ] {
            let slot =
                Slot { last_seen_secs: 1000, protocol: u32::from(protocol), flags, open_count, ..Slot::default() };
            assert!(slot.is_live(1000 + limit - 1), "{slot:?}");
            assert!(!slot.is_live(1000 + limit), "{slot:?}");
        }
        assert!(!Slot::default().is_live(5), "a slot that was never used is free");
    }

    #[test]
    fn silent_flows_are_told_within_a_tick() {
        for (protocol, limit) in [(TCP, 7440), (UDP, 300), (ICMP, 60)] {
            for start in [1000, 0x8000 * 16 - 7, 0x8000 * 16 * 3 + 5] {
                let flow = FlowValue { slot_index: 0, sequence: 0, flags: flow_tick(start) << FLOW_TICK_SHIFT | 31 };
                assert!(!flow.is_silent(protocol.into(), start + limit), "{protocol} {start}");
                assert!(flow.is_silent(protocol.into(), start + limit + 32), "{protocol} {start}");
            }
        }
        let unnoted = FlowValue { slot_index: 0, sequence: 0, flags: 31 };
        assert!(!unnoted.is_silent(UDP.into(), 1_000_000), "flows of before ticks were noted count as heard");
    }

    #[test]
    fn rows_are_spread_evenly() {
        let mut counts = [0u32; 8];
        for port in 0..64_512u32 {
            let hash = flow_hash(0x0101_0aac, 0x0808_0808, (port << 16) | 443, TCP);
            counts[row_of_hash(hash, 8) as usize] += 1;
        }
        for count in counts {
            assert!((7_500..8_700).contains(&count), "{counts:?}");
        }
    }
}
