//! Outcomes of functions that stand on their own: one register is all that such a function can give back.

use persona_common::drop::DropReason;

/// Set in a packed outcome that is a reason.
const IS_REASON: u64 = 1 << 32;

/// A verdict, or the reason for a drop, in one register.
#[inline(always)]
pub fn pack(outcome: Result<i32, DropReason>) -> u64 {
    match outcome {
        Ok(verdict) => verdict as u32 as u64,
        Err(reason) => IS_REASON | reason as u64,
    }
}

/// What [`pack`] packed.
#[inline(always)]
pub fn unpack(packed: u64) -> Result<i32, DropReason> {
    if packed & IS_REASON == 0 {
        return Ok(packed as u32 as i32);
    }
    // SAFETY: `pack` made the number from a reason.
    Err(unsafe { core::mem::transmute::<u32, DropReason>(packed as u32) })
}
