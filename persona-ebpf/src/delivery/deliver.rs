//! `deliver`: out of the tunnel, and to the instance.

use aya_ebpf::programs::TcContext;
use persona_common::PERSONA_MARK;
use persona_common::addr::is_mapped;
use persona_common::drop::DropReason;
use persona_common::encapsulation::{ECN_MASK, GATEWAY, ecn_after};
use persona_ebpf::encapsulation::{Outer, read_outer};
use persona_ebpf::frame::Frame;
use persona_ebpf::header::{ETHERNET_LENGTH, Ipv4, Ipv6};
use persona_ebpf::packet::{Direction, Packet};
use persona_ebpf::packet6::{Packet6, sum_difference};
use persona_ebpf::tc::{send_to_neighbour, skb, update_sum};

use crate::maps;

#[inline(always)]
pub fn run(frame: &TcContext) -> Result<i32, DropReason> {
    frame.linearise_tunnel();
    let Some(outer) = read_outer(frame, &maps::config()?.underlay_address) else { return Ok(TcContext::PASS) };
    if outer.is_control() || outer.geneve.reserved != GATEWAY {
        return Ok(TcContext::PASS);
    }
    if frame.has_vlan_tag() {
        return Err(DropReason::Vlan);
    }
    if !maps::is_gateway(&outer.source) {
        return Err(DropReason::UnknownPeer);
    }
    outer.check(frame)?;
    outer.linearise_inner(frame);
    let delivery = maps::delivery(outer.vni()).ok_or(DropReason::NoInstance)?;
    if outer.holds_ipv6() == is_mapped(delivery.address) {
        return Err(DropReason::FamilyDenied);
    }
    if outer.holds_ipv6() {
        take_out6(frame, &outer)?
    } else {
        take_out4(frame, &outer)?
    }
    // SAFETY: a field of the context that programs may write.
    unsafe { (*skb(frame)).mark = PERSONA_MARK };
    Ok(send_to_neighbour(delivery.ifindex, &delivery.address))
}

#[inline(always)]
fn take_out4(frame: &TcContext, outer: &Outer) -> Result<(), DropReason> {
    let mut packet = Packet::read_any(frame, outer.inner_at(), Direction::Inward)?;
    let tos = packet.ip.tos;
    let ecn = ecn_after(tos, outer.tos).ok_or(DropReason::Ecn)?;
    let packets = packet.packet_count(frame);
    maps::count_delivered(packets, packet.byte_count(packets));
    frame.decapsulate(outer)?;
    if ecn == tos & ECN_MASK {
        return Ok(());
    }
    packet.set_tos(tos & !ECN_MASK | ecn);
    frame.write::<Ipv4>(ETHERNET_LENGTH, packet.ip)
}

#[inline(always)]
fn take_out6(frame: &TcContext, outer: &Outer) -> Result<(), DropReason> {
    let packet = Packet6::read(frame, outer.inner_at(), Direction::Inward)?;
    let before = packet.ip;
    let class = before.traffic_class();
    let ecn = ecn_after(class, outer.tos).ok_or(DropReason::Ecn)?;
    let packets = packet.packet_count(frame);
    maps::count_delivered(packets, packet.byte_count(packets));
    frame.decapsulate(outer)?;
    if ecn == class & ECN_MASK {
        return Ok(());
    }
    packet.ip.set_traffic_class(class & !ECN_MASK | ecn);
    frame.write::<Ipv6>(ETHERNET_LENGTH, packet.ip)?;
    update_sum(frame, sum_difference(&before, &packet.ip));
    Ok(())
}
