//! ICMP errors about packets of workloads, sent back where the packet came from: out of the workload's device, or up the
//! host's own stack.

use aya_ebpf::bindings::BPF_F_INGRESS;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::TcContext;
use persona_common::addr::is_mapped;
use persona_common::drop::DropReason;
use persona_common::node::SUBJECT_IS_HOST;
use persona_ebpf::frame::Frame;
use persona_ebpf::icmp_limit::check_rate;
use persona_ebpf::icmp6;
use persona_ebpf::packet::Kind;
use persona_ebpf::packet6::Packet6;
use persona_ebpf::tc::skb;

use crate::classify::Origin;
use crate::{maps, vlan};

/// Tells the sender that a packet is larger than `mtu`; the message comes from the packet's destination.
#[inline(always)]
pub fn too_big6(frame: &TcContext, packet: &Packet6, origin: &Origin, mtu: u32) -> Result<i32, DropReason> {
    check_answer(packet, DropReason::TooBig)?;
    icmp6::make_packet_too_big(frame, packet, packet.ip.destination, mtu)?;
    back(frame, origin)
}

/// Tells the sender that a packet's hop limit has run out. The host would not believe a message from itself.
#[inline(always)]
pub fn expired6(frame: &TcContext, packet: &Packet6, origin: &Origin) -> Result<i32, DropReason> {
    check_answer(packet, DropReason::TtlExpired)?;
    let own = maps::config()?.underlay_address;
    let is_usable = !is_mapped(own) && origin.subject.flags & SUBJECT_IS_HOST == 0;
    icmp6::make_time_exceeded(frame, packet, if is_usable { own } else { packet.ip.destination })?;
    back(frame, origin)
}

/// No error is sent about an error, lest two hosts answer each other for ever (RFC 4443 §2.4 e.1), nor faster than allowed.
#[inline(always)]
fn check_answer(packet: &Packet6, reason: DropReason) -> Result<(), DropReason> {
    if packet.kind == Kind::Error { Err(reason) } else { check_rate() }
}

/// Sends a finished message back.
#[inline(always)]
pub fn back(frame: &TcContext, origin: &Origin) -> Result<i32, DropReason> {
    if origin.subject.flags & SUBJECT_IS_HOST != 0 {
        // SAFETY: a field of the context, then a helper without memory arguments.
        return Ok(unsafe { bpf_redirect((*skb(frame)).ifindex, BPF_F_INGRESS as u64) as i32 });
    }
    vlan::push(frame, origin.vlan)?;
    Ok(frame.send_back())
}
