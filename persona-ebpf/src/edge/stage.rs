//! What a stage of a program gives back, in one register, and what comes after it.
//!
//! Stages are functions of their own, called one after another by the program itself: the stack of all functions that are
//! under way at once is 512 bytes.

use persona_common::drop::DropReason;
use persona_ebpf::outcome::pack;

/// The packet is for one of our own addresses.
const TURNS: u64 = 1 << 33;
/// The packet is a fragment whose port its own stage finds out.
const IS_FRAGMENT: u64 = 1 << 34;
/// The sender is told why the packet is dropped: the reason in bits 0 to 7, an MTU in bits 8 to 31.
const IS_ANSWERED: u64 = 1 << 35;

/// What comes after a stage.
#[derive(Clone, Copy)]
pub struct Next(u64);

impl Next {
    /// Nothing: a verdict.
    #[inline(always)]
    pub fn verdict(verdict: i32) -> Self {
        Self(pack(Ok(verdict)))
    }

    /// The packet is for one of our own addresses.
    pub const TURN: Self = Self(TURNS);

    /// The stage of fragments.
    pub const FRAGMENT: Self = Self(IS_FRAGMENT);

    /// The sender is told that the packet is larger than `mtu`, if it `may` be told anything.
    #[inline(always)]
    pub fn too_big(may: bool, mtu: u32) -> Result<Self, DropReason> {
        if !may {
            return Err(DropReason::TooBig);
        }
        Ok(Self(IS_ANSWERED | DropReason::TooBig as u64 | ((mtu & 0xff_ffff) as u64) << 8))
    }

    /// The sender is told that the packet has counted its last hop, if it `may` be told anything.
    #[inline(always)]
    pub fn expired(may: bool) -> Result<Self, DropReason> {
        if may { Ok(Self(IS_ANSWERED | DropReason::TtlExpired as u64)) } else { Err(DropReason::TtlExpired) }
    }
}

/// What a stage gives back, in one register.
#[inline(always)]
pub fn pack_stage(outcome: Result<Next, DropReason>) -> u64 {
    match outcome {
        Ok(next) => next.0,
        Err(reason) => pack(Err(reason)),
    }
}

/// Whether the packet is for one of our own addresses.
#[inline(always)]
pub fn turns(packed: u64) -> bool {
    packed & TURNS != 0
}

/// Whether the packet is a fragment that needs its own stage.
#[inline(always)]
pub fn is_fragment(packed: u64) -> bool {
    packed & IS_FRAGMENT != 0
}

/// Whether the sender is told.
#[inline(always)]
pub fn is_answered(packed: u64) -> bool {
    packed & IS_ANSWERED != 0
}

/// Whether what the sender is told is that the packet is too big, and the MTU.
#[inline(always)]
pub fn answer_of(packed: u64) -> (bool, u32) {
    (packed as u8 == DropReason::TooBig as u8, (packed >> 8) as u32 & 0xff_ffff)
}
