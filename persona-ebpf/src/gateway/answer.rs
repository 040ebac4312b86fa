//! ICMP errors about packets that a gateway can't carry, from the packet's destination: towards a client that is the
//! service's address, towards an instance it is whom it meant to reach.

use persona_common::drop::DropReason;
use persona_ebpf::count::count_drop;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, Ipv4, Ipv6};
use persona_ebpf::icmp_limit::check_rate;
use persona_ebpf::message::{self, Message};
use persona_ebpf::message6;
use persona_ebpf::outcome::pack;
use persona_ebpf::quotation::QUOTED_LENGTH_MAX;

use crate::stage::answer_of;

/// Tells the sender of an IPv4 packet what the stage before has `packed`.
#[inline(never)]
pub fn run4<F: Frame>(frame: &F, packed: u64) -> u64 {
    pack(answer4(frame, packed))
}

#[inline(always)]
fn answer4<F: Frame>(frame: &F, packed: u64) -> Result<i32, DropReason> {
    let (reason, message) = match answer_of(packed) {
        (true, mtu) => (DropReason::TooBig, Message::fragmentation_needed(mtu)),
        (false, _) => (DropReason::TtlExpired, Message::TTL_EXCEEDED),
    };
    check_rate()?;
    frame.linearise(ETHERNET_LENGTH + QUOTED_LENGTH_MAX);
    let about: Ipv4 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    message::make(frame, &about, ETHERNET_LENGTH, about.destination, &message)?;
    frame.swap_ethernet()?;
    count_drop(reason);
    Ok(frame.send_back())
}

/// Tells the sender of an IPv6 packet what the stage before has `packed`.
#[inline(never)]
pub fn run6<F: Frame>(frame: &F, packed: u64) -> u64 {
    pack(answer6(frame, packed))
}

#[inline(always)]
fn answer6<F: Frame>(frame: &F, packed: u64) -> Result<i32, DropReason> {
    let (reason, message) = match answer_of(packed) {
        (true, mtu) => (DropReason::TooBig, Message::packet_too_big(mtu)),
        (false, _) => (DropReason::TtlExpired, Message::HOP_LIMIT_EXCEEDED),
    };
    check_rate()?;
    frame.linearise(ETHERNET_LENGTH + QUOTED_LENGTH_MAX);
    let about: Ipv6 = frame.read(ETHERNET_LENGTH).ok_or(DropReason::Malformed)?;
    message6::make(frame, &about, ETHERNET_LENGTH, &about.destination, &message)?;
    frame.swap_ethernet()?;
    count_drop(reason);
    Ok(frame.send_back())
}
