//! The frame that a program stands before, at either hook: bounds-checked reads and writes, and what may be done with it.

use persona_common::drop::DropReason;
use persona_common::edge::NextHop;

use crate::encapsulation::Outer;

/// What the sender's segmentation offload will make of a frame.
#[derive(Clone, Copy)]
pub struct Segmentation {
    /// Payload bytes per segment; 0: one packet.
    pub size: u32,
    /// Segments; 0 where the sender didn't say.
    pub count: u32,
}

/// A frame with an Ethernet header, at TC or XDP.
pub trait Frame {
    /// The verdict that hands the frame on to whatever comes next on the host.
    const PASS: i32;
    /// The verdict that drops it.
    const DROP: i32;

    /// Where the linear part starts.
    fn data(&self) -> usize;
    /// Where the linear part ends.
    fn data_end(&self) -> usize;
    /// Bytes in all, the non-linear part included.
    fn length(&self) -> usize;
    /// Brings the first `length` bytes, or all there are, into the linear part.
    fn linearise(&self, length: usize);
    /// The device it came in on; at an egress hook, the one it leaves by.
    fn ifindex(&self) -> u32;
    /// Copies the first `length` bytes to `to`; says whether it could.
    ///
    /// # Safety
    /// `to` points to at least `length` writable bytes.
    unsafe fn copy_out(&self, to: *mut u8, length: u32) -> bool;
    /// What segmentation will make of it.
    fn segmentation(&self) -> Segmentation;
    /// Puts `outer` between the Ethernet header and the rest.
    fn encapsulate(&self, outer: &Outer) -> Result<(), DropReason>;
    /// Takes the tunnel's headers away, leaving the Ethernet header.
    fn decapsulate(&self) -> Result<(), DropReason>;
    /// Cuts the frame to `length` bytes.
    fn truncate(&self, length: usize) -> Result<(), DropReason>;
    /// Sends it to a next hop; `destination` is the packet's own, for a next hop that says "on-link".
    fn send(&self, hop: &NextHop, destination: u32) -> Result<i32, DropReason>;
    /// Sends it out of the device that it came from.
    fn send_back(&self) -> i32;

    /// Reads a header at `at`; None past the end of the linear part.
    #[inline(always)]
    fn read<T: Copy>(&self, at: usize) -> Option<T> {
        let start = self.data() + at;
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: in bounds by the check above. Kernels on the supported machines have efficient unaligned access, so
        // the verifier and the JIT take these loads at any address.
        Some(unsafe { *(start as *const T) })
    }

    /// Writes a header at `at`; an error past the end of the linear part.
    #[inline(always)]
    fn write<T: Copy>(&self, at: usize, value: T) -> Result<(), DropReason> {
        let start = self.data() + at;
        if start + size_of::<T>() > self.data_end() {
            return Err(DropReason::Malformed);
        }
        // SAFETY: as in `read`.
        unsafe { *(start as *mut T) = value };
        Ok(())
    }
}
