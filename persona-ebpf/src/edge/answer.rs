//! ICMP errors about packets that an edge can't carry, from the packet's destination: towards the internet that is the
//! egress address, towards a workload it is whom it meant to reach.

use persona_common::addr::mapped;
use persona_common::drop::DropReason;
use persona_common::edge::EdgeConfig;
use persona_ebpf::count::count_drop;
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{Ipv4, Ipv6};
use persona_ebpf::icmp_limit::check_rate;
use persona_ebpf::message::{self, Message};
use persona_ebpf::message6;
use persona_ebpf::outcome::pack;
use persona_ebpf::quotation::QUOTED_LENGTH_MAX;

use crate::arrival::Arrival;
use crate::stage::answer_of;

/// Tells the sender what the stage before has `packed`.
#[inline(always)]
pub fn run<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, packed: u64, is_ipv6: bool) -> u64 {
    if is_ipv6 { run6(frame, arrival, config, packed) } else { run4(frame, arrival, config, packed) }
}

#[inline(never)]
fn run4<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, packed: u64) -> u64 {
    pack(answer4(frame, arrival, config, packed))
}

#[inline(always)]
fn answer4<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, packed: u64) -> Result<i32, DropReason> {
    let (reason, message) = match answer_of(packed) {
        (true, mtu) => (DropReason::TooBig, Message::fragmentation_needed(mtu)),
        (false, _) => (DropReason::TtlExpired, Message::TTL_EXCEEDED),
    };
    check_rate()?;
    let at = arrival.packet_at();
    frame.linearise(at + QUOTED_LENGTH_MAX);
    let about: Ipv4 = frame.read(at).ok_or(DropReason::Malformed)?;
    let length = message::make(frame, &about, at, about.destination, &message)?;
    let verdict = arrival.answer(frame, config, &mapped(about.source), length, false)?;
    count_drop(reason);
    Ok(verdict)
}

#[inline(never)]
fn run6<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, packed: u64) -> u64 {
    pack(answer6(frame, arrival, config, packed))
}

#[inline(always)]
fn answer6<F: Frame>(frame: &F, arrival: &Arrival<'_>, config: &EdgeConfig, packed: u64) -> Result<i32, DropReason> {
    let (reason, message) = match answer_of(packed) {
        (true, mtu) => (DropReason::TooBig, Message::packet_too_big(mtu)),
        (false, _) => (DropReason::TtlExpired, Message::HOP_LIMIT_EXCEEDED),
    };
    check_rate()?;
    let at = arrival.packet_at();
    frame.linearise(at + QUOTED_LENGTH_MAX);
    let about: Ipv6 = frame.read(at).ok_or(DropReason::Malformed)?;
    let length = message6::make(frame, &about, at, &about.destination, &message)?;
    let verdict = arrival.answer(frame, config, &about.source, length, true)?;
    count_drop(reason);
    Ok(verdict)
}
