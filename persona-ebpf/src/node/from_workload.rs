//! `from_workload`, at the host's side of a workload's device: out under the persona, or past it, or nowhere.

use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_common::node::Device;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};

use crate::bypass::bypass;
use crate::subject_counts::{count_dropped, count_dropped_at};
use crate::{classify, from_workload4, from_workload6, hints, ordinary, vlan};

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    frame.linearise_headers();
    if let Some(sender) = hints::sender(frame)
        && is_plain4(frame)
        && let Some(outcome) = ordinary::outward(frame, sender)
    {
        return outcome.inspect_err(|_| count_dropped(sender.subject_index));
    }
    let device = classify::device(frame)?;
    match untagged_kind(frame, device).inspect_err(|_| count_dropped_at(device))? {
        ETHERTYPE_IPV4 => from_workload4::run(frame, device),
        ETHERTYPE_IPV6 => from_workload6::run(frame, device),
        _ => bypass(frame, device.vlan),
    }
}

/// Whether it is IPv4 without any tag.
#[inline(always)]
fn is_plain4(frame: &TcContext) -> bool {
    !frame.has_vlan_tag() && frame.peek::<Ethernet>(0).is_some_and(|ethernet| ethernet.kind == ETHERTYPE_IPV4)
}

/// What the frame holds behind the device's own tag, if that may leave a workload.
#[inline(always)]
fn untagged_kind(frame: &TcContext, device: &Device) -> Result<u16, DropReason> {
    let mut kind = kind(frame)?;
    if !vlan::is_plain(frame, kind, device) {
        vlan::pop(frame, kind, device)?;
        frame.linearise_headers();
        kind = self::kind(frame)?;
    }
    if matches!(kind, ETHERTYPE_IPV4 | ETHERTYPE_IPV6 | ETHERTYPE_ARP) { Ok(kind) } else { Err(DropReason::EtherType) }
}

#[inline(always)]
fn kind(frame: &TcContext) -> Result<u16, DropReason> {
    frame.read::<Ethernet>(0).map(|ethernet| ethernet.kind).ok_or(DropReason::Malformed)
}
