//! The encrypted tunnel (WireGuard): a device that carries IP, without Ethernet headers.
//!
//! Packets of encrypted personas are sent to it and taken from it only. It carries the tunnel's ordinary packets, between the
//! ordinary underlay addresses: who sent them is what WireGuard has checked.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_change_head;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_common::edge::NextHop;
use persona_common::encapsulation::ENCRYPTED_VNI;

use crate::frame::Frame;
use crate::header::{ETHERNET_LENGTH, Ethernet};
use crate::tc::skb;

/// The way into the tunnel, to whichever far end: one cell. No device: there is no tunnel.
#[map]
static WIRE: Array<NextHop> = Array::pinned(1, 0);

/// The way into the tunnel.
#[inline(always)]
pub fn hop() -> Result<&'static NextHop, DropReason> {
    WIRE.get(0).ok_or(DropReason::Kernel)
}

/// Gives a packet out of the tunnel the Ethernet header that all programs expect; leaves any other alone.
#[inline(always)]
pub fn open(frame: &TcContext) -> Result<(), DropReason> {
    if !is_within(frame) {
        return Ok(());
    }
    let context: *mut __sk_buff = skb(frame);
    // SAFETY: a field of the context; the helper checks all itself.
    let (kind, outcome) =
        unsafe { ((*context).protocol as u16, bpf_skb_change_head(context, ETHERNET_LENGTH as u32, 0)) };
    if outcome != 0 {
        return Err(DropReason::Kernel);
    }
    frame.write(0, Ethernet { destination: [0; 6], source: [0; 6], kind })
}

/// Refuses a packet that does not belong to a lease: under another persona, or beside the tunnel that the lease wants.
#[inline(always)]
pub fn check<F: Frame>(frame: &F, leased_vni: u32, vni: u32) -> Result<(), DropReason> {
    if leased_vni == vni {
        return Ok(());
    }
    if leased_vni != vni | ENCRYPTED_VNI {
        return Err(DropReason::VniMismatch);
    }
    if F::HAS_WIRE && is_within(frame) { Ok(()) } else { Err(DropReason::Unencrypted) }
}

/// Whether a frame came out of the tunnel.
#[inline(always)]
fn is_within<F: Frame>(frame: &F) -> bool {
    WIRE.get(0).is_some_and(|hop| hop.ifindex != 0 && hop.ifindex == frame.ifindex())
}
