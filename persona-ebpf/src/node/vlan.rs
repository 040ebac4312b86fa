//! VLAN tags of workloads' frames (IEEE 802.1Q, 802.1ad): taken off on the way into a tunnel, put back on everything that goes to the
//! workload.
//!
//! The kernel has usually moved a tag into the socket buffer's metadata before a program runs; both places are understood.

use aya_ebpf::helpers::{bpf_skb_vlan_pop, bpf_skb_vlan_push};
use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_common::node::{Device, VLAN_PRESENT, VLAN_SERVICE};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, Ethernet};
use persona_ebpf::tc::skb;

/// EtherTypes of a tag, as they stand in a packet: of customers (802.1Q) and of services (802.1ad).
const CUSTOMER_TAG: u16 = 0x8100u16.to_be();
const SERVICE_TAG: u16 = 0x88a8u16.to_be();

/// The VLAN id within a tag.
const ID_MASK: u32 = 0xfff;

/// Whether an EtherType announces a tag.
#[inline(always)]
pub fn is_tag(kind: u16) -> bool {
    kind == CUSTOMER_TAG || kind == SERVICE_TAG
}

/// Whether a frame whose EtherType is `kind` is what its device's row says without a look at any tag.
#[inline(always)]
pub fn is_plain(frame: &TcContext, kind: u16, device: &Device) -> bool {
    device.vlan == 0 && !is_tag(kind) && !has_metadata_tag(frame)
}

/// Takes the one tag off that the device's row names; a tag of VLAN 0 carries a priority only (802.1Q §9.6).
#[inline(always)]
pub fn pop(frame: &TcContext, kind: u16, device: &Device) -> Result<(), DropReason> {
    let (tag, protocol) = if is_tag(kind) {
        let tag: u16 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
        (u16::from_be(tag) as u32, kind)
    } else {
        // SAFETY: fields of the context; the second is big-endian there.
        unsafe { ((*skb(frame)).vlan_tci, (*skb(frame)).vlan_proto as u16) }
    };
    let is_tagged = is_tag(kind) || has_metadata_tag(frame);
    let id = if is_tagged { tag & ID_MASK } else { 0 };
    let wanted = if device.vlan & VLAN_PRESENT != 0 { device.vlan & ID_MASK } else { 0 };
    if id != wanted || id != 0 && protocol != protocol_of(device.vlan) {
        return Err(DropReason::Vlan);
    }
    if !is_tagged {
        return Ok(());
    }
    // SAFETY: the helper checks all itself.
    if unsafe { bpf_skb_vlan_pop(skb(frame)) } != 0 {
        return Err(DropReason::Kernel);
    }
    // A second tag would follow into the metadata.
    if has_metadata_tag(frame) { Err(DropReason::Vlan) } else { Ok(()) }
}

/// Puts the tag of a device's or a subject's row on.
#[inline(always)]
pub fn push(frame: &TcContext, vlan: u32) -> Result<(), DropReason> {
    if vlan & VLAN_PRESENT == 0 {
        return Ok(());
    }
    // SAFETY: the helper checks all itself.
    match unsafe { bpf_skb_vlan_push(skb(frame), protocol_of(vlan), (vlan & ID_MASK) as u16) } {
        0 => Ok(()),
        _ => Err(DropReason::Kernel),
    }
}

/// Puts the tag of a device's row on what leaves by the device without one.
#[inline(always)]
pub fn push_missing(frame: &TcContext, vlan: u32) -> Result<(), DropReason> {
    let is_tagged = has_metadata_tag(frame) || frame.read::<Ethernet>(0).is_some_and(|ethernet| is_tag(ethernet.kind));
    if is_tagged { Ok(()) } else { push(frame, vlan) }
}

/// The EtherType of the tag that a row names.
#[inline(always)]
fn protocol_of(vlan: u32) -> u16 {
    if vlan & VLAN_SERVICE != 0 { SERVICE_TAG } else { CUSTOMER_TAG }
}

#[inline(always)]
fn has_metadata_tag(frame: &TcContext) -> bool {
    // SAFETY: a field of the context.
    unsafe { (*skb(frame)).vlan_present != 0 }
}
