//! Who sent a packet: the device that it came in by, and on a shared device its source address.

use aya_ebpf::programs::TcContext;
use persona_common::addr::{Address6, AddressBe, mapped};
use persona_common::drop::DropReason;
use persona_common::node::{DEVICE_SHARED, Device, SUBJECT_HAS_CONFIGURED, Subject};
use persona_ebpf::tc::skb;

use crate::maps::{self, DEVICES, SOURCES, SUBJECTS};

/// The sender of a packet whose source has been checked.
#[derive(Clone, Copy)]
pub struct Origin {
    pub subject: &'static Subject,
    pub subject_index: u32,
    /// The tag that was taken off, as in the device's row; 0: none.
    pub vlan: u32,
}

/// The device that a packet came in by, with its index.
#[inline(always)]
pub fn device(frame: &TcContext) -> Result<(u32, &'static Device), DropReason> {
    // SAFETY: a field of the context.
    let ifindex = unsafe { (*skb(frame)).ifindex };
    // SAFETY: a value in the map, valid for this run; it is replaced as a whole.
    let device = unsafe { DEVICES.get(ifindex) }.ok_or(DropReason::UnknownDevice)?;
    Ok((ifindex, device))
}

/// The sender of an IPv4 packet, if it may use that source.
#[inline(always)]
pub fn origin4(ifindex: u32, device: &Device, source: AddressBe) -> Result<Origin, DropReason> {
    let origin = origin(ifindex, device, mapped(source))?;
    if device.flags & DEVICE_SHARED != 0 || source == device.address {
        return Ok(origin);
    }
    let may = origin.subject.flags & SUBJECT_HAS_CONFIGURED != 0
        && maps::configured_lease4(source).is_some_and(|held| held.lease.subject_index == origin.subject_index);
    if may { Ok(origin) } else { Err(DropReason::SourceAddress) }
}

/// The sender of an IPv6 packet, if it may use that source.
#[inline(always)]
pub fn origin6(ifindex: u32, device: &Device, source: &Address6) -> Result<Origin, DropReason> {
    let origin = origin(ifindex, device, *source)?;
    if device.flags & DEVICE_SHARED != 0 || is_own(device, source) {
        return Ok(origin);
    }
    let may = origin.subject.flags & SUBJECT_HAS_CONFIGURED != 0
        && maps::configured_lease6(source).is_some_and(|held| held.lease.subject_index == origin.subject_index);
    if may { Ok(origin) } else { Err(DropReason::SourceAddress) }
}

/// Whether an address lies in the device's own prefix.
#[inline(always)]
fn is_own(device: &Device, address: &Address6) -> bool {
    let (prefix, mask) = (&device.prefix, &device.prefix_mask);
    device.has_prefix != 0
        && address[0] & mask[0] == prefix[0]
        && address[1] & mask[1] == prefix[1]
        && address[2] & mask[2] == prefix[2]
        && address[3] & mask[3] == prefix[3]
}

/// The subject behind a device; a shared one is asked for the longest prefix of the source.
#[inline(always)]
fn origin(ifindex: u32, device: &Device, source: Address6) -> Result<Origin, DropReason> {
    let subject_index = if device.flags & DEVICE_SHARED != 0 {
        maps::find(&SOURCES, ifindex, source).ok_or(DropReason::SourceAddress)?
    } else {
        device.subject_index
    };
    let subject = SUBJECTS.get(subject_index).ok_or(DropReason::UnknownDevice)?;
    // Volatile: with what a branch before has learnt of it, the verifier would go every way twice from here.
    // SAFETY: a field of a value in the map.
    let vlan = unsafe { core::ptr::read_volatile(&raw const device.vlan) };
    Ok(Origin { subject, subject_index, vlan })
}
