//! One order of TCP options for every host: what a SYN or SYN-ACK offers says which system wrote it by the order it is in.
//!
//! Nothing is offered that the host did not offer, and nothing it offered is left out: options stand in the order of their
//! kinds, padding behind them, and the first window is lowered to a common value. Signed segments (RFC 2385, RFC 5925) and
//! what is no list of options stay as they are.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_loop, bpf_skb_store_bytes};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::TcContext;
use persona_common::normalise::{NO_OPERATION, OPTION_RANK_COUNT, WINDOW_SHOWN, option_rank};
use persona_ebpf::header::TCP_LENGTH;
use persona_ebpf::tc::{replace_checksum, skb};

/// Where in a TCP header the window and the checksum stand.
const WINDOW_AT: usize = 14;
const CHECKSUM_AT: usize = 16;

/// Bytes that a TCP header has room for options.
const OPTIONS_LENGTH_MAX: u32 = 40;
/// Bytes of a buffer: a power of two, so that any number can be made an index.
const ROOM: usize = 64;
const LAST_INDEX: u32 = ROOM as u32 - 1;

/// Every byte is looked at once for each rank, and every end of the list.
const STEP_COUNT_MAX: u32 = OPTION_RANK_COUNT * (OPTIONS_LENGTH_MAX + 1);

const END: u8 = 0;

/// In [`Arrangement::rank`]: the options are left as they are.
const REFUSED: u32 = u32::MAX;

/// Options as they came and as they go, and how far it has come: not on the stack, which is short.
#[repr(C)]
#[derive(Clone, Copy)]
struct Arrangement {
    from: [u8; ROOM],
    to: [u8; ROOM],
    length: u32,
    /// Where in `from` the next byte is, and where the option ends that it belongs to.
    at: u32,
    end: u32,
    to_at: u32,
    /// Which options are being copied.
    rank: u32,
}

#[map]
static ARRANGEMENT: PerCpuArray<Arrangement> = PerCpuArray::with_max_entries(1, 0);

/// Puts the options of the TCP header at `tcp_at` in order and lowers its window. Gives 0, or 1 when the kernel refused.
///
/// A global function, which the verifier walks once, for whatever arguments there are, and not again for each call.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn persona_arrange_options(skb: *mut __sk_buff, tcp_at: u32, options_length: u32) -> u32 {
    let frame = &TcContext::new(skb);
    let Some(cell) = ARRANGEMENT.get_ptr_mut(0) else { return 1 };
    // SAFETY: a cell of this CPU, whose programs don't interrupt each other here.
    let it = unsafe { &mut *cell };
    if !read(frame, it, tcp_at + TCP_LENGTH as u32, options_length) {
        return 0;
    }
    let mut passed = cell;
    // SAFETY: the callback takes what it is given here.
    unsafe { bpf_loop(STEP_COUNT_MAX, place as *mut c_void, (&raw mut passed).cast(), 0) };
    if it.rank == REFUSED {
        return 0;
    }
    let is_done = write(frame, it, tcp_at, options_length) && lower_window(frame, tcp_at as usize);
    !is_done as u32
}

/// Reads the options, with padding behind them, and padding alone where they are to go.
#[inline(always)]
fn read(frame: &TcContext, it: &mut Arrangement, options_at: u32, options_length: u32) -> bool {
    // Volatile, or the compiler would call a function that fills memory.
    for word in 0..ROOM / 8 {
        // SAFETY: words of two buffers that are borrowed, and aligned as the cell is.
        unsafe {
            core::ptr::write_volatile(it.from.as_mut_ptr().cast::<u64>().add(word), PADDING);
            core::ptr::write_volatile(it.to.as_mut_ptr().cast::<u64>().add(word), PADDING);
        }
    }
    (it.length, it.at, it.end, it.to_at, it.rank) = (options_length, 0, 0, 0, 0);
    // In words, here and where they are written: the verifier takes a length that is not a constant for none. Failures are
    // asked for once, or it would follow each of them to the end.
    let mut failures = 0;
    for word in 0..OPTIONS_LENGTH_MAX / 4 {
        let at = word * 4;
        if at >= options_length {
            break;
        }
        // SAFETY: a word of the buffer; the helper checks the offset.
        failures |= unsafe {
            let to = it.from.as_mut_ptr().add(at as usize);
            bpf_skb_load_bytes(skb(frame).cast(), options_at + at, to.cast(), 4)
        };
    }
    failures == 0 && options_length <= OPTIONS_LENGTH_MAX
}

const PADDING: u64 = u64::from_ne_bytes([NO_OPERATION; 8]);

/// One byte; 1: no more.
unsafe extern "C" fn place(_index: u32, cell: *mut *mut Arrangement) -> i64 {
    // SAFETY: `arrange` passed it.
    step(unsafe { &mut **cell }).is_none() as i64
}

/// Copies a byte, or looks at the option that begins; None: it was the last.
#[inline(always)]
fn step(it: &mut Arrangement) -> Option<()> {
    let at = it.at;
    if at < it.end {
        it.to[(it.to_at & LAST_INDEX) as usize] = it.from[(at & LAST_INDEX) as usize];
        (it.to_at, it.at) = (it.to_at + 1, at + 1);
        return Some(());
    }
    let kind = it.from[(at & LAST_INDEX) as usize];
    if at >= it.length || kind == END {
        (it.at, it.end, it.rank) = (0, 0, it.rank + 1);
        return if it.rank < OPTION_RANK_COUNT { Some(()) } else { None };
    }
    if kind == NO_OPERATION {
        (it.at, it.end) = (at + 1, at + 1);
        return Some(());
    }
    let end = at + it.from[((at + 1) & LAST_INDEX) as usize] as u32;
    let rank = option_rank(kind);
    if end < at + 2 || end > it.length || rank.is_none() {
        it.rank = REFUSED;
        return None;
    }
    it.end = end;
    if rank != Some(it.rank) {
        it.at = end;
    }
    Some(())
}

#[inline(always)]
fn write(frame: &TcContext, it: &Arrangement, tcp_at: u32, options_length: u32) -> bool {
    let (from, to) = (it.from.as_ptr().cast_mut().cast(), it.to.as_ptr().cast_mut().cast());
    // SAFETY: two buffers of the length given, which the helper only reads.
    let difference = unsafe { bpf_csum_diff(from, ROOM as u32, to, ROOM as u32, 0) };
    if replace_checksum(frame, tcp_at as usize + CHECKSUM_AT, 0, difference as u32 as u64, 0).is_err() {
        return false;
    }
    let options_at = tcp_at + TCP_LENGTH as u32;
    let mut failures = 0;
    for word in 0..OPTIONS_LENGTH_MAX / 4 {
        let at = word * 4;
        if at >= options_length {
            break;
        }
        // SAFETY: a word of the buffer, which the helper reads; it checks the offset.
        failures |= unsafe {
            let from = it.to.as_ptr().add(at as usize);
            bpf_skb_store_bytes(skb(frame).cast(), options_at + at, from.cast(), 4, 0)
        };
    }
    failures == 0
}

/// Lowers the first window to what all show.
#[inline(always)]
fn lower_window(frame: &TcContext, tcp_at: usize) -> bool {
    let Ok(window) = frame.load::<u16>(tcp_at + WINDOW_AT) else { return false };
    if u16::from_be(window) <= WINDOW_SHOWN {
        return true;
    }
    let shown = WINDOW_SHOWN.to_be();
    replace_checksum(frame, tcp_at + CHECKSUM_AT, window as u64, shown as u64, 2).is_ok()
        && frame.skb.store(tcp_at + WINDOW_AT, &shown, 0).is_ok()
}
