//! The frame that a program stands before, at either hook: bounds-checked reads and writes, and what may be done with it.

use core::arch::asm;

use persona_common::addr::Address6;
use persona_common::drop::DropReason;
use persona_common::edge::NextHop;
use persona_common::{ENCAPSULATION_LENGTH_V4, ENCAPSULATION_LENGTH_V6};

use crate::encapsulation::{Inner, Outer, Tunnel};
use crate::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, Ethernet, IPV4_LENGTH, IPV6_LENGTH, TCP_LENGTH};

/// Every header that is ever read or written starts below this, a mask: bounds that went through memory are lost on the
/// verifier.
const OFFSET_MASK: usize = 0xfff;

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
    /// Whether frames can come from and go to the encrypted tunnel's device.
    const HAS_WIRE: bool;

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
    /// Copies `length` bytes that start at `at` to `to`; says whether it could.
    ///
    /// # Safety
    /// `to` points to at least `length` writable bytes.
    unsafe fn copy_out(&self, at: usize, to: *mut u8, length: u32) -> bool;
    /// Copies `length` bytes at `from` over those that start at `at`; says whether it could.
    ///
    /// # Safety
    /// `from` points to at least `length` bytes.
    unsafe fn copy_in(&self, at: usize, from: *const u8, length: u32) -> bool;
    /// What segmentation will make of it.
    fn segmentation(&self) -> Segmentation;
    /// Puts the tunnel's headers between the Ethernet header and the rest.
    fn encapsulate(&self, tunnel: &Tunnel, inner: &Inner) -> Result<(), DropReason>;
    /// Takes the tunnel's headers away, leaving the Ethernet header.
    fn decapsulate(&self, outer: &Outer) -> Result<(), DropReason>;
    /// Cuts or lengthens the frame to `length` bytes; new ones are zero.
    fn set_length(&self, length: usize) -> Result<(), DropReason>;
    /// Whether a VLAN tag was taken off the frame and is kept beside it.
    fn has_vlan_tag(&self) -> bool;
    /// Sends it to a next hop; `destination` is the packet's own, for a next hop that says "on-link", and tells its
    /// family.
    fn send(&self, hop: &NextHop, destination: &Address6) -> Result<i32, DropReason>;
    /// Sends it, as it is, out of a device.
    fn send_to_device(&self, ifindex: u32) -> i32;
    /// Sends it out of the device that it came from.
    fn send_back(&self) -> i32;
    /// Names the class of the queues that it leaves through; where there are none, nothing.
    fn set_class(&self, class: u32);

    /// Brings the headers of an ordinary packet into the linear part: Ethernet, IP, TCP, all without options.
    ///
    /// Not a byte more: payload that is pulled there makes the kernel allocate another head for each batch, and keeps
    /// sockets from merging what they receive.
    #[inline(always)]
    fn linearise_headers(&self) {
        self.linearise(ETHERNET_LENGTH + IPV4_LENGTH + TCP_LENGTH);
        if self.peek::<Ethernet>(0).is_some_and(|ethernet| ethernet.kind != ETHERTYPE_IPV4) {
            self.linearise(ETHERNET_LENGTH + IPV6_LENGTH + TCP_LENGTH);
        }
    }

    /// As [`Frame::linearise_headers`] for a packet in a tunnel: the outer headers, and the inner ones of IPv4. Whoever has
    /// read the outer ones asks [`Outer::linearise_inner`] for what else there is.
    #[inline(always)]
    fn linearise_tunnel(&self) {
        self.linearise(ETHERNET_LENGTH + ENCAPSULATION_LENGTH_V4 + IPV4_LENGTH + TCP_LENGTH);
        if self.peek::<Ethernet>(0).is_some_and(|ethernet| ethernet.kind != ETHERTYPE_IPV4) {
            self.linearise(ETHERNET_LENGTH + ENCAPSULATION_LENGTH_V6 + IPV4_LENGTH + TCP_LENGTH);
        }
    }

    /// Swaps the hardware addresses.
    #[inline(always)]
    fn swap_ethernet(&self) -> Result<(), DropReason> {
        let ethernet: Ethernet = self.read(0).ok_or(DropReason::Malformed)?;
        let (source, destination) = (ethernet.destination, ethernet.source);
        self.write(0, Ethernet { source, destination, ..ethernet })
    }

    /// Reads a header at `at`; None past the end of the linear part.
    #[inline(always)]
    fn read<T: Copy>(&self, at: usize) -> Option<T> {
        let start = opaque(self.data() + (at & OFFSET_MASK));
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: in bounds by the check above. Kernels on the supported machines have efficient unaligned access, so
        // the verifier and the JIT take these loads at any address.
        Some(unsafe { *(start as *const T) })
    }

    /// A header at `at`, where it stands; None past the end of the linear part. Gone once the frame is changed.
    #[inline(always)]
    fn peek<T: Copy>(&self, at: usize) -> Option<&T> {
        let start = opaque(self.data() + (at & OFFSET_MASK));
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: as in `read`.
        Some(unsafe { &*(start as *const T) })
    }

    /// Writes a header at `at`; an error past the end of the linear part.
    #[inline(always)]
    fn write<T: Copy>(&self, at: usize, value: T) -> Result<(), DropReason> {
        let start = opaque(self.data() + (at & OFFSET_MASK));
        if start + size_of::<T>() > self.data_end() {
            return Err(DropReason::Malformed);
        }
        // SAFETY: as in `read`.
        unsafe { *(start as *mut T) = value };
        Ok(())
    }
}

/// The same number or pointer, computed once and kept whole: a pointer at an offset that varies the compiler would compute
/// twice, once for the check and once for the access, and the verifier would not see that they are the same.
#[inline(always)]
pub fn opaque(pointer: usize) -> usize {
    let copy;
    // SAFETY: one move between registers. No instruction at all would do but for the debug information, in which two lines
    // would then share an offset, which the kernel refuses.
    unsafe { asm!("{0} = {1}", lateout(reg) copy, in(reg) pointer, options(pure, nomem, nostack, preserves_flags)) };
    copy
}

/// Zero, which the verifier does not know, made of a number that it does not know either: for what the callback of a
/// `bpf_loop` counts. Before Linux 6.7 the verifier walks a callback once, takes what stands in the caller's stack then for
/// all that it can be, and cuts out branches for anything else.
#[inline(always)]
pub fn unknown_zero(unknown: u32) -> usize {
    let (zero, unknown): (usize, usize) = (unknown as usize, unknown as usize);
    let result;
    // SAFETY: one instruction on a register.
    unsafe {
        asm!("{0} ^= {1}", inlateout(reg) zero => result, in(reg) unknown, options(pure, nomem, nostack, preserves_flags))
    };
    result
}
