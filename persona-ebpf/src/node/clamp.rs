//! MSS clamping: a TCP connection never asks for segments that its persona's MTU can't carry.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_ebpf::frame::unknown_zero;
use persona_ebpf::tc::{replace_checksum, skb};

/// Bytes of a TCP header without options.
const TCP_LENGTH: usize = 20;
/// Where in a TCP header the checksum stands.
const CHECKSUM_AT: usize = 16;

/// Bytes of IPv4 and TCP headers without options (RFC 6691 §2).
pub const FIXED_HEADERS_LENGTH_V4: u32 = 40;
/// Bytes that a TCP header has room for options.
const OPTIONS_LENGTH_MAX: usize = 40;
/// Options that are looked at before the search is given up; an MSS stands first in practice.
const OPTION_COUNT_MAX: u32 = 12;

const END: u8 = 0;
const PADDING: u8 = 1;
const MSS: u8 = 2;

/// Lowers the MSS option of the SYN whose TCP header stands at `tcp_at` and has `options_length` bytes of options to
/// `limit`. Gives 0, or 1 when the kernel refused.
#[inline(never)]
pub fn clamp_mss(frame: &TcContext, tcp_at: usize, options_length: usize, limit: u32) -> u32 {
    let limit = limit as u16;
    let Some((at, mss)) = find_mss(frame, tcp_at + TCP_LENGTH, options_length) else { return 0 };
    if mss <= limit {
        return 0;
    }
    // An option may start at an odd offset; the words of the sum are then the other way round.
    let word = |value: u16| if at % 2 == 0 { value.to_be() } else { value.to_be().swap_bytes() };
    let (from, to) = (word(mss) as u64, word(limit) as u64);
    let is_done = replace_checksum(frame, tcp_at + CHECKSUM_AT, from, to, 2).is_ok()
        && store(frame, tcp_at + TCP_LENGTH + at, limit.to_be()).is_ok();
    if is_done { 0 } else { 1 }
}

/// How far the search has come.
struct Search<'a> {
    frame: &'a TcContext,
    options_at: usize,
    options_length: usize,
    at: usize,
    mss: u32,
    is_found: u32,
}

/// Offset of the MSS value among the options, and the value.
#[inline(always)]
fn find_mss(frame: &TcContext, options_at: usize, options_length: usize) -> Option<(usize, u16)> {
    let at = unknown_zero(frame.len());
    let mut search = Search { frame, options_at, options_length, at, mss: 0, is_found: 0 };
    // SAFETY: the callback takes what it is given here. A loop of the kernel's: the verifier would walk one of ours option
    // by option, in every state that a packet can be in by then.
    unsafe { bpf_loop(OPTION_COUNT_MAX, probe as *mut c_void, (&raw mut search).cast(), 0) };
    (search.is_found != 0).then_some((search.at, search.mss as u16))
}

/// One option; 1: no more.
unsafe extern "C" fn probe(_index: u32, search: *mut Search<'_>) -> i64 {
    // SAFETY: `find_mss` passed it.
    step(unsafe { &mut *search }).is_none() as i64
}

/// Steps over one option; None: it was the last to look at.
#[inline(always)]
fn step(search: &mut Search<'_>) -> Option<()> {
    let at = search.at;
    if at + 4 > search.options_length || at + 4 > OPTIONS_LENGTH_MAX {
        return None;
    }
    let option: [u8; 4] = load(search.frame, search.options_at + at)?;
    match option[0] {
        END => return None,
        PADDING => search.at = at + 1,
        MSS => {
            search.at = at + 2;
            search.mss = u16::from_be_bytes([option[2], option[3]]) as u32;
            search.is_found = (option[1] == 4) as u32;
            return None;
        }
        _ if option[1] < 2 => return None,
        _ => search.at = at + option[1] as usize,
    }
    Some(())
}

#[inline(always)]
fn load(frame: &TcContext, at: usize) -> Option<[u8; 4]> {
    let mut bytes = [0u8; 4];
    // SAFETY: the buffer has the length given; the helper checks the offset.
    match unsafe { bpf_skb_load_bytes(skb(frame).cast(), at as u32, bytes.as_mut_ptr().cast(), 4) } {
        0 => Some(bytes),
        _ => None,
    }
}

#[inline(always)]
fn store(frame: &TcContext, at: usize, value: u16) -> Result<(), DropReason> {
    frame.skb.store(at, &value, 0).map_err(|_| DropReason::Kernel)
}
