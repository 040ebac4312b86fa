//! Who sent a packet: the device that it came in by, and on a shared device its source address.

use aya_ebpf::programs::TcContext;
use persona_common::addr::{Address6, AddressBe, mapped};
use persona_common::drop::DropReason;
use persona_common::node::{DEVICE_SHARED, Device, SUBJECT_HAS_CONFIGURED, Subject};
use persona_ebpf::frame::Frame;

use crate::maps::{self, DEVICES, SOURCES, SUBJECTS};
use crate::records::Held;
use crate::subject_counts::count_dropped_at;

/// The sender of a packet whose source has been checked.
#[derive(Clone, Copy)]
pub struct Origin {
    pub subject: &'static Subject,
    pub subject_index: u32,
    /// The tag that was taken off, as in the device's row; 0: none.
    pub vlan: u32,
}

/// The device that a packet came in by.
#[inline(always)]
pub fn device(frame: &TcContext) -> Result<&'static Device, DropReason> {
    // SAFETY: a value in the map, valid for this run; it is replaced as a whole.
    unsafe { DEVICES.get(frame.ifindex()) }.ok_or(DropReason::UnknownDevice)
}

/// The sender of an IPv4 packet, if it may use that source.
#[inline(always)]
pub fn origin4(frame: &TcContext, device: &Device, source: AddressBe) -> Result<Origin, DropReason> {
    let is_usual = device.flags & DEVICE_SHARED == 0 && source == device.address;
    origin(device, if is_usual { device.subject_index as u64 } else { other4(frame, device, source) })
}

/// The sender of an IPv6 packet, if it may use that source.
#[inline(always)]
pub fn origin6(frame: &TcContext, device: &Device, source: &Address6) -> Result<Origin, DropReason> {
    let is_usual = device.flags & DEVICE_SHARED == 0 && is_own(device, source);
    origin(device, if is_usual { device.subject_index as u64 } else { other6(frame, device, source) })
}

/// The subject behind a source that isn't the device's own, or [`NO_SUBJECT`]. A function of its own, for the sake of the
/// entry point's stack.
#[inline(never)]
fn other4(frame: &TcContext, device: &Device, source: AddressBe) -> u64 {
    if device.flags & DEVICE_SHARED != 0 {
        return shared(frame, mapped(source));
    }
    configured(device, || maps::configured_lease4(source))
}

/// As [`other4`].
#[inline(never)]
fn other6(frame: &TcContext, device: &Device, source: &Address6) -> u64 {
    if device.flags & DEVICE_SHARED != 0 {
        return shared(frame, *source);
    }
    configured(device, || maps::configured_lease6(source))
}

/// Given in the place of a subject's index: the source is nobody's.
const NO_SUBJECT: u64 = u64::MAX;

/// The subject that has the longest prefix of a source on a shared device.
#[inline(always)]
fn shared(frame: &TcContext, source: Address6) -> u64 {
    maps::find(&SOURCES, frame.ifindex(), source).map_or(NO_SUBJECT, u64::from)
}

/// The device's subject, if the source is an address that a lease configures on its interface.
#[inline(always)]
fn configured(device: &Device, lease: impl FnOnce() -> Option<Held>) -> u64 {
    let Some(subject) = SUBJECTS.get(device.subject_index) else { return device.subject_index as u64 };
    let may = subject.flags & SUBJECT_HAS_CONFIGURED != 0
        && lease().is_some_and(|held| held.lease.subject_index == device.subject_index);
    if may { device.subject_index as u64 } else { NO_SUBJECT }
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

/// The sender behind a subject's index, or behind [`NO_SUBJECT`].
#[inline(always)]
fn origin(device: &Device, subject_index: u64) -> Result<Origin, DropReason> {
    if subject_index == NO_SUBJECT {
        count_dropped_at(device);
        return Err(DropReason::SourceAddress);
    }
    let subject_index = subject_index as u32;
    let subject = SUBJECTS.get(subject_index).ok_or(DropReason::UnknownDevice)?;
    // Volatile: with what a branch before has learnt of it, the verifier would go every way twice from here.
    // SAFETY: a field of a value in the map.
    let vlan = unsafe { core::ptr::read_volatile(&raw const device.vlan) };
    Ok(Origin { subject, subject_index, vlan })
}
