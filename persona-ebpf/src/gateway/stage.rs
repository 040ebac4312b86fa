//! What a stage gives back, in one register: a verdict, a reason, an index, or what the sender shall be told.
//!
//! Stages are functions of their own, called one after another by the program itself: the stack of all functions that are
//! under way at once is 512 bytes.

use persona_common::drop::DropReason;
use persona_ebpf::outcome::pack;

/// The packet is to a service, whose index stands in the low half.
const TO_SERVICE: u64 = 1 << 33;
/// The packet is from an instance, whose index stands in the low half.
const FROM_INSTANCE: u64 = 1 << 34;
/// An ICMP message to a service's address.
const ICMP_TO_SERVICE: u64 = 1 << 35;
/// Another ICMP message, perhaps of an instance.
const ICMP_FROM_INSTANCE: u64 = 1 << 36;
/// An instance, whose index stands in the low half.
const INSTANCE: u64 = 1 << 37;
/// The sender is told why the packet is dropped: the reason in bits 0 to 7, an MTU in bits 8 to 31.
const IS_ANSWERED: u64 = 1 << 38;
/// The packet belongs to no flow.
const NO_FLOW: u64 = 1 << 39;

/// What a packet is to the gateway, or what comes after a stage.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Next(u64);

impl Next {
    pub const ICMP_TO_SERVICE: Self = Self(ICMP_TO_SERVICE);
    pub const ICMP_FROM_INSTANCE: Self = Self(ICMP_FROM_INSTANCE);
    pub const NO_FLOW: Self = Self(NO_FLOW);

    /// Nothing: a verdict.
    #[inline(always)]
    pub fn verdict(verdict: i32) -> Self {
        Self(pack(Ok(verdict)))
    }

    /// The stage of packets to a service.
    #[inline(always)]
    pub fn to_service(index: u32) -> Self {
        Self(TO_SERVICE | index as u64)
    }

    /// The stage of packets from an instance.
    #[inline(always)]
    pub fn from_instance(index: u32) -> Self {
        Self(FROM_INSTANCE | index as u64)
    }

    /// The stage that delivers, to this instance or in its name.
    #[inline(always)]
    pub fn instance(index: u32) -> Self {
        Self(INSTANCE | index as u64)
    }

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

#[inline(always)]
fn index_if(packed: u64, flag: u64) -> Option<u32> {
    if packed & flag != 0 { Some(packed as u32) } else { None }
}

/// The service that the packet is to.
#[inline(always)]
pub fn service_of(packed: u64) -> Option<u32> {
    index_if(packed, TO_SERVICE)
}

/// The instance that the packet is from.
#[inline(always)]
pub fn sender_of(packed: u64) -> Option<u32> {
    index_if(packed, FROM_INSTANCE)
}

/// The instance that the packet goes to, or in whose name it goes.
#[inline(always)]
pub fn instance_of(packed: u64) -> Option<u32> {
    index_if(packed, INSTANCE)
}

/// Whether it is an ICMP message to a service's address.
#[inline(always)]
pub fn is_icmp_to_service(packed: u64) -> bool {
    packed & ICMP_TO_SERVICE != 0
}

/// Whether it is another ICMP message.
#[inline(always)]
pub fn is_icmp_from_instance(packed: u64) -> bool {
    packed & ICMP_FROM_INSTANCE != 0
}

/// Whether the packet belongs to no flow.
#[inline(always)]
pub fn is_without_flow(packed: u64) -> bool {
    packed & NO_FLOW != 0
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

/// The frame, taken for used as a whole. The compiler would hand a stage that only reads what it reads of an XDP context, the
/// packet's bounds, in place of the context, and the verifier knows them only as they come from there.
#[inline(always)]
pub fn whole<F>(frame: &F) -> &F {
    core::hint::black_box(frame)
}
