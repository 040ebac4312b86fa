//! `from_workload`, at the host's side of a workload's device: out under the persona, or past it, or nowhere.

use aya_ebpf::programs::TcContext;
use persona_common::drop::DropReason;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};

use crate::bypass::{bypass, is_neighbour_discovery};
use crate::{classify, from_workload4};

/// Bytes of headers that the program looks at.
const HEADERS_LENGTH: usize = ETHERNET_LENGTH + 40;

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    let (ifindex, device) = classify::device(frame)?;
    frame.linearise(HEADERS_LENGTH);
    let ethernet: Ethernet = frame.read(0).ok_or(DropReason::Malformed)?;
    match ethernet.kind {
        ETHERTYPE_IPV4 => from_workload4::run(frame, ifindex, device),
        ETHERTYPE_ARP => Ok(bypass(frame)),
        ETHERTYPE_IPV6 if is_neighbour_discovery(frame) => Ok(bypass(frame)),
        ETHERTYPE_IPV6 => Err(DropReason::Ipv6),
        _ => Err(DropReason::EtherType),
    }
}
