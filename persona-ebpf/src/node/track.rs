//! When TCP flows end: FIN from both sides, or RST (RFC 5382 REQ-5, RFC 7857 §2).
//!
//! The ends are kept with the flow, so that others under the same slot stay open. All changes are atomic: the two
//! directions of a flow may pass on two CPUs at once.

use persona_common::flow::{
    FLOW_CLOSED, FLOW_FIN_INWARD, FLOW_FIN_OUTWARD, FLOW_RESET_INWARD, FLOW_TICK_SHIFT, FlowValue, SLOT_RESET, Slot,
    flow_tick,
};
use persona_common::share::{SHARED_CLOSED, SHARED_RESET, SharedFlow};
use persona_ebpf::header::{TCP_FIN, TCP_RST};
use persona_ebpf::packet::Direction;

use crate::atomic;

/// What a packet did to its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// Ended, with a FIN from each side.
    Finished,
    /// Ended by RST.
    Reset,
    /// A RST from outside had ended it, and the subject goes on.
    Resumed,
}

impl Change {
    /// Whether the flow has ended with this packet.
    #[inline(always)]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Finished | Self::Reset)
    }
}

/// Keeps what the TCP flags of a packet mean for its flow.
#[inline(always)]
pub fn follow(flow: &mut FlowValue, tcp_flags: u8, direction: Direction) -> Change {
    if tcp_flags & TCP_RST != 0 {
        return reset(flow, direction);
    }
    if direction == Direction::Outward && flow.flags & FLOW_RESET_INWARD != 0 {
        let before = atomic::clear_bits(&mut flow.flags, FLOW_CLOSED | FLOW_RESET_INWARD);
        return if before & FLOW_CLOSED != 0 { Change::Resumed } else { Change::Nothing };
    }
    if tcp_flags & TCP_FIN == 0 {
        return Change::Nothing;
    }
    let (own, other) = match direction {
        Direction::Outward => (FLOW_FIN_OUTWARD, FLOW_FIN_INWARD),
        Direction::Inward => (FLOW_FIN_INWARD, FLOW_FIN_OUTWARD),
    };
    if flow.flags & own != 0 || atomic::set_bits(&mut flow.flags, own) & other == 0 {
        return Change::Nothing;
    }
    close(flow, FLOW_CLOSED, Change::Finished)
}

/// Ends a flow whose subject opens it anew; says whether it was still open.
#[inline(always)]
pub fn end(flow: &mut FlowValue) -> Change {
    close(flow, FLOW_CLOSED, Change::Finished)
}

/// A RST from outside is believed weakly: the flow's time gets short, until the subject goes on (RFC 5961 §3).
#[inline(always)]
fn reset(flow: &mut FlowValue, direction: Direction) -> Change {
    let bits = if direction == Direction::Inward { FLOW_CLOSED | FLOW_RESET_INWARD } else { FLOW_CLOSED };
    if flow.flags & FLOW_CLOSED != 0 {
        return Change::Nothing;
    }
    close(flow, bits, Change::Reset)
}

#[inline(always)]
fn close(flow: &mut FlowValue, bits: u32, change: Change) -> Change {
    if atomic::set_bits(&mut flow.flags, bits) & FLOW_CLOSED == 0 { change } else { Change::Nothing }
}

/// Tells the slot of a flow's change.
#[inline(always)]
pub fn tell_slot(slot: &mut Slot, change: Change) {
    match change {
        Change::Nothing => {}
        Change::Resumed => {
            atomic::add(&mut slot.open_count, 1);
            atomic::clear_bits(&mut slot.flags, SLOT_RESET);
        }
        Change::Finished | Change::Reset => {
            let is_last = slot.open_count != 0 && atomic::add(&mut slot.open_count, u32::MAX) == 1;
            if is_last && change == Change::Reset {
                atomic::set_bits(&mut slot.flags, SLOT_RESET);
            }
        }
    }
}

/// Tells the entry of a shared port of its flow's change.
#[inline(always)]
pub fn tell_shared(shared: &mut SharedFlow, change: Change) {
    match change {
        Change::Nothing => {}
        Change::Resumed => {
            atomic::clear_bits(&mut shared.flags, SHARED_CLOSED | SHARED_RESET);
        }
        Change::Finished => {
            atomic::set_bits(&mut shared.flags, SHARED_CLOSED);
        }
        Change::Reset => {
            atomic::set_bits(&mut shared.flags, SHARED_CLOSED | SHARED_RESET);
        }
    }
}

/// Notes when a packet of the flow last passed; writes once in a tick.
#[inline(always)]
pub fn touch(flow: &mut FlowValue, now_secs: u32) {
    let (flags, tick) = (flow.flags, flow_tick(now_secs));
    if flags >> FLOW_TICK_SHIFT != tick {
        // Lost to a change of other bits, it is made up for by the next packet.
        atomic::replace(&mut flow.flags, flags, flags & ((1 << FLOW_TICK_SHIFT) - 1) | tick << FLOW_TICK_SHIFT);
    }
}
