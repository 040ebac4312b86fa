//! IPv4 options: carried as they are, but for source routes, with which a sender could choose its own way past the persona.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use persona_common::drop::DropReason;

use crate::frame::{Frame, unknown_zero};
use crate::header::IPV4_LENGTH;

/// Ends the list.
const END: u8 = 0;
/// Fills up.
const NO_OPERATION: u8 = 1;
/// Loose source and record route (RFC 791 §3.1).
const LOOSE_SOURCE_ROUTE: u8 = 131;
/// Strict source and record route.
const STRICT_SOURCE_ROUTE: u8 = 137;
/// Bytes of options that an IPv4 header has room for, and so the most options there are.
const LENGTH_MAX: u64 = 40;

/// How far the walk has come. Whole registers, so that the verifier keeps what it knows of them.
struct Walk<'a, F> {
    frame: &'a F,
    options_at: u64,
    length: u64,
    offset: u64,
    outcome: u64,
}

const GOES_ON: u64 = 0;
const ENDED: u64 = 1;
const MALFORMED: u64 = 2;
const REFUSED: u64 = 3;

/// Refuses source routes and options whose lengths lie. `at` is the IP header's place, `length` the bytes of its options.
#[inline(always)]
pub fn check<F: Frame>(frame: &F, at: usize, length: usize) -> Result<(), DropReason> {
    let (options_at, offset) = ((at + IPV4_LENGTH) as u64, unknown_zero(frame.ifindex()) as u64);
    let mut walk = Walk { frame, options_at, length: length as u64, offset, outcome: GOES_ON };
    // SAFETY: the callback takes what it is given here. A loop of the kernel's: the verifier would walk one of ours option
    // by option, in every state that a packet can be in by then.
    unsafe { bpf_loop(LENGTH_MAX as u32, step::<F> as *mut c_void, (&raw mut walk).cast(), 0) };
    match walk.outcome {
        GOES_ON | ENDED => Ok(()),
        REFUSED => Err(DropReason::IpOptions),
        _ => Err(DropReason::Malformed),
    }
}

/// One option; 1: no more.
unsafe extern "C" fn step<F: Frame>(_index: u32, walk: *mut Walk<'_, F>) -> i64 {
    // SAFETY: `check` passed it.
    let walk = unsafe { &mut *walk };
    walk.outcome = look(walk);
    (walk.outcome != GOES_ON) as i64
}

#[inline(always)]
fn look<F: Frame>(walk: &mut Walk<'_, F>) -> u64 {
    let offset = walk.offset;
    if offset >= walk.length || offset >= LENGTH_MAX {
        return ENDED;
    }
    let at = (walk.options_at & 0xfff) as usize + offset as usize;
    let Some(kind) = walk.frame.read::<u8>(at) else { return MALFORMED };
    match kind {
        END => return ENDED,
        NO_OPERATION => {
            walk.offset = offset + 1;
            return GOES_ON;
        }
        LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return REFUSED,
        _ => {}
    }
    let Some(size) = walk.frame.read::<u8>(at + 1) else { return MALFORMED };
    walk.offset = offset + size as u64;
    if size < 2 || walk.offset > walk.length { MALFORMED } else { GOES_ON }
}
