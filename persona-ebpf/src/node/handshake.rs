//! What a SYN or SYN-ACK may ask for: no segments that its persona's MTU can't carry, no timestamps where the persona hides
//! them, and outwards all of it in one order where the persona hides that.
//!
//! Timestamps are taken out of SYNs alone, in both directions: who hasn't been offered them doesn't answer with them, and
//! who gets no answer doesn't use them (RFC 7323 §1.3), so both sides agree. Out of a SYN-ACK they would vanish for one side
//! only, which the other would drop every segment for (§3.2).

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::TcContext;
use persona_common::checksum::fold;
use persona_common::drop::DropReason;
use persona_common::node::{Lease, SUBJECT_ARRANGES_OPTIONS, SUBJECT_STRIPS_TIMESTAMPS, Subject};
use persona_common::normalise::{NO_OPERATION, TIMESTAMPS};
use persona_ebpf::frame::unknown_zero;
use persona_ebpf::header::{TCP_ACK, TCP_LENGTH, TCP_SYN};
use persona_ebpf::tc::{replace_checksum, skb};

use crate::arrange::persona_arrange_options;

/// Where in a TCP header the checksum stands.
const CHECKSUM_AT: usize = 16;

/// Bytes of IPv4 and TCP headers without options (RFC 6691 §2).
pub const FIXED_HEADERS_LENGTH_V4: u32 = 40;
/// Bytes of IPv6 and TCP headers without options.
pub const FIXED_HEADERS_LENGTH_V6: u32 = 60;
/// Bytes that a TCP header has room for options; as many options at most.
const OPTIONS_LENGTH_MAX: u32 = 40;

const END: u8 = 0;
const MSS: u8 = 2;

/// In [`Terms`]: timestamps are hidden.
const HIDES_TIMESTAMPS: u32 = 1 << 16;
/// In [`Terms`]: options go in one order.
const ARRANGES_OPTIONS: u32 = 1 << 17;

/// What a persona lets connections ask for, in one register: its MTU in the lower half.
#[derive(Clone, Copy)]
pub struct Terms(u32);

impl Terms {
    /// Those of a subject under a lease.
    #[inline(always)]
    pub fn of(lease: &Lease, subject: &Subject) -> Self {
        let hides = if subject.flags & SUBJECT_STRIPS_TIMESTAMPS != 0 { HIDES_TIMESTAMPS } else { 0 };
        Self(lease.mtu & 0xffff | hides)
    }

    /// Those for what the subject sends.
    #[inline(always)]
    pub fn outwards(lease: &Lease, subject: &Subject) -> Self {
        let arranges = if subject.flags & SUBJECT_ARRANGES_OPTIONS != 0 { ARRANGES_OPTIONS } else { 0 };
        Self(Self::of(lease, subject).0 | arranges)
    }
}

/// Holds the SYN or SYN-ACK whose TCP header stands at `tcp_at` and has `options_length` bytes of options to the terms.
/// `fixed_length` are the bytes of IP and TCP headers without options.
#[inline(always)]
pub fn hold(
    frame: &TcContext,
    tcp_at: usize,
    options_length: usize,
    tcp_flags: u8,
    fixed_length: u32,
    terms: Terms,
) -> Result<(), DropReason> {
    let limit = (terms.0 & 0xffff).saturating_sub(fixed_length);
    let strips = if tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN { terms.0 & HIDES_TIMESTAMPS } else { 0 };
    if persona_hold_options(skb(frame), tcp_at as u32, options_length as u32, limit | strips) != 0 {
        return Err(DropReason::Kernel);
    }
    if terms.0 & ARRANGES_OPTIONS != 0 && persona_arrange_options(skb(frame), tcp_at as u32, options_length as u32) != 0
    {
        return Err(DropReason::Kernel);
    }
    Ok(())
}

/// Lowers the MSS to the lower half of `wish`, and strips timestamps if its upper half says so. Gives 0, or 1 when the
/// kernel refused.
///
/// A global function, which the verifier walks once, for whatever arguments there are, and not again for each call.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn persona_hold_options(skb: *mut __sk_buff, tcp_at: u32, options_length: u32, wish: u32) -> u32 {
    let frame = &TcContext::new(skb);
    let limit = wish as u16;
    let Some(bytes) = OPTION.get_ptr_mut(0) else { return 1 };
    let options_at = tcp_at + TCP_LENGTH as u32;
    let (at, mss) = (unknown_zero(frame.len()) as u32, unknown_zero(frame.len()) as u32);
    let strips = wish & HIDES_TIMESTAMPS;
    let mut search = Search { skb, bytes, at, options_at, options_length, strips, mss, mss_at: 0 };
    // SAFETY: the callback takes what it is given here. A loop of the kernel's: the verifier would walk one of ours option
    // by option, in every state that a packet can be in by then.
    unsafe { bpf_loop(OPTIONS_LENGTH_MAX, probe as *mut c_void, (&raw mut search).cast(), 0) };
    if search.mss == REFUSED {
        return 1;
    }
    if search.mss <= limit as u32 {
        return 0;
    }
    let (from, to) = (word(search.mss_at, search.mss as u16), word(search.mss_at, limit));
    let is_done = replace_checksum(frame, tcp_at as usize + CHECKSUM_AT, from, to, 2).is_ok()
        && frame.skb.store((options_at + search.mss_at) as usize, &limit.to_be(), 0).is_ok();
    !is_done as u32
}

/// In the place of an MSS: the kernel refused to strip timestamps.
const REFUSED: u32 = u32::MAX;

/// How far the search has come. Small, as the stack is short.
struct Search {
    skb: *mut __sk_buff,
    bytes: *mut Bytes,
    at: u32,
    options_at: u32,
    options_length: u32,
    strips: u32,
    /// 0: none; [`REFUSED`].
    mss: u32,
    mss_at: u32,
}

/// One option; 1: no more.
unsafe extern "C" fn probe(_index: u32, search: *mut Search) -> i64 {
    // SAFETY: the search of `persona_hold_options`.
    step(unsafe { &mut *search }).is_none() as i64
}

/// An option's bytes, as they stand there; room for timestamps.
type Bytes = [u16; TIMESTAMPS.1 / 2];

/// Options that stand for nothing, in the place of timestamps.
const NOTHING: Bytes = [u16::from_ne_bytes([NO_OPERATION; 2]); TIMESTAMPS.1 / 2];

/// Where an option is read to: the stack is short.
#[map]
static OPTION: PerCpuArray<Bytes> = PerCpuArray::with_max_entries(1, 0);

/// Steps over one option; None: it was the last to look at.
#[inline(always)]
fn step(search: &mut Search) -> Option<()> {
    let frame = &TcContext::new(search.skb);
    let at = search.at;
    if at + 4 > search.options_length || at + 4 > OPTIONS_LENGTH_MAX {
        return None;
    }
    let option_at = search.options_at + at;
    // SAFETY: a cell of this CPU, whose programs don't interrupt each other here.
    let bytes = unsafe { &mut *search.bytes };
    load(frame, option_at, bytes, 4)?;
    let [kind, length] = bytes[0].to_ne_bytes();
    match kind {
        END => return None,
        NO_OPERATION => search.at = at + 1,
        _ if length < 2 => return None,
        MSS if length == 4 && search.mss == 0 => {
            search.mss_at = at + 2;
            search.mss = u16::from_be(bytes[1]) as u32;
            search.at = at + 4;
            if search.strips == 0 {
                return None;
            }
        }
        _ => {
            search.at = at + length as u32;
            let is_timestamps = search.strips != 0 && (kind, length as usize) == TIMESTAMPS;
            if is_timestamps && search.at <= search.options_length {
                load(frame, option_at, bytes, TIMESTAMPS.1 as u32)?;
                if strip(frame, search.options_at, at, bytes).is_err() {
                    search.mss = REFUSED;
                    return None;
                }
            }
        }
    }
    Some(())
}

/// Puts options that stand for nothing in the place of the timestamps at `at`, which are `bytes`.
#[inline(always)]
fn strip(frame: &TcContext, options_at: u32, at: u32, bytes: &mut Bytes) -> Result<(), DropReason> {
    let sum =
        |bytes: &Bytes| fold(bytes[0] as u32 + bytes[1] as u32 + bytes[2] as u32 + bytes[3] as u32 + bytes[4] as u32);
    let (from, to) = (word(at, u16::from_be(sum(bytes))), sum(&NOTHING) as u64);
    replace_checksum(frame, options_at as usize - TCP_LENGTH + CHECKSUM_AT, from, to, 2)?;
    for (word, nothing) in bytes.iter_mut().zip(NOTHING) {
        // Volatile, or the compiler would call a function that fills memory, and no stack is left for it.
        // SAFETY: a word that is borrowed.
        unsafe { core::ptr::write_volatile(word, nothing) };
    }
    frame.skb.store((options_at + at) as usize, bytes, 0).map_err(|_| DropReason::Kernel)
}

/// A word as the checksum over the TCP header has it. An option may start at an odd offset; the words of the sum are then
/// the other way round.
#[inline(always)]
fn word(at: u32, value: u16) -> u64 {
    (if at.is_multiple_of(2) { value.to_be() } else { value.to_be().swap_bytes() }) as u64
}

/// Reads `length` bytes, at most as many as there is room for.
#[inline(always)]
fn load(frame: &TcContext, at: u32, bytes: &mut Bytes, length: u32) -> Option<()> {
    // SAFETY: the buffer is as long as any length that is asked for; the helper checks the offset.
    match unsafe { bpf_skb_load_bytes(skb(frame).cast(), at, bytes.as_mut_ptr().cast(), length) } {
        0 => Some(()),
        _ => None,
    }
}
