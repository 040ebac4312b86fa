//! The frame at an XDP hook: one linear buffer, one packet.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{
    bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use persona_common::addr::{Address6, is_mapped};
use persona_common::drop::DropReason;
use persona_common::edge::NextHop;

use crate::encapsulation::{Inner, Outer, OuterV4, OuterV6, Tunnel};
use crate::frame::{Frame, Segmentation, opaque};
use crate::header::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, KIND_AT};

impl Frame for XdpContext {
    const PASS: i32 = xdp_action::XDP_PASS as i32;
    const DROP: i32 = xdp_action::XDP_DROP as i32;
    const HAS_WIRE: bool = false;

    #[inline(always)]
    fn data(&self) -> usize {
        XdpContext::data(self)
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        XdpContext::data_end(self)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        XdpContext::data_end(self) - XdpContext::data(self)
    }

    #[inline(always)]
    fn linearise(&self, _length: usize) {}

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // Drivers that take tags off don't say so here.
        false
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ingress_ifindex() as u32
    }

    #[inline(always)]
    unsafe fn copy_out(&self, at: usize, to: *mut u8, length: u32) -> bool {
        // SAFETY: the caller vouches for the buffer; the helper (kernel 5.18) checks the frame.
        unsafe { bpf_xdp_load_bytes(self.ctx, at as u32, to.cast(), length) == 0 }
    }

    #[inline(always)]
    unsafe fn copy_in(&self, at: usize, from: *const u8, length: u32) -> bool {
        // SAFETY: as above; the helper only reads the buffer.
        unsafe { bpf_xdp_store_bytes(self.ctx, at as u32, from.cast_mut().cast(), length) == 0 }
    }

    #[inline(always)]
    fn segmentation(&self) -> Segmentation {
        Segmentation { size: 0, count: 0 }
    }

    #[inline(always)]
    fn encapsulate(&self, tunnel: &Tunnel, inner: &Inner) -> Result<(), DropReason> {
        // `send` writes the Ethernet header anew.
        if tunnel.is_ipv6() {
            move_head(self, -(size_of::<OuterV6>() as i32))?;
            return self.write(ETHERNET_LENGTH, tunnel.headers_v6(inner));
        }
        move_head(self, -(size_of::<OuterV4>() as i32))?;
        self.write(ETHERNET_LENGTH, tunnel.words_v4(inner))
    }

    #[inline(always)]
    fn decapsulate(&self, outer: &Outer) -> Result<(), DropReason> {
        move_head(self, outer.length as i32)
    }

    #[inline(always)]
    fn set_length(&self, length: usize) -> Result<(), DropReason> {
        // The difference of two pointers is taken whole, not in the half that is needed of it.
        let missing = length as i32 - opaque(self.length()) as i32;
        // SAFETY: the helper checks the length itself.
        match unsafe { bpf_xdp_adjust_tail(self.ctx, missing) } {
            0 => Ok(()),
            _ => Err(DropReason::Kernel),
        }
    }

    #[inline(always)]
    fn send(&self, hop: &NextHop, destination: &Address6) -> Result<i32, DropReason> {
        if hop.resolved == 0 || hop.ifindex == 0 {
            return Err(DropReason::NextHopUnresolved);
        }
        let kind = if is_mapped(*destination) { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        self.write(0, hop.ethernet())?;
        self.write(KIND_AT, kind)?;
        // SAFETY: a helper without memory arguments.
        Ok(unsafe { bpf_redirect(hop.ifindex, 0) as i32 })
    }

    #[inline(always)]
    fn send_to_device(&self, ifindex: u32) -> i32 {
        // SAFETY: a helper without memory arguments.
        unsafe { bpf_redirect(ifindex, 0) as i32 }
    }

    #[inline(always)]
    fn send_back(&self) -> i32 {
        // Not XDP_TX: veth leaves such a frame in the ring unless its peer has an XDP program too (veth_xdp_flush).
        // SAFETY: a helper without memory arguments.
        unsafe { bpf_redirect(self.ingress_ifindex() as u32, 0) as i32 }
    }

    #[inline(always)]
    fn set_class(&self, _class: u32) {}
}

#[inline(always)]
fn move_head(frame: &XdpContext, by: i32) -> Result<(), DropReason> {
    // SAFETY: the helper checks the room itself.
    match unsafe { bpf_xdp_adjust_head(frame.ctx, by) } {
        0 => Ok(()),
        _ => Err(DropReason::Kernel),
    }
}
