//! TCP ports that several flows of one lease share, each towards a remote of its own, once the blocks are full.
//!
//! The slot keeps its owner's mapping; every other flow that leaves under its port has an entry here.

use crate::addr::AddressBe;
use crate::flow::{FlowKey, FlowValue, SLOT_REPLIED, SLOT_RESET, TCP, idle_limit_secs};

/// An external port towards one remote. Map `SHARED`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharedKey {
    /// The slot of the external port.
    pub slot_index: u32,
    /// The other side's address.
    pub remote_address: AddressBe,
    /// The other side's port.
    pub remote_port: u32,
}

const _: () = assert!(size_of::<SharedKey>() == 12 && align_of::<SharedKey>() == 4);

impl SharedKey {
    /// The entry of a flow that leaves under a shared port.
    #[inline(always)]
    pub const fn of(key: &FlowKey, flow: &FlowValue) -> Self {
        Self { slot_index: flow.slot_index, remote_address: key.remote_address, remote_port: key.remote_port as u32 }
    }
}

/// [`SharedFlow::flags`]: the other side has answered.
pub const SHARED_REPLIED: u32 = SLOT_REPLIED;
/// [`SharedFlow::flags`]: RST was seen and nothing from the subject since.
pub const SHARED_RESET: u32 = SLOT_RESET;
/// [`SharedFlow::flags`]: the flow has ended.
pub const SHARED_CLOSED: u32 = 8;

/// Whose flow it is.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedFlow {
    /// When a packet last passed, seconds of the coarse clock; 0: never. Claimed together with `sequence` as one word.
    pub last_seen_secs: u32,
    /// Counts the flows that the entry has carried; the flow's `FlowValue` holds the same.
    pub sequence: u32,
    /// The subject's own address.
    pub inner_address: AddressBe,
    /// The subject's own port.
    pub inner_port: u16,
    /// The external port.
    pub external_port: u16,
    /// The lease's index in `LEASES`.
    pub lease_index: u32,
    /// The low half of the lease's id: an entry of a slot that went to another lease is a miss.
    pub lease_id_low: u32,
    /// `SHARED_*` bits.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SharedFlow>() == 32 && align_of::<SharedFlow>() == 8);

impl SharedFlow {
    /// Whether the entry is that of the flow, and in force.
    #[inline(always)]
    pub const fn is_of(&self, key: &FlowKey, flow: &FlowValue, now_secs: u32) -> bool {
        self.sequence == flow.sequence
            && self.inner_address == key.inner_address
            && self.inner_port == key.inner_port
            && self.is_live(now_secs)
    }

    /// Whether the port is taken towards that remote at `now_secs`; the same times as a slot's with one flow.
    #[inline(always)]
    pub const fn is_live(&self, now_secs: u32) -> bool {
        let open_count = (self.flags & SHARED_CLOSED == 0) as u32;
        let limit_secs = idle_limit_secs(TCP as u32, self.flags & (SHARED_REPLIED | SHARED_RESET), open_count);
        self.last_seen_secs != 0 && now_secs.saturating_sub(self.last_seen_secs) < limit_secs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_flows_age_as_slots_do() {
        for (flags, limit) in
            [(0, 120), (SHARED_REPLIED, 7440), (SHARED_REPLIED | SHARED_CLOSED, 60), (SHARED_CLOSED | SHARED_RESET, 10)]
        {
            let flow = SharedFlow { last_seen_secs: 1000, flags, ..SharedFlow::default() };
            assert!(flow.is_live(1000 + limit - 1) && !flow.is_live(1000 + limit), "{flags}");
        }
        assert!(!SharedFlow::default().is_live(5), "an empty entry is none");
    }
}
