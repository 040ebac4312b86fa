//! What an ICMP error quotes of the packet that it is about, out of the frame and back into it at another place.

use aya_ebpf::helpers::bpf_csum_diff;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use persona_common::drop::DropReason;

use crate::frame::{Frame, opaque};
use crate::message::halves;

/// Longwords of the largest quotation.
const COUNT_MAX: usize = 24;

/// Bytes of the largest quotation: in IPv6, where the longest is made, the header, eight longwords of extension headers, and
/// as much of what is behind them as a sender needs to find its flow.
pub const QUOTED_LENGTH_MAX: usize = COUNT_MAX * 4;

/// Not on the stack, which is 512 bytes for all functions that are under way at once.
#[map]
static QUOTED: PerCpuArray<[u32; COUNT_MAX]> = PerCpuArray::with_max_entries(1, 0);

/// The start of a packet, kept while its place in the frame is written over.
#[derive(Clone, Copy)]
pub struct Quotation {
    words: *mut [u32; COUNT_MAX],
    /// Bytes, a multiple of four.
    length: usize,
}

impl Quotation {
    /// The `length` bytes at `at`, a multiple of four. Copied and summed by the kernel's helpers: a loop with a bound that
    /// the packet sets is another path for the verifier of each length, and Linux 6.1 looked at more than a million
    /// instructions.
    #[inline(always)]
    pub fn read<F: Frame>(frame: &F, at: usize, length: usize) -> Result<Self, DropReason> {
        let words = QUOTED.get_ptr_mut(0).ok_or(DropReason::Kernel)?;
        let bytes = bounded(length).ok_or(DropReason::Malformed)?;
        // SAFETY: a cell of this CPU, whose programs don't interrupt each other here; `bytes` are no more than it holds.
        if unsafe { frame.copy_out(at, words.cast(), bytes) } {
            Ok(Self { words, length })
        } else {
            Err(DropReason::Malformed)
        }
    }

    /// The sum of all halves, for a checksum.
    #[inline(always)]
    pub fn sum(&self) -> Result<u32, DropReason> {
        let bytes = bounded(self.length).ok_or(DropReason::Malformed)?;
        // SAFETY: as above; nothing is read of what it is compared with.
        let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, self.words.cast(), bytes, 0) };
        if sum < 0 { Err(DropReason::Malformed) } else { Ok(halves(sum as u32)) }
    }

    /// Writes it at `at`.
    #[inline(always)]
    pub fn write<F: Frame>(&self, frame: &F, at: usize) -> Result<(), DropReason> {
        let bytes = bounded(self.length).ok_or(DropReason::Malformed)?;
        // SAFETY: as above.
        if unsafe { frame.copy_in(at, self.words.cast(), bytes) } { Ok(()) } else { Err(DropReason::Malformed) }
    }
}

/// A length from four to the most. One comparison of what is more than four, because Linux 6.1 learns nothing from a
/// number not being zero; by way of registers that the compiler can't exchange for others, of which the verifier would not
/// know the bound.
#[inline(always)]
fn bounded(length: usize) -> Option<u32> {
    let more = opaque(length.wrapping_sub(4));
    if more > QUOTED_LENGTH_MAX - 4 {
        return None;
    }
    Some((opaque(more) + 4) as u32)
}
