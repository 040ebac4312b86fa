//! `from_workload`, at the host's side of a workload's device: out under the persona, or past it, or nowhere.

use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};

use crate::bypass::bypass;
use crate::{classify, from_workload4, from_workload6, vlan};

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    let device = classify::device(frame)?;
    frame.linearise_headers();
    let mut kind = kind(frame)?;
    if !vlan::is_plain(frame, kind, device) {
        vlan::pop(frame, kind, device)?;
        frame.linearise_headers();
        kind = self::kind(frame)?;
    }
    match kind {
        ETHERTYPE_IPV4 => from_workload4::run(frame, device),
        ETHERTYPE_IPV6 => from_workload6::run(frame, device),
        ETHERTYPE_ARP => bypass(frame, device.vlan),
        _ => Err(DropReason::EtherType),
    }
}

#[inline(always)]
fn kind(frame: &TcContext) -> Result<u16, DropReason> {
    frame.read::<Ethernet>(0).map(|ethernet| ethernet.kind).ok_or(DropReason::Malformed)
}
