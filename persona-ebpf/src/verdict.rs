//! From what a program decided to a verdict: a drop is counted and told, a packet is shown to whoever watches.

use persona_common::drop::DropReason;
use persona_common::event::Hook;

use crate::count::count_drop;
use crate::event::{Moment, tell_drop, tell_packet};
use crate::frame::Frame;
use crate::log::log_packet;
use crate::outcome::{pack, unpack};

/// Runs a program on a frame.
#[inline(always)]
pub fn observed<F: Frame>(frame: &F, hook: Hook, run: impl FnOnce(&F) -> Result<i32, DropReason>) -> i32 {
    tell_packet(frame, hook, Moment::Before, 0);
    let outcome = pack(run(frame));
    log_packet(frame, hook, outcome);
    let verdict = unpack(outcome).unwrap_or_else(|reason| drop(frame, hook, reason));
    tell_packet(frame, hook, Moment::After, verdict);
    verdict
}

/// As [`observed`], where most packets are none of our business: only drops are told.
#[inline(always)]
pub fn judged<F: Frame>(frame: &F, hook: Hook, run: impl FnOnce(&F) -> Result<i32, DropReason>) -> i32 {
    match run(frame) {
        Ok(verdict) => verdict,
        Err(reason) => {
            log_packet(frame, hook, pack(Err(reason)));
            drop(frame, hook, reason)
        }
    }
}

#[inline(always)]
fn drop<F: Frame>(frame: &F, hook: Hook, reason: DropReason) -> i32 {
    count_drop(reason);
    tell_drop(frame, hook, reason);
    F::DROP
}
